//! Uploads: from a stream of chunks to an object with a row.
//!
//! An upload lives in the process that has its bytes. Elsewhere, and after a restart, it starts
//! again at byte 0: its id says all that is needed to find its row.

mod intake;
mod session;
mod status;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aegis_mesh::spawn::blocking;
use aegis_mesh::{Code, Error, Result};
use aegis_proto::ids::{ArtifactId, ProjectId};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

pub use self::intake::Chunk;
pub(super) use self::intake::too_large;
use self::intake::{Bounds, Intake, mismatch, wrong_offset};
use self::session::{Session, State};
pub use self::status::{UploadId, UploadStatus};
use super::checksum::Checksum;
use super::deposit::{Sealed, deposit};
use super::name::ArtifactName;
use super::registry::{Lease, Registry, StoredArtifact};
use super::scratch::Scratch;
use crate::store::ObjectStore;

/// Chunks that may wait for the disk, of 1 MiB each at most.
const QUEUE: usize = 4;
/// How soon to come back when all places are taken.
const RETRY_FULL: Duration = Duration::from_secs(1);

/// What uploads may take.
#[derive(Debug, Clone, Copy)]
pub struct UploadLimits {
    /// Bytes of one upload.
    pub max_bytes: u64,
    /// Uploads at once, those included whose stream broke.
    pub max_uploads: usize,
    /// An upload that nobody wrote for so long is removed.
    pub idle: Duration,
}

/// All uploads of this process.
pub struct Uploads {
    registry: Arc<dyn Registry>,
    store: Arc<dyn ObjectStore>,
    scratch: Scratch,
    limits: UploadLimits,
    sessions: Mutex<HashMap<ArtifactId, Arc<Session>>>,
    /// Places taken by what is no upload, and takes as much.
    places: Arc<()>,
}

/// A place among the uploads, until it is dropped.
#[must_use = "dropping it gives the place back"]
pub struct Place {
    _counted: Arc<()>,
}

enum Opened {
    Complete(StoredArtifact, Checksum),
    UnderWay(Arc<Session>),
}

impl Uploads {
    /// No uploads yet.
    pub fn new(
        registry: Arc<dyn Registry>,
        store: Arc<dyn ObjectStore>,
        scratch: Scratch,
        limits: UploadLimits,
    ) -> Self {
        Self {
            registry,
            store,
            scratch,
            limits,
            sessions: Mutex::default(),
            places: Arc::default(),
        }
    }

    /// Takes a place among the uploads, for what takes as much as one.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED / UPLOADS_FULL.
    pub fn place(&self) -> Result<Place> {
        self.check_room()?;
        // Whoever looks for room looks under this lock.
        let sessions = self.sessions();
        if self.taken(&sessions) >= self.limits.max_uploads {
            return Err(full(self.limits.max_uploads));
        }
        Ok(Place {
            _counted: Arc::clone(&self.places),
        })
    }

    /// Opens an upload, or finds the one there is for this lease and name.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / UPLOAD_TOO_LARGE, RESOURCE_EXHAUSTED / UPLOADS_FULL, and those of
    /// [`Registry::stage`].
    pub async fn start(
        &self,
        project: &ProjectId,
        lease: &Lease,
        name: ArtifactName,
        size: Option<u64>,
    ) -> Result<UploadStatus> {
        if size.is_some_and(|size| size > self.limits.max_bytes) {
            return Err(too_large(self.limits.max_bytes).field("size_bytes", "too large"));
        }
        let opened = self.open(project, lease, name, size).await?;
        Ok(status(&opened).await)
    }

    /// How far an upload is.
    ///
    /// # Errors
    /// NOT_FOUND / UPLOAD_NOT_FOUND, ABORTED / LEASE_LOST.
    pub async fn get(
        &self,
        project: &ProjectId,
        lease: &Lease,
        id: UploadId,
    ) -> Result<UploadStatus> {
        Ok(status(&self.find(project, lease, id).await?).await)
    }

    /// Forgets an upload's bytes. One that is not under way is forgotten already.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST; ABORTED / CONCURRENT_WRITE while it is written.
    pub fn abort(&self, project: &ProjectId, lease: &Lease, id: UploadId) -> Result<()> {
        let Some(session) = self.known(project, lease, id)? else {
            return Ok(());
        };
        let mut writer = session.writer(&self.scratch)?;
        *writer.state() =
            State::Refused(Error::aborted("UPLOAD_ABORTED", "the upload was aborted"));
        self.forget(&session);
        Ok(())
    }

    /// Writes an upload from where it is, and makes it an artifact when its last chunk came.
    ///
    /// # Errors
    /// Of the stream, of a chunk (OUT_OF_RANGE / WRITE_OFFSET, INVALID_ARGUMENT /
    /// CHECKSUM_MISMATCH, REPORT_MALFORMED, UPLOAD_TOO_LARGE), ABORTED / CONCURRENT_WRITE, and
    /// UNAVAILABLE when something does not work; what is persisted stays then.
    pub async fn write(
        &self,
        project: &ProjectId,
        lease: &Lease,
        id: UploadId,
        chunks: impl Stream<Item = Result<Chunk>>,
    ) -> Result<UploadStatus> {
        match self.find(project, lease, id).await? {
            Opened::UnderWay(session) => self.receive(&session, chunks).await,
            Opened::Complete(artifact, checksum) => {
                let mut chunks = std::pin::pin!(chunks);
                while let Some(chunk) = chunks.next().await {
                    repeat(&checksum, &chunk?)?;
                }
                Ok(UploadStatus::complete(&artifact, &checksum))
            }
        }
    }

    /// Removes uploads whose time is over; says how many.
    pub fn sweep(&self) -> usize {
        let (now, idle) = (SystemTime::now(), self.limits.idle);
        let mut sessions = self.sessions();
        let before = sessions.len();
        sessions.retain(|_, session| !session.is_expired(now, idle));
        before - sessions.len()
    }

    async fn receive(
        &self,
        session: &Arc<Session>,
        chunks: impl Stream<Item = Result<Chunk>>,
    ) -> Result<UploadStatus> {
        let mut writer = session.writer(&self.scratch)?;
        let (queue, mut queued) = mpsc::channel::<Chunk>(QUEUE);
        // Goes on to the end of its queue when this call is dropped.
        let work = blocking("upload", move || {
            let mut taken = Ok(());
            while let (Ok(()), Some(chunk)) = (&taken, queued.blocking_recv()) {
                taken = writer.take(&chunk);
            }
            (writer, taken)
        });
        let fed = feed(chunks, queue).await;
        let (mut writer, taken) = work.await?;
        let done = taken.and(fed);
        let persisted = writer.size();
        match (writer.state(), done) {
            (State::Refused(refused), done) => {
                self.forget(session);
                Err(done.err().unwrap_or_else(|| refused.clone()))
            }
            (_, Err(error)) => Err(error),
            (State::Receiving(_), Ok(())) => Ok(UploadStatus::under_way(session, persisted)),
            (State::Sealed(sealed), Ok(())) => {
                self.finish(session, sealed).await?;
                Ok(UploadStatus::complete(&session.artifact, &sealed.checksum))
            }
        }
    }

    async fn finish(&self, session: &Session, sealed: &mut Sealed) -> Result<()> {
        let Session {
            lease, artifact, ..
        } = session;
        aegis_mesh::failpoint!(SEALED);
        let done = deposit(&*self.store, &*self.registry, lease, artifact, sealed).await;
        // Kept only for those who may try again.
        if !done.as_ref().is_err_and(is_worth_repeating) {
            self.forget(session);
        }
        done
    }

    async fn find(&self, project: &ProjectId, lease: &Lease, id: UploadId) -> Result<Opened> {
        if let Some(session) = self.known(project, lease, id)? {
            return Ok(Opened::UnderWay(session));
        }
        let opened = self.open(project, lease, id.name, None).await?;
        let artifact = match &opened {
            Opened::Complete(artifact, _) => artifact.id,
            Opened::UnderWay(session) => session.artifact.id,
        };
        if artifact != id.artifact {
            return Err(Error::not_found("upload", id));
        }
        Ok(opened)
    }

    /// An upload of this process, if the lease is the one it was opened with.
    fn known(
        &self,
        project: &ProjectId,
        lease: &Lease,
        id: UploadId,
    ) -> Result<Option<Arc<Session>>> {
        let session = self.sessions().get(&id.artifact).cloned();
        match session {
            Some(session) if session.project != *project || session.lease != *lease => Err(
                Error::aborted("LEASE_LOST", "the upload belongs to another lease"),
            ),
            session => Ok(session),
        }
    }

    async fn open(
        &self,
        project: &ProjectId,
        lease: &Lease,
        name: ArtifactName,
        announced: Option<u64>,
    ) -> Result<Opened> {
        let staged = self.registry.stage(project, lease, name).await?;
        let artifact = staged.artifact;
        if staged.complete {
            let checksum = artifact
                .checksum
                .ok_or_else(|| Error::internal("a complete artifact came without its checksum"))?;
            return Ok(Opened::Complete(artifact, checksum));
        }
        let id = UploadId {
            artifact: artifact.id,
            name,
        };
        if let Some(session) = self.known(project, lease, id)? {
            return Ok(Opened::UnderWay(session));
        }
        aegis_mesh::failpoint!(STAGED);
        self.check_room()?;
        let bounds = Bounds {
            max_bytes: self.limits.max_bytes,
            announced,
        };
        let (scratch, threshold) = (self.scratch.clone(), staged.eval_threshold);
        let intake = blocking("upload-open", move || {
            Intake::create(&scratch, id.artifact, name, threshold, bounds)
        });
        let intake = intake.await??;
        let expires = staged
            .upload_deadline
            .unwrap_or_else(|| SystemTime::now() + self.limits.idle);
        let (project, lease) = (project.clone(), lease.clone());
        let session = Session::new(project, lease, artifact, expires, intake);
        self.admit(id.artifact, session).map(Opened::UnderWay)
    }

    fn check_room(&self) -> Result<()> {
        if self.taken(&self.sessions()) < self.limits.max_uploads || self.sweep() > 0 {
            return Ok(());
        }
        Err(full(self.limits.max_uploads))
    }

    fn admit(&self, id: ArtifactId, session: Session) -> Result<Arc<Session>> {
        let mut sessions = self.sessions();
        if let Some(there) = sessions.get(&id) {
            return Ok(Arc::clone(there));
        }
        if self.taken(&sessions) >= self.limits.max_uploads {
            return Err(full(self.limits.max_uploads));
        }
        let session = Arc::new(session);
        sessions.insert(id, Arc::clone(&session));
        Ok(session)
    }

    /// Uploads and places.
    fn taken(&self, sessions: &HashMap<ArtifactId, Arc<Session>>) -> usize {
        sessions.len() + Arc::strong_count(&self.places) - 1
    }

    fn forget(&self, session: &Session) {
        self.sessions().remove(&session.artifact.id);
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<ArtifactId, Arc<Session>>> {
        // Nothing panics while it is held.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands chunks on until the last one; the queue's end is the worker's to explain.
async fn feed(chunks: impl Stream<Item = Result<Chunk>>, queue: mpsc::Sender<Chunk>) -> Result<()> {
    let mut chunks = std::pin::pin!(chunks);
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        let is_last = chunk.finish.is_some();
        if queue.send(chunk).await.is_err() || is_last {
            break;
        }
    }
    Ok(())
}

/// A chunk for an upload that has all its bytes: only the end may be repeated.
fn repeat(checksum: &Checksum, chunk: &Chunk) -> Result<()> {
    if chunk.offset.is_some_and(|offset| offset != checksum.size) || !chunk.data.is_empty() {
        return Err(wrong_offset(checksum.size));
    }
    match chunk.finish {
        Some(expected) if expected != *checksum => Err(mismatch(checksum, &expected)),
        _ => Ok(()),
    }
}

async fn status(opened: &Opened) -> UploadStatus {
    match opened {
        Opened::Complete(artifact, checksum) => UploadStatus::complete(artifact, checksum),
        Opened::UnderWay(session) => UploadStatus::under_way(session, session.persisted().await),
    }
}

fn is_worth_repeating(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Internal
            | Code::ResourceExhausted
    )
}

fn full(limit: usize) -> Error {
    let message = format!("{limit} uploads are under way, which is the most at once");
    Error::resource_exhausted("UPLOADS_FULL", message)
        .with("limit", limit)
        .retry_after(RETRY_FULL)
}
