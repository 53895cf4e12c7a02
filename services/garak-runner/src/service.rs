//! The runner as a service: start, serve, drain, stop.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aegis_mesh::{
    Error, Health, MeshChannel, MeshServer, Result, ServiceConfig, Shutdown, TaskGroup, TaskHandle,
    listen, sized, spawn,
};
use aegis_proto::internal::runner::v1::runner_service_server::RunnerServiceServer;
use futures_util::FutureExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use uuid::Uuid;

use crate::{
    config::Config,
    domain::{allowance::Allowance, secret::Credential},
    grpc::{ArtifactClient, RunnerApi, SourceClient, TaskClient},
    process::{StandIn, WarmConfig, WarmProcess, find_python},
    work::{Runner, RunnerParts, Scratch, lease_loop, prepare},
};

/// How long the warm process may take to leave by itself.
const WARM_STOP: Duration = Duration::from_secs(2);
/// How long runs may take to be over once they were told to stop, beyond killing their children:
/// one FinishTask call.
const LAST_CALL: Duration = Duration::from_secs(5);

/// Whom the runner calls, and whose environment it has.
pub struct Deps {
    tasks: MeshChannel,
    artifacts: MeshChannel,
    environment: BTreeMap<String, String>,
    once: bool,
    stand_in: Option<StandIn>,
}

/// What the command line of a runner takes besides every service's.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct RunnerArgs {
    /// Ends after one task a slot, or when there is none: a runner that is a job.
    #[arg(long)]
    pub once: bool,
}

impl Deps {
    /// `orchestrator` serves TaskService, `artifact` ArtifactService and SourceService. The environment is this process's.
    pub fn new(orchestrator: MeshChannel, artifact: MeshChannel) -> Self {
        Self {
            tasks: orchestrator,
            artifacts: artifact,
            environment: aegis_mesh::service::environment().collect(),
            once: false,
            stand_in: None,
        }
    }

    /// Has no Python, and this instead: for simulations.
    pub fn with_stand_in(mut self, stand_in: StandIn) -> Self {
        self.stand_in = Some(stand_in);
        self
    }

    /// Each slot ends after one task, or when a poll brings none; then the runner ends, too.
    pub fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// Takes secrets from here instead of the process's environment.
    pub fn with_environment(
        mut self,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        self.environment = environment.into_iter().collect();
        self
    }
}

/// A runner at work.
pub struct Running {
    routes: Routes,
    health: Health,
    work: TaskHandle<()>,
}

impl Running {
    /// What it serves, with all layers, for calls in this process.
    pub fn routes(&self) -> Routes {
        self.routes.clone()
    }

    /// Its health: serving from the start, also while garak warms up.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Waits until it has drained and every process of it is gone, which follows a shutdown or a
    /// Drain call within drain grace, kill grace and a few seconds; or its last task, of one that
    /// works [`Deps::once`].
    ///
    /// # Errors
    /// INTERNAL when it ended otherwise.
    pub async fn stopped(self) -> Result<()> {
        self.work.await
    }
}

/// Starts a runner that works until `shutdown`.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_CONFIG, or FAILED_PRECONDITION when the data directory cannot be used.
pub async fn start(config: Config, deps: Deps, shutdown: Shutdown) -> Result<Running> {
    config.validate_own()?;
    let (server, work) = assemble(config, deps, shutdown)?;
    let health = server.health();
    health.set_serving();
    Ok(Running {
        routes: server.into_routes()?,
        health,
        work,
    })
}

/// Runs a runner as a process of its own: dials the services that the configuration names, listens,
/// and serves until `shutdown` or a Drain call, or until it has worked once if that is all it is for.
///
/// # Errors
/// As [`start`]; FAILED_PRECONDITION / LISTEN_FAILED when the address cannot be listened on.
pub async fn run(args: RunnerArgs, config: Config, shutdown: Shutdown) -> Result<()> {
    config.validate()?;
    let deps = Deps {
        once: args.once,
        ..Deps::new(
            MeshChannel::connect(&config.orchestrator)?,
            MeshChannel::connect(&config.artifact)?,
        )
    };
    let listener = listen(config.server.listen).await?;
    let (server, work) = assemble(config, deps, shutdown)?;
    server.health().set_serving();
    // Status is served until the work is over, which the shutdown or a Drain call brings about.
    let served = Shutdown::new();
    let stop = served.clone();
    let (serving, working) = tokio::join!(server.serve(listener, served), async move {
        let ended = work.await;
        stop.trigger();
        ended
    });
    serving.and(working)
}

fn assemble(
    config: Config,
    deps: Deps,
    shutdown: Shutdown,
) -> Result<(MeshServer, TaskHandle<()>)> {
    let scratch = Scratch::open(&config.data_dir)?;
    let stop_warm = CancellationToken::new();
    let (warm, supervisor) = match deps.stand_in {
        Some(act) => {
            let (warm, supervisor) = WarmProcess::standing_in(act, stop_warm.clone());
            (warm, supervisor.boxed())
        }
        None => {
            let (warm, supervisor) = WarmProcess::new(warm_config(&config)?, stop_warm.clone());
            (warm, supervisor.boxed())
        }
    };
    let allowance = config.allowance();
    let server_config = config.server.clone();
    let runner = Arc::new(Runner::new(RunnerParts {
        id: config.runner_id.clone().unwrap_or_else(new_id),
        once: deps.once,
        secrets: secrets(&allowance, deps.environment),
        allowance,
        tasks: TaskClient::new(deps.tasks),
        sources: SourceClient::new(deps.artifacts.clone()),
        artifacts: ArtifactClient::new(deps.artifacts),
        warm,
        scratch,
        config,
    }));
    let api = RunnerServiceServer::new(RunnerApi::new(Arc::clone(&runner)));
    let server = MeshServer::builder("garak-runner", &server_config)
        .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
        .add_service(sized!(api, &server_config));
    let work = spawn("runner", async move {
        let warm = spawn("warm-process", supervisor);
        work(runner, shutdown).await;
        stop_warm.cancel();
        if warm.await.is_err() {
            tracing::error!("the warm process's supervisor failed");
        }
    });
    Ok((server, work))
}

/// Leases and runs until the shutdown or a drain, then lets what runs come to its end.
async fn work(runner: Arc<Runner>, shutdown: Shutdown) {
    let mut slots = TaskGroup::new();
    let started = tokio::select! {
        () = prepare(&runner) => true,
        () = shutdown.triggered() => false,
        () = runner.draining() => false,
    };
    if started {
        for _ in 0..runner.slots() {
            slots.spawn("lease-loop", lease_loop(Arc::clone(&runner)));
        }
        tokio::select! {
            () = shutdown.triggered() => {}
            () = runner.draining() => {}
            // Slots end by themselves when each is for one task.
            () = all(&mut slots) => {}
        }
    }
    runner.drain();
    tracing::info!("draining");
    if timeout(runner.config().drain_grace(), all(&mut slots))
        .await
        .is_ok()
    {
        return;
    }
    runner.end_grace();
    let bound = runner.config().kill_grace() * 2 + LAST_CALL;
    if let Err(unfinished) = slots.join(bound).await {
        tracing::error!(%unfinished, "some runs did not end in time");
    }
}

async fn all(slots: &mut TaskGroup) {
    while let Some((name, ended)) = slots.next().await {
        if let Err(error) = ended {
            tracing::error!(name, reason = error.reason(), "a slot failed");
        }
    }
}

fn warm_config(config: &Config) -> Result<WarmConfig> {
    // Absolute: the process has another working directory.
    let data_dir = std::path::absolute(&config.data_dir).map_err(Error::internal)?;
    let python = match &config.garak_python {
        Some(path) if path.components().count() > 1 => std::path::absolute(path),
        Some(name) => Ok(name.clone()),
        None => Ok(find_python()),
    };
    Ok(WarmConfig {
        python: python.map_err(Error::internal)?,
        folder: data_dir.join("runner"),
        ready_within: Duration::from_secs(config.warm_up_seconds),
        stop_within: WARM_STOP,
    })
}

/// The permitted variables that are set.
fn secrets(
    allowance: &Allowance,
    environment: BTreeMap<String, String>,
) -> BTreeMap<String, Credential> {
    environment
        .into_iter()
        .filter(|(name, value)| allowance.secrets.contains(name) && !value.is_empty())
        .map(|(name, value)| (name, Credential::new(value)))
        .collect()
}

fn new_id() -> String {
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .filter(|name| name.len() <= 64 && name.chars().all(|c| c.is_ascii_graphic()))
        .unwrap_or_else(|| "runner".to_owned());
    let random = Uuid::new_v4().simple().to_string();
    format!("{host}-{}", &random[..8])
}
