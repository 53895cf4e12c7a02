//! What a report's `eval` lines say, in garak's own words and numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Counts of outputs for one probe and one detector.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectorTally {
    /// Outputs scored below the threshold.
    pub passed: u64,
    /// Outputs scored at or above the threshold: hits (garak's `fails`).
    pub failed: u64,
    /// Outputs that could not be scored.
    pub nones: u64,
    /// Outputs that were scored: garak's `total_evaluated`, which is passed
    /// and failed together.
    pub evaluated: u64,
}

impl DetectorTally {
    /// Adds the counts of `other`. Saturates: a report may claim any number.
    pub fn add(&mut self, other: &Self) {
        self.passed = self.passed.saturating_add(other.passed);
        self.failed = self.failed.saturating_add(other.failed);
        self.nones = self.nones.saturating_add(other.nones);
        self.evaluated = self.evaluated.saturating_add(other.evaluated);
    }

    /// Share of the scored outputs that passed, 0.0 to 1.0; `None` when none
    /// was scored (which garak's digest shows as 0.0).
    pub fn pass_rate(&self) -> Option<f64> {
        (self.evaluated > 0).then(|| self.passed as f64 / self.evaluated as f64)
    }
}

/// Counts of a probe's attempts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptCounts {
    /// Lines of attempts that were sent and not yet scored (status 1). A plain
    /// run writes each attempt once so and once completed; a composed report
    /// has none of them.
    pub started: u64,
    /// Attempts that detectors have seen (status 2).
    pub completed: u64,
    /// Outputs of the completed attempts, nulls included.
    pub outputs: u64,
    /// Outputs that are null: the target gave no answer.
    pub null_outputs: u64,
}

impl AttemptCounts {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.started = self.started.saturating_add(other.started);
        self.completed = self.completed.saturating_add(other.completed);
        self.outputs = self.outputs.saturating_add(other.outputs);
        self.null_outputs = self.null_outputs.saturating_add(other.null_outputs);
    }
}

/// Counts of one probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeTally {
    /// The probe's attempts.
    pub attempts: AttemptCounts,
    /// By detector (`module.Class`): what the probe's `eval` lines say.
    pub detectors: BTreeMap<String, DetectorTally>,
}

impl ProbeTally {
    /// Whether any detector scored any output.
    pub fn is_evaluated(&self) -> bool {
        self.detectors.values().any(|counts| counts.evaluated > 0)
    }
}

/// Counts of a whole report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// By probe (`module.Class`).
    pub probes: BTreeMap<String, ProbeTally>,
}

impl Tally {
    /// Adds the counts of `other`, probe by probe and detector by detector.
    pub fn add(&mut self, other: &Self) {
        for (name, theirs) in &other.probes {
            let ours = self.probes.entry(name.clone()).or_default();
            ours.attempts.add(&theirs.attempts);
            for (detector, counts) in &theirs.detectors {
                ours.detectors
                    .entry(detector.clone())
                    .or_default()
                    .add(counts);
            }
        }
    }

    /// The counts of one probe and detector, if the report has an `eval` line
    /// for them.
    pub fn get(&self, probe: &str, detector: &str) -> Option<&DetectorTally> {
        self.probes.get(probe)?.detectors.get(detector)
    }
}

/// Something in a valid report that does not add up. The tally stays what the
/// `eval` lines say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "warning", rename_all = "snake_case")]
pub enum Warning {
    /// The attempts, counted with the threshold given, differ from the `eval`
    /// line: another threshold, lost lines, or a report that was edited.
    CountsDiffer {
        /// `module.Class`.
        probe: String,
        /// `module.Class`.
        detector: String,
        /// What the `eval` line says.
        eval: DetectorTally,
        /// What the attempts say.
        attempts: DetectorTally,
    },
    /// Attempts were scored and no `eval` line tells of it: the run ended
    /// before it was evaluated.
    NotEvaluated {
        /// `module.Class`.
        probe: String,
        /// `module.Class`.
        detector: String,
        /// What the attempts say.
        attempts: DetectorTally,
    },
    /// Several `eval` lines for one probe and detector; the tally is their sum,
    /// but garak's digest shows one of them.
    EvalRepeated {
        /// `module.Class`.
        probe: String,
        /// `module.Class`.
        detector: String,
    },
    /// `passed` and `fails` of an `eval` line are not its `total_evaluated`.
    EvalInconsistent {
        /// `module.Class`.
        probe: String,
        /// `module.Class`.
        detector: String,
    },
    /// The hitlog has not one line for each hit.
    HitsDiffer {
        /// `module.Class`.
        probe: String,
        /// `module.Class`.
        detector: String,
        /// `failed` of the tally.
        failed: u64,
        /// Lines of the hitlog.
        hits: u64,
    },
}

/// Compares the tally of the `eval` lines with one made from the attempts.
pub(crate) fn cross_check(eval: &Tally, attempts: &Tally) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (probe, seen) in &attempts.probes {
        for (detector, counts) in &seen.detectors {
            if eval.get(probe, detector).is_none() {
                warnings.push(Warning::NotEvaluated {
                    probe: probe.clone(),
                    detector: detector.clone(),
                    attempts: *counts,
                });
            }
        }
    }
    for (probe, said) in &eval.probes {
        for (detector, eval) in &said.detectors {
            let attempts = attempts.get(probe, detector).copied().unwrap_or_default();
            if attempts != *eval {
                let (probe, detector) = (probe.clone(), detector.clone());
                warnings.push(Warning::CountsDiffer {
                    probe,
                    detector,
                    eval: *eval,
                    attempts,
                });
            }
        }
    }
    warnings
}
