//! The unit that is leased, retried and resumed.

use aegis_proto::ids::{Epoch, ScanId, TaskId};
use serde::{Deserialize, Serialize};

use super::word::words;

words! {
    /// What a task does.
    TaskKind {
        /// Runs one probe.
        Probe = "PROBE",
        /// Makes a revision of the report.
        Report = "REPORT",
    }
}

words! {
    /// Where a task stands.
    TaskState {
        /// Waits for a runner.
        Queued = "QUEUED",
        /// Is leased.
        Running = "RUNNING",
        /// Its results are committed.
        Done = "DONE",
        /// Ended without results.
        Failed = "FAILED",
        /// Stopped because that was asked for.
        Cancelled = "CANCELLED",
    }
}

words! {
    /// How far a probe is, to its user.
    ProbeState {
        /// Not begun.
        Queued = "QUEUED",
        /// Runs.
        Running = "RUNNING",
        /// Has results.
        Evaluated = "EVALUATED",
        /// Ended without results.
        NotEvaluated = "NOT_EVALUATED",
    }
}

impl From<TaskState> for ProbeState {
    fn from(state: TaskState) -> Self {
        match state {
            TaskState::Queued => Self::Queued,
            TaskState::Running => Self::Running,
            TaskState::Done => Self::Evaluated,
            TaskState::Failed | TaskState::Cancelled => Self::NotEvaluated,
        }
    }
}

/// A probe's task to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTask {
    /// "dan.AntiDAN".
    pub probe: String,
    /// From 0.
    pub shard_index: i32,
    /// At least 1.
    pub shard_count: i32,
    /// Place in the scan's order, from 0.
    pub ordinal: i32,
    /// Calls it will make, as far as known.
    pub planned_calls: i64,
    /// Attempts it will make, as far as known.
    pub planned_attempts: i64,
    /// Detectors to run, when they are not simply the probe's own.
    pub detectors: Vec<String>,
    /// Set when it is known that it cannot be evaluated: reason and message.
    pub not_evaluated: Option<(String, String)>,
    /// The probe's tags, as garak has them.
    pub tags: Vec<String>,
}

/// Last values that a run reported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TaskProgress {
    /// Attempts done.
    pub attempts_done: i64,
    /// Attempts in all; 0 while not known.
    pub attempts_total: i64,
    /// Calls that the target made it repeat.
    pub target_retries: i64,
}

/// A task's row. Whoever changes it holds its scan's lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// Its scan.
    pub scan: ScanId,
    /// What it does.
    pub kind: TaskKind,
    /// "dan.AntiDAN"; empty for a report.
    pub probe: String,
    /// From 0.
    pub shard_index: i32,
    /// At least 1.
    pub shard_count: i32,
    /// Detectors to run, when they are not simply the probe's own.
    pub detectors: Vec<String>,
    /// Of the report that it makes; 0 for a probe.
    pub revision: i32,
    /// Attempts it will make, as far as known.
    pub planned_attempts: i64,
    /// Known at the plan that it cannot be evaluated; never queued.
    pub planned_out: bool,
    /// Where it stands.
    pub state: TaskState,
    /// Raised with each lease; 0 before the first.
    pub epoch: Epoch,
    /// Runs that failed.
    pub failures: i32,
    /// Failures with which it is given up.
    pub max_failures: i32,
    /// Not leased before this.
    pub not_before: i64,
    /// Calls in flight of the current lease.
    pub granted: i32,
    /// Last values.
    pub progress: TaskProgress,
    /// UPPER_SNAKE, when it ended without results.
    pub reason: String,
    /// What the reason means.
    pub message: String,
    /// The probe's tags, as garak has them.
    pub tags: Vec<String>,
}

/// Proof that the caller holds one run of one task.
#[derive(Clone, PartialEq, Eq)]
pub struct LeaseProof {
    /// The task.
    pub task: TaskId,
    /// Its scan.
    pub scan: ScanId,
    /// The fencing number.
    pub epoch: Epoch,
    /// Known to the runner alone; the store keeps its hash.
    pub token: Vec<u8>,
}

// Written by hand: the token stays out of logs.
impl std::fmt::Debug for LeaseProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lease of task {} epoch {}", self.task, self.epoch)
    }
}

words! {
    /// How a run ended, in its runner's words.
    OutcomeKind {
        /// The task is done.
        Done = "DONE",
        /// May work next time.
        Retryable = "FAILED_RETRYABLE",
        /// The target pushed back.
        Backpressure = "BACKPRESSURE",
        /// Will not work next time either.
        Permanent = "FAILED_PERMANENT",
        /// Stopped because that was asked for.
        Cancelled = "CANCELLED",
        /// Given back unharmed.
        Released = "RELEASED",
    }
}

/// How a run ended. Stored as sent, so that its repeat is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The kind.
    pub kind: OutcomeKind,
    /// UPPER_SNAKE; empty when done.
    pub reason: String,
    /// Our words on the reason.
    pub message: String,
    /// Milliseconds that the target asked for.
    pub retry_after_ms: Option<i64>,
    /// Artifacts to commit.
    pub artifacts: Vec<aegis_proto::ids::ArtifactId>,
}

/// What a runner is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Go on.
    Continue,
    /// Stop, and finish as cancelled.
    Stop,
}

impl Directive {
    /// A cancelled scan's probes stop; its report is made to the end.
    pub fn of(kind: TaskKind, cancel_requested: bool) -> Self {
        if kind == TaskKind::Probe && cancel_requested {
            Self::Stop
        } else {
            Self::Continue
        }
    }
}
