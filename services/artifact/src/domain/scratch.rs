//! Files that are not objects yet.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aegis_proto::ids::ArtifactId;
use uuid::Uuid;

/// The folder of such files. It belongs to one process: nothing in it outlives that.
#[derive(Debug, Clone)]
pub struct Scratch(PathBuf);

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
        Ok(Self(folder.to_owned()))
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
        let path = self.0.join(format!("{name}-{}", Uuid::new_v4().simple()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok((file, ScratchFile(path)))
    }
}

/// The name of a scratch file, which goes when this is dropped.
#[derive(Debug)]
pub struct ScratchFile(PathBuf);

impl ScratchFile {
    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Ok(()) => {}
            // It became an object.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, "cannot remove a scratch file"),
        }
    }
}
