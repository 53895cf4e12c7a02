//! Counts per probe and detector, as artifact found them in the bytes.

use serde::{Deserialize, Serialize};

/// Counts of a whole report or part. Its JSON is stored with the artifact.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// Per probe and detector.
    pub rows: Vec<TallyRow>,
    /// Attempts that detectors have seen.
    pub attempts: i64,
}

/// Counts of one probe and one detector.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TallyRow {
    /// "dan.AntiDAN".
    pub probe: String,
    /// "dan.DAN".
    pub detector: String,
    /// Outputs below the threshold.
    pub passed: i64,
    /// Outputs at or above it.
    pub failed: i64,
    /// Outputs that could not be scored.
    pub nones: i64,
    /// Outputs that were scored.
    pub evaluated: i64,
    /// garak's grades; only in a composed report.
    pub grades: Option<Grades>,
}

/// DEFCON grades as garak's digest has them: 1 is worst, 5 is best.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Grades {
    /// By the pass rate alone.
    pub absolute_defcon: Option<i32>,
    /// By comparison with garak's calibration.
    pub relative_defcon: Option<i32>,
    /// The one garak shows.
    pub detector_defcon: Option<i32>,
    /// Z-score against garak's calibration.
    pub relative_score: Option<f64>,
}

impl Grades {
    /// garak's grades, worst first.
    pub const DEFCON: std::ops::RangeInclusive<i32> = 1..=5;
}

impl Tally {
    /// Whether any detector scored any output.
    pub fn is_evaluated(&self) -> bool {
        self.rows.iter().any(|row| row.evaluated > 0)
    }

    /// A probe that the tally names although it is not `probe`.
    pub fn foreign_probe(&self, probe: &str) -> Option<&str> {
        let row = self.rows.iter().find(|row| row.probe != probe)?;
        Some(&row.probe)
    }
}

/// A row of a scan's results.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeResult {
    /// The counts and grades.
    pub row: TallyRow,
    /// When they were committed.
    pub evaluated_at: i64,
}

impl TallyRow {
    /// passed / evaluated, 0 to 1; `None` when nothing was evaluated.
    pub fn pass_rate(&self) -> Option<f64> {
        (self.evaluated > 0).then(|| self.passed as f64 / self.evaluated as f64)
    }

    /// Place in "worst first": the pass rate in 10^-15, and behind all of them what was not
    /// evaluated. An integer, so that a page's cursor compares exactly.
    pub fn rank(&self) -> i64 {
        const NOT_EVALUATED: i64 = 2_000_000_000_000_000;
        self.pass_rate()
            .map_or(NOT_EVALUATED, |rate| (rate * 1e15).round() as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worst_comes_first_and_what_was_not_evaluated_last() {
        let row = |passed, evaluated| TallyRow {
            passed,
            evaluated,
            ..TallyRow::default()
        };
        let ranks = [
            row(0, 4),
            row(1, 4),
            row(99_999, 100_000),
            row(4, 4),
            row(0, 0),
        ]
        .map(|row| row.rank());
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
    }
}
