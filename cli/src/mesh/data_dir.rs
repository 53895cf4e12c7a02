//! The folder that one mesh uses, and no other at the same time.

use std::{
    fs::{File, OpenOptions, TryLockError},
    path::Path,
};

use aegis_mesh::{Error, Result};

/// A data directory, locked while this lives. The lock is the kernel's: it ends with the process,
/// however that ends.
#[derive(Debug)]
pub(super) struct DataDir {
    _lock: File,
}

impl DataDir {
    /// Makes the folder if need be, and locks it.
    ///
    /// # Errors
    /// FAILED_PRECONDITION: DATA_DIR_UNUSABLE, or DATA_DIR_IN_USE when another mesh has it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let unusable = |error: std::io::Error| {
            let message = format!("cannot use the data directory {}: {error}", path.display());
            Error::failed_precondition("DATA_DIR_UNUSABLE", message)
                .with("data_dir", path.display())
                .hint("name a folder that can be written to with --data-dir")
        };
        std::fs::create_dir_all(path).map_err(unusable)?;
        let mut options = OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true);
        let lock = lock.open(path.join("lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(TryLockError::Error(error)) => Err(unusable(error)),
            Err(TryLockError::WouldBlock) => {
                let message = format!("another aegis uses the data directory {}", path.display());
                Err(Error::failed_precondition("DATA_DIR_IN_USE", message)
                    .with("data_dir", path.display())
                    .hint("stop it, or name another folder with --data-dir"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_one_meshs_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let first = DataDir::open(&path).unwrap();
        assert_eq!(
            DataDir::open(&path).unwrap_err().reason(),
            "DATA_DIR_IN_USE"
        );
        drop(first);
        assert!(DataDir::open(&path).is_ok());
        std::fs::write(folder.path().join("file"), "").unwrap();
        let error = DataDir::open(&folder.path().join("file")).unwrap_err();
        assert_eq!(error.reason(), "DATA_DIR_UNUSABLE");
    }
}
