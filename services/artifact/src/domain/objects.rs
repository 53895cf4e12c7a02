//! Objects as such: deleted, listed, and held against what they should be.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use aegis_mesh::Result;
use aegis_proto::ids::ProjectId;
use futures_util::{StreamExt, TryStreamExt, stream};
use sha2::{Digest, Sha256};

use super::checksum::Checksum;
use super::key::ObjectKey;
use crate::store::{ObjectStore, StoreError};

/// Objects that are asked for at once.
const AT_ONCE: usize = 8;
/// Files of this name have an index beside them.
const INDEXED: &str = "/report.jsonl";

/// An object that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Where it lies.
    pub key: ObjectKey,
    /// Bytes.
    pub size: u64,
    /// Since it was stored; zero when the store does not say.
    pub age: Duration,
}

/// What is wrong with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ObjectFault {
    /// There is none.
    Missing,
    /// It has so many bytes.
    Size(u64),
    /// Its bytes are others.
    Sha256,
    /// The index of a report is not there.
    IndexMissing,
    /// The store works, and this object cannot be read.
    Unreadable,
}

/// The store's objects, whoever they belong to.
pub struct Objects {
    store: Arc<dyn ObjectStore>,
}

impl Objects {
    /// In this store.
    pub fn new(store: Arc<dyn ObjectStore>) -> Self {
        Self { store }
    }

    /// Deletes objects, and the indexes of reports before them. What is not there is deleted. Those
    /// that cannot be deleted come back.
    ///
    /// # Errors
    /// Those of the store as a whole; some may be deleted by then.
    pub async fn delete(&self, keys: Vec<ObjectKey>) -> Result<Vec<ObjectKey>> {
        let deleted = stream::iter(keys)
            .map(|key| async move {
                let deleted = self.delete_one(&key).await;
                (key, deleted)
            })
            .buffer_unordered(AT_ONCE);
        let failed: Vec<_> = deleted
            .filter_map(|(key, deleted)| async move { Some((key, deleted.err()?)) })
            .collect()
            .await;
        if !failed.is_empty() {
            self.store.check().await?;
        }
        for (key, error) in &failed {
            tracing::error!(object_key = %key, %error, "an object cannot be deleted");
        }
        Ok(failed.into_iter().map(|(key, _)| key).collect())
    }

    async fn delete_one(&self, key: &ObjectKey) -> crate::store::Result<()> {
        if has_index(key) {
            self.store.delete(&key.index()).await?;
        }
        self.store.delete(key).await?;
        aegis_mesh::failpoint!(OBJECT_DELETED);
        Ok(())
    }

    /// Up to `limit` objects of a project after this one.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(
        &self,
        project: &ProjectId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Listed>> {
        let prefix = format!("{project}/");
        let objects = self.store.list(&prefix, after, limit).await?;
        let now = SystemTime::now();
        let listed = objects.into_iter().map(|object| Listed {
            key: object.key,
            size: object.size,
            // One from the future is new: clocks differ.
            age: object
                .modified
                .and_then(|modified| now.duration_since(modified).ok())
                .unwrap_or_default(),
        });
        Ok(listed.collect())
    }

    /// Those of these objects that are not what they should be. Their bytes are looked at only
    /// when `read` is set.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn check(
        &self,
        objects: Vec<(ObjectKey, Checksum)>,
        read: bool,
    ) -> Result<Vec<(ObjectKey, ObjectFault)>> {
        let checked = stream::iter(objects)
            .map(|(key, expected)| async move {
                let fault = match self.fault_of(&key, &expected, read).await {
                    // It is the object if it is not the store.
                    Err(error) => {
                        self.store.check().await?;
                        tracing::error!(object_key = %key, %error, "an object cannot be read");
                        Some(ObjectFault::Unreadable)
                    }
                    Ok(fault) => fault,
                };
                Ok::<_, StoreError>(fault.map(|fault| (key, fault)))
            })
            .buffer_unordered(AT_ONCE)
            .try_filter_map(|fault| async move { Ok(fault) });
        Ok(checked.try_collect().await?)
    }

    async fn fault_of(
        &self,
        key: &ObjectKey,
        expected: &Checksum,
        read: bool,
    ) -> crate::store::Result<Option<ObjectFault>> {
        match self.store.stat(key).await? {
            None => return Ok(Some(ObjectFault::Missing)),
            Some(size) if size != expected.size => return Ok(Some(ObjectFault::Size(size))),
            Some(_) => {}
        }
        if has_index(key) && self.store.stat(&key.index()).await?.is_none() {
            return Ok(Some(ObjectFault::IndexMissing));
        }
        if !read || self.sha256(key, expected.size).await? == Some(expected.sha256) {
            return Ok(None);
        }
        Ok(Some(ObjectFault::Sha256))
    }

    /// `None` when it became shorter meanwhile.
    async fn sha256(&self, key: &ObjectKey, size: u64) -> crate::store::Result<Option<[u8; 32]>> {
        let mut hash = Sha256::new();
        let mut chunks = match self.store.read(key, 0..size).await {
            Err(StoreError::NotFound | StoreError::EndsEarly) => return Ok(None),
            chunks => chunks?,
        };
        loop {
            match chunks.try_next().await {
                Ok(Some(chunk)) => hash.update(&chunk),
                Ok(None) => return Ok(Some(hash.finalize().into())),
                Err(StoreError::NotFound | StoreError::EndsEarly) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

fn has_index(key: &ObjectKey) -> bool {
    key.as_str().ends_with(INDEXED)
}
