//! One upload, over as many streams as it takes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use aegis_mesh::{Error, Result};
use aegis_proto::ids::ProjectId;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::intake::{Chunk, Fault, Intake};
use crate::domain::checksum::Checksum;
use crate::domain::deposit::Sealed;
use crate::domain::registry::{Lease, StoredArtifact};
use crate::domain::scratch::Scratch;

/// How long a question waits for a broken stream's last bytes to be written.
const SETTLE: Duration = Duration::from_millis(500);

/// An upload that is under way in this process.
#[derive(Debug)]
pub(super) struct Session {
    /// Whose it is.
    pub project: ProjectId,
    /// The run that it belongs to.
    pub lease: Lease,
    /// What it will be.
    pub artifact: StoredArtifact,
    /// Collected from here on.
    pub expires: SystemTime,
    touched: SyncMutex<Instant>,
    state: Arc<Mutex<State>>,
    persisted: Arc<AtomicU64>,
}

/// What is there of an upload.
#[derive(Debug)]
pub(super) enum State {
    /// Bytes come.
    Receiving(Intake),
    /// All bytes came; they are on their way into the store.
    Sealed(Sealed),
    /// It cannot become what it should be.
    Refused(Error),
}

impl Session {
    /// An upload without a byte yet.
    pub(super) fn new(
        project: ProjectId,
        lease: Lease,
        artifact: StoredArtifact,
        expires: SystemTime,
        intake: Intake,
    ) -> Self {
        Self {
            project,
            lease,
            artifact,
            expires,
            touched: SyncMutex::new(Instant::now()),
            state: Arc::new(Mutex::new(State::Receiving(intake))),
            persisted: Arc::default(),
        }
    }

    /// Whether it may be removed: its time is over, or nobody wrote for `idle`.
    pub(super) fn is_expired(&self, now: SystemTime, idle: Duration) -> bool {
        let touched = *self.touched.lock().unwrap_or_else(PoisonError::into_inner);
        let over = now >= self.expires || touched.elapsed() >= idle;
        over && self.state.try_lock().is_ok()
    }

    /// Bytes that need not be sent again.
    pub(super) async fn persisted(&self) -> u64 {
        // A stream that has just broken may still have bytes on the way to the disk.
        drop(tokio::time::timeout(SETTLE, self.state.lock()).await);
        self.persisted.load(Ordering::Acquire)
    }

    /// The upload, for one writer alone.
    ///
    /// # Errors
    /// ABORTED / CONCURRENT_WRITE.
    pub(super) fn writer(&self, scratch: &Scratch) -> Result<Writer> {
        let state = Arc::clone(&self.state).try_lock_owned().map_err(|_| {
            Error::aborted("CONCURRENT_WRITE", "another stream writes this upload")
                .with("artifact_id", self.artifact.id)
                .hint("ask GetUpload where to go on, and send on one stream only")
        })?;
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let (persisted, scratch) = (Arc::clone(&self.persisted), scratch.clone());
        Ok(Writer {
            state,
            persisted,
            scratch,
        })
    }
}

/// The right to write an upload.
#[derive(Debug)]
pub(super) struct Writer {
    state: OwnedMutexGuard<State>,
    persisted: Arc<AtomicU64>,
    scratch: Scratch,
}

impl Writer {
    /// What is there.
    pub(super) fn state(&mut self) -> &mut State {
        &mut self.state
    }

    /// Bytes that are there.
    pub(super) fn size(&self) -> u64 {
        self.persisted.load(Ordering::Acquire)
    }

    /// Takes a chunk, and with the last one seals the upload. Blocks.
    ///
    /// # Errors
    /// Why it was not taken. After anything but a lost hop the upload is [`State::Refused`].
    pub(super) fn take(&mut self, chunk: &Chunk) -> Result<()> {
        let taken = match &mut *self.state {
            State::Receiving(intake) => intake.take(chunk),
            State::Sealed(sealed) => return super::repeat(&sealed.checksum, chunk),
            State::Refused(error) => return Err(error.clone()),
        };
        self.settle(taken)?;
        self.persisted
            .fetch_add(chunk.data.len() as u64, Ordering::AcqRel);
        match chunk.finish {
            Some(expected) => self.seal(expected),
            None => Ok(()),
        }
    }

    fn seal(&mut self, expected: Checksum) -> Result<()> {
        // Should sealing end half way, the upload has to start again.
        let lost = State::Refused(lost());
        let sealed = match std::mem::replace(&mut *self.state, lost) {
            State::Receiving(intake) => intake.seal(&self.scratch, expected),
            other => {
                *self.state = other;
                return Ok(());
            }
        };
        let sealed = self.settle(sealed)?;
        *self.state = State::Sealed(sealed);
        Ok(())
    }

    fn settle<T>(&mut self, done: Result<T, Fault>) -> Result<T> {
        match done {
            Ok(done) => Ok(done),
            Err(Fault::Retry(error)) => Err(error),
            Err(Fault::Refused(error)) => {
                *self.state = State::Refused(error.clone());
                Err(error)
            }
        }
    }
}

fn lost() -> Error {
    let again = Duration::from_millis(100);
    Error::unavailable(
        "UPLOAD_LOST",
        "the upload was lost and starts again at byte 0",
        again,
    )
}
