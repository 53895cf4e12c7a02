//! A source to be tried out: leased as tasks are, but of no scan.

use aegis_mesh::{Code, Error};
use aegis_proto::ids::{CheckId, Epoch};
use serde::{Deserialize, Serialize};

use super::{
    custom_probe::Validation,
    policy::RetryPolicy,
    task::{Outcome, OutcomeKind},
    word::words,
};

/// Runs that may fail before a check is given up.
pub const MAX_FAILURES: i32 = 3;

/// Checks of a project that may wait, at most.
pub const MAX_QUEUED: i64 = 500;

words! {
    /// Where a check stands.
    CheckState {
        /// Waits for a runner.
        Queued = "QUEUED",
        /// Is leased.
        Running = "RUNNING",
        /// Its validation is a runner's.
        Done = "DONE",
        /// No runner could try it out.
        Failed = "FAILED",
    }
}

/// Proof that the caller holds one run of one check.
#[derive(Clone, PartialEq, Eq)]
pub struct CheckLease {
    /// The check.
    pub check: CheckId,
    /// The fencing number.
    pub epoch: Epoch,
    /// Known to the runner alone; the store keeps its hash.
    pub token: Vec<u8>,
}

// Written by hand: the token stays out of logs.
impl std::fmt::Debug for CheckLease {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lease of check {} epoch {}", self.check, self.epoch)
    }
}

/// How a run of a check ended. Stored as sent, so that its repeat is known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckOutcome {
    /// As of a task.
    pub outcome: Outcome,
    /// What was found, when it is done.
    pub validation: Option<Validation>,
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub enum CheckEnd<'a> {
    /// Its runner said so.
    Finished(&'a CheckOutcome),
    /// Its lease ran out.
    Expired,
}

/// What becomes of the check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckVerdict {
    /// It has ended.
    Ended(CheckState, Validation),
    /// It runs again.
    Requeue {
        /// Milliseconds from now.
        after_ms: i64,
        /// Failures that now count.
        failures: i32,
    },
}

/// Decides it, after so many failures before. A runner that dies with it counts, or a source
/// that kills its runner would be tried for ever.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_FIELD when it is done without a validation.
pub fn judge(
    end: CheckEnd<'_>,
    failures: i32,
    policy: &RetryPolicy,
    luck: f64,
) -> aegis_mesh::Result<CheckVerdict> {
    let again = |wait: i64, message: &str| retry(failures + 1, wait, message);
    let sent = match end {
        // The first time the machine is to blame, more often than the source: at once.
        CheckEnd::Expired if failures == 0 => return Ok(again(0, "")),
        CheckEnd::Expired => {
            let message = "a runner was lost while it tried it out";
            return Ok(again(policy.backoff(failures, luck), message));
        }
        CheckEnd::Finished(sent) => sent,
    };
    let outcome = &sent.outcome;
    Ok(match outcome.kind {
        OutcomeKind::Done => {
            let found = sent.validation.clone().ok_or_else(|| {
                Error::invalid_field("outcome.validation", "must be set when a check is done")
            })?;
            CheckVerdict::Ended(CheckState::Done, found.consistent())
        }
        OutcomeKind::Permanent => {
            let failed = Validation::failed(&outcome.reason, outcome.message.as_str());
            CheckVerdict::Ended(CheckState::Failed, failed)
        }
        OutcomeKind::Retryable | OutcomeKind::Backpressure => again(
            policy.backoff(failures + 1, luck),
            &format!("{}: {}", outcome.reason, outcome.message),
        ),
        OutcomeKind::Released | OutcomeKind::Cancelled => CheckVerdict::Requeue {
            after_ms: 0,
            failures,
        },
    })
}

fn retry(failures: i32, after_ms: i64, last: &str) -> CheckVerdict {
    if failures < MAX_FAILURES {
        return CheckVerdict::Requeue { after_ms, failures };
    }
    let message = format!("no run of {failures} came to an end; the last: {last}");
    let message: String = message.chars().take(500).collect();
    CheckVerdict::Ended(
        CheckState::Failed,
        Validation::failed("CHECK_CRASHED", message),
    )
}

/// More than may wait.
pub fn too_many() -> Error {
    let message = format!("{MAX_QUEUED} checks wait for a runner already");
    Error::new(Code::ResourceExhausted, "TOO_MANY_CHECKS", message)
        .retry_after(std::time::Duration::from_secs(10))
        .hint("start a runner, or wait until those there have tried them out")
}

/// No such check, or it is forgotten.
pub fn not_found(id: CheckId) -> Error {
    Error::not_found("check", id.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(kind: OutcomeKind) -> CheckOutcome {
        CheckOutcome {
            outcome: Outcome {
                kind,
                reason: "WHY".to_owned(),
                message: "because".to_owned(),
                retry_after_ms: None,
                artifacts: Vec::new(),
            },
            validation: None,
        }
    }

    #[test]
    fn three_failures_are_enough_and_a_release_is_none() {
        let policy = RetryPolicy::default();
        let after = |end, failures| judge(end, failures, &policy, 1.0).unwrap();
        let retryable = sent(OutcomeKind::Retryable);
        let failed = CheckEnd::Finished(&retryable);
        let requeued = |after_ms, failures| CheckVerdict::Requeue { after_ms, failures };
        assert_eq!(after(CheckEnd::Expired, 0), requeued(0, 1));
        assert_eq!(after(CheckEnd::Expired, 1), requeued(2_000, 2));
        assert_eq!(after(failed, 0), requeued(2_000, 1));
        for end in [CheckEnd::Expired, failed] {
            let CheckVerdict::Ended(CheckState::Failed, found) = after(end, 2) else {
                panic!("{end:?} is given up");
            };
            assert_eq!(found.problems[0].reason, "CHECK_CRASHED");
        }
        let released = sent(OutcomeKind::Released);
        assert_eq!(after(CheckEnd::Finished(&released), 2), requeued(0, 2));
        let permanent = sent(OutcomeKind::Permanent);
        let CheckVerdict::Ended(_, found) = after(CheckEnd::Finished(&permanent), 0) else {
            panic!("it is given up");
        };
        assert_eq!(found.problems[0].reason, "WHY");
        let done = sent(OutcomeKind::Done);
        assert!(judge(CheckEnd::Finished(&done), 0, &policy, 1.0).is_err());
    }
}
