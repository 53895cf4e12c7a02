//! A scan's append-only log.

use aegis_proto::ids::{Epoch, TaskId};
use serde::{Deserialize, Serialize};

use super::scan::ScanState;

/// What happened. Its JSON is stored: variants and fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "payload", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Event {
    /// The scan moved.
    StateChanged {
        /// `None` for a scan that was just made.
        from: Option<ScanState>,
        /// Where it is now.
        to: ScanState,
        /// Why.
        reason: String,
    },
    /// A probe's run began.
    ProbeStarted {
        /// The probe.
        probe: String,
        /// Who runs it.
        runner: String,
    },
    /// A detector of a running probe is through.
    DetectorFinished {
        /// The probe.
        probe: String,
        /// The detector.
        detector: String,
    },
    /// A probe's results are committed.
    ProbeEvaluated {
        /// The probe.
        probe: String,
        /// Counts by detector.
        detectors: Vec<DetectorCounts>,
    },
    /// A probe ended without results.
    ProbeNotEvaluated {
        /// The probe.
        probe: String,
        /// UPPER_SNAKE.
        reason: String,
        /// What it means.
        message: String,
    },
    /// A task went back to the queue.
    TaskRetried {
        /// Empty for a report.
        probe: String,
        /// UPPER_SNAKE.
        reason: String,
        /// Unix milliseconds.
        not_before: i64,
    },
    /// A revision of the report can be read.
    ReportReady {
        /// Its number.
        revision: i32,
        /// Names of its files.
        artifacts: Vec<String>,
    },
    /// The report could not be made.
    ReportFailed {
        /// UPPER_SNAKE.
        reason: String,
    },
    /// Nothing runs for now.
    Waiting {
        /// UPPER_SNAKE.
        reason: String,
    },
}

impl Event {
    /// Its kind, as its JSON names it.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::StateChanged { .. } => "STATE_CHANGED",
            Self::ProbeStarted { .. } => "PROBE_STARTED",
            Self::DetectorFinished { .. } => "DETECTOR_FINISHED",
            Self::ProbeEvaluated { .. } => "PROBE_EVALUATED",
            Self::ProbeNotEvaluated { .. } => "PROBE_NOT_EVALUATED",
            Self::TaskRetried { .. } => "TASK_RETRIED",
            Self::ReportReady { .. } => "REPORT_READY",
            Self::ReportFailed { .. } => "REPORT_FAILED",
            Self::Waiting { .. } => "WAITING",
        }
    }

    /// Whether it moved the scan to a terminal state.
    pub fn ends_scan(&self) -> bool {
        matches!(self, Self::StateChanged { to, .. } if to.is_terminal())
    }
}

/// Kinds that matter only while a scan runs: the log of one that ended long ago loses them.
pub const PASSING: [&str; 2] = ["DETECTOR_FINISHED", "WAITING"];

/// What one detector made of a probe's outputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DetectorCounts {
    /// The detector.
    pub detector: String,
    /// Outputs below the threshold.
    pub passed: i64,
    /// Outputs at or above it.
    pub failed: i64,
    /// Outputs that could not be scored.
    pub nones: i64,
}

/// Which run an event comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The task.
    pub task: TaskId,
    /// Its run.
    pub epoch: Epoch,
    /// The runner's own number of it, when the runner said it.
    pub sequence: Option<i64>,
}

/// An event to be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// `None` for events of the scan itself.
    pub source: Option<Source>,
    /// What happened.
    pub event: Event,
}

/// An event of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedEvent {
    /// 1, 2, 3, … in commit order; without gaps until the log is compacted.
    pub sequence: i64,
    /// Unix milliseconds.
    pub at: i64,
    /// `None` for events of the scan itself.
    pub source: Option<Source>,
    /// What happened.
    pub event: Event,
}

/// Events of one transaction, in order. They get their numbers when the scan is saved.
#[derive(Debug, Default)]
pub struct Log {
    events: Vec<NewEvent>,
}

impl Log {
    /// Appends an event of the scan itself.
    pub fn of_scan(&mut self, event: Event) {
        self.events.push(NewEvent {
            source: None,
            event,
        });
    }

    /// Appends an event of a run.
    pub fn of_run(&mut self, task: TaskId, epoch: Epoch, event: Event) {
        self.push(
            Source {
                task,
                epoch,
                sequence: None,
            },
            event,
        );
    }

    /// Appends an event of a run with its source.
    pub fn push(&mut self, source: Source, event: Event) {
        self.events.push(NewEvent {
            source: Some(source),
            event,
        });
    }

    /// The events, in order.
    pub fn into_events(self) -> Vec<NewEvent> {
        self.events
    }

    /// The events so far.
    pub fn events(&self) -> &[NewEvent] {
        &self.events
    }
}
