//! Where the mesh dies, and what must be so then.

use aegis_mesh::failpoint as at;

/// A scan's life with its deaths.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) name: &'static str,
    /// How its target behaves.
    pub(crate) target: &'static str,
    pub(crate) deaths: &'static [Death],
}

/// One life of the mesh, up to its end.
#[derive(Debug)]
pub(crate) struct Death {
    /// The point, or the point and at which time it is reached.
    pub(crate) point: &'static str,
    /// What its user does in this life.
    pub(crate) wish: Wish,
    /// What the database must say afterwards: a condition.
    pub(crate) then: &'static str,
}

/// What a user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Sends the request for the scan, as before.
    Create,
    /// Nothing: the scan goes on by itself.
    Wait,
    /// Cancels it while it runs.
    Cancel,
    /// Retries it once it is cancelled.
    Retry,
    /// Has garbage collected once it has ended.
    Collect,
}

const fn death(point: &'static str, wish: Wish, then: &'static str) -> Death {
    Death { point, wish, then }
}

const NO_SCAN: &str = "(SELECT COUNT(*) FROM scans) = 0";
const ONE_SCAN: &str = "(SELECT COUNT(*) FROM scans) = 1";
const NOTHING_RUNS: &str = "(SELECT COUNT(*) FROM tasks WHERE state = 'RUNNING') = 0";
const SOMETHING_RUNS: &str = "(SELECT COUNT(*) FROM tasks WHERE state = 'RUNNING') > 0";
const NONE_EVALUATED: &str = "(SELECT COUNT(*) FROM probe_results) = 0";
const SOME_EVALUATED: &str = "(SELECT COUNT(*) FROM probe_results) > 0";
const STAGED: &str = "(SELECT COUNT(*) FROM artifacts WHERE state = 'STAGED') > 0";
const UPLOADED: &str = "(SELECT COUNT(*) FROM artifacts WHERE state = 'UPLOADED') > 0";
const NOT_CANCELLED: &str = "(SELECT cancel_requested_at FROM scans) IS NULL";
const CANCELLED: &str = "(SELECT cancel_requested_at FROM scans) IS NOT NULL";
const ENDED: &str = "(SELECT state FROM scans) = 'CANCELLED'";
const GOES_ON: &str = "(SELECT state FROM scans) IN ('PENDING', 'RUNNING')";
const NO_REPORT: &str = "(SELECT report_ready_revision FROM scans) = 0";
/// A report's digest, which its report has taken in, is marked before, in a transaction of its own.
const UNMARKED: &str = "(SELECT COUNT(*) FROM artifacts a JOIN tasks t ON t.id = a.task_id
    WHERE a.state = 'DELETING' AND t.kind = 'PROBE') = 0";
const MARKED: &str = "(SELECT COUNT(*) FROM artifacts WHERE state = 'DELETING') > 0";
const ALL_COMMITTED: &str = "(SELECT COUNT(*) FROM artifacts WHERE state <> 'COMMITTED') = 0";

/// All points, in the order in which a scan comes to them.
pub(crate) const STORIES: &[Story] = &[
    Story {
        name: "a_scan_begins",
        target: "",
        deaths: &[
            death(at::PLANNED, Wish::Create, NO_SCAN),
            death(at::CREATE_WRITTEN, Wish::Create, NO_SCAN),
            death(at::CREATED, Wish::Create, ONE_SCAN),
            death(at::LEASE_WRITTEN, Wish::Create, NOTHING_RUNS),
            death(at::LEASED, Wish::Wait, SOMETHING_RUNS),
            death(at::TASK_TAKEN, Wish::Wait, SOMETHING_RUNS),
        ],
    },
    Story {
        name: "a_probe_runs",
        target: "latency/100",
        deaths: &[
            death(at::REPORT_WRITTEN, Wish::Create, SOMETHING_RUNS),
            death(at::EXPIRY_WRITTEN, Wish::Wait, SOMETHING_RUNS),
            death(at::EXPIRED, Wish::Wait, NONE_EVALUATED),
            death(at::REPORTED, Wish::Wait, SOMETHING_RUNS),
            death(at::GARAK_ENDED, Wish::Wait, NONE_EVALUATED),
        ],
    },
    Story {
        name: "a_report_is_uploaded",
        target: "",
        deaths: &[
            death(at::STAGED, Wish::Create, STAGED),
            death(at::SEALED, Wish::Wait, STAGED),
            death(at::BEFORE_NAME, Wish::Wait, STAGED),
            death(at::NAMED, Wish::Wait, STAGED),
            death(at::STORED, Wish::Wait, STAGED),
            death(at::VERIFIED, Wish::Wait, STAGED),
        ],
    },
    Story {
        name: "a_scan_ends",
        target: "",
        deaths: &[
            death(at::UPLOADED, Wish::Create, UPLOADED),
            death("catalog.finish.before_commit:2", Wish::Wait, SOME_EVALUATED),
            death(at::FINISHED, Wish::Wait, SOME_EVALUATED),
            death(at::SETTLING, Wish::Wait, SOMETHING_RUNS),
            death(at::COMPOSED, Wish::Wait, NO_REPORT),
        ],
    },
    Story {
        name: "a_scan_is_cancelled_and_retried",
        target: "latency/300",
        deaths: &[
            death(at::CANCEL_WRITTEN, Wish::Cancel, NOT_CANCELLED),
            death(at::CANCELLED, Wish::Cancel, CANCELLED),
            death(at::RETRY_WRITTEN, Wish::Retry, ENDED),
            death(at::RETRIED, Wish::Retry, GOES_ON),
        ],
    },
    Story {
        name: "garbage_is_collected",
        target: "",
        deaths: &[
            death(at::MARK_WRITTEN, Wish::Collect, UNMARKED),
            death(at::MARKED, Wish::Collect, MARKED),
            death(at::OBJECT_DELETED, Wish::Collect, MARKED),
            death(at::FORGET_WRITTEN, Wish::Collect, MARKED),
            death(at::FORGOTTEN, Wish::Collect, ALL_COMMITTED),
        ],
    },
];
