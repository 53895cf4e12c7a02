//! What a user asked for, and how it stands.

use std::collections::BTreeMap;

use aegis_proto::ids::{ProjectId, ScanId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    event::{Event, Log},
    lane::NewLane,
    task::{NewTask, ProbeState},
    waiting::Waiting,
    word::words,
};

words! {
    /// Where a scan stands.
    ScanState {
        /// Nothing has run yet.
        Pending = "PENDING",
        /// Something has run.
        Running = "RUNNING",
        /// Nothing new is leased until it is resumed.
        Paused = "PAUSED",
        /// A cancel was asked for; what runs is being stopped, or the report is being made.
        Cancelling = "CANCELLING",
        /// Every task ended and something was evaluated.
        Completed = "COMPLETED",
        /// Nothing was evaluated.
        Failed = "FAILED",
        /// Stopped because that was asked for. What was evaluated stays.
        Cancelled = "CANCELLED",
    }
}

impl ScanState {
    /// Whether a scan in this state has ended.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }

    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::Running,
        Self::Paused,
        Self::Cancelling,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Its place in a scan's life, as the database computes it.
    pub const fn rank(self) -> i64 {
        match self {
            Self::Pending => 1,
            Self::Running => 2,
            Self::Paused => 3,
            Self::Cancelling => 4,
            Self::Completed => 5,
            Self::Failed => 6,
            Self::Cancelled => 7,
        }
    }
}

words! {
    /// Where a scan's report stands.
    ReportState {
        /// No report was asked for yet.
        None = "NONE",
        /// The first revision is queued or being made.
        Pending = "PENDING",
        /// A revision can be read.
        Ready = "READY",
        /// The newest revision could not be made. The results stand.
        Failed = "FAILED",
    }
}

/// The newest revision of a scan's report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportStatus {
    /// Where it stands.
    pub state: ReportState,
    /// 1, 2, 3, …; 0 while there is none.
    pub revision: i32,
    /// The newest revision that can be read; 0 while there is none.
    pub ready_revision: i32,
    /// Names of the files of the ready revision that users may see.
    pub artifacts: Vec<String>,
    /// UPPER_SNAKE, when it failed.
    pub reason: String,
}

impl Default for ReportStatus {
    fn default() -> Self {
        Self {
            state: ReportState::None,
            revision: 0,
            ready_revision: 0,
            artifacts: Vec::new(),
            reason: String::new(),
        }
    }
}

/// Why a scan failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// UPPER_SNAKE.
    pub reason: String,
    /// What happened.
    pub message: String,
    /// What to do next.
    pub hint: String,
}

/// Sums over probe and detector evaluations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Outputs below the threshold.
    pub passed: i64,
    /// Outputs at or above the threshold.
    pub failed: i64,
    /// Outputs that could not be scored.
    pub nones: i64,
}

impl Totals {
    /// passed / (passed + failed), 0 to 1; `None` while nothing was evaluated.
    pub fn pass_rate(&self) -> Option<f64> {
        let evaluated = self.passed + self.failed;
        (evaluated > 0).then(|| self.passed as f64 / evaluated as f64)
    }
}

/// A scan's row. Whoever changes it holds its lock.
#[derive(Debug, Clone, PartialEq)]
pub struct Scan {
    /// The project it belongs to.
    pub project: ProjectId,
    /// Its id.
    pub id: ScanId,
    /// What its user called it.
    pub display_name: String,
    /// The specification as proto3 JSON of `aegis.scan.v1.ScanSpec`; never changes.
    pub spec: Value,
    /// The target's type, out of the specification.
    pub target_type: String,
    /// The target's name, out of the specification.
    pub target_name: String,
    /// 0 to 100; higher is leased first.
    pub priority: i32,
    /// Its user's labels.
    pub labels: BTreeMap<String, String>,
    /// The garak version it is pinned to.
    pub garak_version: String,
    /// SHA-256 of the plugin catalogue it was planned with.
    pub plugin_catalogue: String,
    /// The seed that every probe runs with.
    pub effective_seed: i64,
    /// The threshold of detectors' scores, 0 to 1.
    pub effective_eval_threshold: f64,
    /// Calls to the target that all its tasks may have in flight.
    pub max_in_flight: i32,
    /// The lane of its tasks.
    pub lane: String,
    /// Who asked for it.
    pub created_by: String,

    /// Where it stands.
    pub state: ScanState,
    /// When a cancel was asked for.
    pub cancel_requested_at: Option<i64>,
    /// Since when it is paused; set exactly when its state is that.
    pub paused_at: Option<i64>,
    /// Calls granted to running probe tasks.
    pub in_flight: i32,
    /// Probe tasks that wait for a runner.
    pub queued: i32,
    /// Tasks of any kind that are leased.
    pub running: i32,
    /// Whether its report's task waits for a runner.
    pub report_queued: bool,
    /// Whether it has said that its target does not answer.
    pub waiting_noted: bool,

    /// Probe tasks, those that are known not to be evaluable included.
    pub planned: i32,
    /// Probe tasks whose results are committed.
    pub evaluated: i32,
    /// Probe tasks that ended without results.
    pub not_evaluated: i32,
    /// Sums over committed results.
    pub totals: Totals,
    /// Attempts of ended probe tasks.
    pub attempts_done: i64,
    /// Attempts of ended probe tasks, and those planned of the others.
    pub attempts_total: i64,
    /// The report.
    pub report: ReportStatus,
    /// Set exactly when it failed.
    pub failure: Option<Failure>,

    /// Sequence number of its newest event.
    pub last_sequence: i64,
    /// Unix milliseconds by the database's clock, as all times here.
    pub created_at: i64,
    /// When its first task was leased.
    pub started_at: Option<i64>,
    /// Set exactly when the state is terminal.
    pub ended_at: Option<i64>,
    /// When it was deleted.
    pub deleted_at: Option<i64>,
    /// When it is purged for good.
    pub purge_at: Option<i64>,

    /// The template it was made from; empty without one.
    pub template: String,
    /// The template's version; 0 without one.
    pub template_version: i32,
    /// The worst DEFCON grade of its report, 1 (worst) to 5.
    pub defcon: Option<i32>,
    /// The custom probes it runs with, pinned.
    pub custom_probes: Vec<CustomProbeVersion>,
    /// Whether it was brought in, and nothing of it ran here.
    pub imported: bool,
    /// What it had where it ran; not read for lists.
    pub original: Option<Original>,
}

/// What an imported scan had where it ran, as JSON objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Original {
    /// Its options; nothing runs by them.
    pub options: Option<Value>,
    /// The counts it came with.
    pub counts: Option<Value>,
}

/// A custom probe as a scan uses it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomProbeVersion {
    /// garak's module name.
    pub name: String,
    /// 1, 2, 3, …
    pub version: i32,
    /// SHA-256 of its source.
    pub sha256: String,
}

impl Scan {
    /// Moves to `to` and says so in the log; nothing happens when it is there already.
    pub fn move_to(&mut self, to: ScanState, reason: &str, now: i64, log: &mut Log) {
        if self.state == to {
            return;
        }
        log.of_scan(Event::StateChanged {
            from: Some(self.state),
            to,
            reason: reason.to_owned(),
        });
        self.state = to;
        self.ended_at = to.is_terminal().then_some(now);
        self.paused_at = (to == ScanState::Paused).then_some(now);
    }

    /// Whether nothing of it may be leased before it is resumed.
    pub fn is_paused(&self) -> bool {
        self.state == ScanState::Paused
    }

    /// Whether a cancel was asked for.
    pub fn is_cancel_requested(&self) -> bool {
        self.cancel_requested_at.is_some()
    }

    /// From its start to its end in milliseconds; `None` until both are known.
    pub fn duration_ms(&self) -> Option<i64> {
        Some(self.ended_at? - self.started_at?)
    }

    /// What it is searched by: name, target and error, a line each, in lower case.
    pub fn search_text(&self) -> String {
        let failure = self.failure.as_ref();
        let lines = [
            self.display_name.as_str(),
            &self.target_type,
            &self.target_name,
            failure.map_or("", |failure| &failure.reason),
            failure.map_or("", |failure| &failure.message),
        ];
        lines.join("\n").to_lowercase()
    }

    /// Opaque version of what a user may edit: progress never changes it.
    pub fn etag(&self) -> String {
        let mut hash = Sha256::new();
        let labels = self.labels.iter().flat_map(|(key, value)| [key, value]);
        for text in std::iter::once(&self.display_name).chain(labels) {
            hash.update(text);
            hash.update([0]);
        }
        hex::encode(&hash.finalize()[..8])
    }

    /// Whether a probe waits or runs.
    pub fn has_open_probes(&self) -> bool {
        self.evaluated + self.not_evaluated < self.planned
    }

    /// Whether anything waits or runs.
    pub fn has_open_tasks(&self) -> bool {
        self.queued > 0 || self.running > 0 || self.report_queued
    }
}

/// A scan to be made.
#[derive(Debug, Clone)]
pub struct NewScan {
    /// The request that it comes from; empty `request_id` means: not idempotent.
    pub key: IdempotencyKey,
    /// What its user called it.
    pub display_name: String,
    /// As proto3 JSON of `aegis.scan.v1.ScanSpec`.
    pub spec: Value,
    /// The target's type.
    pub target_type: String,
    /// The target's name.
    pub target_name: String,
    /// 0 to 100.
    pub priority: i32,
    /// Its user's labels.
    pub labels: BTreeMap<String, String>,
    /// The garak version.
    pub garak_version: String,
    /// SHA-256 of the plugin catalogue.
    pub plugin_catalogue: String,
    /// 0 to 2^32-1.
    pub effective_seed: i64,
    /// 0 to 1.
    pub effective_eval_threshold: f64,
    /// Calls in flight over all its tasks, at least 1.
    pub max_in_flight: i32,
    /// Its target's lane.
    pub lane: NewLane,
    /// At least one.
    pub tasks: Vec<NewTask>,
    /// Runs of one task that may fail before it is given up, at least 1.
    pub max_failures: i32,
    /// Who asks.
    pub created_by: String,
    /// The template it is made from; empty without one.
    pub template: String,
    /// The template's version; 0 without one.
    pub template_version: i32,
    /// The custom probes it runs with.
    pub custom_probes: Vec<CustomProbeVersion>,
}

/// Names a request, so that its repeat is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Full name of the public method.
    pub method: String,
    /// UUID; empty means: not idempotent.
    pub request_id: String,
    /// SHA-256 of the request as sent.
    pub request_sha256: String,
}

/// A scan with what is computed when it is read.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanView {
    /// The row.
    pub scan: Scan,
    /// What it waits for; `None` while it gets on, or when it has ended.
    pub waiting: Option<Waiting>,
    /// Attempts over all tasks, running ones included.
    pub attempts_done: i64,
    /// Attempts over all tasks, as far as known.
    pub attempts_total: i64,
    /// Probes that run or ended, in the scan's order; empty in lists.
    pub probes: Vec<ProbeProgress>,
    /// Probes that could not be evaluated, in the scan's order; empty in lists.
    pub not_evaluated: Vec<NotEvaluated>,
}

/// How far one probe is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeProgress {
    /// "dan.AntiDAN".
    pub probe: String,
    /// Whether it runs, or how it ended.
    pub state: ProbeState,
    /// Attempts done.
    pub attempts_done: i64,
    /// Attempts in all; 0 while not known.
    pub attempts_total: i64,
    /// Calls that the target made us repeat.
    pub target_retries: i64,
}

/// A probe that could not be evaluated, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotEvaluated {
    /// "dan.AntiDAN".
    pub probe: String,
    /// UPPER_SNAKE.
    pub reason: String,
    /// What it means, and what to do about it.
    pub message: String,
}
