//! Composes a scan's report from its committed parts. Bytes do not travel: a runner gets the
//! skeleton only, and gives the digest back.

mod hitlogs;
mod inputs;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use aegis_mesh::spawn::blocking;
use aegis_mesh::{Error, Result, TaskHandle};
use aegis_proto::ids::{ArtifactId, ProjectId};
use aegis_report::{ComposeError, Grades, Limits, SeekSource, compose};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use self::hitlogs::write_hitlog;
use self::inputs::{Inputs, Share, with_hits};
use super::deposit::{Sealed, deposit, write_index};
use super::indexes::Indexes;
use super::name::ArtifactName;
use super::output::{ChunkWriter, HashedFile};
use super::registry::{Lease, Registry, ReportTally, StoredArtifact};
use super::scratch::Scratch;
use super::source::{Blocking, Waiting, carried};
use crate::store::ObjectStore;

/// Chunks of a skeleton that may wait for the runner.
const QUEUE: usize = 4;
/// Indexes that are opened at once.
const OPENED_TOGETHER: usize = 4;

/// Composes reports.
pub struct Composer {
    registry: Arc<dyn Registry>,
    store: Arc<dyn ObjectStore>,
    scratch: Scratch,
    indexes: Indexes,
    limits: ComposeLimits,
    running: Arc<Semaphore>,
}

/// What composing may take.
#[derive(Debug, Clone, Copy)]
pub struct ComposeLimits {
    /// Compositions and skeletons at once; more wait for their turn.
    pub max_running: usize,
    /// Bytes of the indexes of one report's parts, which are in memory together.
    pub max_index_bytes: u64,
    /// Bytes of a part's hitlog that is made again.
    pub max_hitlog_bytes: u64,
}

impl Composer {
    /// Over these rows and bytes.
    pub fn new(
        registry: Arc<dyn Registry>,
        store: Arc<dyn ObjectStore>,
        scratch: Scratch,
        indexes: Indexes,
        limits: ComposeLimits,
    ) -> Self {
        let running = Arc::new(Semaphore::new(limits.max_running));
        Self {
            registry,
            store,
            scratch,
            indexes,
            limits,
            running,
        }
    }

    /// The lines that garak's report writer needs, in chunks.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST; DATA_LOSS / ARTIFACT_CORRUPT, which may come within the stream.
    pub async fn skeleton(
        &self,
        project: &ProjectId,
        lease: &Lease,
    ) -> Result<impl Stream<Item = Result<Bytes>> + use<>> {
        let inputs = self.inputs(project, lease).await?;
        let turn = self.turn().await?;
        let (source, waiting) = Blocking::new(Arc::clone(&self.store));
        let (queue, chunks) = mpsc::channel(QUEUE);
        let work = blocking("skeleton", move || {
            let _turn = turn;
            let mut out = ChunkWriter::new(queue);
            let indexes = inputs.indexes(&source)?;
            inputs.with_parts(&source, &indexes, |parts| {
                compose::skeleton(parts, &inputs.identity, inputs.options, &mut out)
                    .map(drop)
                    .map_err(fault_of)
            })
        });
        Ok(follow(chunks, work, waiting))
    }

    /// Composes report.jsonl, and hitlog.jsonl if anything was hit, and leaves them uploaded. A part
    /// may lack its hitlog: what it said is in the part's report.
    /// What an earlier call with this lease left stays.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST; NOT_FOUND / ARTIFACT_NOT_FOUND and FAILED_PRECONDITION /
    /// ARTIFACT_NOT_UPLOADED of the digest; INVALID_ARGUMENT / DIGEST_MALFORMED; DATA_LOSS /
    /// ARTIFACT_CORRUPT when a part is not what it was; FAILED_PRECONDITION when parts do not
    /// belong together.
    pub async fn compose(
        &self,
        project: &ProjectId,
        lease: &Lease,
        digest: ArtifactId,
    ) -> Result<Vec<ArtifactId>> {
        let digest = self.digest(project, lease, digest).await?;
        let inputs = Arc::new(self.inputs(project, lease).await?);
        let report = self.report(project, lease, digest, &inputs).await?;
        let hitlog = self.hitlog(project, lease, &inputs).await?;
        Ok([Some(report), hitlog].into_iter().flatten().collect())
    }

    async fn inputs(&self, project: &ProjectId, lease: &Lease) -> Result<Inputs> {
        let parts = self.registry.report_parts(project, lease).await?;
        let mut inputs = Inputs::new(parts);
        let opening: Vec<_> = inputs
            .distinct_reports()
            .map(|report| self.look_at(report, inputs.options.eval_threshold))
            .collect();
        let mut opened = stream::iter(opening).buffer_unordered(OPENED_TOGETHER);
        let (mut bytes, mut hit) = (0, HashMap::new());
        while let Some((report, index_bytes, probes)) = opened.try_next().await? {
            bytes += index_bytes;
            if bytes > self.limits.max_index_bytes {
                return Err(too_large(self.limits.max_index_bytes));
            }
            hit.insert(report, probes);
        }
        drop(opened);
        inputs.note_hits(&hit);
        Ok(inputs)
    }

    /// A report, the bytes of its index, and its probes that have hits.
    async fn look_at(
        &self,
        report: &StoredArtifact,
        eval_threshold: f64,
    ) -> Result<(ArtifactId, u64, HashSet<String>)> {
        let header = self.indexes.open(report, eval_threshold).await?;
        Ok((report.id, header.records_end(), with_hits(header)))
    }

    async fn digest(
        &self,
        project: &ProjectId,
        lease: &Lease,
        digest: ArtifactId,
    ) -> Result<StoredArtifact> {
        let staged = self
            .registry
            .stage(project, lease, ArtifactName::Digest)
            .await?;
        let artifact = staged.artifact;
        if artifact.id != digest {
            return Err(Error::not_found("artifact", digest));
        }
        if !staged.complete {
            let message = "the digest is not uploaded yet";
            return Err(
                Error::failed_precondition("ARTIFACT_NOT_UPLOADED", message).precondition(
                    "STATE",
                    digest.to_string(),
                    message,
                ),
            );
        }
        match artifact.checksum {
            Some(checksum) if checksum.size <= Limits::default().max_line_bytes as u64 => {
                Ok(artifact)
            }
            _ => Err(not_a_digest()),
        }
    }

    async fn report(
        &self,
        project: &ProjectId,
        lease: &Lease,
        digest: StoredArtifact,
        inputs: &Arc<Inputs>,
    ) -> Result<ArtifactId> {
        let staged = self
            .registry
            .stage(project, lease, ArtifactName::Report)
            .await?;
        if staged.complete {
            return Ok(staged.artifact.id);
        }
        let _turn = self.turn().await?;
        let (source, _waiting) = Blocking::new(Arc::clone(&self.store));
        let (scratch, inputs) = (self.scratch.clone(), Arc::clone(inputs));
        let work = blocking("compose", move || {
            write_report(&source, &scratch, &inputs, &digest)
        });
        let mut sealed = work.await??;
        aegis_mesh::failpoint!(COMPOSED);
        self.deposit(lease, &staged.artifact, &mut sealed).await?;
        Ok(staged.artifact.id)
    }

    async fn hitlog(
        &self,
        project: &ProjectId,
        lease: &Lease,
        inputs: &Arc<Inputs>,
    ) -> Result<Option<ArtifactId>> {
        if !inputs.shares.iter().any(Share::may_have_hits) {
            return Ok(None);
        }
        let _turn = self.turn().await?;
        let (source, _waiting) = Blocking::new(Arc::clone(&self.store));
        let (scratch, inputs) = (self.scratch.clone(), Arc::clone(inputs));
        let limits = self.limits;
        let work = blocking("compose-hitlog", move || {
            write_hitlog(&source, &scratch, &inputs, limits)
        });
        let Some(mut sealed) = work.await?? else {
            return Ok(None);
        };
        let staged = self
            .registry
            .stage(project, lease, ArtifactName::Hitlog)
            .await?;
        if !staged.complete {
            self.deposit(lease, &staged.artifact, &mut sealed).await?;
        }
        Ok(Some(staged.artifact.id))
    }

    async fn deposit(
        &self,
        lease: &Lease,
        artifact: &StoredArtifact,
        sealed: &mut Sealed,
    ) -> Result<()> {
        deposit(&*self.store, &*self.registry, lease, artifact, sealed).await
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        // It is never closed.
        Arc::clone(&self.running)
            .acquire_owned()
            .await
            .map_err(Error::internal)
    }
}

fn write_report(
    source: &Blocking,
    scratch: &Scratch,
    inputs: &Inputs,
    digest: &StoredArtifact,
) -> Result<Sealed> {
    // Before anything is copied: composing reads ranges, and a checksum needs the whole.
    for report in inputs.distinct_reports() {
        source.verify(report).map_err(carried)?;
    }
    let digest = read_whole(source, digest).map_err(carried)?;
    let grades = Grades::parse(&digest).map_err(|_| not_a_digest())?;
    let mut out = HashedFile::create(scratch, u64::MAX).map_err(carried)?;
    let indexes = inputs.indexes(source)?;
    let summary = inputs.with_parts(source, &indexes, |parts| {
        let Inputs {
            identity, options, ..
        } = inputs;
        compose::compose(parts, identity, &digest, *options, &mut out).map_err(fault_of)
    })?;
    let (checksum, content) = out.finish().map_err(carried)?;
    let written = File::open(content.path()).map_err(carried)?;
    let index = write_index(scratch, &summary.index, &mut SeekSource(written))?;
    let tally = ReportTally {
        counts: summary.tally,
        grades: Some(grades),
    };
    Ok(Sealed {
        checksum,
        tally: Some(tally),
        index: Some(index),
        content: Some(content),
    })
}

fn read_whole(source: &Blocking, artifact: &StoredArtifact) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.verified(artifact)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The chunks of a writer, then how it ended.
fn follow(
    chunks: mpsc::Receiver<Bytes>,
    work: TaskHandle<Result<()>>,
    waiting: Waiting,
) -> impl Stream<Item = Result<Bytes>> {
    stream::unfold(
        (chunks, Some(work), waiting),
        |(mut chunks, work, waiting)| async move {
            let mut work = Some(work?);
            if let Some(chunk) = chunks.recv().await {
                return Some((Ok(chunk), (chunks, work, waiting)));
            }
            let ended = work.take()?.await.flatten();
            ended
                .err()
                .map(|error| (Err(error), (chunks, None, waiting)))
        },
    )
}

/// Why a report could not be composed, as a runner learns it.
pub(super) fn fault_of(error: ComposeError) -> Error {
    let message = error.to_string();
    match error {
        ComposeError::Io(error) => carried(error),
        ComposeError::NotADigest => not_a_digest(),
        ComposeError::NoParts => {
            Error::failed_precondition("NOTHING_EVALUATED", "the scan has no committed part")
        }
        ComposeError::Missing { .. } | ComposeError::Differs { .. } => {
            Error::failed_precondition("PARTS_DIFFER", message)
                .hint("retry the scan, so that all its probes run with one installation of garak")
        }
        ComposeError::Line { .. } | ComposeError::Report(_) | ComposeError::Index(_) => {
            Error::data_loss("ARTIFACT_CORRUPT", message)
        }
    }
}

fn too_large(limit: u64) -> Error {
    let message = format!("the indexes of the parts are more than {limit} bytes");
    Error::resource_exhausted("REPORT_TOO_LARGE", message)
        .with("limit", limit)
        .hint("raise max_compose_index_bytes of the artifact service")
}

fn not_a_digest() -> Error {
    Error::invalid_argument("DIGEST_MALFORMED", "the digest is not garak's digest line")
        .field("digest_artifact_id", "not garak's digest line")
}
