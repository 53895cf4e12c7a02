//! A directory per run, gone when the run is over.

use std::{
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::Duration,
};

use aegis_mesh::{Error, Result};
use nix::sys::statvfs::statvfs;

/// How often a directory is removed that is not empty when it should be, and how soon again: a fifth
/// of a second in all.
const TRIES: u32 = 20;
const MOMENT: Duration = Duration::from_millis(10);

/// The runner's scratch directory. Whoever holds this is alone in it.
pub(crate) struct Scratch {
    root: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Takes `folder/scratch` and removes what an earlier life left in it.
    ///
    /// # Errors
    /// FAILED_PRECONDITION / DATA_DIR_IN_USE when another runner has it,
    /// FAILED_PRECONDITION / DATA_DIR_UNUSABLE when it cannot be written.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let unusable = |error: io::Error| {
            let folder = folder.display();
            Error::failed_precondition(
                "DATA_DIR_UNUSABLE",
                format!("the runner cannot use its data directory {folder}: {error}"),
            )
        };
        fs::create_dir_all(folder).map_err(unusable)?;
        let lock = File::create(folder.join("runner.lock")).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let folder = folder.display();
                return Err(Error::failed_precondition(
                    "DATA_DIR_IN_USE",
                    format!("another runner uses the data directory {folder}"),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(unusable(error)),
        }
        let root = folder.canonicalize().map_err(unusable)?.join("scratch");
        remove(&root).map_err(unusable)?;
        create(&root).map_err(unusable)?;
        Ok(Self { root, _lock: lock })
    }

    /// A new directory that only this user can enter. `name` is our own: letters, digits and `-`.
    pub(crate) fn directory(&self, name: &str) -> io::Result<ScratchDir> {
        let path = self.root.join(name);
        remove(&path)?;
        create(&path)?;
        Ok(ScratchDir { path })
    }

    /// Bytes that the disk it lies on has free for us.
    pub(crate) fn free(&self) -> io::Result<u64> {
        let disk = statvfs(&self.root)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }
}

/// A run's directory; removed with all that is in it when dropped.
pub(crate) struct ScratchDir {
    path: PathBuf,
}

impl ScratchDir {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "a scratch directory is left behind until the next start");
        }
    }
}

fn create(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

/// Processes of a run that were killed may still write for a moment, while it is removed: then what
/// they have made is removed, too.
fn remove(path: &Path) -> io::Result<()> {
    for _ in 1..TRIES {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => sleep(MOMENT),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => return Ok(()),
        }
    }
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn leftovers_are_removed_at_start_and_a_run_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("scratch/old-1/deep")).unwrap();
        let scratch = Scratch::open(folder.path()).unwrap();
        let root = folder.path().join("scratch");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);

        let run = scratch.directory("task-1").unwrap();
        fs::write(run.path().join("garak.json"), "{}").unwrap();
        let mode = fs::metadata(run.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        drop(run);
        assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dying_process_still_writes_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Scratch::open(folder.path()).unwrap();
        let run = scratch.directory("task-1").unwrap();
        let path = run.path().to_owned();
        let began = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                began.wait();
                let until = std::time::Instant::now() + MOMENT * 5;
                let mut number = 0;
                while std::time::Instant::now() < until {
                    number += 1;
                    // The directory may be gone by now.
                    let _ = fs::write(path.join(number.to_string()), "");
                }
            });
            began.wait();
            drop(run);
        });
        assert_eq!(
            fs::read_dir(folder.path().join("scratch")).unwrap().count(),
            0
        );
    }

    #[test]
    fn two_runners_do_not_share_a_data_directory() {
        let folder = tempfile::tempdir().unwrap();
        let first = Scratch::open(folder.path()).unwrap();
        let error = Scratch::open(folder.path()).err().unwrap();
        assert_eq!(error.reason(), "DATA_DIR_IN_USE");
        drop(first);
        assert!(Scratch::open(folder.path()).is_ok());
    }
}
