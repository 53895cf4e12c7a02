use aegis_proto::ids::{Epoch, ScanId, TaskId};

use super::*;
use crate::domain::task::{TaskProgress, TaskState};

const POLICY: RetryPolicy = RetryPolicy {
    backoff_ms: 100,
    max_backoff_ms: 1_000,
    lane_pause_ms: 50,
    max_backpressure_ms: 500,
    max_outage_ms: 5_000,
};

fn task(kind: TaskKind, failures: i32) -> Task {
    Task {
        id: TaskId::generate(),
        scan: ScanId::generate(),
        kind,
        probe: "a.B".to_owned(),
        shard_index: 0,
        shard_count: 1,
        detectors: Vec::new(),
        revision: 0,
        planned_attempts: 1,
        planned_out: false,
        state: TaskState::Running,
        epoch: Epoch(1),
        failures,
        max_failures: 3,
        not_before: 0,
        granted: 1,
        progress: TaskProgress::default(),
        reason: String::new(),
        message: String::new(),
        tags: Vec::new(),
    }
}

fn lane(since: Option<i64>) -> Lane {
    Lane {
        key: "t".to_owned(),
        max_in_flight: 1,
        in_flight: 1,
        queued: 0,
        paused_until: 10_050,
        backpressure_since: since,
        has_answered: false,
    }
}

fn outcome(kind: OutcomeKind) -> Outcome {
    Outcome {
        kind,
        reason: "WHY".to_owned(),
        message: "because".to_owned(),
        retry_after_ms: None,
        artifacts: Vec::new(),
    }
}

fn judged(task: &Task, end: RunEnd<'_>, lane: Option<&Lane>, cancel_requested: bool) -> Verdict {
    let at = Circumstances {
        lane,
        cancel_requested,
        policy: &POLICY,
        now: 10_000,
        luck: 1.0,
    };
    judge(task, end, &at)
}

fn requeued(not_before: i64, failures: i32, reason: &str) -> Verdict {
    Verdict::Requeue {
        not_before,
        failures,
        reason: reason.to_owned(),
    }
}

#[test]
fn failures_are_retried_with_backoff_until_used_up() {
    let retryable = outcome(OutcomeKind::Retryable);
    let end = RunEnd::Finished(&retryable);
    let first = judged(&task(TaskKind::Probe, 0), end, None, false);
    assert_eq!(first, requeued(10_100, 1, "WHY"));
    let second = judged(&task(TaskKind::Probe, 1), end, None, false);
    assert_eq!(second, requeued(10_200, 2, "WHY"));
    let third = judged(&task(TaskKind::Probe, 2), end, None, false);
    assert!(matches!(third, Verdict::GiveUp { reason, .. } if reason == "WHY"));
}

#[test]
fn a_lost_runner_is_forgiven_once_at_once() {
    let expired = |failures| {
        judged(
            &task(TaskKind::Probe, failures),
            RunEnd::Expired,
            None,
            false,
        )
    };
    assert_eq!(expired(0), requeued(10_000, 1, "LEASE_EXPIRED"));
    assert_eq!(expired(1), requeued(10_100, 2, "LEASE_EXPIRED"));
    assert!(matches!(expired(2), Verdict::GiveUp { reason, .. } if reason == "RUNNER_LOST"));
}

#[test]
fn backpressure_is_no_failure_but_has_an_end() {
    let busy = outcome(OutcomeKind::Backpressure);
    let end = RunEnd::Finished(&busy);
    let probe = task(TaskKind::Probe, 2);
    let still = judged(&probe, end, Some(&lane(Some(9_500))), false);
    assert_eq!(still, requeued(10_050, 2, "WHY"));
    let too_long = judged(&probe, end, Some(&lane(Some(9_499))), false);
    assert!(matches!(too_long, Verdict::GiveUp { .. }));
    // A report has no target: for it this is a failure like another.
    let report = judged(&task(TaskKind::Report, 0), end, None, false);
    assert_eq!(report, requeued(10_100, 1, "WHY"));
}

#[test]
fn a_cancelled_scans_probe_is_not_run_again_but_its_report_is() {
    let ends = [
        OutcomeKind::Retryable,
        OutcomeKind::Backpressure,
        OutcomeKind::Cancelled,
        OutcomeKind::Released,
    ];
    for kind in ends {
        let outcome = outcome(kind);
        let end = RunEnd::Finished(&outcome);
        let lane = lane(None);
        let probe = judged(&task(TaskKind::Probe, 0), end, Some(&lane), true);
        assert_eq!(probe, Verdict::Cancelled, "{kind}");
        let report = judged(&task(TaskKind::Report, 0), end, None, true);
        assert!(matches!(report, Verdict::Requeue { .. }), "{kind}");
    }
    let probe = judged(&task(TaskKind::Probe, 0), RunEnd::Expired, None, true);
    assert_eq!(probe, Verdict::Cancelled);
    // What was found, and what is known to be broken, is said all the same.
    let done = outcome(OutcomeKind::Done);
    let verdict = judged(
        &task(TaskKind::Probe, 0),
        RunEnd::Finished(&done),
        None,
        true,
    );
    assert_eq!(verdict, Verdict::Done);
}
