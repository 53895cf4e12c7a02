//! Custom probes: sources, versions, and who uses them.

mod edit;
mod read;
mod sources;
mod usage;

pub use edit::NewCustomProbe;
pub use read::{CustomProbeRef, CustomProbeUpdate};

pub(crate) use sources::require_source;
pub(crate) use usage::require_usable;
