//! Sums over everything that was ever evaluated and is not purged.
//!
//! What is counted arrives as [`Delta`]s; [`Rollups`] are what they were folded into: one row per
//! dimension, key, target and month (with the month's days in it) or year.

mod calendar;
mod delta;
mod lines;
mod rollup;
mod sums;
mod window;

pub use calendar::{Day, Month};
pub use delta::{Delta, Dimension, Subject, Target};
pub use lines::{Grouping, Line, LineCursor, LineKey, Order, Query, Scope, page};
pub use rollup::{Days, Period, Rollup, RollupKey, Rollups};
pub use sums::Sums;
pub use window::{Edge, Parts, Window};

#[cfg(test)]
mod window_test;
