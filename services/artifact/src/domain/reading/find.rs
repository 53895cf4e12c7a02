//! One attempt, whole.

use aegis_mesh::spawn::blocking;
use aegis_mesh::{Code, Error, Result};
use aegis_proto::ids::{ProjectId, ScanId};
use aegis_report::index::ProbeEntry;
use aegis_report::{Attempt, Record, TextBounds};

use super::Reports;
use super::open::Opened;
use super::query::not_evaluated;
use crate::domain::fault;

/// The text of an attempt that is shown whole, and of one of its texts.
const BOUNDS: TextBounds = TextBounds {
    max_text_bytes: 1 << 20,
    max_total_bytes: 4 << 20,
};
/// Records that are read in one go.
const BATCH: u64 = 1 << 14;
/// Records that are looked through without the probe being known: more than one report may have.
const MAX_LOOKED_THROUGH: u64 = 2 << 20;

/// Which attempt.
#[derive(Debug, Clone)]
pub struct AttemptQuery {
    /// The scan.
    pub scan: ScanId,
    /// garak's id of it.
    pub attempt: String,
    /// Its probe, where it is known: then only that probe's records are looked through.
    pub probe: Option<String>,
}

impl Reports {
    /// One attempt with its conversations.
    ///
    /// # Errors
    /// NOT_FOUND / ATTEMPT_NOT_FOUND, NOT_FOUND / PROBE_NOT_EVALUATED, FAILED_PRECONDITION /
    /// PROBE_REQUIRED when the scan is too large to look without one, DATA_LOSS / ARTIFACT_CORRUPT.
    pub async fn attempt(&self, project: &ProjectId, query: &AttemptQuery) -> Result<Attempt> {
        let sources = match &query.probe {
            Some(probe) => vec![self.registry.locate(project, query.scan, probe).await?],
            None => self.registry.locate_all(project, query.scan).await?,
        };
        let mut left = MAX_LOOKED_THROUGH;
        for source in sources {
            let file = self.files.open(source).await?;
            let entries = file.probes().filter(|entry| {
                query
                    .probe
                    .as_ref()
                    .is_none_or(|probe| *probe == entry.name)
            });
            let entries: Vec<ProbeEntry> = entries.cloned().collect();
            if let (Some(probe), true) = (&query.probe, entries.is_empty()) {
                return Err(not_evaluated(query.scan, probe));
            }
            for entry in &entries {
                if query.probe.is_none() && left < entry.count {
                    return Err(too_many(query));
                }
                left = left.saturating_sub(entry.count);
                if let Some(attempt) = self.in_probe(&file, entry, &query.attempt).await? {
                    return Ok(attempt);
                }
            }
        }
        Err(not_found(query))
    }

    async fn in_probe(
        &self,
        file: &Opened,
        entry: &ProbeEntry,
        id: &str,
    ) -> Result<Option<Attempt>> {
        let key = Record::key_of(id);
        let mut from = 0;
        while from < entry.count {
            let records = self.files.records(file, entry, from, BATCH).await?;
            from += records.len() as u64;
            for record in records.iter().filter(|record| record.uuid == key) {
                let attempt = self.whole(file, record).await?;
                // Ids that are no UUIDs are hashes in the index.
                if Record::key_of(&attempt.uuid) == key && (attempt.uuid == id || !is_hashed(id)) {
                    return Ok(Some(attempt));
                }
            }
        }
        Ok(None)
    }

    async fn whole(&self, file: &Opened, record: &Record) -> Result<Attempt> {
        let line = self.files.line(file, record).await?;
        let threshold = file.source.eval_threshold;
        let parsed = blocking("parse-attempt", move || {
            Attempt::parse_whole(&line, threshold, BOUNDS)
        });
        let misplaced = |_| {
            fault::corrupt(
                &file.source.report,
                "an attempt is not where its index says",
            )
        };
        parsed.await?.map_err(misplaced)
    }
}

fn is_hashed(id: &str) -> bool {
    uuid::Uuid::try_parse(id).is_err()
}

fn not_found(query: &AttemptQuery) -> Error {
    let message = format!("scan {} has no attempt {:?}", query.scan, query.attempt);
    Error::new(Code::NotFound, "ATTEMPT_NOT_FOUND", message)
        .with("scan_id", query.scan)
        .with("attempt_id", &query.attempt)
        .hint("an attempt is there once its probe was evaluated")
}

fn too_many(query: &AttemptQuery) -> Error {
    let message = format!("scan {} has too many attempts to look through", query.scan);
    Error::failed_precondition("PROBE_REQUIRED", message)
        .with("scan_id", query.scan)
        .hint("name the attempt's probe")
}
