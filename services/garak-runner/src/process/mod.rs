//! The warm process: one Python process with garak imported, which forks a child per job.
//! What passes between the two is `python/aegis_garak/protocol.py`.

mod interpreter;
mod life;
mod package;
pub mod protocol;
mod stand_in;
mod table;
mod warm;
mod watch;

pub use interpreter::find_python;
pub use protocol::JobRequest;
pub use stand_in::StandIn;
pub use warm::{Job, JobEvent, WarmConfig, WarmProcess, WarmState};
pub use watch::Watcher;
