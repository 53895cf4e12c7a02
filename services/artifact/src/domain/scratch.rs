//! Files that are not objects yet.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_proto::ids::ArtifactId;
use uuid::Uuid;

/// The folder of such files. It belongs to one process: nothing in it outlives that.
#[derive(Debug, Clone)]
pub struct Scratch {
    folder: PathBuf,
    room: Arc<Room>,
}

/// Bytes that the files may have together.
#[derive(Debug)]
struct Room {
    max: u64,
    taken: AtomicU64,
}

impl Scratch {
    /// Makes the folder, and removes what an earlier process left in it.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn open(folder: &Path) -> io::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            folder: folder.to_owned(),
            room: Arc::new(Room {
                max: u64::MAX,
                taken: AtomicU64::new(0),
            }),
        })
    }

    /// The same folder, whose files may have `max` bytes together.
    pub fn bounded(self, max: u64) -> Self {
        let taken = AtomicU64::new(0);
        Self {
            room: Arc::new(Room { max, taken }),
            ..self
        }
    }

    /// A new file, named after what it will be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(
        &self,
        artifact: impl Into<Option<ArtifactId>>,
    ) -> io::Result<(File, ScratchFile)> {
        let name = artifact
            .into()
            .map_or_else(|| "composed".to_owned(), |id| id.to_string());
        let path = self
            .folder
            .join(format!("{name}-{}", Uuid::new_v4().simple()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        let name = ScratchFile {
            path,
            room: Arc::clone(&self.room),
            reserved: 0,
        };
        Ok((file, name))
    }
}

/// The name of a scratch file, which goes when this is dropped.
#[derive(Debug)]
pub struct ScratchFile {
    path: PathBuf,
    room: Arc<Room>,
    reserved: u64,
}

impl ScratchFile {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes room for `bytes` in all, to be asked for before they are written. Repeatable.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`], as of a disk, when all files together would have too many.
    pub fn reserve(&mut self, bytes: u64) -> io::Result<()> {
        let more = bytes.saturating_sub(self.reserved);
        let Room { max, taken } = &*self.room;
        let fits = |taken: u64| taken.checked_add(more).filter(|taken| taken <= max);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits)
            .map_err(|_| io::Error::from(io::ErrorKind::StorageFull))?;
        self.reserved += more;
        Ok(())
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.reserved, Ordering::Relaxed);
        match fs::remove_file(&self.path) {
            Ok(()) => {}
            // It became an object.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "cannot remove a scratch file"),
        }
    }
}
