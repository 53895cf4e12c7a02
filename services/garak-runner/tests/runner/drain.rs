//! A runner that is told to stop: it takes nothing new, and gives back unharmed what it cannot end.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use aegis_mesh::{CallContext, ClientConfig, Error, MeshChannel, TaskHandle, with_context};
use aegis_proto::internal::{
    runner::v1::{
        DrainRequest, GetStatusRequest, get_status_response::State,
        runner_service_client::RunnerServiceClient,
    },
    task::v1::{LeasedTask, Outcome},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::support::{
    Answer, Bench, FakeTarget, Fakes, LONG, eventually, files_below, probe_task, serve, surveyed,
    with_environment_of,
};

fn quick() -> LeasedTask {
    probe_task(json!({"target": {"type": "test.Blank"}, "generations": 1}))
}

/// The answer to a poll that was under way may be lost: its task is not.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_leased_a_moment_ago_is_given_back() {
    let bench = Bench::start(|_| {}, &[]).await;
    bench.fakes.lost_answers.store(1, SeqCst);
    bench.fakes.push(quick());
    bench.fakes.push(quick());
    eventually("a task is leased", async || {
        (bench.fakes.queue.lock().unwrap().len() == 1).then_some(())
    })
    .await;
    bench.shutdown.trigger();
    let fakes = bench.fakes;
    bench.running.stopped().await.unwrap();
    let finished = fakes.finished.lock().unwrap().clone();
    assert_eq!(finished.len(), 1);
    let outcome = finished[0].outcome.clone().unwrap();
    assert_eq!(outcome.outcome(), Outcome::Released);
    assert_eq!(outcome.reason, "RUNNER_DRAINED");
    assert_eq!(fakes.queue.lock().unwrap().len(), 1, "left for another");
    let polls = fakes.polls.lock().unwrap();
    let [.., poll, repeat] = &polls[..] else {
        panic!("{polls:?}");
    };
    assert_eq!(poll.request_id, repeat.request_id);
    assert_eq!(repeat.wait.unwrap().seconds, 0);
}

/// A bench whose task is evaluated and cannot be uploaded.
async fn uploading(grace: u64) -> Bench {
    let bench = Bench::start(|config| config.drain_grace_seconds = grace, &[]).await;
    let down = Error::unavailable("DOWN", "not now", Duration::from_millis(10));
    *bench.fakes.refused_uploads.lock().unwrap() = BTreeMap::from([("report.jsonl", down)]);
    bench.fakes.push(quick());
    eventually("it tries to upload", async || {
        (bench.fakes.refusals.load(SeqCst) > 0).then_some(())
    })
    .await;
    bench
        .call(async |mut client| client.drain(DrainRequest {}).await)
        .await;
    bench
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_uploaded_within_the_grace_is_done() {
    let bench = uploading(60).await;
    bench.fakes.refused_uploads.lock().unwrap().clear();
    assert_eq!(bench.fakes.outcome(0).await.0, Outcome::Done);
    bench.running.stopped().await.unwrap();
    assert!(files_below(&bench.data.path().join("scratch")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_uploaded_within_the_grace_is_given_back() {
    let bench = uploading(1).await;
    assert_eq!(
        bench.fakes.outcome(0).await,
        (Outcome::Released, "RUNNER_DRAINED".to_owned())
    );
    bench.running.stopped().await.unwrap();
    assert!(files_below(&bench.data.path().join("scratch")).is_empty());
}

/// A runner that is a process of its own, in the middle of a probe.
struct Busy {
    fakes: Arc<Fakes>,
    process: Child,
    data: TempDir,
    _serving: TaskHandle<()>,
    status: String,
    _target: FakeTarget,
}

impl Busy {
    async fn start(grace: u64) -> Self {
        let fakes = Arc::new(Fakes::default());
        let (url, serving) = serve(&fakes).await;
        let (data, target) = (surveyed().await, FakeTarget::start(Answer::Hang).await);
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = free.local_addr().unwrap().to_string();
        drop(free);
        let process = Command::new(env!("CARGO_BIN_EXE_aegis-garak-runner"))
            .env("AEGIS_GARAK_RUNNER__DATA_DIR", data.path())
            .env("AEGIS_GARAK_RUNNER__SERVER__LISTEN", &listen)
            .env("AEGIS_GARAK_RUNNER__ORCHESTRATOR__ADDRESS", &url)
            .env("AEGIS_GARAK_RUNNER__ARTIFACT__ADDRESS", &url)
            .env("AEGIS_GARAK_RUNNER__SLOTS", "1")
            .env("AEGIS_GARAK_RUNNER__DRAIN_GRACE_SECONDS", grace.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        fakes.push(probe_task(
            json!({"target": target.chat(), "generations": 1}),
        ));
        target.post().await;
        Self {
            fakes,
            process,
            data,
            _serving: serving,
            status: format!("http://{listen}"),
            _target: target,
        }
    }

    async fn is_draining(&self) -> bool {
        let channel = MeshChannel::connect(&ClientConfig::at(&self.status)).unwrap();
        let mut client = RunnerServiceClient::new(channel);
        let asked = client.get_status(GetStatusRequest {});
        let answer = with_context(CallContext::for_job("test", LONG), asked).await;
        answer.is_ok_and(|status| status.get_ref().state() == State::Draining)
    }

    fn terminate(&self) {
        let pid = i32::try_from(self.process.id().unwrap()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        tokio::time::timeout(LONG, self.process.wait())
            .await
            .unwrap()
            .unwrap()
    }

    /// No garak is left, nor a file of its task.
    async fn leaves_nothing(self) {
        let garaks = format!("PYTHONPATH={}", self.data.path().display());
        eventually("every garak is gone", async || {
            with_environment_of(&garaks).is_empty().then_some(())
        })
        .await;
    }
}

fn is_empty(folder: &Path) -> bool {
    files_below(&folder.join("scratch")).is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_runner_gives_its_task_back() {
    let mut runner = Busy::start(1).await;
    runner.fakes.push(quick());
    let polls = runner.fakes.polls.lock().unwrap().len();
    runner.terminate();
    assert!(runner.ended().await.success());
    let finished = runner.fakes.finished.lock().unwrap().len();
    assert_eq!(finished, 1);
    assert_eq!(
        runner.fakes.outcome(0).await,
        (Outcome::Released, "RUNNER_DRAINED".to_owned())
    );
    assert_eq!(runner.fakes.polls.lock().unwrap().len(), polls);
    assert!(is_empty(runner.data.path()));
    runner.leaves_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_terminated_twice_ends_at_once() {
    let mut runner = Busy::start(3600).await;
    runner.terminate();
    eventually("it drains", async || {
        runner.is_draining().await.then_some(())
    })
    .await;
    let told = Instant::now();
    runner.terminate();
    assert_eq!(runner.ended().await.code(), Some(130));
    assert!(told.elapsed() < Duration::from_secs(5));
    assert!(runner.fakes.finished.lock().unwrap().is_empty());
    runner.leaves_nothing().await;
}
