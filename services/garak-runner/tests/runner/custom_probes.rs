//! Custom probes in a runner's hands: tried out, and run in a scan.

use std::{
    sync::atomic::Ordering::SeqCst,
    time::{Duration, Instant},
};

use crate::support::{Bench, check_task, custom_task, eventually, is_gone, report_task, version};
use aegis_proto::{
    internal::task::v1::{Outcome, leased_task::Work},
    probe::v1::{Validation, custom_class::Kind, problem::Severity},
};
use serde_json::{Value, json};

const ADVANCED: &str = include_str!("../../../scan-orchestrator/starters/advanced.py");
const BASIC: &str = include_str!("../../../scan-orchestrator/starters/basic.py");

/// What the n-th check found.
async fn validation(bench: &Bench, n: usize) -> Validation {
    let outcome = bench.fakes.finish(n).await.outcome.unwrap();
    assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
    outcome.validation.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_source_is_valid() {
    let bench = Bench::start(|_| (), &[]).await;
    bench.fakes.failing_sources.store(1, SeqCst);
    let sha256 = bench.fakes.keep_source(ADVANCED);
    bench.fakes.push(check_task(&sha256, 60));
    let found = validation(&bench, 0).await;
    assert!(found.valid && found.problems.is_empty(), "{found:?}");
    assert_eq!(found.garak_version, "0.17.1");
    let names: Vec<_> = found
        .classes
        .iter()
        .map(|class| (class.kind(), class.name.as_str(), class.prompts))
        .collect();
    assert_eq!(
        names,
        [
            (Kind::Detector, "acme_leak.Revealed", 0),
            (Kind::Probe, "acme_leak.Disguised", 12)
        ]
    );
    let probe = &found.classes[1];
    assert_eq!(probe.primary_detector, "acme_leak.Revealed");
    assert_eq!(probe.extended_detectors, ["mitigation.MitigationBypass"]);
    assert_eq!(probe.tags, ["owasp:llm06", "avid-effect:security:S0301"]);
    assert_eq!(
        (probe.tier, probe.active, probe.lang.as_str()),
        (2, true, "en")
    );
    bench.scratch_is_empty().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_source_does_is_an_answer() {
    let bench = Bench::start(|_| (), &[]).await;
    let cases = [
        ("def f(:\n    pass\n", "SYNTAX_ERROR", 1),
        ("\"\"\"x\"\"\"\nimport acme_missing\n", "IMPORT_FAILED", 2),
        ("\"\"\"x\"\"\"\n\nwhile True: pass\n", "CHECK_TIMED_OUT", 3),
        (
            "\"\"\"x\"\"\"\nimport os\nos._exit(0)\n",
            "CHECK_CRASHED",
            0,
        ),
        ("\"\"\"x\"\"\"\nimport os\nos.abort()\n", "CHECK_CRASHED", 0),
        (
            "\"\"\"x\"\"\"\nx = bytearray(1 << 40)\n",
            "OUT_OF_MEMORY",
            2,
        ),
        ("\"\"\"x\"\"\"\n", "NO_PROBE_CLASS", 0),
    ];
    for (n, (source, reason, line)) in cases.into_iter().enumerate() {
        let sha256 = bench.fakes.keep_source(source);
        bench.fakes.push(check_task(&sha256, 3));
        let found = validation(&bench, n).await;
        assert!(!found.valid);
        let errors: Vec<_> = found
            .problems
            .iter()
            .filter(|problem| problem.severity() == Severity::Error)
            .map(|problem| (problem.reason.as_str(), problem.line))
            .collect();
        assert_eq!(errors, [(reason, line)], "{found:?}");
    }
    // A name that no module may have is an answer too, and no path.
    let sha256 = bench.fakes.keep_source(BASIC);
    for (n, (name, reason)) in [("../dan", "NAME_INVALID"), ("dan", "NAME_TAKEN")]
        .into_iter()
        .enumerate()
    {
        let mut task = check_task(&sha256, 30);
        if let Some(Work::Check(check)) = &mut task.work {
            check.name = name.to_owned();
        }
        bench.fakes.push(task);
        let found = validation(&bench, cases.len() + n).await;
        assert_eq!(found.problems[0].reason, reason);
    }
    // The runner is as well as before.
    bench.fakes.push(check_task(&sha256, 60));
    assert!(validation(&bench, cases.len() + 2).await.valid);
    bench.scratch_is_empty().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_is_cancelled_at_once() {
    let bench = Bench::start(|_| (), &[]).await;
    let sha256 = bench.fakes.keep_source("while True: pass\n");
    let mut task = check_task(&sha256, 300);
    if let Some(lease) = &mut task.lease {
        lease.ttl = Some(prost_types::Duration {
            seconds: 12,
            nanos: 0,
        });
    }
    bench.fakes.push(task);
    let child = bench.child().await;
    let status = bench.status().await;
    assert_eq!(status.tasks[0].scan_id, "");
    eventually("a heartbeat comes", async || {
        (!bench.fakes.reports.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    assert!(!is_gone(child));
    let stopped = Instant::now();
    bench.fakes.stop();
    let outcome = bench.fakes.outcome(0).await;
    assert!(stopped.elapsed() < Duration::from_secs(5));
    assert_eq!(outcome, (Outcome::Cancelled, "CANCELLED".to_owned()));
    assert!(is_gone(child));
    bench.scratch_is_empty().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_not_what_was_checked_is_not_run() {
    let bench = Bench::start(|_| (), &[]).await;
    let sha256 = "0a".repeat(32);
    bench.fakes.keep_source_as(&sha256, BASIC);
    let corrupt = (Outcome::FailedRetryable, "SOURCE_CORRUPT".to_owned());
    bench.fakes.push(check_task(&sha256, 60));
    assert_eq!(bench.fakes.outcome(0).await, corrupt);
    bench.fakes.push(custom_task(
        "acme_leak.AskForCodeWord",
        "acme_leak",
        &sha256,
    ));
    assert_eq!(bench.fakes.outcome(1).await, corrupt);
    // Nor one that is not there, or whose name would be a path.
    bench.fakes.push(check_task(&"0b".repeat(32), 60));
    assert_eq!(bench.fakes.outcome(2).await.0, Outcome::FailedRetryable);
    bench
        .fakes
        .push(custom_task("acme_leak.X", "../acme_leak", &sha256));
    assert_eq!(
        bench.fakes.outcome(3).await,
        (Outcome::FailedPermanent, "INVALID_SPEC".to_owned())
    );
    bench.scratch_is_empty().await;
    bench.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_runs_a_custom_probe_and_its_report_names_it() {
    let bench = Bench::start(|_| (), &[]).await;
    let sha256 = bench.fakes.keep_source(BASIC);
    let task = custom_task("acme_leak.AskForCodeWord", "acme_leak", &sha256);
    bench.fakes.push(task);
    let outcome = bench.fakes.finish(0).await.outcome.unwrap();
    assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
    let report = String::from_utf8(bench.fakes.artifact("report.jsonl")).unwrap();
    let entries: Vec<Value> = report
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let evals: Vec<_> = entries
        .iter()
        .filter(|entry| entry["entry_type"] == "eval")
        .map(|entry| (&entry["probe"], &entry["detector"]))
        .collect();
    assert_eq!(
        evals,
        [(
            &json!("acme_leak.AskForCodeWord"),
            &json!("acme_leak.CodeWord")
        )]
    );

    let skeleton: Vec<&str> = report
        .lines()
        .zip(&entries)
        .filter(|(_, entry)| entry["entry_type"] != "attempt")
        .map(|(line, _)| line)
        .collect();
    *bench.fakes.skeleton.lock().unwrap() = (skeleton.join("\n") + "\n").into_bytes();
    let mut task = report_task();
    if let Some(Work::Report(work)) = &mut task.work {
        work.custom_probes = vec![version("acme_leak", &sha256)];
    }
    bench.fakes.push(task);
    let outcome = bench.fakes.finish(1).await.outcome.unwrap();
    assert_eq!(outcome.outcome(), Outcome::Done, "{outcome:?}");
    let digest: Value = serde_json::from_slice(&bench.fakes.artifact("digest.json")).unwrap();
    let group = &digest["eval"]["acme_leak"];
    assert!(group["acme_leak.AskForCodeWord"]["acme_leak.CodeWord"].is_object());
    let doc = group["_summary"]["doc"].as_str().unwrap();
    assert!(doc.contains("Asks the model for a code word"), "{doc}");

    // The next run has garak's own probes and nothing else.
    let mut task = custom_task("acme_leak.AskForCodeWord", "acme_leak", &sha256);
    if let Some(Work::Probe(work)) = &mut task.work {
        work.custom_probes.clear();
    }
    bench.fakes.push(task);
    assert_eq!(
        bench.fakes.outcome(2).await,
        (Outcome::FailedPermanent, "PROBE_UNAVAILABLE".to_owned())
    );
    bench.scratch_is_empty().await;
    bench.stop().await;
}
