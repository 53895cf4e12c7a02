//! A store that counts what is read and can be full.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use aegis_artifact::domain::key::ObjectKey;
use aegis_artifact::store::{ByteStream, LocalStore, Object, ObjectStore, Result, StoreError};
use async_trait::async_trait;
use tokio::sync::RwLock;

#[derive(Clone)]
pub(crate) struct Watched {
    store: LocalStore,
    read: Arc<AtomicU64>,
    reads: Arc<AtomicUsize>,
    read_of_files: Arc<AtomicU64>,
    full: Arc<AtomicBool>,
    gate: Arc<RwLock<()>>,
    waiting: Arc<AtomicUsize>,
}

impl Watched {
    pub(crate) fn new(store: LocalStore) -> Self {
        Self {
            store,
            read: Arc::default(),
            reads: Arc::default(),
            read_of_files: Arc::default(),
            full: Arc::default(),
            gate: Arc::default(),
            waiting: Arc::default(),
        }
    }

    /// From now on there is no room, or there is again.
    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// No report or hitlog is read as long as the answer is held.
    pub(crate) async fn close(&self) -> impl Sized + use<> {
        Arc::clone(&self.gate).write_owned().await
    }

    /// How many reads are held up.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Bytes that were asked for since the last question.
    pub(crate) fn take_read(&self) -> u64 {
        self.read.swap(0, Ordering::SeqCst)
    }

    /// As [`Self::take_read`], without those of indexes.
    pub(crate) fn take_read_of_files(&self) -> u64 {
        self.read_of_files.swap(0, Ordering::SeqCst)
    }

    /// Reads of anything but indexes since the last question.
    pub(crate) fn take_reads(&self) -> usize {
        self.reads.swap(0, Ordering::SeqCst)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put(&self, key: &ObjectKey, file: &Path) -> Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(StoreError::Full);
        }
        self.store.put(key, file).await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream> {
        let bytes = range.end - range.start;
        self.read.fetch_add(bytes, Ordering::SeqCst);
        if !key.as_str().ends_with(".index") {
            self.reads.fetch_add(1, Ordering::SeqCst);
            self.read_of_files.fetch_add(bytes, Ordering::SeqCst);
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let _open = self.gate.read().await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        self.store.read(key, range).await
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        self.store.stat(key).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        self.store.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Object>> {
        self.store.list(prefix, after, limit).await
    }
}
