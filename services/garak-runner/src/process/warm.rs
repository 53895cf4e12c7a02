//! The warm process as the rest of the runner sees it: always there, or said to be broken.

use std::{path::PathBuf, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    life::{self, LifeEnd},
    package,
    protocol::{ChildEvent, Ended, JobRequest},
};

/// Commands that wait for the warm process.
pub(super) const COMMANDS: usize = 64;
/// Events of one job that wait for its reader.
pub(super) const EVENTS: usize = 256;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LAST_BACKOFF: Duration = Duration::from_secs(30);
/// A life at least this long shows that the process works: the next backoff is the first again.
const LONG_LIFE: Duration = Duration::from_secs(60);

/// How the warm process is started.
#[derive(Debug, Clone)]
pub struct WarmConfig {
    /// The Python that has garak.
    pub python: PathBuf,
    /// Where the package is unpacked and the process has its home.
    pub folder: PathBuf,
    /// How long importing garak may take.
    pub ready_within: Duration,
    /// How long the process may take to end by itself at shutdown.
    pub stop_within: Duration,
}

/// What the warm process is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WarmState {
    /// garak is being imported.
    Warming,
    /// Jobs start at once.
    Ready {
        /// "0.17.1"
        garak_version: String,
    },
    /// It does not start; tried again with backoff. The words say why.
    Broken(String),
}

pub(super) enum Command {
    Run {
        id: String,
        request: JobRequest,
        events: mpsc::Sender<JobEvent>,
    },
    Kill {
        id: String,
    },
    /// The process does not do what it must: begin a new life.
    Restart,
}

/// Something that happened to a job. `Ended`, `Refused` and `ProcessDied` are last.
#[derive(Debug, Clone, PartialEq)]
pub enum JobEvent {
    /// The child's process id, which is its session's too.
    Started(u32),
    /// The child said something.
    Said(ChildEvent),
    /// The child and its whole session are gone.
    Ended(Ended),
    /// The warm process did not take the job.
    Refused {
        /// UPPER_SNAKE.
        reason: String,
        /// Its words.
        message: String,
    },
    /// The warm process is gone, and its children with it.
    ProcessDied,
}

/// A handle to the warm process; cheap to clone.
#[derive(Clone)]
pub struct WarmProcess {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) state: watch::Receiver<WarmState>,
}

impl WarmProcess {
    /// The handle, and the future that keeps the process alive until `stop`; it ends when the
    /// process and all its children are gone.
    pub fn new(
        config: WarmConfig,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (commands, received) = mpsc::channel(COMMANDS);
        let (state_sender, state) = watch::channel(WarmState::Warming);
        let handle = Self { commands, state };
        (handle, supervise(config, received, state_sender, stop))
    }

    /// What it is doing now.
    pub fn state(&self) -> WarmState {
        self.state.borrow().clone()
    }

    /// Waits until it is ready and returns garak's version; None when the runner stops first.
    pub async fn ready(&self) -> Option<String> {
        let mut state = self.state.clone();
        let is_ready = |state: &WarmState| matches!(state, WarmState::Ready { .. });
        match state.wait_for(is_ready).await.ok()?.clone() {
            WarmState::Ready { garak_version } => Some(garak_version),
            _ => None,
        }
    }

    /// Starts a job. When there is no process the job's only event says so.
    pub async fn run(&self, request: JobRequest) -> Job {
        let id = Uuid::new_v4().to_string();
        let (sender, events) = mpsc::channel(EVENTS);
        let command = Command::Run {
            id: id.clone(),
            request,
            events: sender,
        };
        // When nobody receives, the sender inside the command is dropped: the job sees ProcessDied.
        let _ = self.commands.send(command).await;
        Job {
            id,
            events,
            commands: self.commands.clone(),
            over: false,
        }
    }
}

/// A running job. Dropping it kills its child.
pub struct Job {
    id: String,
    events: mpsc::Receiver<JobEvent>,
    commands: mpsc::Sender<Command>,
    over: bool,
}

impl Job {
    /// The next event. After the last one: `ProcessDied` for ever.
    pub async fn next(&mut self) -> JobEvent {
        let event = self.events.recv().await.unwrap_or(JobEvent::ProcessDied);
        if !matches!(event, JobEvent::Started(_) | JobEvent::Said(_)) {
            self.over = true;
        }
        event
    }

    /// Kills the child's whole session and waits until it is gone. When that takes longer than
    /// `grace`, the warm process itself is killed, which ends every child of it.
    pub async fn kill(&mut self, grace: Duration) {
        if self.over {
            return;
        }
        let id = self.id.clone();
        let _ = self.commands.send(Command::Kill { id }).await;
        if timeout(grace, self.ended()).await.is_err() {
            tracing::error!("a killed child did not end in time; restarting the warm process");
            let _ = self.commands.send(Command::Restart).await;
            let _ = timeout(grace, self.ended()).await;
        }
    }

    async fn ended(&mut self) {
        while !self.over {
            self.next().await;
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if !self.over {
            let id = std::mem::take(&mut self.id);
            if self.commands.try_send(Command::Kill { id }).is_err() {
                tracing::warn!("a job was dropped and its child could not be killed at once");
            }
        }
    }
}

async fn supervise(
    config: WarmConfig,
    mut commands: mpsc::Receiver<Command>,
    state: watch::Sender<WarmState>,
    stop: CancellationToken,
) {
    let mut backoff = FIRST_BACKOFF;
    while !stop.is_cancelled() {
        let began = Instant::now();
        let end = live(&config, &mut commands, &state, &stop).await;
        match end {
            LifeEnd::Stopped => return,
            LifeEnd::Died(message) => {
                tracing::error!(%message, "the warm process is gone");
                let _ = state.send(WarmState::Broken(message));
            }
        }
        if began.elapsed() > LONG_LIFE {
            backoff = FIRST_BACKOFF;
        }
        tokio::select! {
            () = sleep(backoff) => {}
            () = stop.cancelled() => return,
        }
        backoff = (backoff * 2).min(LAST_BACKOFF);
    }
}

async fn live(
    config: &WarmConfig,
    commands: &mut mpsc::Receiver<Command>,
    state: &watch::Sender<WarmState>,
    stop: &CancellationToken,
) -> LifeEnd {
    let home = match package::unpack(&config.folder) {
        Ok(home) => home,
        Err(error) => return LifeEnd::Died(format!("cannot unpack the Python package: {error}")),
    };
    life::live(config, &home, commands, state, stop).await
}
