//! What users do to the model.

use std::collections::BTreeSet;

use aegis_catalog::domain::{
    scan::{ReportState, ScanState},
    task::TaskState,
};

use crate::{
    reference::{Model, Request, Rest, Scan, Task},
    step::{
        Answer, Plan, Wish,
        minutes::{DELETED_SCAN, REQUEST},
        refused,
    },
};

impl Model {
    /// The same request gives the same scan, whatever became of it, and is known for a time.
    pub(crate) fn create(&mut self, request: usize, plan: &Plan) -> Answer {
        let known = self.requests.get(&request);
        if let Some(known) = known.filter(|known| known.expires > self.now) {
            return match (known.plan == *plan, self.scans[known.scan].rest) {
                (false, _) => refused("REQUEST_ID_REUSED"),
                (true, Rest::Nothing) => refused("SCAN_NOT_FOUND"),
                (true, _) => Answer::Scan(known.scan),
            };
        }
        let made = Request {
            plan: plan.clone(),
            scan: self.scans.len(),
            expires: self.now + REQUEST,
        };
        self.lanes[plan.lane].calls = plan.lane_calls;
        self.scans.push(fresh(plan, self.now));
        let answer = Answer::Scan(made.scan);
        self.requests.insert(request, made);
        answer
    }

    pub(crate) fn wish(&mut self, index: usize, wish: Wish) -> Answer {
        let now = self.now;
        let scan = &mut self.scans[index];
        if scan.rest == Rest::Nothing {
            return refused("SCAN_NOT_FOUND");
        }
        match (wish, scan.purge_at) {
            (Wish::Delete, Some(_)) | (Wish::Undelete, None) => {}
            (Wish::Undelete, Some(at)) if at > now => scan.purge_at = None,
            (_, Some(_)) => return refused("SCAN_NOT_FOUND"),
            (Wish::Cancel, None) => scan.cancel(now),
            (Wish::Pause, None) => scan.pause(now),
            (Wish::Resume, None) => {
                if scan.state == ScanState::Paused {
                    scan.move_to(scan.going(), now);
                }
            }
            (Wish::Retry | Wish::Delete, None) if !scan.state.is_terminal() => {
                return refused("SCAN_NOT_TERMINAL");
            }
            (Wish::Delete, None) => scan.purge_at = Some(now + DELETED_SCAN),
            (Wish::Retry, None) => {
                if !scan.retry(now) {
                    return refused("NOTHING_TO_RETRY");
                }
            }
        }
        Answer::State(self.scans[index].state)
    }
}

fn fresh(plan: &Plan, now: i64) -> Scan {
    let mut scan = Scan {
        plan: plan.clone(),
        state: ScanState::Pending,
        cancelled: false,
        started: false,
        waiting_noted: false,
        ended: None,
        tasks: (0..plan.probes).map(|_| Task::new(true, now)).collect(),
        report: ReportState::None,
        revision: 0,
        parts_taken_in: false,
        purge_at: None,
        rest: Rest::All,
        log: Vec::new(),
        logged: 0,
        said: BTreeSet::new(),
    };
    scan.say("STATE_CHANGED PENDING", None);
    if let Some(hopeless) = plan.hopeless {
        scan.tasks[hopeless].hopeless = true;
        scan.tasks[hopeless].state = TaskState::Failed;
        scan.say_of("PROBE_NOT_EVALUATED", hopeless);
    }
    scan.settle(true, now);
    scan
}

impl Scan {
    /// What waits ends at once, a report apart; what runs is told to stop.
    fn cancel(&mut self, now: i64) {
        if self.state.is_terminal() || self.cancelled {
            return;
        }
        self.cancelled = true;
        self.move_to(ScanState::Cancelling, now);
        self.end_queued(TaskState::Cancelled);
        self.settle(true, now);
    }

    /// The target is given up for all of the scan's probes.
    pub(crate) fn give_up_queued(&mut self) {
        self.end_queued(TaskState::Failed);
    }

    fn end_queued(&mut self, state: TaskState) {
        for index in 0..self.plan.probes {
            if self.tasks[index].state == TaskState::Queued {
                self.tasks[index].state = state;
                self.say_of("PROBE_NOT_EVALUATED", index);
            }
        }
    }

    fn pause(&mut self, now: i64) {
        let open = self.count(&[TaskState::Queued, TaskState::Running]) > 0;
        if open && matches!(self.state, ScanState::Pending | ScanState::Running) {
            self.move_to(ScanState::Paused, now);
        }
    }

    /// What was not evaluated, or the report alone. Whether there was anything.
    fn retry(&mut self, now: i64) -> bool {
        let ended = [TaskState::Failed, TaskState::Cancelled];
        let mut any = false;
        for task in self.tasks.iter_mut().filter(|task| task.probe) {
            if ended.contains(&task.state) && !task.hopeless {
                task.again(now, 0);
                any = true;
            }
        }
        if !any {
            if self.evaluated() == 0 || self.report == ReportState::Ready {
                return false;
            }
            self.queue_report(now);
        }
        self.cancelled = false;
        self.waiting_noted = false;
        self.move_to(ScanState::Pending, now);
        true
    }
}
