//! What deltas are folded into.

use std::collections::{BTreeMap, HashMap};

use super::{
    calendar::Day,
    delta::{Delta, Dimension, Target},
    sums::Sums,
};

/// The time that a row sums over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    /// By its number.
    Year(i32),
    /// As [`Month`](super::Month) numbers it.
    Month(i32),
}

/// Which row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RollupKey {
    /// Of which dimension.
    pub dimension: Dimension,
    /// Its key in it.
    pub key: String,
    /// Of one target; `None` is all of them together.
    pub target: Option<Target>,
    /// The time.
    pub period: Period,
}

/// A month's days with anything to count.
pub type Days = BTreeMap<u8, Sums>;

/// A row's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollup {
    /// Over the whole period.
    pub sums: Sums,
    /// By day of the month; empty for a year.
    pub days: Days,
}

impl Rollup {
    fn add(&mut self, day: Option<Day>, sums: Sums) {
        self.sums += sums;
        if let Some(day) = day {
            add_day(&mut self.days, day.of_month(), sums);
        }
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: Self) {
        self.sums += other.sums;
        for (day, sums) in other.days {
            add_day(&mut self.days, day, sums);
        }
    }
}

fn add_day(days: &mut Days, day: u8, sums: Sums) {
    let sum = days.entry(day).or_default();
    *sum += sums;
    if sum.is_zero() {
        days.remove(&day);
    }
}

/// Rows and what deltas add to them.
#[derive(Debug, Default)]
pub struct Rollups {
    rows: HashMap<RollupKey, Rollup>,
}

impl Rollups {
    /// Folds a delta: in each of its lines, for its target and for all, in month and year.
    pub fn fold(&mut self, delta: &Delta) {
        let month = delta.day.month();
        for (dimension, key) in delta.subject.keys() {
            for target in [None, Some(delta.target.clone())] {
                let periods = [
                    (Period::Month(month.0), Some(delta.day)),
                    (Period::Year(month.year()), None),
                ];
                for (period, day) in periods {
                    let row = RollupKey {
                        dimension,
                        key: key.to_owned(),
                        target: target.clone(),
                        period,
                    };
                    self.rows.entry(row).or_default().add(day, delta.sums);
                }
            }
        }
    }

    /// Which rows there are.
    pub fn keys(&self) -> impl Iterator<Item = &RollupKey> {
        self.rows.keys()
    }

    /// Adds a row.
    pub fn merge(&mut self, key: RollupKey, stored: Rollup) {
        self.rows.entry(key).or_default().merge(stored);
    }

    /// All rows.
    pub fn into_rows(self) -> impl Iterator<Item = (RollupKey, Rollup)> {
        self.rows.into_iter()
    }
}
