//! Imports: a scan that ran elsewhere, from a stream of its files to a scan like any other.
//!
//! Nothing is visible before catalog's one transaction. What is interrupted before it leaves rows
//! that are collected, and is made whole by the same import sent again.

mod facts;
mod intake;
mod rows;

use std::sync::Arc;

use aegis_mesh::spawn::blocking;
use aegis_mesh::{Error, Result};
use aegis_proto::ids::{ArtifactId, ScanId, TaskId};
use aegis_report::{ComposeError, Limits, SeekSource, Summary, rebuild_hitlog};
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

pub use self::intake::Part;
use self::intake::{Intake, Received, Written};
pub use self::rows::{
    Commit, ImportHeader, ImportRows, Imported, ImportedFile, ImportedReport, StagedImport,
};
use super::deposit::{Sealed, store_bytes, write_index};
use super::fault;
use super::name::ArtifactName;
use super::output::HashedFile;
use super::scratch::Scratch;
use super::source::carried;
use super::upload::{UploadLimits, Uploads};
use crate::store::ObjectStore;

/// Parts that may wait for the disk, of 1 MiB each at most.
const QUEUE: usize = 4;

/// Takes scans in.
pub struct Imports {
    uploads: Arc<Uploads>,
    store: Arc<dyn ObjectStore>,
    scratch: Scratch,
    limits: UploadLimits,
}

/// What is there of an import once all its bytes came.
struct Prepared {
    /// The index is with the report.
    files: Vec<(ArtifactName, Sealed)>,
    report: Option<ImportedReport>,
    warnings: Vec<String>,
    /// Lines that were left out and are not among the warnings.
    unnamed: u64,
}

impl Imports {
    /// Into this store. An import takes a place among the uploads, and has their limits.
    pub fn new(
        uploads: Arc<Uploads>,
        store: Arc<dyn ObjectStore>,
        scratch: Scratch,
        limits: UploadLimits,
    ) -> Self {
        Self {
            uploads,
            store,
            scratch,
            limits,
        }
    }

    /// Takes one scan in.
    ///
    /// # Errors
    /// Of the stream and of the rows; RESOURCE_EXHAUSTED / UPLOADS_FULL; INVALID_ARGUMENT /
    /// INVALID_FIELD, UPLOAD_TOO_LARGE, REPORT_MALFORMED; ABORTED / IMPORT_IDLE; UNAVAILABLE when
    /// something does not work.
    pub async fn import<R: ImportRows>(
        &self,
        header: ImportHeader,
        rows: &R,
        parts: impl Stream<Item = Result<Part>>,
    ) -> Result<Imported<R::Scan>> {
        let _place = self.uploads.place()?;
        rows.check().await?;
        let mut prepared = self.receive(header.clone(), parts).await?;
        let scan = scan_id(&header, prepared.report.as_ref())?;
        let mut imported = match header.dry_run {
            true => commit(rows, scan, None, &prepared).await?,
            false => self.keep(rows, scan, &mut prepared).await?,
        };
        let warnings = prepared.warnings.into_iter().chain(imported.warnings);
        imported.warnings = facts::bounded(warnings.collect(), prepared.unnamed);
        Ok(imported)
    }

    async fn keep<R: ImportRows>(
        &self,
        rows: &R,
        scan: ScanId,
        prepared: &mut Prepared,
    ) -> Result<Imported<R::Scan>> {
        let names: Vec<_> = prepared.files.iter().map(|(name, _)| *name).collect();
        // Where there is a report, it is the first.
        let report = prepared.files.first().map(|(_, sealed)| &sealed.checksum);
        let (task, artifacts) = match rows.stage(scan, report, &names).await? {
            StagedImport::Rows(task, artifacts) => (task, artifacts),
            StagedImport::Existing(scan) => {
                return Ok(Imported {
                    scan,
                    unchanged: true,
                    warnings: Vec::new(),
                });
            }
        };
        for (artifact, (_, sealed)) in artifacts.iter().zip(&mut prepared.files) {
            store_bytes(&*self.store, artifact, sealed).await?;
        }
        let ids: Vec<_> = artifacts.iter().map(|artifact| artifact.id).collect();
        commit(rows, scan, Some((task, &ids)), prepared).await
    }

    async fn receive(
        &self,
        header: ImportHeader,
        parts: impl Stream<Item = Result<Part>>,
    ) -> Result<Prepared> {
        let (queue, mut queued) = mpsc::channel::<Option<Part>>(QUEUE);
        let (scratch, max_bytes) = (self.scratch.clone(), self.limits.max_bytes);
        let work = blocking("import", move || {
            let threshold = header.eval_threshold;
            let threshold = threshold.unwrap_or(aegis_report::DEFAULT_EVAL_THRESHOLD);
            let mut intake = Intake::new(scratch.clone(), max_bytes, threshold);
            while let Some(part) = queued.blocking_recv() {
                match part {
                    Some(part) => intake.take(part)?,
                    None => {
                        return prepare(&header, &scratch, max_bytes, intake.finish()?).map(Some);
                    }
                }
            }
            // Nobody waits any more.
            Ok(None)
        });
        let fed = self.feed(parts, queue).await;
        // What is wrong with the bytes says more than that the rest of them was not taken.
        match (work.await?, fed) {
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(Some(prepared)), Ok(())) => Ok(prepared),
            (Ok(None), Ok(())) => Err(Error::internal("an import's worker ended too early")),
        }
    }

    /// Hands parts on until the last one, and then `None`; that a queue has no other end any more
    /// is the worker's to explain.
    async fn feed(
        &self,
        parts: impl Stream<Item = Result<Part>>,
        queue: mpsc::Sender<Option<Part>>,
    ) -> Result<()> {
        let mut parts = std::pin::pin!(parts);
        loop {
            let next = timeout(self.limits.idle, parts.next()).await;
            let part = next.map_err(|_| self.idle())?.transpose()?;
            let is_last = part.is_none();
            if queue.send(part).await.is_err() || is_last {
                return Ok(());
            }
        }
    }

    fn idle(&self) -> Error {
        let seconds = self.limits.idle.as_secs();
        let message = format!("nothing of the import came for {seconds} seconds");
        Error::aborted("IMPORT_IDLE", message).hint("send it again from the start")
    }
}

async fn commit<R: ImportRows>(
    rows: &R,
    scan: ScanId,
    staged: Option<(TaskId, &[ArtifactId])>,
    prepared: &Prepared,
) -> Result<Imported<R::Scan>> {
    let ids = staged.map_or(&[][..], |(_, ids)| ids);
    let files = prepared.files.iter().enumerate();
    let files: Vec<_> = files
        .map(|(place, (name, sealed))| ImportedFile {
            name: *name,
            artifact: ids.get(place).copied(),
            checksum: sealed.checksum,
        })
        .collect();
    let commit = Commit {
        scan,
        task: staged.map(|(task, _)| task),
        files: &files,
        report: prepared.report.as_ref(),
    };
    rows.commit(commit).await
}

/// The header's, or else garak's run id.
fn scan_id(header: &ImportHeader, report: Option<&ImportedReport>) -> Result<ScanId> {
    if let Some(scan) = header.scan {
        return Ok(scan);
    }
    let run_id = report.map_or("", |report| report.run.run_id.as_str());
    run_id.to_lowercase().parse().map_err(|_| {
        let what = "must be set, for the report names no run id that is a UUID";
        Error::invalid_field("header.scan_id", what)
    })
}

/// What follows the last byte. Blocks.
fn prepare(
    header: &ImportHeader,
    scratch: &Scratch,
    max_bytes: u64,
    received: Received,
) -> Result<Prepared> {
    let Received {
        report,
        hitlog,
        html,
        mut warnings,
    } = received;
    let Some((report, summary)) = report else {
        return Ok(Prepared {
            files: Vec::new(),
            report: None,
            warnings,
            unnamed: 0,
        });
    };
    let facts = facts::of(header, &summary, &report.file, &mut warnings);
    let mut hitlog = hitlog.map(Written::sealed);
    let mut index = None;
    if !header.dry_run {
        index = Some(write_index(
            scratch,
            &summary.index,
            &mut SeekSource(&report.file),
        )?);
        if hitlog.is_none() {
            let threshold = facts.eval_threshold;
            hitlog = rebuilt(
                scratch,
                max_bytes,
                &report,
                &summary,
                threshold,
                &mut warnings,
            )?;
        }
    }
    let report = Sealed {
        index,
        ..report.sealed()
    };
    let files = [
        (ArtifactName::Report, Some(report)),
        (ArtifactName::Hitlog, hitlog),
        (ArtifactName::Html, html.map(Written::sealed)),
    ];
    let there = files.into_iter();
    Ok(Prepared {
        files: there
            .filter_map(|(name, sealed)| Some((name, sealed?)))
            .collect(),
        report: Some(facts),
        warnings,
        unnamed: summary.left_out.lines - summary.left_out.named.len() as u64,
    })
}

/// The hitlog that is lost, made again; `None` when nothing was hit.
fn rebuilt(
    scratch: &Scratch,
    max_bytes: u64,
    report: &Written,
    summary: &Summary,
    eval_threshold: f64,
    warnings: &mut Vec<String>,
) -> Result<Option<Sealed>> {
    let mut out = HashedFile::create(scratch, max_bytes).map_err(fault::scratch)?;
    let mut source = SeekSource(&report.file);
    let made = rebuild_hitlog(
        &summary.index,
        &mut source,
        eval_threshold,
        Limits::default(),
        &mut out,
    );
    match made {
        Ok(hits) if hits.total() == 0 => Ok(None),
        Ok(_) => {
            warnings.push("hitlog.jsonl was made again from the report".to_owned());
            let (checksum, content) = out.finish().map_err(fault::scratch)?;
            Ok(Some(Sealed {
                checksum,
                tally: None,
                index: None,
                content: Some(content),
            }))
        }
        Err(ComposeError::Io(error)) => Err(carried(error)),
        Err(error) => {
            warnings.push(format!("hitlog.jsonl could not be made again: {error}"));
            Ok(None)
        }
    }
}
