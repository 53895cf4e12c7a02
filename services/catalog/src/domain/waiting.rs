//! Why nothing of a scan gets on, although it has not ended and is not paused.

use super::{scan::Scan, word::words};

words! {
    /// Why a scan does not get on.
    WaitingReason {
        /// Other work comes first.
        Queued = "QUEUED",
        /// No runner with the scan's plugin catalogue was seen of late.
        NoMatchingRunner = "NO_MATCHING_RUNNER",
        /// The target does not answer well. It is tried again, by one run alone.
        TargetNotAnswering = "TARGET_NOT_ANSWERING",
        /// A run has its results and cannot hand them in: there is no room for them.
        StorageFull = "STORAGE_FULL",
        /// The same: the object store will not take them.
        StorageRefused = "STORAGE_REFUSED",
        /// The same: the object store, or the way to it, does not work.
        StorageDown = "STORAGE_DOWN",
        /// Nothing can be written: the database has no room left.
        DatabaseFull = "DATABASE_FULL",
        /// Nothing can be written: the database takes no writes.
        DatabaseReadOnly = "DATABASE_READ_ONLY",
    }
}

impl WaitingReason {
    /// What a run may say that it waits for; `None` for any other word.
    pub fn of_run(text: &str) -> Option<Self> {
        let reason: Self = text.parse().ok()?;
        let may = [Self::StorageFull, Self::StorageRefused, Self::StorageDown];
        may.contains(&reason).then_some(reason)
    }
}

impl From<WaitingReason> for Waiting {
    fn from(reason: WaitingReason) -> Self {
        Self {
            reason,
            since: None,
            place: None,
        }
    }
}

/// What a scan waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Why.
    pub reason: WaitingReason,
    /// Since when the target does not answer; `None` for other reasons.
    pub since: Option<i64>,
    /// Its place among the scans that wait to run, from 1, when it waits for others; [`FAR`] when
    /// there are as many before it or more. `None` in lists.
    pub place: Option<i32>,
}

/// The last place that is counted.
pub const FAR: i32 = 1_001;

impl Waiting {
    /// What a scan waits for whose target does not answer since then, or does, and which has a
    /// runner or not.
    pub fn of(scan: &Scan, silent_since: Option<i64>, has_runner: bool) -> Option<Self> {
        if scan.state.is_terminal() || scan.is_paused() {
            return None;
        }
        if scan.running == 0 && !has_runner {
            return Some(WaitingReason::NoMatchingRunner.into());
        }
        // A report needs no target.
        if silent_since.is_some() && scan.queued + scan.in_flight > 0 {
            return Some(Self {
                since: silent_since,
                ..WaitingReason::TargetNotAnswering.into()
            });
        }
        (scan.running == 0).then(|| WaitingReason::Queued.into())
    }
}
