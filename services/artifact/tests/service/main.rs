//! The artifact service through its contracts, over a channel in this process.

mod composing;
mod reading;
mod stores;
mod support;
mod uploads;
