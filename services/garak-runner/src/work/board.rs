//! Which tasks run right now, for whoever asks.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::grpc::Lease;

/// A task that runs.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) task_id: String,
    pub(crate) scan_id: String,
    pub(crate) epoch: i64,
    /// Zero while there is no child.
    pub(crate) process_id: u32,
}

/// All tasks that run.
#[derive(Default)]
pub(crate) struct Board(Mutex<BTreeMap<(String, i64), Running>>);

impl Board {
    /// Puts a task on the board for as long as the entry lives.
    pub(crate) fn enter(&self, lease: &Lease) -> Entry<'_> {
        let key = (lease.task_id().to_owned(), lease.epoch());
        let running = Running {
            task_id: key.0.clone(),
            scan_id: lease.scan_id().to_owned(),
            epoch: key.1,
            process_id: 0,
        };
        self.lock().insert(key.clone(), running);
        Entry { board: self, key }
    }

    pub(crate) fn list(&self) -> Vec<Running> {
        self.lock().values().cloned().collect()
    }

    /// The board is only ever changed in one step, so a panic elsewhere leaves it whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, i64), Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task's place on the board.
pub(crate) struct Entry<'a> {
    board: &'a Board,
    key: (String, i64),
}

impl Entry<'_> {
    pub(crate) fn child(&self, process_id: u32) {
        if let Some(running) = self.board.lock().get_mut(&self.key) {
            running.process_id = process_id;
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.board.lock().remove(&self.key);
    }
}
