//! Looks at what children use, and says when it is too much.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::{Duration, Instant},
};

use aegis_mesh::spawn::blocking;

use super::table::{self, Family, Row};
use crate::domain::bounds::{Bounds, Excess, Held};

/// From one look at the processes to the next. In it a child may take what it can get.
const EVERY: Duration = Duration::from_millis(200);
/// So many looks at the processes for one at the files.
const FILES_EVERY: u32 = 5;
/// A table that is not older serves another child, too.
const FRESH: Duration = Duration::from_millis(100);

/// The table of processes, read once for all children that are watched. Cheap to clone.
#[derive(Clone, Default)]
pub struct Watcher(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    read: Option<Instant>,
    rows: Arc<Vec<Row>>,
}

impl Watcher {
    /// Ends when the child `leader`, with all processes that it started, or what lies in `scratch`
    /// passes a bound. A thread looks until then, or until this is dropped.
    pub async fn passed(&self, leader: u32, scratch: &Path, bounds: Bounds) -> Excess {
        let (alive, over) = channel();
        let (watcher, scratch) = (self.clone(), scratch.to_owned());
        let looking = blocking("watch", move || {
            watcher.look(leader, &scratch, &bounds, &over)
        });
        let excess = looking.await;
        drop(alive);
        match excess {
            Ok(Some(excess)) => excess,
            Ok(None) => std::future::pending().await,
            Err(error) => {
                tracing::error!(reason = error.reason(), "a child is not watched");
                std::future::pending().await
            }
        }
    }

    fn look(
        &self,
        leader: u32,
        scratch: &Path,
        bounds: &Bounds,
        over: &Receiver<()>,
    ) -> Option<Excess> {
        let mut family = Family::of(leader);
        let mut looks = 0_u32;
        while over.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            let usage = family.usage(&self.rows(), bounds.memory);
            if let Some(excess) = bounds.passed_by(&usage) {
                return Some(excess);
            }
            looks = looks.wrapping_add(1);
            if looks.is_multiple_of(FILES_EVERY) {
                let held = held(scratch.to_owned(), bounds.scratch_files);
                if let Some(excess) = bounds.passed_by_files(&held) {
                    return Some(excess);
                }
            }
        }
        None
    }

    /// The table is replaced in one step, so a panic elsewhere leaves it whole.
    fn rows(&self) -> Arc<Vec<Row>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if table.read.is_none_or(|read| read.elapsed() > FRESH) {
            match table::read() {
                Ok(rows) => table.rows = Arc::new(rows),
                Err(error) => tracing::error!(%error, "/proc cannot be read; nobody is watched"),
            }
            table.read = Some(Instant::now());
        }
        Arc::clone(&table.rows)
    }
}

/// What a directory holds, counted until there are more files than `most`. What goes away
/// meanwhile, or may not be looked into, counts no more than its name.
fn held(directory: PathBuf, most: u64) -> Held {
    use std::os::unix::fs::MetadataExt;

    let mut held = Held::default();
    let mut open = vec![directory];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            held.files += 1;
            if held.files > most {
                return held;
            }
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            // What it takes of the disk: a hole in a file is free.
            held.bytes += metadata.blocks() * 512;
            if metadata.is_dir() {
                open.push(entry.path());
            }
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_directory_is_counted_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("file"), vec![1; 1 << 20]).unwrap();
        fs::File::create(deep.join("hole"))
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        std::os::unix::fs::symlink("/usr", folder.path().join("link")).unwrap();
        let found = held(folder.path().to_owned(), 100);
        assert_eq!(found.files, 5);
        assert!((1 << 20..2 << 20).contains(&found.bytes), "{}", found.bytes);
        assert_eq!(held(folder.path().to_owned(), 3).files, 4);
        assert_eq!(held("/nonexistent".into(), 3), Held::default());
    }
}
