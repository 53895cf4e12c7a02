//! What happens without being asked.

mod fold;
mod reaper;

pub(crate) use fold::fold;
pub(crate) use reaper::reaper;
