//! The artifact service through its contracts, over a channel in this process.

mod attempts;
mod composing;
mod custom_sources;
mod downloads;
mod findings;
mod huge;
mod imports;
mod lost;
mod on_s3;
mod reading;
mod refusals;
mod stores;
mod support;
mod uploads;
