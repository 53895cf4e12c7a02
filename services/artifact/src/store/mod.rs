//! Where bytes lie.

mod local;
mod s3;
mod walk;

use std::io;
use std::ops::Range;
use std::path::Path;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use aegis_mesh::Error;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};

pub use self::local::LocalStore;
pub use self::s3::{S3Store, UnfinishedUpload};
use crate::domain::checksum::Checksum;
use crate::domain::key::ObjectKey;

/// Room is not made at once.
const RETRY_FULL: Duration = Duration::from_secs(10);
const RETRY_DOWN: Duration = Duration::from_secs(1);
/// Which settings it can be.
const REFUSED_HINT: &str = "check artifact.minio.access_key, secret_key and bucket (MINIO_ACCESS_KEY, \
     MINIO_SECRET_KEY, MINIO_BUCKET) and what that key may do; docs/object-store.md lists what is needed";

/// Why a store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("no such object")]
    NotFound,
    /// The object is shorter than the range that was asked for.
    #[error("the object ends early")]
    EndsEarly,
    /// No room is left.
    #[error("the store is full")]
    Full,
    /// The store answers, and will not do it: wrong credentials, too few permissions, no bucket.
    /// Its words, without any secret.
    #[error("the object store refuses it: {0}")]
    Refused(String),
    /// The store does not work, or not now.
    #[error("{0}")]
    Io(#[source] io::Error),
}

impl From<io::Error> for StoreError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::NotFound,
            io::ErrorKind::UnexpectedEof => Self::EndsEarly,
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

impl From<StoreError> for Error {
    /// What a caller of ours learns. An object that should be there and is not is DATA_LOSS.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound | StoreError::EndsEarly => {
                let message = "an artifact's bytes are missing or fewer than they were";
                Self::data_loss("ARTIFACT_CORRUPT", message)
            }
            StoreError::Full => Self::unavailable(
                "STORAGE_FULL",
                "the object store has no room left",
                RETRY_FULL,
            )
            .with("dependency", "object store")
            .hint("free space where the artifacts lie; uploads go on by themselves"),
            StoreError::Refused(why) => {
                tracing::error!(%why, "the object store refuses what it is asked");
                let message = format!("the object store refuses it: {why}");
                Self::unavailable("STORAGE_REFUSED", message, RETRY_FULL)
                    .with("dependency", "object store")
                    .hint(REFUSED_HINT)
            }
            StoreError::Io(source) => {
                tracing::warn!(error = %source, "the object store does not work");
                Self::unavailable(
                    "DEPENDENCY_DOWN",
                    "the object store does not work",
                    RETRY_DOWN,
                )
                .with("dependency", "object store")
            }
        }
    }
}

/// What a store does.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Bytes of an object, in chunks.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// An object of a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: ObjectKey,
    /// Its size in bytes.
    pub size: u64,
    /// When it was stored, by the store's clock, if it says.
    pub modified: Option<SystemTime>,
}

/// A store of objects. An object is there whole or not at all.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Makes the bytes of `file` the object `key`, in place of any that was there. When this
    /// returns they survive a loss of power. The file may be gone afterwards, or not.
    async fn put(&self, key: &ObjectKey, file: &Path) -> Result<()>;

    /// As [`Self::put`], of a file whose checksum is known. A store that keeps a checksum beside
    /// its objects need not read the file for it first, and refuses a file that became another.
    async fn put_known(&self, key: &ObjectKey, file: &Path, _known: &Checksum) -> Result<()> {
        self.put(key, file).await
    }

    /// Exactly the bytes of `range`, in chunks of 256 KiB at most.
    /// [`StoreError::EndsEarly`] comes where an object ends before the range does.
    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream>;

    /// The size of an object in bytes, `None` when there is none.
    async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>>;

    /// Removes an object. One that is not there is removed already.
    async fn delete(&self, key: &ObjectKey) -> Result<()>;

    /// Up to `limit` objects whose keys begin with `prefix` and come after the object `after`.
    ///
    /// Walked page by page, with the last key of each page as the next `after`, it gives each object
    /// once that was there all the time, also when `after` is deleted in between. A directory, and S3
    /// as its documentation has it, go by the bytes of the key. SeaweedFS goes by path, as if `/` came
    /// before all other characters (`a/1`, then `a-1`): do not compare keys with the order.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Object>>;

    /// A link by which whoever has it can get the object for `ttl` (1 second to 7 days), named
    /// `file_name` and of type `media_type`; `None` from a store that gives none. It is made without
    /// asking the store, so it may lead nowhere.
    async fn link(
        &self,
        _key: &ObjectKey,
        _file_name: &str,
        _media_type: &str,
        _ttl: Duration,
    ) -> Result<Option<String>> {
        Ok(None)
    }

    /// Whether the store can be used now; makes what it needs first, such as its bucket.
    async fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Removes what uploads left that nobody works on any more, in the store itself; how many.
    async fn tidy(&self) -> Result<usize> {
        Ok(0)
    }
}

/// Reads a range into memory; the caller bounds it.
///
/// # Errors
/// Those of [`ObjectStore::read`].
pub async fn read_range(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    range: Range<u64>,
) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(usize::try_from(range.end - range.start).unwrap_or(0));
    let mut chunks = store.read(key, range).await?;
    while let Some(chunk) = chunks.try_next().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
