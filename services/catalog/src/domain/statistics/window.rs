//! Days, and the rows that hold them.

use super::calendar::{Day, Month};

/// Whole days, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first day.
    pub start: Day,
    /// The last day, not before the first.
    pub end: Day,
}

impl Default for Window {
    fn default() -> Self {
        Self {
            start: Day::FIRST,
            end: Day::LAST,
        }
    }
}

/// Some days of a month, not all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    /// The month.
    pub month: Month,
    /// Its first day that counts.
    pub first: u8,
    /// Its last day that counts.
    pub last: u8,
}

/// A window cut into as few rows as hold it: years, whole months around them, and days of at most
/// two months at the ends. All ranges are inclusive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Whole years.
    pub years: Option<(i32, i32)>,
    /// Whole months.
    pub months: Vec<(Month, Month)>,
    /// Days of other months.
    pub edges: Vec<Edge>,
}

impl Window {
    /// Whether the day is in it.
    pub fn contains(&self, day: Day) -> bool {
        (self.start..=self.end).contains(&day)
    }

    /// Years, months and days.
    pub fn parts(&self) -> Parts {
        let mut parts = self.whole_months_and_days();
        let Some((first, last)) = parts.months.pop() else {
            return parts;
        };
        let years = (
            (first.0 + 11).div_euclid(12),
            (last.0 + 1).div_euclid(12) - 1,
        );
        if years.0 > years.1 {
            parts.months.push((first, last));
            return parts;
        }
        parts.years = Some(years);
        let before = (first, Month(years.0 * 12 - 1));
        let after = (Month((years.1 + 1) * 12), last);
        let months = [before, after].into_iter();
        parts
            .months
            .extend(months.filter(|(first, last)| first <= last));
        parts
    }

    /// Months and days, no years: for lines by month.
    pub fn whole_months_and_days(&self) -> Parts {
        let (first, last) = (self.start.month(), self.end.month());
        let mut parts = Parts::default();
        let cut_at_start = self.start != first.first();
        let cut_at_end = self.end != last.last();
        let edge = |month: Month| Edge {
            month,
            first: self.start.max(month.first()).of_month(),
            last: self.end.min(month.last()).of_month(),
        };
        if cut_at_start || (cut_at_end && first == last) {
            parts.edges.push(edge(first));
        }
        if cut_at_end && first != last {
            parts.edges.push(edge(last));
        }
        let whole = (
            Month(first.0 + i32::from(cut_at_start)),
            Month(last.0 - i32::from(cut_at_end)),
        );
        if whole.0 <= whole.1 && (first != last || parts.edges.is_empty()) {
            parts.months.push(whole);
        }
        parts
    }
}
