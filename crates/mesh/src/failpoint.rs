//! Places at which a test lets a process die: docs/decisions/0013-failpoints.md. Names are here in
//! every build; what dies there is in debug builds alone.

/// The variable that names the point, or the point and at which time it is reached: `NAME:2`.
pub const VARIABLE: &str = "AEGIS_FAILPOINT";

/// Dies here when a test asks for it. In a release build it is nothing.
#[macro_export]
macro_rules! failpoint {
    ($point:ident) => {
        #[cfg(debug_assertions)]
        $crate::failpoint::reached($crate::failpoint::$point);
    };
}

macro_rules! points {
    ($($(#[$meta:meta])* $point:ident = $name:literal),+ $(,)?) => {
        $($(#[$meta])* pub const $point: &str = $name;)+

        /// All of them.
        pub const ALL: &[&str] = &[$($name),+];
    };
}

points! {
    /// A scan is planned, and the catalog knows nothing of it.
    PLANNED = "orchestrator.create.planned",
    /// A scan's rows are written.
    CREATE_WRITTEN = "catalog.create.before_commit",
    /// A scan is there, and nobody was told.
    CREATED = "catalog.create.after_commit",
    /// A lease's rows are written.
    LEASE_WRITTEN = "catalog.lease.before_commit",
    /// A task is leased, and its runner was not told.
    LEASED = "catalog.lease.after_commit",
    /// A heartbeat's rows are written.
    REPORT_WRITTEN = "catalog.report.before_commit",
    /// A heartbeat was heard, and not answered.
    REPORTED = "catalog.report.after_commit",
    /// A run's end is written.
    FINISH_WRITTEN = "catalog.finish.before_commit",
    /// A run has ended, and its runner was not told.
    FINISHED = "catalog.finish.after_commit",
    /// No probe is left, and the report is not queued.
    SETTLING = "catalog.settle",
    /// A lease that ran out is taken back, and that is not committed.
    EXPIRY_WRITTEN = "catalog.expire.before_commit",
    /// A lease that ran out is taken back.
    EXPIRED = "catalog.expire.after_commit",
    /// A cancel is written.
    CANCEL_WRITTEN = "catalog.cancel.before_commit",
    /// A cancel is committed, and not answered.
    CANCELLED = "catalog.cancel.after_commit",
    /// A retry is written.
    RETRY_WRITTEN = "catalog.retry.before_commit",
    /// A retry is committed, and not answered.
    RETRIED = "catalog.retry.after_commit",
    /// Parts are marked as garbage, and that is not committed.
    MARK_WRITTEN = "catalog.mark.before_commit",
    /// Garbage is marked, and nothing of it deleted.
    MARKED = "orchestrator.gc.marked",
    /// One object is deleted; its row and other objects are there.
    OBJECT_DELETED = "artifact.delete.object",
    /// The rows of deleted objects are deleted, and that is not committed.
    FORGET_WRITTEN = "catalog.forget.before_commit",
    /// Objects and rows are gone.
    FORGOTTEN = "catalog.forget.after_commit",
    /// A file is announced, and no byte of it is here.
    STAGED = "artifact.upload.staged",
    /// All bytes of a file lie in scratch.
    SEALED = "artifact.upload.sealed",
    /// An object has its bytes, and not yet its name.
    BEFORE_NAME = "artifact.store.before_name",
    /// An object has its name, which is not yet written out.
    NAMED = "artifact.store.named",
    /// The store has the bytes, and nobody has looked at them.
    STORED = "artifact.deposit.stored",
    /// The store has the bytes, and the catalog does not know it.
    VERIFIED = "artifact.deposit.verified",
    /// A report is composed in scratch.
    COMPOSED = "artifact.compose.composed",
    /// A runner has a lease, and no process for it.
    TASK_TAKEN = "runner.task.taken",
    /// garak has ended, and nothing of it was uploaded.
    GARAK_ENDED = "runner.garak.ended",
    /// A run's files are uploaded, and its end was not told.
    UPLOADED = "runner.finish.before",
}

/// Dies when this is the point that was asked for: at once, as after `kill -9`.
#[cfg(debug_assertions)]
pub fn reached(point: &str) {
    use std::sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    };

    static ASKED: LazyLock<Option<(String, AtomicU32)>> = LazyLock::new(|| {
        let asked = std::env::var(VARIABLE).ok()?;
        let (name, time) = asked.split_once(':').unwrap_or((&asked, "1"));
        let time = time.parse().ok()?;
        Some((name.to_owned(), AtomicU32::new(time)))
    });
    let Some((name, left)) = &*ASKED else { return };
    if name == point && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        eprintln!("died at {point}");
        std::process::abort();
    }
}
