//! What follows from a report is made again from it when it is lost: its index and its hitlog.
//!
//! One at a time, and to the end also when the caller goes away: who asks again finds it made.

use std::io::BufReader;
use std::sync::Arc;

use aegis_mesh::spawn::blocking;
use aegis_mesh::{Error, Result};
use aegis_report::{Index, IndexError, Limits, Options, ReadError, rebuild_hitlog};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::compose::fault_of;
use super::deposit::write_index;
use super::fault;
use super::output::HashedFile;
use super::registry::StoredArtifact;
use super::scratch::Scratch;
use super::source::{Blocking, Waiting, carried};
use crate::store::ObjectStore;

/// Bytes of a report that are read at once.
const READ_BYTES: usize = 256 << 10;

/// Repairs objects of a store.
#[derive(Clone)]
pub struct Repairs(Arc<Inner>);

struct Inner {
    store: Arc<dyn ObjectStore>,
    source: Blocking,
    /// Repairs end when the last of us is dropped.
    _waiting: Waiting,
    scratch: Scratch,
    /// Longest hitlog that is made.
    max_bytes: u64,
    turn: Arc<Semaphore>,
}

impl Repairs {
    /// Of the objects in this store, by way of scratch, a hitlog of `max_bytes` at most. Made within
    /// the runtime.
    pub fn new(store: Arc<dyn ObjectStore>, scratch: Scratch, max_bytes: u64) -> Self {
        let (source, waiting) = Blocking::new(Arc::clone(&store));
        Self(Arc::new(Inner {
            store,
            source,
            _waiting: waiting,
            scratch,
            max_bytes,
            turn: Arc::new(Semaphore::new(1)),
        }))
    }

    /// Makes the index of a report again, and puts it beside the report. Takes the [`Self::turn`].
    ///
    /// # Errors
    /// DATA_LOSS / ARTIFACT_CORRUPT when the report is not what it was; of the store and of scratch.
    pub async fn index(
        &self,
        turn: OwnedSemaphorePermit,
        report: &StoredArtifact,
        eval_threshold: f64,
    ) -> Result<()> {
        let (source, scratch) = (self.0.source.clone(), self.0.scratch.clone());
        let report = report.clone();
        let work = blocking("repair-index", move || {
            let _turn = turn;
            let index = index_of(&source, &report, eval_threshold)?;
            let file = write_index(&scratch, &index, &mut source.ranges(&report))?;
            source.put(&report.key.index(), file.path(), None)?;
            tracing::warn!(artifact_id = %report.id, "the index of a report was made again");
            Ok(())
        });
        work.await?
    }

    /// Makes the hitlog of a report again, and puts it in its place if it is, byte for byte, the one
    /// that was lost.
    ///
    /// # Errors
    /// DATA_LOSS / ARTIFACT_CORRUPT when it is another one, or the report is lost, too; of the store
    /// and of scratch.
    pub async fn hitlog(
        &self,
        hitlog: &StoredArtifact,
        report: &StoredArtifact,
        eval_threshold: f64,
    ) -> Result<()> {
        let turn = self.turn().await?;
        // Somebody had the turn before, maybe for the same file.
        let size = hitlog.checksum.map(|checksum| checksum.size);
        if size.is_some() && self.0.store.stat(&hitlog.key).await? == size {
            return Ok(());
        }
        let inner = &self.0;
        let (source, scratch) = (inner.source.clone(), inner.scratch.clone());
        let (hitlog, report, max_bytes) = (hitlog.clone(), report.clone(), inner.max_bytes);
        let work = blocking("repair-hitlog", move || {
            let _turn = turn;
            let mut out = HashedFile::create(&scratch, max_bytes).map_err(carried)?;
            write_hitlog(&source, &report, eval_threshold, &mut out)?;
            let (checksum, file) = out.finish().map_err(carried)?;
            if hitlog.checksum != Some(checksum) {
                let what = "its bytes are lost, and those made again from its report are others";
                return Err(fault::corrupt(&hitlog, what));
            }
            source.put(&hitlog.key, file.path(), Some(&checksum))?;
            tracing::warn!(artifact_id = %hitlog.id, "a lost hitlog was made again");
            Ok(())
        });
        work.await?
    }

    /// The right to repair; one has it at a time.
    ///
    /// # Errors
    /// None while the service works.
    pub async fn turn(&self) -> Result<OwnedSemaphorePermit> {
        // It is never closed.
        let turn = Arc::clone(&self.0.turn).acquire_owned().await;
        turn.map_err(Error::internal)
    }
}

/// Reads a whole report, whose checksum is compared at its end, for its index. Blocks.
fn index_of(source: &Blocking, report: &StoredArtifact, eval_threshold: f64) -> Result<Index> {
    let options = Options {
        eval_threshold,
        limits: Limits::default(),
    };
    let bytes = source.verified(report).map_err(carried)?;
    // A report that was imported may have lines that nobody can read, and it is whole so.
    let read = aegis_report::read_tolerant(BufReader::with_capacity(READ_BYTES, bytes), options);
    match read {
        Ok(summary) => Ok(summary.index),
        Err(ReadError::Io(error)) => Err(carried(error)),
        Err(ReadError::Report(_)) => Err(fault::corrupt(report, "its bytes are no report")),
    }
}

/// Writes the hitlog that belongs to a report, whose index must be there. Blocks.
///
/// # Errors
/// DATA_LOSS / ARTIFACT_CORRUPT; of the store and of scratch.
pub(super) fn write_hitlog(
    source: &Blocking,
    report: &StoredArtifact,
    eval_threshold: f64,
    out: &mut HashedFile,
) -> Result<()> {
    let index = read_index(source, report)?;
    let mut ranges = source.ranges(report);
    let limits = Limits::default();
    rebuild_hitlog(&index, &mut ranges, eval_threshold, limits, out).map_err(fault_of)?;
    Ok(())
}

/// The index of a report, whole. Blocks.
///
/// # Errors
/// DATA_LOSS / ARTIFACT_CORRUPT; of the store.
pub(super) fn read_index(source: &Blocking, report: &StoredArtifact) -> Result<Index> {
    let bytes = source.index(report).map_err(carried)?;
    Index::read_from(bytes).map_err(|error| match error {
        IndexError::Io(error) if error.kind() == std::io::ErrorKind::Other => carried(error),
        _ => fault::corrupt(report, "its index cannot be read"),
    })
}
