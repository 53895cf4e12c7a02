//! The books of a scan: what a lease, its end and a cancel change on scan, lane and task.
//!
//! Counters move here and nowhere else, so that "in flight" is always the sum of what runs.

use super::{
    event::{DetectorCounts, Event, Log},
    hint,
    lane::Lane,
    scan::{Failure, ReportState, Scan, ScanState},
    tally::Tally,
    task::{Task, TaskKind, TaskProgress, TaskState},
    verdict::Verdict,
};

/// Calls in flight that one more lease of a scan gets: an even share over the slots that could
/// work on it, of what scan and lane have left, and at least one.
pub fn share(scan: &Scan, lane: &Lane, slots: i32) -> i32 {
    let open = scan.planned - scan.evaluated - scan.not_evaluated;
    let workers = slots.min(open).max(1);
    let even = scan.max_in_flight.div_euclid(workers)
        + i32::from(scan.max_in_flight.rem_euclid(workers) > 0);
    even.min(scan.max_in_flight - scan.in_flight)
        .min(lane.room())
        .max(1)
}

/// A task is leased with `granted` calls (0 for a report). The task's epoch is already raised.
pub fn lease(
    scan: &mut Scan,
    lane: Option<&mut Lane>,
    task: &mut Task,
    granted: i32,
    runner: &str,
    now: i64,
    log: &mut Log,
) {
    scan.running += 1;
    scan.started_at.get_or_insert(now);
    if scan.state == ScanState::Pending {
        scan.move_to(ScanState::Running, "", now, log);
    }
    task.state = TaskState::Running;
    task.granted = granted;
    task.progress = TaskProgress {
        attempts_total: task.planned_attempts,
        ..TaskProgress::default()
    };
    match lane {
        Some(lane) => {
            scan.queued -= 1;
            scan.in_flight += granted;
            lane.queued -= 1;
            lane.in_flight += granted;
            let started = Event::ProbeStarted {
                probe: task.probe.clone(),
                runner: runner.to_owned(),
            };
            log.of_run(task.id, task.epoch, started);
        }
        None => scan.report_queued = false,
    }
}

/// A run ended: what it was granted goes back, and the task becomes what the verdict says.
/// `tally` is of the committed part, when a probe is done.
pub fn end_run(
    scan: &mut Scan,
    mut lane: Option<&mut Lane>,
    task: &mut Task,
    verdict: Verdict,
    tally: Option<&Tally>,
    log: &mut Log,
) {
    scan.running -= 1;
    if let Some(lane) = lane.as_deref_mut() {
        scan.in_flight -= task.granted;
        lane.in_flight -= task.granted;
    }
    task.granted = 0;
    match verdict {
        Verdict::Done => done(scan, lane.as_deref_mut(), task, tally, log),
        Verdict::Requeue {
            not_before,
            failures,
            reason,
        } => {
            task.failures = failures;
            task.not_before = not_before;
            enqueue(scan, lane.as_deref_mut(), task);
            let retried = Event::TaskRetried {
                probe: task.probe.clone(),
                reason,
                not_before,
            };
            log.of_run(task.id, task.epoch, retried);
        }
        Verdict::GiveUp { reason, message } => {
            task.failures += 1;
            end_without_results(scan, task, TaskState::Failed, reason, message, log);
        }
        Verdict::Cancelled => cancelled(scan, task, log),
    }
    if let Some(lane) = lane {
        lane.forget_if_idle();
    }
}

/// Nothing of the scan is leased any more: what waits does not count in its lane, so that a poll
/// looks at no lane for it.
pub fn pause(scan: &mut Scan, lane: &mut Lane, reason: &str, now: i64, log: &mut Log) {
    scan.move_to(ScanState::Paused, reason, now, log);
    lane.queued -= scan.queued;
    lane.forget_if_idle();
}

/// What waits counts in its lane again.
pub fn unpause(scan: &Scan, lane: &mut Lane) {
    lane.queued += scan.queued;
}

/// The scan goes on where it was.
pub fn resume(scan: &mut Scan, lane: &mut Lane, now: i64, log: &mut Log) {
    unpause(scan, lane);
    scan.move_to(going(scan), "RESUMED", now, log);
}

fn going(scan: &Scan) -> ScanState {
    match scan.started_at {
        Some(_) => ScanState::Running,
        None => ScanState::Pending,
    }
}

/// The target is given up: a probe's task that waits for it ends as the one did that tried it.
pub fn give_up_queued(
    scan: &mut Scan,
    lane: &mut Lane,
    task: &mut Task,
    reason: &str,
    message: &str,
    log: &mut Log,
) {
    scan.queued -= 1;
    lane.queued -= 1;
    let (reason, message) = (reason.to_owned(), message.to_owned());
    end_without_results(scan, task, TaskState::Failed, reason, message, log);
    lane.forget_if_idle();
}

/// A probe's task that waits is cancelled.
pub fn cancel_queued(scan: &mut Scan, lane: &mut Lane, task: &mut Task, log: &mut Log) {
    scan.queued -= 1;
    lane.queued -= 1;
    cancelled(scan, task, log);
    lane.forget_if_idle();
}

/// A task that ended without results is to run again.
pub fn requeue(scan: &mut Scan, lane: Option<&mut Lane>, task: &mut Task, now: i64) {
    if task.kind == TaskKind::Probe {
        scan.not_evaluated -= 1;
        scan.attempts_done -= task.progress.attempts_done;
        scan.attempts_total += task.planned_attempts - task.progress.attempts_done;
    }
    task.failures = 0;
    task.not_before = now;
    task.reason.clear();
    task.message.clear();
    enqueue(scan, lane, task);
}

fn enqueue(scan: &mut Scan, lane: Option<&mut Lane>, task: &mut Task) {
    task.state = TaskState::Queued;
    task.progress = TaskProgress {
        attempts_total: task.planned_attempts,
        ..TaskProgress::default()
    };
    match lane {
        Some(lane) => {
            scan.queued += 1;
            lane.queued += i32::from(!scan.is_paused());
        }
        None => scan.report_queued = true,
    }
}

fn done(
    scan: &mut Scan,
    lane: Option<&mut Lane>,
    task: &mut Task,
    tally: Option<&Tally>,
    log: &mut Log,
) {
    task.state = TaskState::Done;
    if let Some(lane) = lane {
        lane.answered();
    }
    scan.waiting_noted = false;
    let (TaskKind::Probe, Some(tally)) = (task.kind, tally) else {
        return;
    };
    scan.evaluated += 1;
    // The report knows how many attempts there were; the last heartbeat may have been earlier.
    task.progress.attempts_done = tally.attempts;
    task.progress.attempts_total = tally.attempts;
    count_attempts(scan, task);
    for row in &tally.rows {
        scan.totals.passed += row.passed;
        scan.totals.failed += row.failed;
        scan.totals.nones += row.nones;
    }
    let detectors = tally.rows.iter().map(|row| DetectorCounts {
        detector: row.detector.clone(),
        passed: row.passed,
        failed: row.failed,
        nones: row.nones,
    });
    let evaluated = Event::ProbeEvaluated {
        probe: task.probe.clone(),
        detectors: detectors.collect(),
    };
    log.of_run(task.id, task.epoch, evaluated);
}

fn cancelled(scan: &mut Scan, task: &mut Task, log: &mut Log) {
    let message = "the scan was cancelled before this probe had results".to_owned();
    end_without_results(
        scan,
        task,
        TaskState::Cancelled,
        "CANCELLED".to_owned(),
        message,
        log,
    );
}

/// Ends a task that has no results: a probe becomes part of the coverage, a report is failed.
pub fn end_without_results(
    scan: &mut Scan,
    task: &mut Task,
    state: TaskState,
    reason: String,
    message: String,
    log: &mut Log,
) {
    task.state = state;
    task.reason.clone_from(&reason);
    task.message.clone_from(&message);
    let event = match task.kind {
        TaskKind::Probe => {
            scan.not_evaluated += 1;
            task.progress.attempts_total = task.progress.attempts_done;
            count_attempts(scan, task);
            Event::ProbeNotEvaluated {
                probe: task.probe.clone(),
                reason,
                message,
            }
        }
        TaskKind::Report => {
            scan.report.state = ReportState::Failed;
            scan.report.revision = task.revision;
            scan.report.reason.clone_from(&reason);
            Event::ReportFailed { reason }
        }
    };
    log.of_run(task.id, task.epoch, event);
}

/// What was planned of an ended task is replaced by what there was.
fn count_attempts(scan: &mut Scan, task: &Task) {
    scan.attempts_done += task.progress.attempts_done;
    scan.attempts_total += task.progress.attempts_done - task.planned_attempts;
}

/// A revision of the report becomes visible.
pub fn publish_report(scan: &mut Scan, task: &Task, artifacts: Vec<String>, log: &mut Log) {
    scan.report.state = ReportState::Ready;
    scan.report.revision = task.revision;
    scan.report.ready_revision = task.revision;
    scan.report.reason.clear();
    scan.report.artifacts.clone_from(&artifacts);
    let ready = Event::ReportReady {
        revision: task.revision,
        artifacts,
    };
    log.of_run(task.id, task.epoch, ready);
}

/// What the caller must do so that the scan goes on or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settlement {
    /// Something still waits or runs, or the scan has ended.
    Nothing,
    /// All probes ended and something was evaluated: queue a report of this revision.
    Report {
        /// Its number.
        revision: i32,
    },
    /// Nothing was evaluated: call [`fail`] with the tasks' reasons.
    Fail,
}

/// Whatever ended a task (`after` says of which kind, a cancel being a probe's) calls this in
/// the same transaction. The scan is terminal only once its report ended too, so that
/// "completed" means that the report is there.
pub fn settle(scan: &mut Scan, after: TaskKind, now: i64, log: &mut Log) -> Settlement {
    if scan.state.is_terminal() || scan.has_open_tasks() {
        return Settlement::Nothing;
    }
    if scan.is_paused() {
        // Its last probes ran to their end: there is nothing left to pause.
        scan.move_to(going(scan), "", now, log);
    }
    if after == TaskKind::Probe && scan.evaluated > 0 {
        return Settlement::Report {
            revision: scan.report.ready_revision + 1,
        };
    }
    if scan.is_cancel_requested() {
        scan.move_to(ScanState::Cancelled, "", now, log);
        return Settlement::Nothing;
    }
    if scan.evaluated == 0 {
        return Settlement::Fail;
    }
    scan.move_to(ScanState::Completed, "", now, log);
    Settlement::Nothing
}

/// A report's task is queued. A revision that can be read stays what users see.
pub fn queue_report(scan: &mut Scan, revision: i32) {
    scan.report_queued = true;
    if scan.report.state != ReportState::Ready {
        scan.report.state = ReportState::Pending;
        scan.report.revision = revision;
        scan.report.reason.clear();
    }
}

/// Ends a scan in which nothing was evaluated. `reasons` are the distinct (reason, message)
/// pairs of its tasks, or the first few of them.
pub fn fail(scan: &mut Scan, reasons: &[(String, String)], now: i64, log: &mut Log) {
    let common = reasons
        .first()
        .filter(|first| reasons.iter().all(|other| other.0 == first.0));
    let failure = match common {
        Some((reason, message)) => Failure {
            reason: reason.clone(),
            message: message.clone(),
            hint: hint::for_reason(reason).to_owned(),
        },
        None => Failure {
            reason: "NOTHING_EVALUATED".to_owned(),
            message: "no probe could be evaluated, for more than one reason".to_owned(),
            hint: hint::for_reason("NOTHING_EVALUATED").to_owned(),
        },
    };
    scan.move_to(ScanState::Failed, &failure.reason, now, log);
    scan.failure = Some(failure);
}
