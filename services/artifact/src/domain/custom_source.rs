//! Sources of custom probes: small immutable objects, named by their checksum.

use std::io::{self, Write};
use std::sync::Arc;

use aegis_mesh::spawn::blocking;
use aegis_mesh::{Error, Result};
use aegis_proto::ids::ProjectId;
use async_trait::async_trait;
use sha2::{Digest, Sha256};

use super::fault;
use super::key::ObjectKey;
use super::scratch::{Scratch, ScratchFile};
use crate::store::{ObjectStore, StoreError, read_range};

/// Longest source in bytes.
pub const MAX_SOURCE_BYTES: usize = 256 << 10;

/// A row of a source, as the catalog has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRow {
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Bytes, at most [`MAX_SOURCE_BYTES`].
    pub size: u64,
    /// Where they lie.
    pub key: ObjectKey,
    /// Whether they were stored and verified.
    pub committed: bool,
}

/// A lease of a task or of a check, as its runner showed it. Whether it holds, and for which
/// sources, is for the catalog to say.
#[derive(Clone)]
pub struct SourceLease {
    /// The task or check.
    pub task: String,
    /// Empty for a check.
    pub scan: String,
    /// The fencing number.
    pub epoch: i64,
    /// Opaque secret; never shown.
    pub token: Vec<u8>,
}

/// The rows of sources. They are catalog's; this is the port to it.
#[async_trait]
pub trait SourceRegistry: Send + Sync + 'static {
    /// The row of a source, made when there is none.
    async fn stage(&self, project: &ProjectId, sha256: &str, size: u64) -> Result<SourceRow>;

    /// Its bytes are stored and verified. Repeatable.
    async fn commit(&self, sha256: &str) -> Result<()>;

    /// A committed source: NOT_FOUND / SOURCE_NOT_FOUND.
    async fn find(&self, project: &ProjectId, sha256: &str) -> Result<SourceRow>;

    /// The same, for a runner: ABORTED / LEASE_LOST, PERMISSION_DENIED / SOURCE_NOT_LEASED.
    async fn find_leased(
        &self,
        project: &ProjectId,
        lease: &SourceLease,
        sha256: &str,
    ) -> Result<SourceRow>;
}

/// Puts and gets sources.
pub struct Sources {
    registry: Arc<dyn SourceRegistry>,
    store: Arc<dyn ObjectStore>,
    scratch: Scratch,
}

impl Sources {
    /// Over these rows and bytes.
    pub fn new(
        registry: Arc<dyn SourceRegistry>,
        store: Arc<dyn ObjectStore>,
        scratch: Scratch,
    ) -> Self {
        Self {
            registry,
            store,
            scratch,
        }
    }

    /// Keeps a source; its checksum. Row first, then the bytes, verified, then the row again: what
    /// is interrupted at any point is made whole by the same call, also an object that was lost.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / SOURCE_TOO_LARGE or INVALID_FIELD; those of store and registry.
    pub async fn put(&self, project: &ProjectId, source: Vec<u8>) -> Result<String> {
        check(&source)?;
        let sha256 = hex::encode(Sha256::digest(&source));
        let size = source.len() as u64;
        let row = self.registry.stage(project, &sha256, size).await?;
        if row.committed && self.store.stat(&row.key).await? == Some(size) {
            return Ok(sha256);
        }
        let scratch = self.scratch.clone();
        let file = blocking("source", move || write(&scratch, &source)).await?;
        let file = file.map_err(fault::scratch)?;
        self.store.put(&row.key, file.path()).await?;
        self.read(&row).await?;
        self.registry.commit(&sha256).await?;
        Ok(sha256)
    }

    /// A source.
    ///
    /// # Errors
    /// NOT_FOUND / SOURCE_NOT_FOUND; DATA_LOSS / ARTIFACT_CORRUPT.
    pub async fn get(&self, project: &ProjectId, sha256: &str) -> Result<Vec<u8>> {
        let row = self.registry.find(project, sha256).await?;
        self.read(&row).await
    }

    /// A source, for the runner that holds this lease.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST; PERMISSION_DENIED / SOURCE_NOT_LEASED; as [`Self::get`].
    pub async fn get_leased(
        &self,
        project: &ProjectId,
        lease: &SourceLease,
        sha256: &str,
    ) -> Result<Vec<u8>> {
        let row = self.registry.find_leased(project, lease, sha256).await?;
        self.read(&row).await
    }

    /// The bytes, never others than they were named by.
    async fn read(&self, row: &SourceRow) -> Result<Vec<u8>> {
        let found = self.store.stat(&row.key).await?;
        if row.size > MAX_SOURCE_BYTES as u64 || found != Some(row.size) {
            return Err(corrupt(row));
        }
        let bytes = match read_range(self.store.as_ref(), &row.key, 0..row.size).await {
            Err(StoreError::NotFound | StoreError::EndsEarly) => return Err(corrupt(row)),
            read => read?,
        };
        if hex::encode(Sha256::digest(&bytes)) != row.sha256 {
            return Err(corrupt(row));
        }
        Ok(bytes)
    }
}

fn check(source: &[u8]) -> Result<()> {
    if source.len() > MAX_SOURCE_BYTES {
        let message = format!("the source has {} bytes, at most 256 KiB go", source.len());
        return Err(Error::invalid_argument("SOURCE_TOO_LARGE", message.clone())
            .field("source", message)
            .with("size_bytes", source.len())
            .with("limit_bytes", MAX_SOURCE_BYTES)
            .hint("leave out what is no code: prompts can be split over several custom probes"));
    }
    if source.is_empty() {
        return Err(Error::invalid_field("source", "must not be empty"));
    }
    match std::str::from_utf8(source) {
        Ok(_) => Ok(()),
        Err(error) => {
            let what = format!("is no UTF-8 from byte {} on", error.valid_up_to());
            Err(Error::invalid_field("source", what))
        }
    }
}

fn write(scratch: &Scratch, source: &[u8]) -> io::Result<ScratchFile> {
    let (mut file, name) = scratch.create(None)?;
    file.write_all(source)?;
    file.sync_all()?;
    Ok(name)
}

fn corrupt(row: &SourceRow) -> Error {
    let (sha256, object_key) = (&row.sha256, &row.key);
    tracing::error!(%sha256, %object_key, "source corrupt");
    let message = "a custom probe's source is not what it was when it was stored";
    Error::data_loss("ARTIFACT_CORRUPT", message)
        .with("sha256", sha256)
        .hint("restore the object, or send the same source again: that makes it whole")
}
