//! The artifact service through its contracts, over a channel in this process.

mod attempts;
mod composing;
mod custom_sources;
mod downloads;
mod refusals;
mod stores;
mod support;
mod uploads;
