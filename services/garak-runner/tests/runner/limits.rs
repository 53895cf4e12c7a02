//! What a task may use: a probe that uses more ends with a reason, and its runner lives.

use std::time::{Duration, Instant};

use aegis_garak_runner::{Config, config::Limits};
use aegis_proto::internal::{
    runner::v1::get_status_response::State,
    task::v1::{LeasedTask, Outcome, ProbeTask, leased_task::Work},
};
use serde_json::json;

use crate::support::{
    Answer, Bench, FakeTarget, custom_task, eventually, files_below, is_gone, probe_task,
    surveyed_in,
};

const MIB: u64 = 1 << 20;

/// A module whose only probe does this before it asks anything.
fn probe_that(does: &str) -> String {
    let body: String = does
        .lines()
        .map(|line| format!("        {line}\n"))
        .collect();
    format!(
        r#""""Misbehaves."""
import os
import sys
import time

import garak.probes


class Bad(garak.probes.Probe):
    """Misbehave"""

    lang = "en"
    goal = "use more than there is"
    primary_detector = "always.Pass"
    tier = garak.probes.Tier.OF_CONCERN
    prompts = ["x"]

    def probe(self, generator):
{body}
        return super().probe(generator)
"#
    )
}

fn bad(bench: &Bench, does: &str) -> LeasedTask {
    let sha256 = bench.fakes.keep_source(&probe_that(does));
    custom_task("acme_leak.Bad", "acme_leak", &sha256)
}

fn quick() -> LeasedTask {
    probe_task(json!({"target": {"type": "test.Blank"}, "generations": 1}))
}

fn changed(mut task: LeasedTask, change: impl FnOnce(&mut ProbeTask)) -> LeasedTask {
    if let Some(Work::Probe(work)) = &mut task.work {
        change(work);
    }
    task
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

fn low(config: &mut Config) {
    config.limits = Limits {
        memory_bytes: Some(400 * MIB),
        cpu_seconds: Some(6),
        file_bytes: 16 * MIB,
        scratch_bytes: 48 * MIB,
        scratch_files: 500,
        open_files: 256,
        processes: 24,
    };
}

const HOLD_40_MIB_EACH: &str = "
for _ in range(12):
    if os.fork() == 0:
        held = b'x' * (40 << 20)
        time.sleep(600)
time.sleep(600)";

/// A process that nobody waits for, in a session of its own, whose parent ends.
const ESCAPE: &str = "
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        time.sleep(1)
        held = []
        while True:
            held.append(b'x' * (16 << 20))
            time.sleep(0.005)
    time.sleep(600)
time.sleep(600)";

#[tokio::test(flavor = "multi_thread")]
async fn a_task_that_passes_a_limit_ends_with_its_reason() {
    let bench = Bench::start(low, &[]).await;
    let cases = [
        (
            "held = []\nwhile True: held.append(b'x' * (16 << 20)); time.sleep(0.005)",
            "OUT_OF_MEMORY",
            "allows 400 MiB",
        ),
        (HOLD_40_MIB_EACH, "OUT_OF_MEMORY", "limits.memory_bytes"),
        (ESCAPE, "OUT_OF_MEMORY", "limits.memory_bytes"),
        (
            "while True: pass",
            "CPU_TIME_EXCEEDED",
            "limits.cpu_seconds",
        ),
        (
            "for _ in range(3):\n    if os.fork() == 0:\n        while True: pass\ntime.sleep(600)",
            "CPU_TIME_EXCEEDED",
            "limits.cpu_seconds",
        ),
        (
            "for _ in range(40):\n    if os.fork() == 0: time.sleep(600)\ntime.sleep(600)",
            "TOO_MANY_PROCESSES",
            "limits.processes",
        ),
        (
            "with open('big', 'wb') as file:\n    while True: file.write(b'x' * 1000000)",
            "OUTPUT_TOO_LARGE",
            "limits.file_bytes",
        ),
        (
            "for n in range(10):\n    open(f'big{n}', 'wb').write(b'x' * (8 << 20))\ntime.sleep(600)",
            "OUTPUT_TOO_LARGE",
            "limits.scratch_bytes",
        ),
        (
            "for n in range(1000): open(f'tmp/{n}', 'w').close()\ntime.sleep(600)",
            "OUTPUT_TOO_LARGE",
            "limits.scratch_files",
        ),
        (
            "held = [open('/dev/null') for _ in range(1000)]",
            "TOO_MANY_OPEN_FILES",
            "limits.open_files",
        ),
    ];
    let mut finished = 0;
    for (does, reason, words) in cases {
        let (began, reports) = (Instant::now(), finished);
        bench.fakes.push(bad(&bench, does));
        let child = bench.child().await;
        let outcome = bench.fakes.finish(reports).await.outcome.unwrap();
        assert_eq!(
            (outcome.outcome(), outcome.reason.as_str()),
            (Outcome::FailedPermanent, reason),
            "{does}: {outcome:?}"
        );
        assert!(outcome.message.contains(words), "{}", outcome.message);
        assert!(began.elapsed() < Duration::from_secs(60), "{does}");
        assert!(is_gone(child), "{does}");
        bench.scratch_is_empty().await;
        // The runner lives.
        bench.fakes.forget_uploads();
        bench.fakes.push(quick());
        let after = bench.fakes.outcome(finished + 1).await;
        assert_eq!(after, (Outcome::Done, String::new()), "after {does}");
        finished += 2;
    }
    bench.stop().await;
}

/// garak's workers are forks of each other and of the warm process: what they share counts once.
#[tokio::test(flavor = "multi_thread")]
async fn memory_that_forked_workers_share_counts_once() {
    let bench = Bench::start(low, &[]).await;
    let does = "
held = b'x' * (200 << 20)
workers = []
for _ in range(6):
    worker = os.fork()
    if worker == 0:
        time.sleep(2)
        os._exit(0)
    workers.append(worker)
for worker in workers: os.waitpid(worker, 0)";
    bench.fakes.push(bad(&bench, does));
    let outcome = bench.fakes.finish(0).await.outcome.unwrap();
    assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_prints_ten_gigabytes_costs_nothing() {
    let bench = Bench::start(low, &[]).await;
    let does = "
text = 'x' * 1000000
for _ in range(10000):
    print(text)
    print(text, file=sys.stderr)
for _ in range(10000): os.write(1, text.encode()[:1000000])
if os.fork() == 0: os.execv('/usr/bin/head', ['head', '-c', '2000000000', '/dev/zero'])
os.wait()
open('printed', 'w').close()
time.sleep(2)";
    bench.fakes.push(bad(&bench, does));
    let largest = eventually("it has printed", async || {
        let files = files_below(&bench.scratch());
        let sizes = files
            .iter()
            .filter_map(|path| Some(path.metadata().ok()?.len()));
        let largest = sizes.max();
        files
            .iter()
            .any(|path| path.ends_with("printed"))
            .then_some(largest)
            .flatten()
    })
    .await;
    assert!(largest <= 2 * MIB, "{largest}");
    let outcome = bench.fakes.finish(0).await.outcome.unwrap();
    assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
    bench.stop().await;
}

/// A child that says more than anybody can listen to: it is slowed down, and nobody else is.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_holds_up_nobody() {
    let bench = Bench::start(|config| config.slots = Some(2), &[]).await;
    let does = r#"
event = b'{"type":"detector_finished","detector":"always.Pass"}\n' * 1000
open('flooding', 'w').close()
while True: os.write(3, event)"#;
    bench.fakes.push(bad(&bench, does));
    let child = bench.child().await;
    eventually("it floods", async || {
        files_below(&bench.scratch())
            .iter()
            .any(|path| path.ends_with("flooding"))
            .then_some(())
    })
    .await;
    bench.fakes.push(quick());
    assert_eq!(bench.fakes.outcome(0).await.0, Outcome::Done);
    assert!(!is_gone(child));
    let stopped = Instant::now();
    bench.fakes.stop();
    let outcome = bench.fakes.outcome(1).await;
    assert_eq!(outcome, (Outcome::Cancelled, "CANCELLED".to_owned()));
    assert!(stopped.elapsed() < Duration::from_secs(5));
    assert!(is_gone(child));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_sleeps_and_a_target_that_drips_end_in_time() {
    let target = FakeTarget::start(Answer::Drip).await;
    let bench = Bench::start(|config| config.request_timeout_seconds = 2.0, &[]).await;
    let asleep = bad(&bench, "time.sleep(3600)");
    bench.fakes.push(changed(asleep, |task| {
        let spec = task.spec.as_mut().unwrap();
        spec.probe_timeout = Some(seconds(3));
    }));
    let child = bench.child().await;
    assert_eq!(
        bench.fakes.outcome(0).await,
        (Outcome::FailedPermanent, "PROBE_TIMED_OUT".to_owned())
    );
    assert!(is_gone(child));

    let dripped = probe_task(json!({"target": target.chat(), "generations": 1}));
    bench.fakes.push(changed(dripped, |task| {
        task.target_patience = Some(seconds(3));
    }));
    let asked = Instant::now();
    let child = bench.child().await;
    let outcome = bench.fakes.finish(1).await.outcome.unwrap();
    assert_eq!(
        (outcome.outcome(), outcome.reason.as_str()),
        (Outcome::Backpressure, "TARGET_UNREACHABLE"),
        "{outcome:?}"
    );
    assert!(outcome.message.contains("TIMEOUT"), "{outcome:?}");
    assert!(asked.elapsed() < Duration::from_secs(30));
    assert!(is_gone(child));
    bench.fakes.push(quick());
    assert_eq!(bench.fakes.outcome(2).await.0, Outcome::Done);
    bench.stop().await;
}

/// The disk is real: the memory disk that every Linux has, of which a file takes the last bytes
/// that the runner wants to see free.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_gets_no_tasks_until_it_has_room() {
    let disk = nix::sys::statvfs::statvfs("/dev/shm").unwrap();
    let free = disk.blocks_available() * disk.fragment_size();
    let data = surveyed_in("/dev/shm").await;
    let filler = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    std::fs::write(filler.path(), vec![0; 40 << 20]).unwrap();
    let floor = |config: &mut Config| config.min_free_bytes = free - (24 << 20);
    let bench = Bench::start_in(data, floor, &[]).await;
    let message = eventually("it says that it is full", async || {
        let status = bench.status().await;
        (status.state() == State::Full).then_some(status.message)
    })
    .await;
    assert!(message.contains("min_free_bytes"), "{message}");
    assert!(bench.running.health().is_serving());
    bench.fakes.push(quick());
    // It would have asked at once.
    tokio::time::timeout(Duration::from_secs(2), bench.fakes.finish(0))
        .await
        .unwrap_err();
    assert!(bench.fakes.polls.lock().unwrap().is_empty());

    drop(filler);
    assert_eq!(bench.fakes.outcome(0).await.0, Outcome::Done);
    assert_eq!(bench.status().await.state(), State::Ready);
    bench.stop().await;
}
