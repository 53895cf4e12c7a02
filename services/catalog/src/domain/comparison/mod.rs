//! What changed between scans: each is compared with the first, the baseline, probe by probe and
//! detector by detector.

mod correction;
mod fisher;
mod guard;

#[cfg(test)]
mod comparison_test;
#[cfg(test)]
mod guard_test;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

use super::{scan::Scan, tally::ProbeResult, word::words};

pub use correction::benjamini_hochberg;
pub use fisher::{Counts, two_sided};
pub use guard::{Concerns, Difference, differences};

/// How it is decided what is significant.
pub const METHOD: &str = "Fisher's exact test, two-sided; Benjamini-Hochberg";

words! {
    /// What became of a row, against the baseline.
    Change {
        /// Significantly more failures.
        Worse = "WORSE",
        /// Evaluated here and not in the baseline.
        New = "NEW",
        /// A blocking difference forbids to compare.
        NotComparable = "NOT_COMPARABLE",
        /// Evaluated in the baseline and not here.
        Gone = "GONE",
        /// No significant difference.
        Unchanged = "UNCHANGED",
        /// Significantly fewer failures.
        Better = "BETTER",
        /// Failures in the baseline, none here, and the difference is significant.
        Fixed = "FIXED",
    }
}

impl Change {
    /// All, the worst first.
    pub const ALL: [Self; 7] = [
        Self::Worse,
        Self::New,
        Self::NotComparable,
        Self::Gone,
        Self::Unchanged,
        Self::Better,
        Self::Fixed,
    ];

    /// Place in "worst first".
    fn rank(self) -> usize {
        self as usize
    }
}

/// A scan and its results.
#[derive(Debug, Clone)]
pub struct Compared {
    /// The scan.
    pub scan: Scan,
    /// All of its results.
    pub results: Vec<ProbeResult>,
}

/// One scan's part of a row.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cell {
    /// `None` where the scan has none.
    pub result: Option<ProbeResult>,
    /// `None` in the baseline, and where neither was evaluated.
    pub change: Option<Change>,
    /// Pass rate minus the baseline's; `None` without two rates.
    pub difference: Option<f64>,
    /// Of the test; `None` when not compared.
    pub p_value: Option<f64>,
    /// After correction for the rows of this scan and the baseline.
    pub q_value: Option<f64>,
}

impl Cell {
    fn counts(&self) -> Option<Counts> {
        let row = &self.result.as_ref()?.row;
        let counts = Counts {
            passed: u64::try_from(row.passed).unwrap_or(0),
            failed: u64::try_from(row.failed).unwrap_or(0),
        };
        counts.pass_rate().map(|_| counts)
    }
}

/// A probe and a detector, over all scans.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// "dan.AntiDAN".
    pub probe: String,
    /// "dan.DAN".
    pub detector: String,
    /// One per scan, in their order.
    pub cells: Vec<Cell>,
}

impl Row {
    /// Whether any of its changes is among these; every row when there are none.
    pub fn has(&self, changes: &[Change]) -> bool {
        let mut own = self.cells.iter().filter_map(|cell| cell.change);
        changes.is_empty() || own.any(|change| changes.contains(&change))
    }

    /// Its place: worst change first, then by probe and detector.
    pub fn place(&self) -> Place {
        let worst = self.cells.iter().filter_map(|cell| cell.change);
        Place {
            rank: worst.map(Change::rank).min().unwrap_or(Change::ALL.len()),
            probe: self.probe.clone(),
            detector: self.detector.clone(),
        }
    }
}

/// Where a row stands, and after which a page begins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    rank: usize,
    probe: String,
    detector: String,
}

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Settings that are not the same in all scans.
    pub differences: Vec<Difference>,
    /// All rows, in their places.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// How many rows changed how, for a scan but the baseline.
    pub fn summary(&self, scan: usize) -> HashMap<Change, i32> {
        let mut counts = HashMap::new();
        for change in self.rows.iter().filter_map(|row| row.cells[scan].change) {
            *counts.entry(change).or_default() += 1;
        }
        counts
    }
}

/// Compares scans with the first of them. `significance` is over 0 and under 1.
pub fn compare(scans: &[Compared], significance: f64) -> Comparison {
    let differences = differences(&scans.iter().map(|one| &one.scan).collect::<Vec<_>>());
    let mut rows = rows_of(scans);
    for scan in 1..scans.len() {
        against_baseline(&mut rows, scan, &differences, significance);
    }
    rows.sort_by_cached_key(Row::place);
    Comparison { differences, rows }
}

fn rows_of(scans: &[Compared]) -> Vec<Row> {
    let mut rows: BTreeMap<(&str, &str), Vec<Cell>> = BTreeMap::new();
    for (index, scan) in scans.iter().enumerate() {
        for result in &scan.results {
            let cells = rows
                .entry((&result.row.probe, &result.row.detector))
                .or_insert_with(|| vec![Cell::default(); scans.len()]);
            cells[index].result = Some(result.clone());
        }
    }
    let rows = rows.into_iter().map(|((probe, detector), cells)| Row {
        probe: probe.to_owned(),
        detector: detector.to_owned(),
        cells,
    });
    rows.collect()
}

fn against_baseline(rows: &mut [Row], scan: usize, differences: &[Difference], significance: f64) {
    let mut tested = Vec::new();
    for (index, row) in rows.iter_mut().enumerate() {
        let (baseline, here) = (row.cells[0].counts(), row.cells[scan].counts());
        let blocked = differences
            .iter()
            .any(|difference| difference.blocks(0, scan, &row.probe, &row.detector));
        let cell = &mut row.cells[scan];
        match (baseline, here) {
            (None, None) => {}
            (None, Some(_)) => cell.change = Some(Change::New),
            (Some(_), None) => cell.change = Some(Change::Gone),
            (Some(_), Some(_)) if blocked => cell.change = Some(Change::NotComparable),
            (Some(baseline), Some(here)) => {
                let rates = here.pass_rate().zip(baseline.pass_rate());
                cell.difference = rates.map(|(here, baseline)| here - baseline);
                let p_value = two_sided(baseline, here);
                cell.p_value = Some(p_value);
                tested.push((index, baseline, here, p_value));
            }
        }
    }
    let p_values: Vec<f64> = tested.iter().map(|(.., p_value)| *p_value).collect();
    for ((index, baseline, here, _), q_value) in
        tested.into_iter().zip(benjamini_hochberg(&p_values))
    {
        let cell = &mut rows[index].cells[scan];
        cell.q_value = Some(q_value);
        cell.change = Some(if q_value <= significance {
            significant(baseline, here)
        } else {
            Change::Unchanged
        });
    }
}

/// What a significant difference is.
fn significant(baseline: Counts, here: Counts) -> Change {
    if here.pass_rate() < baseline.pass_rate() {
        return Change::Worse;
    }
    if here.failed == 0 {
        return Change::Fixed;
    }
    Change::Better
}
