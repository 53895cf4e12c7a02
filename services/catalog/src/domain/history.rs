//! Which scans are asked for, and in which order.

use std::collections::BTreeMap;

use serde::Serialize;

use super::scan::ScanState;

/// A list of scans.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ScanQuery {
    /// Which of them.
    pub filter: ScanFilter,
    /// In which order.
    pub order: ScanOrder,
    /// Oldest, shortest, lowest first, instead of last.
    pub ascending: bool,
    /// Those that are deleted and can be restored, instead of the others.
    pub deleted: bool,
}

/// What scans are ordered by. Scans without the value come last in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize)]
pub enum ScanOrder {
    /// When it was asked for.
    #[default]
    CreateTime,
    /// When its first task was leased.
    StartTime,
    /// When it ended.
    EndTime,
    /// The target's type, then its name, then when it was asked for.
    Target,
    /// Part of the evaluated outputs that passed.
    PassRate,
    /// From start to end.
    Duration,
    /// The state's rank, then when it was asked for.
    State,
}

impl ScanOrder {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CreateTime,
        Self::StartTime,
        Self::EndTime,
        Self::Target,
        Self::PassRate,
        Self::Duration,
        Self::State,
    ];
}

/// Which scans a list holds: those that all of this is true of.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ScanFilter {
    /// Any of these; empty means all.
    pub states: Vec<ScanState>,
    /// Exactly this; empty means all.
    pub target_type: String,
    /// Exactly this; empty means all.
    pub target_name: String,
    /// Made from this template; empty means all.
    pub template: String,
    /// Had this probe in its plan; empty means all.
    pub probe: String,
    /// Has all of these; an empty value stands for any.
    pub labels: BTreeMap<String, String>,
    /// When it was asked for.
    pub created: Period,
    /// When its first task was leased.
    pub started: Period,
    /// When it ended.
    pub ended: Period,
    /// Part of the evaluated outputs that passed.
    pub pass_rate: Share,
    /// Part of the planned probes that was evaluated.
    pub coverage: Share,
    /// The worst grade is any of these; empty means all.
    pub defcon: Vec<i32>,
    /// Occurs in name, target or error, in lower case; empty means all.
    pub text: String,
}

/// From `start`, up to but not including `end`, in unix milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Period {
    /// The first moment in it.
    pub start: Option<i64>,
    /// The first moment after it.
    pub end: Option<i64>,
}

impl Period {
    /// Whether it leaves nothing out.
    pub fn is_everything(&self) -> bool {
        self.start.is_none() && self.end.is_none()
    }
}

/// Both ends are in it, 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Share {
    /// The least.
    pub min: Option<f64>,
    /// The most.
    pub max: Option<f64>,
}

impl Share {
    /// Whether it leaves nothing out.
    pub fn is_everything(&self) -> bool {
        self.min.is_none() && self.max.is_none()
    }
}

/// A count that stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// How many were found.
    pub found: i64,
    /// Whether it stopped before it had looked at all.
    pub capped: bool,
}
