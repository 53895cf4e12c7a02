//! One life of the warm process: start, serve, end.

use std::{
    collections::HashMap,
    path::Path,
    process::{ExitStatus, Stdio},
};

use futures_util::StreamExt;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    process::{Child, ChildStdin, ChildStdout},
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_util::{
    codec::{FramedRead, LinesCodec, LinesCodecError},
    sync::CancellationToken,
};

use super::{
    protocol::{ChildEvent, JobRequest, MAX_REPLY_BYTES, PROTOCOL, Reply, Request},
    warm::{Command, EVENTS, JobEvent, WarmConfig, WarmState},
};

/// Requests on their way to the process.
const REQUESTS: usize = 64;
/// Longest line of the process's own log.
const MAX_LOG_BYTES: usize = 500;
/// Room in a job's channel that progress leaves for what must not be lost.
const RESERVED: usize = EVENTS / 4;

/// How a life ended.
pub(super) enum LifeEnd {
    /// As the runner wished.
    Stopped,
    /// Otherwise; the words say how.
    Died(String),
}

/// Starts the process and serves commands until it ends or is told to stop. When this returns,
/// the process and every child of it are gone.
pub(super) async fn live(
    config: &WarmConfig,
    home: &Path,
    commands: &mut mpsc::Receiver<Command>,
    state: &watch::Sender<WarmState>,
    stop: &CancellationToken,
) -> LifeEnd {
    let mut child = match start(config, home) {
        Ok(child) => child,
        Err(error) => {
            let python = config.python.display();
            return LifeEnd::Died(format!("cannot start {python}: {error}"));
        }
    };
    let group = child.id();
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return LifeEnd::Died("the process has no pipes".to_owned());
    };
    let (requests, queued) = mpsc::channel(REQUESTS);
    let mut life = Life {
        jobs: HashMap::new(),
        requests,
        state,
    };
    let ended = tokio::select! {
        end = life.serve(config, stdout, commands, stop) => end,
        // The writer lives as long as its queue: it only ends first when the pipe is broken.
        error = write_requests(stdin, queued) => LifeEnd::Died(error),
        () = log(stderr) => LifeEnd::Died("it closed its standard error".to_owned()),
    };
    // Dropping the life closed standard input: the process kills its children and leaves.
    drop(life);
    let status = end(&mut child, group, config).await;
    match (ended, status) {
        (LifeEnd::Died(why), Some(status)) => LifeEnd::Died(format!("{why} ({status})")),
        (ended, _) => ended,
    }
}

fn start(config: &WarmConfig, home: &Path) -> std::io::Result<Child> {
    let folder = config.folder.join("home");
    std::fs::create_dir_all(&folder)?;
    tokio::process::Command::new(&config.python)
        .args(["-m", "aegis_garak.warm"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", &folder)
        .env("XDG_DATA_HOME", folder.join("data"))
        .env("XDG_CONFIG_HOME", folder.join("config"))
        .env("XDG_CACHE_HOME", folder.join("cache"))
        .env("PYTHONPATH", home)
        // Some probes depend on the order of sets: garak is only reproducible with a fixed hash seed.
        .env("PYTHONHASHSEED", "0")
        .env("PYTHONSAFEPATH", "1")
        .env("PYTHONNOUSERSITE", "1")
        .env("HF_HUB_OFFLINE", "1")
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Waits a moment for the process to leave by itself, then kills its group.
async fn end(child: &mut Child, group: Option<u32>, config: &WarmConfig) -> Option<ExitStatus> {
    if let Ok(Ok(status)) = timeout(config.stop_within, child.wait()).await {
        return Some(status);
    }
    if let Some(group) = group.and_then(|id| i32::try_from(id).ok()) {
        // Its children are in sessions of their own and die with it (PDEATHSIG).
        if let Err(error) = killpg(Pid::from_raw(group), Signal::SIGKILL) {
            tracing::warn!(%error, "cannot kill the warm process's group");
        }
    }
    child.wait().await.ok()
}

async fn write_requests(mut stdin: ChildStdin, mut queued: mpsc::Receiver<Vec<u8>>) -> String {
    while let Some(line) = queued.recv().await {
        if let Err(error) = stdin.write_all(&line).await {
            return format!("cannot write to it: {error}");
        }
    }
    // Nothing more to say, and the pipe must stay open until the life is over.
    std::future::pending().await
}

/// The process's own words, such as a failed import. Children's output never comes here.
async fn log(stderr: impl AsyncRead + Unpin) {
    let mut lines = FramedRead::new(stderr, LinesCodec::new_with_max_length(MAX_LOG_BYTES));
    while let Some(line) = lines.next().await {
        match line {
            Ok(line) => tracing::debug!(line, "the warm process says"),
            Err(LinesCodecError::MaxLineLengthExceeded) => {}
            Err(LinesCodecError::Io(_)) => break,
        }
    }
    // That it closed the pipe is no news: its end is seen on standard output.
    std::future::pending::<()>().await;
}

struct Life<'a> {
    jobs: HashMap<String, mpsc::Sender<JobEvent>>,
    requests: mpsc::Sender<Vec<u8>>,
    state: &'a watch::Sender<WarmState>,
}

impl Life<'_> {
    async fn serve(
        &mut self,
        config: &WarmConfig,
        stdout: ChildStdout,
        commands: &mut mpsc::Receiver<Command>,
        stop: &CancellationToken,
    ) -> LifeEnd {
        let mut replies = FramedRead::new(stdout, LinesCodec::new_with_max_length(MAX_REPLY_BYTES));
        tokio::select! {
            ready = timeout(config.ready_within, self.wait_ready(&mut replies)) => match ready {
                Ok(Ok(())) => {}
                Ok(Err(why)) => return LifeEnd::Died(why),
                Err(_) => return LifeEnd::Died("it was not ready in time".to_owned()),
            },
            () = stop.cancelled() => return LifeEnd::Stopped,
        }
        loop {
            tokio::select! {
                // Replies first: a job's end should be known before its kill is sent.
                biased;
                reply = replies.next() => match reply {
                    Some(reply) => self.take(reply),
                    None => return LifeEnd::Died("it ended".to_owned()),
                },
                () = stop.cancelled() => return LifeEnd::Stopped,
                command = commands.recv() => match command {
                    None => return LifeEnd::Stopped,
                    Some(Command::Restart) => return LifeEnd::Died("it was restarted".to_owned()),
                    Some(command) => self.command(command).await,
                },
            }
        }
    }

    async fn wait_ready(
        &mut self,
        replies: &mut FramedRead<ChildStdout, LinesCodec>,
    ) -> Result<(), String> {
        let line = match replies.next().await {
            Some(Ok(line)) => line,
            _ => return Err("it ended before it was ready: is garak installed for it?".to_owned()),
        };
        match serde_json::from_str(&line) {
            Ok(Reply::Ready {
                protocol: PROTOCOL,
                garak_version,
                landlock,
            }) => {
                tracing::info!(garak_version, landlock, "garak is warm");
                if landlock == 0 {
                    tracing::warn!(
                        "this kernel has no Landlock: custom probes may read what the runner may"
                    );
                }
                let _ = self.state.send(WarmState::Ready { garak_version });
                Ok(())
            }
            _ => Err("it does not speak this runner's protocol".to_owned()),
        }
    }

    async fn command(&mut self, command: Command) {
        let line = match command {
            Command::Run {
                id,
                request,
                events,
            } => {
                let line = run_line(&id, &request);
                self.jobs.insert(id, events);
                line
            }
            Command::Kill { id } if self.jobs.contains_key(&id) => {
                serde_json::to_vec(&Request::Kill { id: &id })
            }
            Command::Kill { .. } | Command::Restart => return,
        };
        match line {
            Ok(mut line) => {
                line.push(b'\n');
                // When the writer is gone, the life ends by its error.
                let _ = self.requests.send(line).await;
            }
            // Strings and numbers always have a JSON form; said rather than hidden all the same.
            Err(error) => tracing::error!(%error, "a request has no JSON form"),
        }
    }

    fn take(&mut self, line: Result<String, LinesCodecError>) {
        let reply = match line {
            Ok(line) => serde_json::from_str::<Reply>(&line),
            Err(error) => {
                tracing::warn!(%error, "a reply of the warm process cannot be read");
                return;
            }
        };
        match reply {
            Ok(reply) => self.deliver(reply),
            // Without the line: it may hold anything.
            Err(error) => {
                tracing::warn!(kind = ?error.classify(), "a reply of the warm process is not known")
            }
        }
    }

    fn deliver(&mut self, reply: Reply) {
        match reply {
            Reply::Ready { .. } => {}
            Reply::Started { id, pid } => self.send(&id, JobEvent::Started(pid)),
            Reply::Child { id, body } => match serde_json::from_value(body) {
                Ok(event) => self.send(&id, JobEvent::Said(event)),
                Err(error) => {
                    tracing::warn!(kind = ?error.classify(), "an event of a child is not known")
                }
            },
            Reply::Ended { id, ended } => self.last(&id, JobEvent::Ended(ended)),
            Reply::Refused {
                id,
                reason,
                message,
            } => self.last(&id, JobEvent::Refused { reason, message }),
        }
    }

    fn send(&self, id: &str, event: JobEvent) {
        let Some(events) = self.jobs.get(id) else {
            return;
        };
        let can_miss = matches!(
            event,
            JobEvent::Said(ChildEvent::Progress { .. } | ChildEvent::TargetRetried { .. })
        );
        if can_miss && events.capacity() < RESERVED {
            return;
        }
        // Closed: the reader has left, and has asked for the child's end.
        if let Err(mpsc::error::TrySendError::Full(_)) = events.try_send(event) {
            tracing::error!("a job's events are not read; one is lost");
        }
    }

    fn last(&mut self, id: &str, event: JobEvent) {
        self.send(id, event);
        self.jobs.remove(id);
    }
}

fn run_line(id: &str, request: &JobRequest) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Request::Run {
        id,
        kind: request.kind,
        scratch: &request.scratch,
        env: request
            .env
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect(),
        job: &request.job,
    })
}
