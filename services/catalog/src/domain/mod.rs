//! The rules of scans, tasks and lanes, free of databases and wire formats.
//!
//! The store loads rows under their locks, calls these functions, and writes back what they
//! changed, all in one transaction.

pub mod artifact;
pub mod check;
pub mod comparison;
pub mod custom_probe;
pub mod event;
pub mod hint;
pub mod history;
pub mod import;
pub mod keeping;
pub mod lane;
pub mod ledger;
pub mod policy;
pub mod queue;
pub mod refusal;
pub mod scan;
pub(crate) mod secret;
pub mod statistics;
pub mod tally;
pub mod task;
pub mod template;
pub mod verdict;
pub mod waiting;
mod word;

pub use word::UnknownWord;
