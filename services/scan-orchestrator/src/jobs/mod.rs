//! What happens without being asked.

mod reaper;

pub(crate) use reaper::reaper;
