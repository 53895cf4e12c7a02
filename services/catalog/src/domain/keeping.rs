//! What the store's jobs take away, and what they leave.

use std::collections::BTreeMap;

use aegis_mesh::Error;
use aegis_proto::ids::Epoch;
use serde::{Serialize, de::DeserializeOwned};

use super::{refusal::invalid_field, task::TaskState};

/// A kind of work that is done in steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sweep {
    /// Files that no run will commit.
    Unfinished,
    /// Parts that a revision of the report has taken in.
    Parts,
    /// Sources that nothing uses, and nobody announced for so many milliseconds.
    Sources(i64),
    /// Deleted scans past their purge time.
    Purge,
    /// Scans that ended more than so many milliseconds ago.
    Age(i64, KeepLabels),
    /// What is more than so many ended scans of a target.
    Count(i64, KeepLabels),
    /// Requests whose repeat need not be known any more.
    Requests,
    /// Trials of sources that nobody waits for any more.
    Trials,
    /// Runs that ended more than so many milliseconds ago.
    Runs(i64),
    /// Passing events of scans that ended more than so many milliseconds ago.
    Events(i64),
}

/// A step of a sweep.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Where the step before ended; empty at first.
    pub after: String,
    /// Rows at most.
    pub limit: u32,
    /// Only say what would be done.
    pub dry_run: bool,
}

impl Step {
    /// Where to begin.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / INVALID_FIELD when it is not from a step of this kind.
    pub fn position<T: DeserializeOwned>(&self, first: T) -> Result<T, Error> {
        if self.after.is_empty() {
            return Ok(first);
        }
        let no_position = |_| invalid_field("after", "is not from a step of this kind");
        serde_json::from_str(&self.after).map_err(no_position)
    }

    /// The rows at most, as a value.
    pub fn rows(&self) -> i64 {
        i64::from(self.limit)
    }
}

/// What a step did, or would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// Where the next step begins; empty when this was the last.
    pub next: String,
    /// How many of what.
    pub counts: BTreeMap<&'static str, i64>,
    /// A line each.
    pub details: Vec<String>,
}

impl Swept {
    /// Counts.
    pub fn count(&mut self, what: &'static str, number: i64) {
        if number != 0 {
            *self.counts.entry(what).or_default() += number;
        }
    }

    /// How many there were.
    pub fn counted(&self, what: &str) -> i64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// Goes on there.
    ///
    /// # Errors
    /// Never for what positions are made of.
    pub fn go_on(&mut self, position: &impl Serialize) -> serde_json::Result<()> {
        self.next = serde_json::to_string(position)?;
        Ok(())
    }
}

/// Labels whose scans no rule deletes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeepLabels(Vec<(String, Option<String>)>);

impl KeepLabels {
    /// From "key" or "key=value".
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a str>) -> Self {
        let rules = rules.into_iter().map(|rule| match rule.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (rule.to_owned(), None),
        });
        Self(rules.collect())
    }

    /// Whether a scan with these labels stays.
    pub fn keep(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().any(|(key, value)| {
            let has = labels.get(key);
            has.is_some_and(|has| value.as_ref().is_none_or(|value| value == has))
        })
    }
}

/// Why nobody will commit a file that is announced or uploaded; `None` when somebody may.
///
/// A run that is over stays over: its epoch is never leased again. A file may come before its
/// task, when it is imported: then only its time counts.
pub fn why_unfinished(
    task: Option<(TaskState, Epoch)>,
    epoch: Epoch,
    deadline: i64,
    now: i64,
) -> Option<&'static str> {
    match task {
        Some((TaskState::Running, running)) if running == epoch => None,
        Some((_, newest)) if newest > epoch => Some("another run has taken its place"),
        Some(_) => Some("its run is over"),
        None => (deadline < now).then_some("its time is over"),
    }
}

/// The key that an object's row has: the index of a report has none of its own.
pub fn row_key(object_key: &str) -> &str {
    object_key.strip_suffix(".index").unwrap_or(object_key)
}

/// A job's lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobClaim {
    /// The job.
    pub name: String,
    /// Names the claim.
    pub holder: String,
    /// How often it runs.
    pub period_ms: i64,
    /// How long the lease holds without a renewal.
    pub ttl_ms: i64,
    /// Only when its time has come.
    pub when_due: bool,
}

/// What came of a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is ours; where the last run left off.
    Ours(String),
    /// Another replica runs it.
    Running,
    /// It is not due for so many milliseconds.
    NotDue(i64),
}

/// How a job stands.
#[derive(Debug, Clone, PartialEq)]
pub struct JobState {
    /// Its name.
    pub name: String,
    /// When it runs next.
    pub next_at: i64,
    /// Whether a replica runs it.
    pub running: bool,
    /// Its last run that was no dry one.
    pub last_run: Option<serde_json::Value>,
}

/// How a run of a job ended.
#[derive(Debug, Clone, PartialEq)]
pub struct JobEnd {
    /// The run; `None` leaves all as it was.
    pub run: Option<serde_json::Value>,
    /// Where the next one goes on.
    pub position: String,
    /// Until the next one.
    pub wait_ms: i64,
}

/// Another replica has the job.
pub fn job_lost(name: &str) -> Error {
    Error::aborted("JOB_LOST", format!("another replica runs the job {name}")).with("job", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_keeps_by_its_key_or_by_its_value() {
        let labels = BTreeMap::from([("env".to_owned(), "prod".to_owned())]);
        for (rule, kept) in [
            ("env", true),
            ("env=prod", true),
            ("env=test", false),
            ("environment", false),
            ("env=", false),
        ] {
            assert_eq!(KeepLabels::new([rule]).keep(&labels), kept, "{rule}");
        }
        assert!(!KeepLabels::default().keep(&labels));
    }

    #[test]
    fn a_file_is_kept_for_the_run_that_holds_its_task() {
        let why = |task, epoch, deadline| why_unfinished(task, Epoch(epoch), deadline, 100);
        let running = |epoch| Some((TaskState::Running, Epoch(epoch)));
        assert_eq!(why(running(2), 2, 1), None);
        assert!(why(running(2), 1, 1_000).is_some());
        assert!(why(Some((TaskState::Queued, Epoch(2))), 2, 1_000).is_some());
        assert!(why(Some((TaskState::Done, Epoch(2))), 2, 1_000).is_some());
        assert_eq!(why(None, 1, 1_000), None);
        assert!(why(None, 1, 99).is_some());
    }
}
