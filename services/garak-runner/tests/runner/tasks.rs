//! A runner with real garak, from lease to finish, and all that may come between.

use std::{
    collections::BTreeMap,
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use crate::support::{
    Answer, Bench, FakeTarget, eventually, files_below, is_gone, kill, parent_of, probe_task,
    report_task,
};
use aegis_mesh::Error;
use aegis_proto::internal::{
    runner::v1::{DrainRequest, get_status_response::State},
    task::v1::{LeasedTask, Outcome, leased_task::Work},
};
use serde_json::{Value, json};

const KEY: &str = "sk-do-not-tell-0123456789";

fn quick() -> LeasedTask {
    probe_task(json!({"target": {"type": "test.Blank"}, "generations": 1}))
}

/// A task whose probe hits something.
fn with_hits() -> LeasedTask {
    let mut task = quick();
    if let Some(Work::Probe(probe)) = &mut task.work {
        probe.detectors = vec!["always.Fail".to_owned()];
    }
    task
}

fn hanging(target: &FakeTarget) -> LeasedTask {
    probe_task(json!({"target": target.chat(), "generations": 1}))
}

fn with_ttl(mut task: LeasedTask, seconds: i64) -> LeasedTask {
    if let Some(lease) = &mut task.lease {
        lease.ttl = Some(prost_types::Duration { seconds, nanos: 0 });
    }
    task
}

fn lines(report: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(report).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_and_then_a_report_are_made() {
    let bench = Bench::start(|_| (), &[]).await;
    assert!(bench.running.health().is_serving());
    bench.fakes.failing_polls.store(1, SeqCst);
    bench.fakes.broken_uploads.store(1, SeqCst);
    bench.fakes.unanswered_finishes.store(1, SeqCst);

    let published = bench.fakes.published().await;
    assert_eq!(published.garak_version, "0.17.1");
    let allowance = published.allowance.unwrap();
    assert!(allowance.secrets.contains(&"REST_API_KEY".to_owned()));
    assert!(allowance.generators.iter().any(|g| g.name == "test.Blank"));

    bench.fakes.push(quick());
    // The first finish is stored, its answer lost: the second says the same.
    let first = bench.fakes.finish(0).await;
    assert_eq!(bench.fakes.finish(1).await, first);
    let outcome = first.outcome.clone().unwrap();
    assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
    assert_eq!(outcome.artifact_ids[0], "artifact-report.jsonl");
    let progress = first.progress.unwrap();
    assert!(progress.attempts_done > 0);
    assert_eq!(progress.attempts_done, progress.attempts_total);

    let report = bench.fakes.artifact("report.jsonl");
    let entries = lines(&report);
    let evals: Vec<_> = entries
        .iter()
        .filter(|e| e["entry_type"] == "eval")
        .collect();
    assert!(evals.iter().all(|e| e["probe"] == "test.Test") && !evals.is_empty());
    assert!(entries.iter().any(|e| e["entry_type"] == "completion"));
    let events: Vec<_> = bench
        .fakes
        .reports
        .lock()
        .unwrap()
        .iter()
        .flat_map(|r| r.events.clone())
        .collect();
    assert!(events.iter().any(|e| e.source_sequence == 1), "{events:?}");

    // The poll whose answer was lost was repeated with the same id, the next one had another.
    let polls = bench.fakes.polls.lock().unwrap().clone();
    assert_eq!(polls[0].request_id, polls[1].request_id);
    assert_eq!(polls[0].plugin_catalogue, published.sha256);
    assert!(
        polls
            .iter()
            .skip(2)
            .all(|poll| poll.request_id != polls[0].request_id)
    );

    let text = String::from_utf8(report).unwrap();
    let skeleton: Vec<&str> = text
        .lines()
        .zip(&entries)
        .filter(|(_, entry)| entry["entry_type"] != "attempt")
        .map(|(line, _)| line)
        .collect();
    *bench.fakes.skeleton.lock().unwrap() = (skeleton.join("\n") + "\n").into_bytes();
    let task = report_task();
    let scan = task.lease.clone().unwrap().scan_id;
    bench.fakes.push(task);
    let outcome = bench.fakes.finish(2).await.outcome.unwrap();
    assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
    assert_eq!(
        outcome.artifact_ids,
        ["artifact-composed", "artifact-report.html"]
    );
    let digest: Value = serde_json::from_slice(&bench.fakes.artifact("digest.json")).unwrap();
    assert_eq!(digest["entry_type"], "digest");
    assert!(
        digest["meta"]["reportfile"]
            .as_str()
            .unwrap()
            .contains(&scan)
    );
    let page = String::from_utf8(bench.fakes.artifact("report.html")).unwrap();
    assert!(page.contains("<html") && page.contains("</html>"));

    bench.scratch_is_empty().await;
    bench.stop().await;
}

/// All that a hitlog says is in the report: a task without it is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_hitlog_that_is_not_taken_fails_nothing() {
    let bench = Bench::start(|config| config.upload_patience_seconds = 1, &[]).await;
    let refuse = |name, error| {
        bench.fakes.refusals.store(0, SeqCst);
        bench.fakes.forget_uploads();
        bench.fakes.push(with_hits());
        let refused = BTreeMap::from([(name, error)]);
        *bench.fakes.refused_uploads.lock().unwrap() = refused;
    };
    let down = || Error::unavailable("DOWN", "not now", Duration::from_millis(10));
    let malformed = Error::invalid_argument("REPORT_MALFORMED", "line 1");
    for (n, error) in [malformed, down()].into_iter().enumerate() {
        refuse("hitlog.jsonl", error);
        let outcome = bench.fakes.finish(n).await.outcome.unwrap();
        assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
        assert_eq!(outcome.artifact_ids, ["artifact-report.jsonl"]);
        let refusals = bench.fakes.refusals.load(SeqCst);
        assert!(
            if n == 0 { refusals == 1 } else { refusals > 1 },
            "{n}: {refusals}"
        );
    }
    // The report itself is another matter, and so is the lease.
    refuse("report.jsonl", down());
    let failed = (Outcome::FailedRetryable, "UPLOAD_FAILED".to_owned());
    assert_eq!(bench.fakes.outcome(2).await, failed);
    refuse(
        "hitlog.jsonl",
        Error::aborted("LEASE_LOST", "the lease is lost"),
    );
    eventually("the hitlog is refused", async || {
        (bench.fakes.refusals.load(SeqCst) > 0).then_some(())
    })
    .await;
    bench.fakes.refused_uploads.lock().unwrap().clear();
    bench.fakes.forget_uploads();
    bench.fakes.push(with_hits());
    let outcome = bench.fakes.finish(3).await.outcome.unwrap();
    let both = ["artifact-report.jsonl", "artifact-hitlog.jsonl"];
    assert_eq!(
        outcome.artifact_ids, both,
        "of the task after it: of a lost one not a word"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_kills_garak_at_once() {
    let target = FakeTarget::start(Answer::Hang).await;
    let bench = Bench::start(|_| (), &[]).await;
    bench.fakes.push(hanging(&target));
    target.post().await;
    let child = bench.child().await;
    assert!(!is_gone(child));

    let stopped = Instant::now();
    bench.fakes.stop();
    let outcome = bench.fakes.outcome(0).await;
    assert!(
        stopped.elapsed() < Duration::from_secs(2),
        "{:?}",
        stopped.elapsed()
    );
    assert!(is_gone(child));
    assert_eq!(outcome, (Outcome::Cancelled, "CANCELLED".to_owned()));
    bench.scratch_is_empty().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lease_ends_the_run_without_a_word() {
    let target = FakeTarget::start(Answer::Hang).await;
    let bench = Bench::start(|_| (), &[]).await;
    bench.fakes.push(hanging(&target));
    target.post().await;
    let child = bench.child().await;
    bench.fakes.is_lost.store(true, SeqCst);
    eventually("garak is gone", async || is_gone(child).then_some(())).await;
    bench.scratch_is_empty().await;
    eventually("the task is off the board", async || {
        bench.status().await.tasks.is_empty().then_some(())
    })
    .await;
    assert!(bench.fakes.finished.lock().unwrap().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_is_not_heard_stops_itself() {
    let target = FakeTarget::start(Answer::Hang).await;
    let bench = Bench::start(|_| (), &[]).await;
    bench.fakes.push(with_ttl(hanging(&target), 8));
    target.post().await;
    let child = bench.child().await;
    let silent = Instant::now();
    bench.fakes.is_silent.store(true, SeqCst);
    eventually("garak is gone", async || is_gone(child).then_some(())).await;
    // Three quarters of the lease, from the last heartbeat before the silence.
    assert!(
        silent.elapsed() < Duration::from_secs(8),
        "{:?}",
        silent.elapsed()
    );
    assert!(bench.fakes.finished.lock().unwrap().is_empty());
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_warm_process_costs_one_run() {
    let target = FakeTarget::start(Answer::Hang).await;
    let bench = Bench::start(|_| (), &[]).await;
    bench.fakes.push(hanging(&target));
    target.post().await;
    let child = bench.child().await;
    kill(parent_of(child));
    let outcome = bench.fakes.outcome(0).await;
    assert_eq!(
        outcome,
        (Outcome::FailedRetryable, "RUNNER_PROCESS_DIED".to_owned())
    );
    eventually("garak is gone", async || is_gone(child).then_some(())).await;

    bench.fakes.push(quick());
    assert_eq!(bench.fakes.outcome(1).await.0, Outcome::Done);
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_gives_back_what_cannot_end() {
    let target = FakeTarget::start(Answer::Hang).await;
    let bench = Bench::start(|config| config.drain_grace_seconds = 1, &[]).await;
    bench.fakes.push(hanging(&target));
    target.post().await;
    let child = bench.child().await;
    bench
        .call(async |mut client| client.drain(DrainRequest {}).await)
        .await;
    assert_eq!(bench.status().await.state(), State::Draining);
    let outcome = bench.fakes.outcome(0).await;
    assert_eq!(outcome, (Outcome::Released, "RUNNER_DRAINED".to_owned()));
    assert!(is_gone(child));

    bench.fakes.push(quick());
    let polls = bench.fakes.polls.lock().unwrap().len();
    let (fakes, data) = (bench.fakes, bench.data);
    bench.running.stopped().await.unwrap();
    assert_eq!(
        fakes.polls.lock().unwrap().len(),
        polls,
        "nothing more is leased"
    );
    assert_eq!(
        std::fs::read_dir(data.path().join("scratch"))
            .unwrap()
            .count(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_for_once_ends_after_a_task_a_slot() {
    let bench = Bench::start_once().await;
    for _ in 0..2 {
        bench.fakes.push(quick());
    }
    let (fakes, data) = (bench.fakes, bench.data);
    bench.running.stopped().await.unwrap();
    assert_eq!(fakes.finished.lock().unwrap().len(), 1);
    assert_eq!(fakes.queue.lock().unwrap().len(), 1, "left for another");
    assert_eq!(fakes.outcome(0).await.0, Outcome::Done);
    assert!(files_below(&data.path().join("scratch")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_for_once_ends_when_there_is_nothing() {
    let bench = Bench::start_once().await;
    let fakes = bench.fakes;
    bench.running.stopped().await.unwrap();
    assert_eq!(fakes.polls.lock().unwrap().len(), 1, "it asked once");
    assert!(fakes.finished.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_that_runs_too_long_is_ended() {
    let target = FakeTarget::start(Answer::Hang).await;
    let bench = Bench::start(|_| (), &[]).await;
    let spec = json!({"target": target.chat(), "generations": 1, "probeTimeout": "3s"});
    bench.fakes.push(probe_task(spec));
    let child = bench.child().await;
    let outcome = bench.fakes.outcome(0).await;
    assert_eq!(
        outcome,
        (Outcome::FailedPermanent, "PROBE_TIMED_OUT".to_owned())
    );
    assert!(is_gone(child));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_reaches_the_target_and_no_file() {
    let target = FakeTarget::start(Answer::Hang).await;
    let environment = [
        ("OPENAICOMPATIBLE_API_KEY", KEY),
        ("HOME_MADE", "not permitted"),
    ];
    let bench = Bench::start(|_| (), &environment).await;
    let mut spec_target = target.chat();
    spec_target["secret"] = json!("env:OPENAICOMPATIBLE_API_KEY");
    bench
        .fakes
        .push(probe_task(json!({"target": spec_target, "generations": 1})));
    let post = target.post().await;
    assert!(post.contains(&format!("Bearer {KEY}")), "{post}");

    let files = files_below(bench.data.path());
    assert!(
        files.iter().any(|path| path.ends_with("garak.json")),
        "{files:?}"
    );
    for path in files {
        let content = std::fs::read(&path).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&content).contains(KEY),
            "{}",
            path.display()
        );
    }
    bench.fakes.stop();
    let finish = bench.fakes.finish(0).await;
    assert!(!format!("{finish:?}").contains(KEY));
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_wants_no_key_is_probed() {
    let target = FakeTarget::start(Answer::Chat).await;
    let bench = Bench::start(|_| (), &[("OPENAICOMPATIBLE_API_KEY", KEY)]).await;
    bench.fakes.push(probe_task(
        json!({"target": target.chat(), "generations": 1}),
    ));
    let finish = bench.fakes.finish(0).await;
    let outcome = finish.outcome.unwrap();
    assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
    // A key that the specification does not name goes nowhere.
    let post = target.post().await;
    assert!(
        post.contains("Bearer none") && !post.contains(KEY),
        "{post}"
    );
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_is_refused_here_too() {
    let bench = Bench::start(|_| (), &[]).await;
    let cases = [
        (
            json!({"type": "function.Single", "name": "subprocess#getoutput"}),
            "GENERATOR_NOT_ALLOWED",
        ),
        (
            json!({"type": "rest.RestGenerator", "options": {"key_env_var": "PATH"}}),
            "OPTION_NOT_ALLOWED",
        ),
        (
            json!({"type": "rest.RestGenerator", "secret": "env:PATH"}),
            "SECRET_NOT_ALLOWED",
        ),
        (
            json!({"type": "rest.RestGenerator", "secret": "env:REST_API_KEY"}),
            "MISSING_CREDENTIAL",
        ),
        (json!({"type": "../x"}), "INVALID_SPEC"),
    ];
    for (n, (target, reason)) in cases.into_iter().enumerate() {
        bench.fakes.push(probe_task(json!({"target": target})));
        let outcome = bench.fakes.outcome(n).await;
        assert_eq!(outcome, (Outcome::FailedPermanent, reason.to_owned()));
    }
    let mut unknown = quick();
    if let Some(Work::Probe(probe)) = &mut unknown.work {
        probe.probe = "nope.Nope".to_owned();
    }
    bench.fakes.push(unknown);
    let outcome = bench.fakes.outcome(5).await;
    assert_eq!(
        outcome,
        (Outcome::FailedPermanent, "PROBE_UNAVAILABLE".to_owned())
    );
    bench.scratch_is_empty().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_without_garak_says_so() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(data.path().join("scratch/left-over-7")).unwrap();
    let bench = Bench::start_in(
        data,
        |config| config.garak_python = Some("/nonexistent/python".into()),
        &[],
    )
    .await;
    assert_eq!(std::fs::read_dir(bench.scratch()).unwrap().count(), 0);
    assert!(bench.running.health().is_serving());
    let message = eventually("it is broken", async || {
        let status = bench.status().await;
        (status.state() == State::Broken).then_some(status.message)
    })
    .await;
    assert!(message.contains("/nonexistent/python"), "{message}");
    assert!(bench.fakes.polls.lock().unwrap().is_empty());
    bench.stop().await;
}
