//! What every task of a runner shares.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    Interrupt, Scratch,
    board::Board,
    catalogue::Published,
    keeper::{Hold, Keeper},
};
use crate::{
    config::Config,
    domain::{allowance::Allowance, secret::Credential},
    grpc::{ArtifactClient, SourceClient, TaskClient},
    process::{WarmProcess, WarmState, Watcher},
};

/// How often a full disk is looked at.
const LOOK_FOR_ROOM: Duration = Duration::from_secs(1);

/// A runner: its configuration, whom it talks to, what it is doing.
pub(crate) struct Runner {
    parts: RunnerParts,
    board: Board,
    watcher: Watcher,
    /// The catalogue, once it is known.
    found: OnceLock<Arc<Published>>,
    is_published: AtomicBool,
    /// Why there is no catalogue yet.
    waiting_for: Mutex<String>,
    /// Whether the disk was found full when we looked last.
    is_full: AtomicBool,
    draining: CancellationToken,
    grace_is_over: CancellationToken,
}

/// What a runner is made from.
pub(crate) struct RunnerParts {
    pub(crate) id: String,
    /// Each slot is for one task.
    pub(crate) once: bool,
    pub(crate) config: Config,
    pub(crate) allowance: Allowance,
    /// Values of the permitted variables that are set.
    pub(crate) secrets: BTreeMap<String, Credential>,
    pub(crate) tasks: TaskClient,
    pub(crate) artifacts: ArtifactClient,
    pub(crate) sources: SourceClient,
    pub(crate) warm: WarmProcess,
    pub(crate) scratch: Scratch,
}

/// What a runner is doing, for whoever operates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RunnerState {
    Warming(String),
    Ready,
    Full(String),
    Draining,
    Broken(String),
}

impl Runner {
    pub(crate) fn new(parts: RunnerParts) -> Self {
        Self {
            parts,
            board: Board::default(),
            watcher: Watcher::default(),
            is_full: AtomicBool::new(false),
            found: OnceLock::new(),
            is_published: AtomicBool::new(false),
            waiting_for: Mutex::new("garak is being imported".to_owned()),
            draining: CancellationToken::new(),
            grace_is_over: CancellationToken::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.parts.id
    }

    pub(crate) fn is_for_once(&self) -> bool {
        self.parts.once
    }

    pub(crate) fn config(&self) -> &Config {
        &self.parts.config
    }

    pub(crate) fn allowance(&self) -> &Allowance {
        &self.parts.allowance
    }

    pub(crate) fn secret(&self, name: &str) -> Option<&Credential> {
        self.parts.secrets.get(name)
    }

    pub(crate) fn tasks(&self) -> &TaskClient {
        &self.parts.tasks
    }

    pub(crate) fn artifacts(&self) -> &ArtifactClient {
        &self.parts.artifacts
    }

    pub(crate) fn sources(&self) -> &SourceClient {
        &self.parts.sources
    }

    pub(crate) fn warm(&self) -> &WarmProcess {
        &self.parts.warm
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.parts.scratch
    }

    pub(crate) fn board(&self) -> &Board {
        &self.board
    }

    pub(crate) fn watcher(&self) -> &Watcher {
        &self.watcher
    }

    /// Why there is no room for a task, if there is none.
    fn full(&self) -> Option<String> {
        let floor = self.parts.config.min_free_bytes;
        match self.scratch().free() {
            Ok(free) if free >= floor => None,
            Ok(free) => Some(format!(
                "the disk of the data directory has {} MiB free; tasks are taken again at {} MiB \
                 (min_free_bytes)",
                free >> 20,
                floor >> 20
            )),
            Err(error) => Some(format!("the data directory cannot be looked at: {error}")),
        }
    }

    /// Waits until the disk has room for a task.
    pub(crate) async fn room(&self) {
        while let Some(why) = self.full() {
            if !self.is_full.swap(true, Ordering::Relaxed) {
                tracing::error!(%why, "no task is taken");
            }
            sleep(LOOK_FOR_ROOM).await;
        }
        if self.is_full.swap(false, Ordering::Relaxed) {
            tracing::info!("the disk has room again");
        }
    }

    /// Tasks at once.
    pub(crate) fn slots(&self) -> u32 {
        self.parts.config.slots()
    }

    /// The catalogue of this installation, once it is known.
    pub(crate) fn found(&self) -> Option<&Arc<Published>> {
        self.found.get()
    }

    /// Sets the catalogue; it is found once.
    pub(crate) fn set_found(&self, found: Arc<Published>) {
        let _ = self.found.set(found);
    }

    /// The catalogue, once the orchestrator has it.
    pub(crate) fn published(&self) -> Option<Arc<Published>> {
        self.found()
            .filter(|_| self.is_published.load(Ordering::Acquire))
            .cloned()
    }

    pub(crate) fn set_published(&self) {
        self.is_published.store(true, Ordering::Release);
    }

    /// Says what keeps the runner from being ready.
    pub(crate) fn wait_for(&self, what: impl Into<String>) {
        *self
            .waiting_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = what.into();
    }

    pub(crate) fn state(&self) -> RunnerState {
        if self.draining.is_cancelled() {
            return RunnerState::Draining;
        }
        match self.warm().state() {
            WarmState::Broken(why) => RunnerState::Broken(why),
            WarmState::Ready { .. } if self.published().is_some() => match self.full() {
                None => RunnerState::Ready,
                Some(why) => RunnerState::Full(why),
            },
            WarmState::Ready { .. } | WarmState::Warming => {
                let waiting_for = self
                    .waiting_for
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                RunnerState::Warming(waiting_for.clone())
            }
        }
    }

    /// Leases nothing more.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends once the runner drains.
    pub(crate) async fn draining(&self) {
        self.draining.cancelled().await;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// What runs now is given back.
    pub(crate) fn end_grace(&self) {
        self.grace_is_over.cancel();
    }

    /// Waits for what ends a run early.
    pub(crate) async fn interrupt(&self, keeper: &Keeper) -> Interrupt {
        tokio::select! {
            hold = keeper.over() => match hold {
                Hold::Stop => Interrupt::Cancelled,
                Hold::Held | Hold::Lost => Interrupt::LeaseLost,
            },
            () = self.grace_is_over.cancelled() => Interrupt::Drained,
        }
    }
}
