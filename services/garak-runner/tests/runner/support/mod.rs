//! A runner with real garak between fakes of the services it calls.

mod fakes;
mod processes;
mod target;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_garak_runner::{Config, Deps, Running, start};
use aegis_mesh::{
    CallContext, MeshChannel, MeshServer, ServerConfig, Shutdown, TaskHandle, spawn, with_context,
};
use aegis_proto::{
    ids::{ScanId, TaskId},
    internal::{
        artifact::v1::{
            artifact_service_server::ArtifactServiceServer,
            source_service_server::SourceServiceServer,
        },
        runner::v1::{
            GetStatusRequest, GetStatusResponse, runner_service_client::RunnerServiceClient,
        },
        task::v1::{self as pb, leased_task::Work, task_service_server::TaskServiceServer},
    },
    json::from_json,
    scan::v1::CustomProbeVersion,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::OnceCell};

pub(crate) use fakes::Fakes;
pub(crate) use processes::{is_gone, kill, parent_of, with_environment_of};
pub(crate) use target::{Answer, FakeTarget};

/// Longest wait for anything; the machine may be busy.
pub(crate) const LONG: Duration = Duration::from_secs(120);

/// A runner, its data directory and the fakes around it.
pub(crate) struct Bench {
    pub(crate) fakes: Arc<Fakes>,
    pub(crate) data: TempDir,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: Running,
}

/// The catalogue of a few probes, made once by the first runner that needs one.
static KEPT: OnceCell<(String, Vec<u8>)> = OnceCell::const_new();

impl Bench {
    pub(crate) async fn start(
        change: impl FnOnce(&mut Config),
        environment: &[(&str, &str)],
    ) -> Self {
        Self::start_in(surveyed().await, change, environment).await
    }

    /// A runner of one slot that works once.
    pub(crate) async fn start_once() -> Self {
        Self::start_with(surveyed().await, |_| {}, Deps::once).await
    }

    pub(crate) async fn start_in(
        data: TempDir,
        change: impl FnOnce(&mut Config),
        environment: &[(&str, &str)],
    ) -> Self {
        let environment = environment
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Self::start_with(data, change, |deps| deps.with_environment(environment)).await
    }

    async fn start_with(
        data: TempDir,
        change: impl FnOnce(&mut Config),
        with: impl FnOnce(Deps) -> Deps,
    ) -> Self {
        let fakes = Arc::new(Fakes::default());
        let mut config = Config {
            data_dir: data.path().to_owned(),
            slots: Some(1),
            survey_probes: Some(["test.Test".to_owned()].into()),
            ..Config::default()
        };
        change(&mut config);
        let shutdown = Shutdown::new();
        let deps = with(Deps::new(channel(&fakes), channel(&fakes)));
        let running = start(config, deps, shutdown.clone()).await.unwrap();
        Self {
            fakes,
            data,
            shutdown,
            running,
        }
    }

    pub(crate) async fn status(&self) -> GetStatusResponse {
        self.call(async |mut client| client.get_status(GetStatusRequest {}).await)
            .await
    }

    pub(crate) async fn call<T>(
        &self,
        rpc: impl AsyncFnOnce(
            RunnerServiceClient<MeshChannel>,
        ) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> T {
        let client = RunnerServiceClient::new(MeshChannel::local(self.running.routes()));
        with_context(CallContext::for_job("test", LONG), rpc(client))
            .await
            .unwrap()
            .into_inner()
    }

    /// Waits until a task runs in a child and returns the child's process id.
    pub(crate) async fn child(&self) -> u32 {
        eventually("a child runs", async || {
            let status = self.status().await;
            status
                .tasks
                .first()
                .map(|t| t.process_id as u32)
                .filter(|pid| *pid != 0)
        })
        .await
    }

    pub(crate) fn scratch(&self) -> PathBuf {
        self.data.path().join("scratch")
    }

    pub(crate) async fn scratch_is_empty(&self) {
        eventually("scratch is empty", async || {
            (std::fs::read_dir(self.scratch()).unwrap().count() == 0).then_some(())
        })
        .await;
    }

    pub(crate) async fn stop(self) {
        self.shutdown.trigger();
        self.running.stopped().await.unwrap();
        // Nothing of the runner is left: each of its processes knows its data directory.
        let folder = self.data.path().to_str().unwrap().to_owned();
        eventually("all processes are gone", async || {
            with_environment_of(&folder).is_empty().then_some(())
        })
        .await;
    }
}

/// Makes the catalogue as a runner does at its first start, with two probes.
async fn survey() -> (String, Vec<u8>) {
    let bench = Bench::start_in(tempfile::tempdir().unwrap(), |_| (), &[]).await;
    bench.fakes.published().await;
    let kept = std::fs::read_dir(bench.data.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "json"))
        .unwrap();
    let name = kept.file_name().unwrap().to_str().unwrap().to_owned();
    let catalogue = std::fs::read(&kept).unwrap();
    bench.stop().await;
    (name, catalogue)
}

/// All services that a runner calls.
fn services(fakes: &Arc<Fakes>) -> MeshServer {
    let tasks = TaskServiceServer::from_arc(Arc::clone(fakes)).max_decoding_message_size(16 << 20);
    MeshServer::builder("fake", &ServerConfig::default())
        .add_service(tasks)
        .add_service(ArtifactServiceServer::from_arc(Arc::clone(fakes)))
        .add_service(SourceServiceServer::from_arc(Arc::clone(fakes)))
}

fn channel(fakes: &Arc<Fakes>) -> MeshChannel {
    MeshChannel::local(services(fakes).into_routes().unwrap())
}

/// Serves them to another process, as long as the handle is held; returns where.
pub(crate) async fn serve(fakes: &Arc<Fakes>) -> (String, TaskHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = services(fakes);
    let serving = async move { server.serve(listener, Shutdown::new()).await.unwrap() };
    (format!("http://{address}"), spawn("fakes", serving))
}

/// A data directory with the catalogue of a few probes.
pub(crate) async fn surveyed() -> TempDir {
    surveyed_in(std::env::temp_dir()).await
}

/// One that lies in this folder.
pub(crate) async fn surveyed_in(folder: impl AsRef<Path>) -> TempDir {
    let (name, catalogue) = KEPT.get_or_init(survey).await;
    let data = tempfile::tempdir_in(folder).unwrap();
    std::fs::write(data.path().join(name), catalogue).unwrap();
    data
}

/// A task for the probe "test.Test", with this specification.
pub(crate) fn probe_task(spec: serde_json::Value) -> pb::LeasedTask {
    leased(Work::Probe(pb::ProbeTask {
        probe: "test.Test".to_owned(),
        spec: Some(from_json(spec).unwrap()),
        shard_count: 1,
        max_in_flight: 4,
        effective_seed: 7,
        effective_eval_threshold: 0.5,
        target_patience: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        ..pb::ProbeTask::default()
    }))
}

/// A task of a scan with this module, for one of its probes.
pub(crate) fn custom_task(probe: &str, name: &str, sha256: &str) -> pb::LeasedTask {
    let spec = json!({"target": {"type": "test.Repeat"}, "generations": 1, "customProbes": [name]});
    let mut task = probe_task(spec);
    if let Some(Work::Probe(work)) = &mut task.work {
        work.probe = probe.to_owned();
        work.custom_probes = vec![version(name, sha256)];
    }
    task
}

pub(crate) fn version(name: &str, sha256: &str) -> CustomProbeVersion {
    CustomProbeVersion {
        name: name.to_owned(),
        version: 1,
        sha256: sha256.to_owned(),
    }
}

pub(crate) fn report_task() -> pb::LeasedTask {
    leased(Work::Report(pb::ReportTask {
        revision: 1,
        ..pb::ReportTask::default()
    }))
}

/// A task to try out the source with this checksum, as "acme_leak".
pub(crate) fn check_task(sha256: &str, seconds: i64) -> pb::LeasedTask {
    let mut task = leased(Work::Check(pb::CheckTask {
        name: "acme_leak".to_owned(),
        sha256: sha256.to_owned(),
        timeout: Some(prost_types::Duration { seconds, nanos: 0 }),
    }));
    if let Some(lease) = &mut task.lease {
        lease.scan_id.clear();
    }
    task
}

fn leased(work: Work) -> pb::LeasedTask {
    let lease = pb::Lease {
        task_id: TaskId::generate().to_string(),
        scan_id: ScanId::generate().to_string(),
        epoch: 3,
        token: b"token".to_vec(),
        ttl: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
    };
    pb::LeasedTask {
        lease: Some(lease),
        work: Some(work),
    }
}

/// Polls until there is a value.
pub(crate) async fn eventually<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LONG;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every file below `folder`.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found
}
