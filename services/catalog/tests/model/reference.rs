//! The model: what must be so, in the words of the protocol, with nothing of the catalog's code.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aegis_catalog::domain::{
    artifact::ArtifactName,
    scan::{ReportState, ScanState},
    task::TaskState,
};

use crate::step::{Answer, Content, How, Plan, Step, minutes::TEN};

pub(crate) const LANES: usize = 2;

/// Everything there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) now: i64,
    /// Counts steps: which lease was renewed first.
    pub(crate) tick: u64,
    pub(crate) lanes: [Lane; LANES],
    pub(crate) requests: BTreeMap<usize, Request>,
    pub(crate) scans: Vec<Scan>,
    pub(crate) leases: Vec<Lease>,
    pub(crate) files: BTreeMap<FileKey, FileState>,
    /// What the collector was told that it may delete.
    pub(crate) listed: BTreeSet<FileKey>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) calls: i64,
    pub(crate) paused_until: i64,
    pub(crate) pushed_back_since: Option<i64>,
    pub(crate) has_answered: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) plan: Plan,
    pub(crate) scan: usize,
    pub(crate) expires: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    pub(crate) plan: Plan,
    pub(crate) state: ScanState,
    pub(crate) cancelled: bool,
    pub(crate) started: bool,
    pub(crate) waiting_noted: bool,
    pub(crate) ended: Option<i64>,
    /// Its probes, then the tasks of its report's revisions.
    pub(crate) tasks: Vec<Task>,
    pub(crate) report: ReportState,
    pub(crate) revision: usize,
    pub(crate) parts_taken_in: bool,
    /// Set while it is deleted.
    pub(crate) purge_at: Option<i64>,
    pub(crate) rest: Rest,
    pub(crate) log: Vec<Entry>,
    /// Events that there ever were.
    pub(crate) logged: i64,
    /// Their kinds.
    pub(crate) said: BTreeSet<Arc<str>>,
}

/// What is left of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    All,
    /// Its purge has begun: its row, and files that go.
    Row,
    Nothing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) probe: bool,
    pub(crate) hopeless: bool,
    pub(crate) state: TaskState,
    pub(crate) epoch: i64,
    pub(crate) failures: i64,
    pub(crate) not_before: i64,
    pub(crate) calls: i64,
    pub(crate) expires: i64,
    /// In which tick its lease was renewed last.
    pub(crate) renewed: u64,
    pub(crate) detectors: i64,
    /// The revision of the report that has it; 0 for none.
    pub(crate) composed: usize,
}

/// A run that a runner was given, whether it still holds it or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) scan: usize,
    pub(crate) task: usize,
    pub(crate) epoch: i64,
    /// The first lease that was granted to the same poll.
    pub(crate) poll: usize,
    pub(crate) uploaded: Option<Content>,
    pub(crate) said: Option<How>,
    pub(crate) ended: Option<i64>,
    /// Whether the catalog still knows the run.
    pub(crate) known: bool,
}

/// Scan, task, epoch, name.
pub(crate) type FileKey = (usize, usize, i64, &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileState {
    Staged,
    Uploaded,
    Committed,
    /// Since when.
    Deleting(i64),
}

/// An event: what happened, and in which run.
pub(crate) type Entry = (Arc<str>, Option<(usize, i64)>);

impl Model {
    /// Does a step; what its actor is told.
    pub(crate) fn apply(&mut self, step: &Step) -> Answer {
        match step {
            Step::Lost(step) => self.lost(step),
            Step::Together(one, other) => {
                let answers = (self.apply(one), self.apply(other));
                Answer::Both(Box::new(answers.0), Box::new(answers.1))
            }
            _ => {
                self.tick += 1;
                let answer = self.single(step);
                self.forget_idle_lanes();
                answer
            }
        }
    }

    fn lost(&mut self, step: &Step) -> Answer {
        match self.apply(step) {
            Answer::Lease(Some(lease)) => self.apply(&Step::PollAgain { lease }),
            _ => self.apply(step),
        }
    }

    fn single(&mut self, step: &Step) -> Answer {
        match *step {
            Step::Create { request, ref plan } => self.create(request, plan),
            Step::Wish { scan, wish } => self.wish(scan, wish),
            Step::Poll { .. } => self.poll(None),
            Step::PollAgain { lease } => self.poll(Some(lease)),
            Step::Report { lease, detectors } => self.report(lease, detectors),
            Step::Stage { lease } => self.stage(lease),
            Step::Upload { lease, content } => self.upload(lease, content),
            Step::Finish { lease, how } => self.finish(lease, how),
            Step::Expire => self.expire(),
            Step::Sweep { work, dry_run } => self.sweep(work, dry_run),
            Step::ListGarbage => self.list_garbage(),
            Step::ForgetGarbage => self.forget_garbage(),
            Step::Pass { tens } => {
                self.now += tens * TEN;
                Answer::Accepted
            }
            Step::Restart { .. } => Answer::Accepted,
            Step::Lost(_) | Step::Together(..) => unreachable!("no single step"),
        }
    }

    /// Whether the order of two steps makes no difference to what is there then.
    pub(crate) fn commute(&self, one: &Step, other: &Step) -> bool {
        // Of two that are the same, runners apart, either may be the first.
        let polls = matches!((one, other), (Step::Poll { .. }, Step::Poll { .. }));
        if polls || one == other {
            return true;
        }
        let (mut first, mut second) = (self.clone(), self.clone());
        first.apply(one);
        first.apply(other);
        second.apply(other);
        second.apply(one);
        first == second
    }

    /// Whether a run is the one that holds its task.
    pub(crate) fn holds(&self, lease: usize) -> bool {
        let lease = &self.leases[lease];
        let task = &self.scans[lease.scan].tasks[lease.task];
        task.state == TaskState::Running && task.epoch == lease.epoch
    }

    /// Whether another run holds its task.
    pub(crate) fn is_taken_over(&self, lease: usize) -> bool {
        let lease = &self.leases[lease];
        let task = &self.scans[lease.scan].tasks[lease.task];
        task.state == TaskState::Running && task.epoch != lease.epoch
    }

    /// Calls in flight in a lane.
    pub(crate) fn in_flight(&self, lane: usize) -> i64 {
        let scans = self.scans.iter().filter(|scan| scan.plan.lane == lane);
        scans.map(Scan::in_flight).sum()
    }

    /// When nothing is left in a lane its past is forgotten.
    fn forget_idle_lanes(&mut self) {
        for lane in 0..LANES {
            let waits = self.scans.iter().any(|scan| {
                let counts = scan.plan.lane == lane && scan.state != ScanState::Paused;
                counts && scan.probes().any(|task| task.state == TaskState::Queued)
            });
            if !waits && self.in_flight(lane) == 0 {
                self.lanes[lane].answered();
                self.lanes[lane].has_answered = false;
            }
        }
    }
}

impl Lane {
    pub(crate) fn answered(&mut self) {
        self.has_answered = true;
        self.paused_until = 0;
        self.pushed_back_since = None;
    }
}

impl Scan {
    pub(crate) fn probes(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| task.probe)
    }

    /// Probes in one of these states.
    pub(crate) fn count(&self, states: &[TaskState]) -> usize {
        let probes = self.probes();
        probes.filter(|task| states.contains(&task.state)).count()
    }

    pub(crate) fn evaluated(&self) -> usize {
        self.count(&[TaskState::Done])
    }

    pub(crate) fn in_flight(&self) -> i64 {
        self.tasks.iter().map(|task| task.calls).sum()
    }

    pub(crate) fn say(&mut self, what: &str, run: Option<(usize, i64)>) {
        let what = Arc::<str>::from(what);
        self.said.insert(Arc::clone(&what));
        self.log.push((what, run));
        self.logged += 1;
    }

    pub(crate) fn say_of(&mut self, what: &str, task: usize) {
        self.say(what, Some((task, self.tasks[task].epoch)));
    }

    pub(crate) fn move_to(&mut self, to: ScanState, now: i64) {
        if self.state != to {
            self.say(&format!("STATE_CHANGED {to}"), None);
            self.state = to;
            self.ended = to.is_terminal().then_some(now);
        }
    }

    /// Where it is when it goes on.
    pub(crate) fn going(&self) -> ScanState {
        match self.started {
            true => ScanState::Running,
            false => ScanState::Pending,
        }
    }

    /// No task left: the report is made, or the scan ends.
    pub(crate) fn settle(&mut self, after_probe: bool, now: i64) {
        let open = |task: &Task| matches!(task.state, TaskState::Queued | TaskState::Running);
        if self.state.is_terminal() || self.tasks.iter().any(open) {
            return;
        }
        if self.state == ScanState::Paused {
            self.move_to(self.going(), now);
        }
        match (after_probe, self.cancelled, self.evaluated()) {
            (true, _, 1..) => self.queue_report(now),
            (_, true, _) => self.move_to(ScanState::Cancelled, now),
            (_, false, 0) => self.move_to(ScanState::Failed, now),
            (false, false, 1..) => self.move_to(ScanState::Completed, now),
        }
    }

    /// The next revision's task, which may have failed before.
    pub(crate) fn queue_report(&mut self, now: i64) {
        let index = self.plan.probes + self.revision;
        if index == self.tasks.len() {
            self.tasks.push(Task::new(false, now));
        }
        self.tasks[index].again(now, 0);
        if self.report != ReportState::Ready {
            self.report = ReportState::Pending;
        }
    }
}

impl Task {
    pub(crate) fn new(probe: bool, now: i64) -> Self {
        Self {
            probe,
            hopeless: false,
            state: TaskState::Queued,
            epoch: 0,
            failures: 0,
            not_before: now,
            calls: 0,
            expires: 0,
            renewed: 0,
            detectors: 0,
            composed: 0,
        }
    }

    /// It waits again.
    pub(crate) fn again(&mut self, not_before: i64, failures: i64) {
        self.state = TaskState::Queued;
        self.not_before = not_before;
        self.failures = failures;
    }
}

/// Files that a task makes.
pub(crate) fn names(probe: bool) -> &'static [ArtifactName] {
    use ArtifactName::{Digest, Html, Report};
    match probe {
        true => &[Report],
        false => &[Report, Html, Digest],
    }
}
