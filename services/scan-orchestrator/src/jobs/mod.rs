//! What happens without being asked.

mod fold;
mod gc;
mod job;
mod reaper;
mod run;
mod schedule;
mod scrub;

pub(crate) use job::Job;
pub(crate) use reaper::reaper;
pub(crate) use run::Clients;
pub(crate) use schedule::Scheduler;
