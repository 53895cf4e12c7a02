//! What becomes of a task whose run ended.

use super::{
    lane::Lane,
    policy::RetryPolicy,
    task::{Outcome, OutcomeKind, Task, TaskKind},
};

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub enum RunEnd<'a> {
    /// Its runner said so.
    Finished(&'a Outcome),
    /// Its lease ran out.
    Expired,
}

/// What becomes of the task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Its results are committed.
    Done,
    /// It runs again.
    Requeue {
        /// Not before this time.
        not_before: i64,
        /// Failures that now count.
        failures: i32,
        /// UPPER_SNAKE.
        reason: String,
    },
    /// It ends without results.
    GiveUp {
        /// UPPER_SNAKE.
        reason: String,
        /// What it means.
        message: String,
    },
    /// It was stopped.
    Cancelled,
}

/// Under which circumstances a run ended.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// The lane, for a probe; already told of a push-back.
    pub lane: Option<&'a Lane>,
    /// Whether the scan is to be cancelled.
    pub cancel_requested: bool,
    /// The caller's numbers.
    pub policy: &'a RetryPolicy,
    /// The database's clock.
    pub now: i64,
    /// 0 to 1, for jitter.
    pub luck: f64,
}

/// Decides it. A dead worker counts as a failure, or a probe that kills its worker would
/// loop for ever; a target that pushes back does not, but has a longest time.
pub fn judge(task: &Task, end: RunEnd<'_>, at: &Circumstances<'_>) -> Verdict {
    let stop = at.cancel_requested && task.kind == TaskKind::Probe;
    let outcome = match end {
        RunEnd::Expired if stop => return Verdict::Cancelled,
        RunEnd::Expired => return expired(task, at),
        RunEnd::Finished(outcome) => outcome,
    };
    match outcome.kind {
        OutcomeKind::Done => Verdict::Done,
        OutcomeKind::Permanent => give_up(outcome),
        OutcomeKind::Cancelled if task.kind == TaskKind::Probe => Verdict::Cancelled,
        _ if stop => Verdict::Cancelled,
        OutcomeKind::Retryable => failed(task, outcome, at),
        OutcomeKind::Backpressure => pushed_back(task, outcome, at),
        // A report is made to the end: a runner that stops it only gives it back.
        OutcomeKind::Released | OutcomeKind::Cancelled => Verdict::Requeue {
            not_before: at.now,
            failures: task.failures,
            reason: "RELEASED".to_owned(),
        },
    }
}

fn failed(task: &Task, outcome: &Outcome, at: &Circumstances<'_>) -> Verdict {
    let failures = task.failures + 1;
    if failures >= task.max_failures {
        return give_up(outcome);
    }
    Verdict::Requeue {
        not_before: at.now + at.policy.backoff(failures, at.luck),
        failures,
        reason: outcome.reason.clone(),
    }
}

fn expired(task: &Task, at: &Circumstances<'_>) -> Verdict {
    let failures = task.failures + 1;
    if failures >= task.max_failures {
        return Verdict::GiveUp {
            reason: "RUNNER_LOST".to_owned(),
            message: format!("its runner was lost in {failures} runs"),
        };
    }
    // The first time the machine is to blame, more often than the probe: at once.
    let wait = if failures == 1 {
        0
    } else {
        at.policy.backoff(failures - 1, at.luck)
    };
    Verdict::Requeue {
        not_before: at.now + wait,
        failures,
        reason: "LEASE_EXPIRED".to_owned(),
    }
}

fn pushed_back(task: &Task, outcome: &Outcome, at: &Circumstances<'_>) -> Verdict {
    // A report has no target that could push back.
    let Some(lane) = at.lane else {
        return failed(task, outcome, at);
    };
    if lane.is_given_up(at.now, at.policy) {
        return give_up(outcome);
    }
    Verdict::Requeue {
        not_before: lane.paused_until.max(at.now),
        failures: task.failures,
        reason: outcome.reason.clone(),
    }
}

fn give_up(outcome: &Outcome) -> Verdict {
    Verdict::GiveUp {
        reason: outcome.reason.clone(),
        message: outcome.message.clone(),
    }
}

#[cfg(test)]
#[path = "verdict_test.rs"]
mod tests;
