//! What runners and the reaper do to the model.

use aegis_catalog::domain::{
    scan::{ReportState, ScanState},
    task::TaskState,
};

use crate::{
    reference::{FileState, Lease, Model, names},
    step::{
        Answer, Content, How, MAX_FAILURES, SLOTS,
        minutes::{ASKED, BACKOFF, LANE_PAUSE, LEASE, MAX_BACKPRESSURE, MAX_OUTAGE},
        refused,
    },
};

/// What becomes of a task whose run ended.
enum Fate {
    Done,
    Again { not_before: i64, failures: i64 },
    GivenUp,
    Cancelled,
}

impl Model {
    /// The repeat of a poll gets what the poll holds; another poll the best there is.
    pub(crate) fn poll(&mut self, again: Option<usize>) -> Answer {
        let poll = again.map(|lease| self.leases[lease].poll);
        let same = |index: &usize| poll == Some(self.leases[*index].poll) && self.holds(*index);
        if let Some(held) = (0..self.leases.len()).find(same) {
            let (scan, task) = (self.leases[held].scan, self.leases[held].task);
            self.renew(scan, task);
            return Answer::Lease(Some(held));
        }
        let Some((scan, task)) = self.best() else {
            return Answer::Lease(None);
        };
        self.grant(scan, task);
        let lease = self.leases.len();
        self.leases.push(Lease {
            scan,
            task,
            epoch: self.scans[scan].tasks[task].epoch,
            poll: poll.unwrap_or(lease),
            uploaded: None,
            said: None,
            ended: None,
            known: true,
        });
        Answer::Lease(Some(lease))
    }

    /// Reports first; then by priority, age of the scan, and length.
    fn best(&self) -> Option<(usize, usize)> {
        let mut found = Vec::new();
        for (index, scan) in self.scans.iter().enumerate() {
            let lane = &self.lanes[scan.plan.lane];
            let room = scan.in_flight() < scan.plan.calls
                && self.in_flight(scan.plan.lane) < lane.calls
                && lane.paused_until <= self.now
                // One alone tries a target that pushed back.
                && (lane.pushed_back_since.is_none() || self.in_flight(scan.plan.lane) == 0)
                && scan.state != ScanState::Paused;
            for (number, task) in scan.tasks.iter().enumerate() {
                let waits = task.state == TaskState::Queued && task.not_before <= self.now;
                if waits && (room || !task.probe) {
                    found.push((task.probe, -scan.plan.priority, index, number));
                }
            }
        }
        let best = found.into_iter().min()?;
        Some((best.2, best.3))
    }

    fn grant(&mut self, index: usize, number: usize) {
        let lane = self.scans[index].plan.lane;
        let free = self.lanes[lane].calls - self.in_flight(lane);
        let scan = &mut self.scans[index];
        let open = scan.count(&[TaskState::Queued, TaskState::Running]) as i64;
        let workers = SLOTS.min(open).max(1);
        let even = (scan.plan.calls + workers - 1) / workers;
        let share = even.min(scan.plan.calls - scan.in_flight()).min(free);
        scan.started = true;
        if scan.state == ScanState::Pending {
            scan.move_to(ScanState::Running, self.now);
        }
        let task = &mut scan.tasks[number];
        task.state = TaskState::Running;
        task.epoch += 1;
        task.detectors = 0;
        if task.probe {
            task.calls = share.max(1);
            scan.say_of("PROBE_STARTED", number);
        }
        self.renew(index, number);
    }

    fn renew(&mut self, scan: usize, task: usize) {
        let task = &mut self.scans[scan].tasks[task];
        task.expires = self.now + LEASE;
        task.renewed = self.tick;
    }

    /// The fence decides, never the clock: who holds its task is heard, however late.
    pub(crate) fn report(&mut self, lease: usize, detectors: i64) -> Answer {
        if !self.holds(lease) {
            return refused("LEASE_LOST");
        }
        let (index, number) = (self.leases[lease].scan, self.leases[lease].task);
        self.renew(index, number);
        let scan = &mut self.scans[index];
        while scan.tasks[number].detectors < detectors {
            scan.tasks[number].detectors += 1;
            scan.say_of("DETECTOR_FINISHED", number);
        }
        Answer::Directive {
            stop: scan.cancelled && scan.tasks[number].probe,
            heard: scan.tasks[number].detectors,
        }
    }

    pub(crate) fn stage(&mut self, lease: usize) -> Answer {
        self.put(lease, 1, FileState::Staged)
    }

    /// A report that is there is not stored again.
    pub(crate) fn upload(&mut self, lease: usize, content: Content) -> Answer {
        let answer = self.put(lease, usize::MAX, FileState::Uploaded);
        if answer == Answer::Accepted {
            self.leases[lease].uploaded.get_or_insert(content);
        }
        answer
    }

    fn put(&mut self, lease: usize, files: usize, state: FileState) -> Answer {
        if !self.holds(lease) {
            return refused("LEASE_LOST");
        }
        let lease = &self.leases[lease];
        let probe = self.scans[lease.scan].tasks[lease.task].probe;
        for name in names(probe).iter().take(files) {
            let key = (lease.scan, lease.task, lease.epoch, name.as_str());
            let file = self.files.entry(key).or_insert(state);
            if *file == FileState::Staged {
                *file = state;
            }
        }
        Answer::Accepted
    }

    /// The same end said again by the same run is accepted again.
    pub(crate) fn finish(&mut self, lease: usize, how: How) -> Answer {
        let run = &self.leases[lease];
        if !self.holds(lease) {
            return match run.known && run.said == Some(how) {
                true => Answer::Accepted,
                false => refused("LEASE_LOST"),
            };
        }
        if how == How::Done && run.uploaded.is_none() {
            return refused("ARTIFACT_NOT_UPLOADED");
        }
        let fate = self.fate(lease, how);
        self.leases[lease].said = Some(how);
        self.end(lease, fate);
        Answer::Accepted
    }

    fn fate(&mut self, lease: usize, how: How) -> Fate {
        let run = &self.leases[lease];
        let scan = &self.scans[run.scan];
        let task = &scan.tasks[run.task];
        let lane = &mut self.lanes[scan.plan.lane];
        if let (true, How::Backpressure { asked }) = (task.probe, how) {
            let rest = if asked { ASKED } else { LANE_PAUSE };
            lane.pushed_back_since.get_or_insert(self.now);
            lane.paused_until = lane.paused_until.max(self.now + rest);
        }
        let worthless = task.probe && run.uploaded == Some(Content::Nothing);
        match how {
            How::Done if worthless => Fate::GivenUp,
            How::Done => Fate::Done,
            How::Permanent => Fate::GivenUp,
            _ if task.probe && (scan.cancelled || how == How::Cancelled) => Fate::Cancelled,
            How::Backpressure { .. } if task.probe => {
                let since = lane.pushed_back_since.unwrap_or(self.now);
                let longest = match lane.has_answered {
                    true => MAX_OUTAGE,
                    false => MAX_BACKPRESSURE,
                };
                match self.now - since > longest {
                    true => Fate::GivenUp,
                    false => Fate::Again {
                        not_before: lane.paused_until,
                        failures: task.failures,
                    },
                }
            }
            How::Retryable | How::Backpressure { .. } => match task.failures + 1 {
                MAX_FAILURES.. => Fate::GivenUp,
                failures => Fate::Again {
                    not_before: self.now + BACKOFF,
                    failures,
                },
            },
            How::Released | How::Cancelled => Fate::Again {
                not_before: self.now,
                failures: task.failures,
            },
        }
    }

    /// Leases that ran out, the oldest first. A lost runner is a failure; the first costs no wait.
    pub(crate) fn expire(&mut self) -> Answer {
        let mut late = Vec::new();
        for index in (0..self.leases.len()).filter(|index| self.holds(*index)) {
            let lease = &self.leases[index];
            let task = &self.scans[lease.scan].tasks[lease.task];
            if task.expires < self.now {
                late.push((task.renewed, index));
            }
        }
        late.sort_unstable();
        for (_, index) in &late {
            let lease = &self.leases[*index];
            let scan = &self.scans[lease.scan];
            let task = &scan.tasks[lease.task];
            let fate = match task.failures + 1 {
                _ if scan.cancelled && task.probe => Fate::Cancelled,
                MAX_FAILURES.. => Fate::GivenUp,
                failures => Fate::Again {
                    not_before: self.now + if failures == 1 { 0 } else { BACKOFF },
                    failures,
                },
            };
            self.end(*index, fate);
        }
        Answer::Number(late.len() as i64)
    }

    fn end(&mut self, lease: usize, fate: Fate) {
        let now = self.now;
        let run = &mut self.leases[lease];
        run.ended = Some(now);
        let (index, number, epoch) = (run.scan, run.task, run.epoch);
        if matches!(fate, Fate::Done) {
            for ((_, _, _, _), file) in self
                .files
                .range_mut((index, number, epoch, "")..(index, number, epoch + 1, ""))
            {
                *file = FileState::Committed;
            }
        }
        let scan = &mut self.scans[index];
        let pushed_back = matches!(run.said, Some(How::Backpressure { .. }));
        let probe = scan.tasks[number].probe;
        scan.tasks[number].calls = 0;
        match fate {
            Fate::Done => {
                scan.tasks[number].state = TaskState::Done;
                scan.waiting_noted = false;
                if probe {
                    self.lanes[scan.plan.lane].answered();
                    scan.say_of("PROBE_EVALUATED", number);
                } else {
                    self.publish(index, number);
                }
            }
            Fate::Again {
                not_before,
                failures,
            } => {
                if pushed_back && probe && !scan.waiting_noted {
                    scan.waiting_noted = true;
                    scan.say("WAITING", None);
                }
                scan.tasks[number].again(not_before, failures);
                scan.say_of("TASK_RETRIED", number);
            }
            Fate::GivenUp => {
                scan.tasks[number].failures += 1;
                scan.tasks[number].state = TaskState::Failed;
                if probe {
                    scan.say_of("PROBE_NOT_EVALUATED", number);
                    if pushed_back && scan.state != ScanState::Paused {
                        scan.give_up_queued();
                    }
                } else {
                    scan.report = ReportState::Failed;
                    scan.say_of("REPORT_FAILED", number);
                }
            }
            Fate::Cancelled => {
                scan.tasks[number].state = TaskState::Cancelled;
                scan.say_of("PROBE_NOT_EVALUATED", number);
            }
        }
        self.scans[index].settle(probe, now);
    }

    /// A revision of the report has all that is evaluated.
    fn publish(&mut self, index: usize, number: usize) {
        let scan = &mut self.scans[index];
        scan.revision += 1;
        scan.report = ReportState::Ready;
        scan.parts_taken_in = true;
        let revision = scan.revision;
        for task in scan.tasks.iter_mut().filter(|task| task.probe) {
            if task.state == TaskState::Done && task.composed == 0 {
                task.composed = revision;
            }
        }
        scan.say_of("REPORT_READY", number);
    }
}
