//! What actors do, and what they are told. Scans, leases and requests are named by the order in
//! which they came to be.

use aegis_catalog::domain::scan::ScanState;

/// One step of one actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// A user sends a request; with one that was sent before, the same plan or another.
    Create { request: usize, plan: Plan },
    /// A user wants something of a scan.
    Wish { scan: usize, wish: Wish },
    /// A runner asks for work.
    Poll { runner: usize },
    /// A runner sends the poll again that got it this lease.
    PollAgain { lease: usize },
    /// A runner says that it lives, and which of its detectors are through: 1 to this.
    Report { lease: usize, detectors: i64 },
    /// A runner announces its report, and goes no further.
    Stage { lease: usize },
    /// A runner uploads what its task makes.
    Upload { lease: usize, content: Content },
    /// A runner ends its run, or says again what it said.
    Finish { lease: usize, how: How },
    /// Time passes.
    Pass { tens: i64 },
    /// The reaper takes back what ran out.
    Expire,
    /// The collector does some of its work, or says what it would do.
    Sweep { work: Work, dry_run: bool },
    /// The collector asks which objects it may delete.
    ListGarbage,
    /// It has deleted the objects of the last list, some of them perhaps long ago.
    ForgetGarbage,
    /// A replica of the catalog is started anew.
    Restart { replica: usize },
    /// The answer is lost, and the same is sent again.
    Lost(Box<Step>),
    /// Both at once, on two replicas; in which order makes no difference to the rows.
    Together(Box<Step>, Box<Step>),
}

/// What a user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) probes: usize,
    /// Known not to be evaluable.
    pub(crate) hopeless: Option<usize>,
    pub(crate) lane: usize,
    pub(crate) lane_calls: i64,
    pub(crate) calls: i64,
    pub(crate) priority: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    Cancel,
    Pause,
    Resume,
    Retry,
    Delete,
    Undelete,
}

/// What a report has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    Results,
    /// No output could be scored.
    Nothing,
}

/// How a runner says that its run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Done,
    Retryable,
    Permanent,
    /// The target pushed back, and named a time or not.
    Backpressure {
        asked: bool,
    },
    Released,
    Cancelled,
}

/// What the collector does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Unfinished,
    Parts,
    Purge,
    Requests,
    Runs,
    Events,
}

/// What an actor is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Accepted,
    Scan(usize),
    State(ScanState),
    Lease(Option<usize>),
    Directive {
        stop: bool,
        heard: i64,
    },
    Number(i64),
    /// By its reason.
    Refused(String),
    /// Of two steps at once.
    Both(Box<Answer>, Box<Answer>),
}

pub(crate) fn refused(reason: &str) -> Answer {
    Answer::Refused(reason.to_owned())
}

/// All times are in minutes. Time passes in tens of them and every limit is in between, so that
/// the few seconds that a case really takes change nothing.
pub(crate) mod minutes {
    pub(crate) const TEN: i64 = 10;
    pub(crate) const LEASE: i64 = 15;
    /// The longest; half of it is the shortest.
    pub(crate) const BACKOFF: i64 = 9;
    pub(crate) const LANE_PAUSE: i64 = 15;
    /// What a target asks for.
    pub(crate) const ASKED: i64 = 25;
    pub(crate) const MAX_BACKPRESSURE: i64 = 35;
    /// The same for a target that has answered.
    pub(crate) const MAX_OUTAGE: i64 = 55;
    pub(crate) const DELETED_SCAN: i64 = 35;
    pub(crate) const REQUEST: i64 = 145;
    pub(crate) const GRACE: i64 = 5;
    /// Runs and passing events are kept for this long.
    pub(crate) const KEPT: i64 = 25;
}

/// Runs of a task that may fail.
pub(crate) const MAX_FAILURES: i64 = 3;
/// Slots of each runner.
pub(crate) const SLOTS: i64 = 8;
