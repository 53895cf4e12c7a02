//! Periodic jobs. Every replica runs them: what they do is decided in catalog's transactions.

mod reaper;

pub(crate) use reaper::reap;
