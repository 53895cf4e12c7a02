//! Objects as files of a directory: `{root}/{key}`, readable by their owner alone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_mesh::spawn::blocking;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use uuid::Uuid;

use super::{ByteStream, Object, ObjectStore, Result, StoreError, walk};
use crate::domain::key::ObjectKey;

const CHUNK_BYTES: u64 = 256 << 10;
/// How often an object is given its name while others remove its folder.
const NAMING_TRIES: u32 = 10;

/// A directory.
#[derive(Debug, Clone)]
pub struct LocalStore {
    root: Arc<Path>,
}

impl LocalStore {
    /// A store in `root`, which is made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(root: &Path) -> io::Result<Self> {
        private_dirs(root)?;
        Ok(Self {
            root: Arc::from(root),
        })
    }

    fn path(&self, key: &ObjectKey) -> PathBuf {
        // A key is clean segments only, so this stays within the root.
        self.root.join(key.as_str())
    }

    async fn run<T: Send + 'static>(
        &self,
        name: &'static str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = Arc::clone(&self.root);
        let done = blocking(name, move || work(&root)).await;
        Ok(done.map_err(|error| StoreError::Io(io::Error::other(error)))??)
    }
}

#[async_trait]
impl ObjectStore for LocalStore {
    async fn put(&self, key: &ObjectKey, file: &Path) -> Result<()> {
        let (target, file) = (self.path(key), file.to_owned());
        self.run("store-put", move |root| put(root, &target, &file))
            .await
    }

    async fn read(&self, key: &ObjectKey, range: Range<u64>) -> Result<ByteStream> {
        let path = self.path(key);
        let file = self.run("store-open", move |_| File::open(path)).await?;
        let start = (self.clone(), Arc::new(file), range);
        Ok(Box::pin(stream::try_unfold(
            start,
            |(store, file, range)| async move {
                if range.is_empty() {
                    return Ok(None);
                }
                let end = range.end.min(range.start.saturating_add(CHUNK_BYTES));
                let (source, at) = (Arc::clone(&file), range.start..end);
                let chunk = store
                    .run("store-read", move |_| read_at(&source, at))
                    .await?;
                Ok(Some((chunk, (store, file, end..range.end))))
            },
        )))
    }

    async fn stat(&self, key: &ObjectKey) -> Result<Option<u64>> {
        let path = self.path(key);
        match self.run("store-stat", move |_| fs::metadata(path)).await {
            Ok(found) => Ok(found.is_file().then_some(found.len())),
            Err(StoreError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        let path = self.path(key);
        match self
            .run("store-delete", move |root| {
                fs::remove_file(&path)?;
                remove_empty(root, &path);
                Ok(())
            })
            .await
        {
            Ok(()) | Err(StoreError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<Object>> {
        let (prefix, after) = (prefix.to_owned(), after.unwrap_or_default().to_owned());
        self.run("store-list", move |root| {
            walk::list(root, &prefix, &after, limit)
        })
        .await
    }

    async fn check(&self) -> Result<()> {
        self.run("store-check", |root| fs::read_dir(root).map(drop))
            .await
    }
}

fn read_at(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let mut bytes = vec![0; (range.end - range.start) as usize]; // at most CHUNK_BYTES
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes.into())
}

/// The file is written out before it gets its name, and the name before this returns: after a
/// loss of power there is the whole object or none.
fn put(root: &Path, target: &Path, file: &Path) -> io::Result<()> {
    let folder = target.parent().unwrap_or(root);
    let source = File::open(file)?;
    source.set_permissions(Permissions::from_mode(0o600))?;
    source.sync_all()?;
    let made = missing_dirs(root, folder)?;
    aegis_mesh::failpoint!(BEFORE_NAME);
    // Its folder may go in between, with the last other object that was in it.
    let mut tries = 0;
    while let Err(error) = private_dirs(folder).and_then(|()| name(file, &source, target)) {
        tries += 1;
        if error.kind() != io::ErrorKind::NotFound || tries == NAMING_TRIES {
            return Err(error);
        }
    }
    aegis_mesh::failpoint!(NAMED);
    sync_dir(folder)?;
    // A new folder's name lies in the folder above it.
    for folder in made {
        sync_dir(folder.parent().unwrap_or(root))?;
    }
    Ok(())
}

fn name(file: &Path, source: &File, target: &Path) -> io::Result<()> {
    match fs::rename(file, target) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => copy(source, target),
        done => done,
    }
}

fn copy(mut source: &File, target: &Path) -> io::Result<()> {
    let unique = target.with_added_extension(format!("{}.tmp", Uuid::new_v4().simple()));
    let mut copy = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unique)?;
    let copied = io::copy(&mut source, &mut copy)
        .and_then(|_| copy.sync_all())
        .and_then(|()| fs::rename(&unique, target));
    if copied.is_err() {
        fs::remove_file(&unique)?;
    }
    copied
}

/// Folders that an object was the last of. One that is not empty stays, and one in which somebody
/// makes an object meanwhile: both are refused by the system.
fn remove_empty(root: &Path, object: &Path) {
    let above = object.ancestors().skip(1);
    for folder in above.take_while(|folder| *folder != root) {
        if fs::remove_dir(folder).is_err() {
            return;
        }
    }
}

fn missing_dirs(root: &Path, folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for folder in folder.ancestors().take_while(|folder| *folder != root) {
        if folder.try_exists()? {
            break;
        }
        missing.push(folder.to_owned());
    }
    Ok(missing)
}

fn private_dirs(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn sync_dir(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
