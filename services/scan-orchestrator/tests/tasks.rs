//! What runners say is checked, policy is added, and the catalog decides.

mod support;

use aegis_mesh::{Code, Error};
use aegis_proto::internal::task::v1::{
    self as pb, AwaitDirectiveRequest, Directive, FinishTaskRequest, Lease, LeaseTaskRequest,
    LeasedTask, Outcome, ProbeTask, PublishPluginCatalogueRequest, ReportTaskRequest, TaskEvent,
    TaskOutcome, TaskProgress, leased_task::Work, task_event::Kind,
};
use sha2::{Digest, Sha256};
use support::{CATALOGUE, Orchestrator, allowance, eventually, local, seconds};

const ID: &str = "0198c0de-0000-7000-8000-000000000000";

fn fields(error: &Error) -> Vec<&str> {
    error.fields().iter().map(|f| f.path.as_str()).collect()
}

fn lease() -> Option<Lease> {
    Some(Lease {
        task_id: ID.to_owned(),
        scan_id: ID.to_owned(),
        epoch: 3,
        token: b"token".to_vec(),
        ttl: None,
    })
}

fn poll() -> LeaseTaskRequest {
    LeaseTaskRequest {
        runner_id: "runner-1".to_owned(),
        request_id: ID.to_owned(),
        plugin_catalogue: "a".repeat(64),
        slots: 2,
        wait: seconds(3600),
        ..LeaseTaskRequest::default()
    }
}

fn publish(json: &[u8]) -> PublishPluginCatalogueRequest {
    PublishPluginCatalogueRequest {
        garak_version: "0.17.1".to_owned(),
        sha256: hex::encode(Sha256::digest(json)),
        catalogue_json: json.to_vec(),
        allowance: Some(allowance()),
    }
}

fn finish(outcome: TaskOutcome) -> FinishTaskRequest {
    FinishTaskRequest {
        lease: lease(),
        outcome: Some(outcome),
        progress: None,
    }
}

#[tokio::test]
async fn a_catalogue_is_stored_only_if_it_is_one() {
    let mesh = Orchestrator::start().await;
    local(mesh.tasks().publish_plugin_catalogue(publish(CATALOGUE)))
        .await
        .unwrap();
    assert_eq!(mesh.seen().published[0].allowance, Some(allowance()));
    let wrong_sum = PublishPluginCatalogueRequest {
        sha256: "0".repeat(64),
        ..publish(CATALOGUE)
    };
    let wrong_version = PublishPluginCatalogueRequest {
        garak_version: "0.9".to_owned(),
        ..publish(CATALOGUE)
    };
    let without_allowance = PublishPluginCatalogueRequest {
        allowance: None,
        ..publish(CATALOGUE)
    };
    for (request, reason, field) in [
        (wrong_sum, "CHECKSUM_MISMATCH", "sha256"),
        (publish(b"{}"), "INVALID_CATALOGUE", "catalogue_json"),
        (publish(b"not json"), "INVALID_CATALOGUE", "catalogue_json"),
        (
            publish(&vec![b' '; 8 * 1024 * 1024 + 1]),
            "INVALID_FIELD",
            "catalogue_json",
        ),
        (wrong_version, "INVALID_FIELD", "garak_version"),
        (without_allowance, "INVALID_FIELD", "allowance"),
    ] {
        let error = local(mesh.tasks().publish_plugin_catalogue(request))
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.reason()),
            (Code::InvalidArgument, reason)
        );
        assert_eq!(fields(&error), [field]);
    }
    assert_eq!(mesh.seen().published.len(), 1);
}

#[tokio::test]
async fn a_lease_gets_its_times_from_policy() {
    let mesh = Orchestrator::configured(|config| {
        config.lease_seconds = 33;
        config.target_patience_seconds = 44;
        config.max_running_scans = 7;
    })
    .await;
    mesh.seen().next_lease = Some(LeasedTask {
        lease: lease(),
        work: Some(Work::Probe(ProbeTask {
            probe: "dan.AntiDAN".to_owned(),
            ..ProbeTask::default()
        })),
    });
    let task = local(mesh.tasks().lease_task(poll()))
        .await
        .unwrap()
        .into_inner()
        .task;
    let Some(Work::Probe(probe)) = task.and_then(|task| task.work) else {
        panic!("a probe");
    };
    assert_eq!(probe.target_patience, seconds(44));
    let polled = mesh.seen().polls[0].clone();
    assert_eq!(polled.max_running_scans, 7);
    // A quarter of the lease: it counts from the question.
    let wait = std::time::Duration::try_from(polled.wait.unwrap()).unwrap();
    assert_eq!(
        (polled.ttl, wait.as_millis()),
        (seconds(33), 8_250),
        "an hour was asked for"
    );
    assert_eq!((polled.request_id.as_str(), polled.slots), (ID, 2));
    let none = local(mesh.tasks().lease_task(poll()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(none.task, None);
}

#[tokio::test]
async fn a_poll_is_checked() {
    let mesh = Orchestrator::start().await;
    let bad = LeaseTaskRequest {
        runner_id: "a\nb".to_owned(),
        request_id: "x".to_owned(),
        plugin_catalogue: "A".repeat(64),
        slots: 0,
        ..LeaseTaskRequest::default()
    };
    let error = local(mesh.tasks().lease_task(bad)).await.unwrap_err();
    assert_eq!(
        fields(&error),
        ["runner_id", "request_id", "plugin_catalogue", "slots"]
    );
    assert!(mesh.seen().polls.is_empty());
}

#[tokio::test]
async fn a_report_is_checked_and_its_answer_is_the_catalogs() {
    let mesh = Orchestrator::start().await;
    let finished = |source_sequence| TaskEvent {
        source_sequence,
        kind: Some(Kind::DetectorFinished(pb::DetectorFinished {
            detector: "dan.DAN".to_owned(),
        })),
    };
    let report = ReportTaskRequest {
        lease: lease(),
        progress: Some(TaskProgress {
            attempts_done: 1,
            ..TaskProgress::default()
        }),
        events: vec![finished(1), finished(2)],
    };
    let answer = local(mesh.tasks().report_task(report.clone()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (answer.directive(), answer.committed_source_sequence),
        (Directive::Stop, 2)
    );
    assert_eq!(mesh.seen().reports[0].ttl, seconds(60));
    let bad = ReportTaskRequest {
        lease: Some(Lease {
            epoch: 0,
            token: vec![],
            ..lease().unwrap()
        }),
        progress: Some(TaskProgress {
            attempts_done: -1,
            ..TaskProgress::default()
        }),
        events: vec![
            finished(2),
            finished(2),
            TaskEvent {
                source_sequence: 3,
                kind: None,
            },
        ],
    };
    let error = local(mesh.tasks().report_task(bad)).await.unwrap_err();
    assert_eq!(
        fields(&error),
        [
            "lease.epoch",
            "lease.token",
            "progress.attempts_done",
            "events[1].source_sequence",
            "events[2]"
        ]
    );
    mesh.seen().queue_error = Some(Error::aborted("LEASE_LOST", "another run has it"));
    let lost = local(mesh.tasks().report_task(report)).await.unwrap_err();
    assert_eq!((lost.code(), lost.reason()), (Code::Aborted, "LEASE_LOST"));
}

#[tokio::test]
async fn a_directive_is_awaited_within_bounds() {
    let mesh = Orchestrator::start().await;
    let request = AwaitDirectiveRequest {
        lease: lease(),
        wait: seconds(-1),
    };
    let answer = local(mesh.tasks().await_directive(request)).await.unwrap();
    assert_eq!(answer.into_inner().directive(), Directive::Continue);
    assert_eq!(mesh.seen().awaited[0].wait, seconds(0));
    let nothing = AwaitDirectiveRequest::default();
    let error = local(mesh.tasks().await_directive(nothing))
        .await
        .unwrap_err();
    assert_eq!(fields(&error), ["lease"]);
}

#[tokio::test]
async fn an_outcome_is_checked_cut_and_given_the_policy() {
    let mesh = Orchestrator::configured(|config| config.backoff_seconds = 9).await;
    let outcome = TaskOutcome {
        outcome: Outcome::Backpressure.into(),
        reason: "TARGET_BUSY".to_owned(),
        message: "é".repeat(600),
        retry_after: seconds(10_000_000),
        artifact_ids: vec![],
        ..TaskOutcome::default()
    };
    local(mesh.tasks().finish_task(finish(outcome.clone())))
        .await
        .unwrap();
    let finished = mesh.seen().finished[0].clone();
    assert_eq!(finished.policy.unwrap().backoff, seconds(9));
    let stored = finished.outcome.unwrap();
    assert_eq!(stored.message.chars().count(), 500);
    assert_eq!(stored.retry_after, seconds(24 * 3600));
    let of = |outcome: Outcome, reason: &str, artifact: &str| TaskOutcome {
        outcome: outcome.into(),
        reason: reason.to_owned(),
        artifact_ids: vec![artifact.to_owned()],
        ..TaskOutcome::default()
    };
    for (outcome, field) in [
        (of(Outcome::Unspecified, "", ID), "outcome.outcome"),
        (of(Outcome::Done, "WHY", ID), "outcome.reason"),
        (of(Outcome::FailedPermanent, "", ID), "outcome.reason"),
        (
            of(Outcome::FailedRetryable, "Traceback: x", ID),
            "outcome.reason",
        ),
        (of(Outcome::Done, "", "../x"), "outcome.artifact_ids[0]"),
    ] {
        let error = local(mesh.tasks().finish_task(finish(outcome)))
            .await
            .unwrap_err();
        assert_eq!(fields(&error), [field]);
    }
    let missing = FinishTaskRequest {
        outcome: None,
        ..finish(TaskOutcome::default())
    };
    let error = local(mesh.tasks().finish_task(missing)).await.unwrap_err();
    assert_eq!(fields(&error), ["outcome"]);
    assert_eq!(mesh.seen().finished.len(), 1);
}

#[tokio::test]
async fn the_reaper_empties_full_batches_survives_failures_and_stops() {
    let mesh = Orchestrator::configured(|config| {
        config.reaper_period_seconds = 1;
        config.max_backoff_seconds = 77;
    })
    .await;
    mesh.seen().expired = [500, 3].into();
    eventually("a full batch is followed at once", || {
        (mesh.seen().expiries.len() >= 2).then_some(())
    })
    .await;
    assert_eq!(
        mesh.seen().expiries[0].policy.unwrap().max_backoff,
        seconds(77)
    );
    mesh.seen().queue_error = Some(Error::data_loss("DOWN", "x"));
    mesh.seen().expiries.clear();
    // Each run since the last look counts once.
    let tried = || (!std::mem::take(&mut mesh.seen().expiries).is_empty()).then_some(());
    eventually("it fails", tried).await;
    mesh.seen().queue_error = None;
    eventually("it goes on after a failure", tried).await;
    mesh.shutdown.trigger();
    let stopped = tokio::time::timeout(support::LONG, mesh.running.stopped()).await;
    stopped.expect("in time").expect("well");
}
