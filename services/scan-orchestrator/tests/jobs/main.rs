//! The store's jobs over a **fake** catalog and a **fake** artifact service, which remember what they
//! were asked: when a job runs, in which order, and what is told of it.

mod fake;

use std::time::Duration;

use aegis_mesh::{CallContext, Code, Error, Principal, with_context};
use aegis_proto::{
    admin::v1::ListJobsRequest,
    internal::{
        artifact::v1::{self as objects},
        catalog::v1::{self as pb, SweepKind},
    },
};
use aegis_scan_orchestrator::Config;

use fake::{Jobs, garbage, number};

#[tokio::test]
async fn a_job_runs_when_it_is_due() {
    let jobs = Jobs::start(|_| (), |seen| seen.due = true).await;
    jobs.called("end purge").await;
    let seen = jobs.fake.seen();
    assert_eq!(
        seen.calls[..4],
        [
            "claim purge",
            "SWEEP_KIND_PURGE",
            "SWEEP_KIND_PURGE",
            "end purge"
        ]
    );
    assert!(!seen.swept[0].dry_run);
    let run = seen.ended[0].run.as_ref().expect("a run");
    assert!(run.succeeded);
    // At most 100 lines.
    assert_eq!((number(run, "marked"), run.details.len()), (2.0, 100));
}

#[tokio::test]
async fn the_object_goes_before_its_row() {
    let jobs = Jobs::start(
        |_| (),
        |seen| seen.garbage = vec![garbage("a"), garbage("b")],
    )
    .await;
    let run = jobs.run("gc", true).await.unwrap();
    assert!(run.dry_run && run.succeeded);
    assert_eq!(
        (number(&run, "deleted"), number(&run, "deleted_bytes")),
        (2.0, 14.0)
    );
    assert!(
        !jobs
            .fake
            .calls()
            .iter()
            .any(|call| call.starts_with("delete"))
    );
    assert!(jobs.fake.seen().swept.iter().all(|sweep| sweep.dry_run));
    assert!(jobs.fake.seen().ended[0].run.is_none());
    jobs.fake.seen().calls.clear();
    jobs.run("gc", false).await.unwrap();
    let calls = jobs.fake.calls();
    let at = |what: &str| calls.iter().position(|call| call == what);
    assert!(
        at("delete a b").is_some() && at("delete a b") < at("forget a b"),
        "{calls:?}"
    );
    // One that cannot be deleted keeps its row, and no other from going.
    jobs.fake.seen().calls.clear();
    jobs.fake.seen().undeletable = vec!["a".to_owned()];
    let run = jobs.run("gc", false).await.unwrap();
    assert_eq!(
        (number(&run, "deleted"), number(&run, "undeletable")),
        (1.0, 1.0)
    );
    assert_eq!(run.details[0], "ALARM a: it cannot be deleted");
    assert!(jobs.fake.calls().contains(&"forget b".to_owned()));
    // Without the store all rows stay, and it is told.
    jobs.fake.seen().calls.clear();
    let down = Error::unavailable("DEPENDENCY_DOWN", "no store", Duration::from_secs(1));
    jobs.fake.seen().store_error = Some(down);
    let run = jobs.run("gc", false).await.unwrap();
    assert!(!run.succeeded);
    assert_eq!(run.reason, "DEPENDENCY_DOWN");
    assert!(!jobs.fake.calls().contains(&"forget a b".to_owned()));
}

#[tokio::test]
async fn a_scrub_deletes_what_an_earlier_one_found_and_alarms_of_the_rest() {
    let listed = |days: i64| objects::ListedObject {
        object_key: format!("{days} days"),
        size_bytes: 7,
        age: Some(prost_types::Duration {
            seconds: days * 86_400,
            nanos: 0,
        }),
    };
    let orphan = |key: &str, seconds: Option<i64>| pb::Orphan {
        object_key: key.to_owned(),
        size_bytes: 7,
        known_for: seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
    };
    let fault = |kind: objects::FaultKind| objects::ObjectFault {
        object_key: "k".to_owned(),
        kind: kind.into(),
        size_bytes: 3,
    };
    let jobs = Jobs::start(
        |_| (),
        |seen| {
            seen.listed = vec![listed(1), listed(3), listed(4), listed(5)];
            seen.orphans = vec![orphan("new", None), orphan("old", Some(90_000))];
            let committed = |key: &str, imported| pb::CommittedObject {
                object_key: key.to_owned(),
                size_bytes: 7,
                sha256: "0".repeat(64),
                owner: "report.html of scan s".to_owned(),
                imported,
            };
            seen.committed = vec![
                committed("k", false),
                committed("s/hitlog.jsonl", false),
                committed("i/hitlog.jsonl", true),
            ];
            seen.faults = vec![
                fault(objects::FaultKind::Size),
                fault(objects::FaultKind::Sha256),
                fault(objects::FaultKind::IndexMissing),
            ];
            for key in ["s/hitlog.jsonl", "i/hitlog.jsonl"] {
                seen.faults.push(objects::ObjectFault {
                    object_key: key.to_owned(),
                    kind: objects::FaultKind::Missing.into(),
                    size_bytes: 0,
                });
            }
        },
    )
    .await;
    let run = jobs.run("scrub", false).await.unwrap();
    assert!(run.succeeded, "{run:?}");
    for (what, wanted) in [
        ("orphans", 1.0),
        ("deleted", 1.0),
        ("wrong_size", 1.0),
        ("corrupt", 1.0),
        ("missing", 2.0),
        ("index_missing", 1.0),
    ] {
        assert_eq!(number(&run, what), wanted, "{what}: {run:?}");
    }
    assert!(jobs.fake.calls().contains(&"delete old".to_owned()));
    let alarm = |what: &str| format!("ALARM report.html of scan s (k): {what}");
    let alarms = [
        alarm("its bytes are not what was stored"),
        alarm("it has 3 bytes"),
    ];
    let lost = "ALARM report.html of scan s (i/hitlog.jsonl): it is not there";
    assert_eq!(run.details[..3], [&alarms[0], lost, &alarms[1]]);
    // What its first reader makes again is told, and no alarm.
    for lost in ["lost k: its index is", "lost s/hitlog.jsonl: it is"] {
        let lost = format!("{lost} not there; its first reader makes it again");
        assert!(run.details.contains(&lost), "{run:?}");
    }
    let alarms = run.details.iter().filter(|line| line.starts_with("ALARM"));
    assert_eq!(alarms.count(), 3);
    assert!(run.details.contains(&"found new: it has no row".to_owned()));
    // It begins where the last one ended, and goes on from the start after the end.
    assert_eq!(jobs.fake.seen().ended[0].position, "");
    // Most of a page: it is rather the rows that are missing.
    let many: Vec<pb::Orphan> = (0..25)
        .map(|n| orphan(&n.to_string(), Some(90_000)))
        .collect();
    jobs.fake.seen().orphans = many;
    jobs.fake.seen().listed = (0..25).map(|_| listed(9)).collect();
    jobs.fake.seen().calls.clear();
    let run = jobs.run("scrub", false).await.unwrap();
    assert_eq!(
        (number(&run, "withheld"), number(&run, "deleted")),
        (25.0, 0.0)
    );
    assert!(
        !jobs
            .fake
            .calls()
            .iter()
            .any(|call| call.starts_with("delete"))
    );
}

#[tokio::test]
async fn retention_is_off_until_a_rule_is_set() {
    let jobs = Jobs::start(|_| (), |_| ()).await;
    jobs.run("retention", false).await.unwrap();
    assert!(jobs.fake.seen().swept.is_empty());
    let rules = |config: &mut Config| {
        config.jobs.retention_days = 180;
        config.jobs.retention_per_target = 50;
        config.jobs.retention_keep_labels = vec!["keep".to_owned()];
    };
    let jobs = Jobs::start(rules, |_| ()).await;
    jobs.run("retention", true).await.unwrap();
    let seen = jobs.fake.seen();
    let kinds: Vec<SweepKind> = seen.swept.iter().map(|sweep| sweep.kind()).collect();
    assert_eq!(
        kinds,
        [
            SweepKind::Age,
            SweepKind::Age,
            SweepKind::Count,
            SweepKind::Count
        ]
    );
    assert_eq!(
        seen.swept[0].min_age.map(|age| age.seconds),
        Some(180 * 86_400)
    );
    assert_eq!(seen.swept[2].keep_per_target, 50);
    assert_eq!(seen.swept[2].keep_labels, ["keep"]);
}

#[tokio::test]
async fn a_job_that_runs_elsewhere_or_is_none_is_refused() {
    let jobs = Jobs::start(|_| (), |seen| seen.running = true).await;
    let refusal = jobs.run("gc", false).await.unwrap_err();
    assert_eq!(
        (refusal.code(), refusal.reason()),
        (Code::Aborted, "JOB_RUNNING")
    );
    let refusal = jobs.run("nothing", false).await.unwrap_err();
    assert_eq!(
        (refusal.code(), refusal.reason()),
        (Code::NotFound, "JOB_NOT_FOUND")
    );
    let context = CallContext::new(Principal::local());
    let mut client = jobs.client();
    let listed = with_context(context, client.list_jobs(ListJobsRequest {})).await;
    let listed = listed.unwrap().into_inner().jobs;
    let names: Vec<&str> = listed.iter().map(|job| job.name.as_str()).collect();
    let all = [
        "gc",
        "scrub",
        "retention",
        "purge",
        "fold",
        "expire",
        "compact",
    ];
    assert_eq!(names, all);
    assert!(
        listed
            .iter()
            .all(|job| !job.description.is_empty() && job.period.is_some())
    );
}

#[tokio::test]
async fn a_shutdown_stops_a_job_between_its_steps() {
    let jobs = Jobs::start(|_| (), |seen| (seen.due, seen.hang) = (true, true)).await;
    jobs.called("SWEEP_KIND_PURGE").await;
    // It runs here: whoever asks for it is told so.
    let refusal = jobs.run("purge", false).await.unwrap_err();
    assert_eq!(refusal.reason(), "JOB_RUNNING");
    jobs.shutdown.trigger();
    let stopped = tokio::time::timeout(Duration::from_secs(10), jobs.running.stopped()).await;
    stopped.expect("in time").unwrap();
}
