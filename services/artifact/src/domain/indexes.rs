//! The indexes beside reports: opened by their headers, made again when they are lost.

use std::sync::Arc;

use aegis_mesh::{Error, Result};
use aegis_report::IndexHeader;
use aegis_report::index::{FIRST_READ_BYTES, IndexError};

use super::fault;
use super::registry::StoredArtifact;
use super::repair::Repairs;
use crate::store::{ObjectStore, StoreError, read_range};

/// Indexes of stored reports.
#[derive(Clone)]
pub struct Indexes {
    store: Arc<dyn ObjectStore>,
    repairs: Repairs,
}

impl Indexes {
    /// Of the reports in this store.
    pub fn new(store: Arc<dyn ObjectStore>, repairs: Repairs) -> Self {
        Self { store, repairs }
    }

    /// Reads the header alone. An index that is not there, not whole or not of this report is made
    /// again: all that it says is in the report.
    ///
    /// # Errors
    /// DATA_LOSS / ARTIFACT_CORRUPT when the report is not what it was either.
    pub async fn open(&self, report: &StoredArtifact, eval_threshold: f64) -> Result<IndexHeader> {
        if let Some(header) = self.header(report).await? {
            return Ok(header);
        }
        let turn = self.repairs.turn().await?;
        // Somebody had the turn before, maybe for the same index.
        if let Some(header) = self.header(report).await? {
            return Ok(header);
        }
        self.repairs.index(turn, report, eval_threshold).await?;
        let header = self.header(report).await?;
        header.ok_or_else(|| fault::corrupt(report, "its index cannot be read"))
    }

    /// `None` when the index is not what it should be.
    async fn header(&self, report: &StoredArtifact) -> Result<Option<IndexHeader>> {
        let key = report.key.index();
        let Some(size) = self.store.stat(&key).await? else {
            return Ok(None);
        };
        let first = size.min(FIRST_READ_BYTES as u64);
        let read = async |range| match read_range(&*self.store, &key, range).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::NotFound | StoreError::EndsEarly) => Ok(None),
            Err(error) => Err(Error::from(error)),
        };
        let Some(mut start) = read(0..first).await? else {
            return Ok(None);
        };
        if let Err(IndexError::Incomplete { needed }) = IndexHeader::parse(&start) {
            match read(first..(needed as u64).max(first)).await? {
                Some(rest) => start.extend(rest),
                None => return Ok(None),
            }
        }
        let header = IndexHeader::parse(&start).ok();
        let bytes = report.checksum.map(|checksum| checksum.size);
        Ok(header.filter(|header| {
            header.index_bytes() == size && bytes.is_none_or(|bytes| bytes == header.report_bytes)
        }))
    }
}
