//! What was not evaluated runs again; what was stays, and gets a new revision of the report.

use aegis_catalog::{
    domain::{
        artifact::ArtifactName,
        scan::{ReportState, ScanState},
        task::OutcomeKind,
    },
    store::Work,
};

use crate::{
    on_both,
    world::{World, new_scan, probe, refused},
};

on_both!(
    only_what_was_not_evaluated_runs_again,
    the_report_alone_is_made_again,
    a_running_scan_is_refused,
    nothing_to_do_is_refused,
    what_the_plan_ruled_out_is_not_retried,
    a_failed_scan_and_a_cancelled_one_can_be_retried,
    attempts_are_found_in_the_part_until_they_are_composed,
);

async fn only_what_was_not_evaluated_runs_again(world: &World) {
    let id = world.create(3).await;
    let failed = world.leased().await;
    let failed_probe = probe(&failed).to_owned();
    world
        .fail(&failed, OutcomeKind::Permanent, "PROBE_CRASHED")
        .await;
    world.work_off().await;
    let retried = world.store.retry(&world.project, id).await.unwrap();
    assert_eq!(retried.scan.state, ScanState::Pending);
    assert_eq!(retried.scan.ended_at, None);
    assert_eq!((retried.scan.evaluated, retried.scan.not_evaluated), (2, 0));
    // What was there stays visible meanwhile.
    assert_eq!(retried.scan.report.state, ReportState::Ready);
    assert_eq!(retried.scan.totals.passed, 6);
    let again = world.leased().await;
    assert_eq!(probe(&again), failed_probe);
    assert_eq!(again.lease.task, failed.lease.task);
    world.done(&again).await.unwrap();
    let report = world.leased().await;
    assert!(matches!(report.work, Work::Report { revision: 2, .. }));
    let parts = world
        .store
        .report_parts(&world.project, &report.lease)
        .await
        .unwrap();
    assert_eq!(parts.revision, 2);
    let probes: Vec<_> = parts.parts.iter().map(|part| part.probe.as_str()).collect();
    assert_eq!(probes, ["test.Probe0", "test.Probe1", "test.Probe2"]);
    world.done(&report).await.unwrap();
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Completed);
    assert_eq!(view.scan.report.revision, 2);
    assert_eq!(view.scan.totals.passed, 9);
    // The old revision can still be read.
    for revision in [1, 2] {
        let files = world
            .store
            .report_artifacts(&world.project, id, revision)
            .await;
        assert_eq!(files.unwrap()[0].revision, revision);
    }
}

async fn the_report_alone_is_made_again(world: &World) {
    let id = world.create(1).await;
    world.done(&world.leased().await).await.unwrap();
    let report = world.leased().await;
    world
        .fail(&report, OutcomeKind::Permanent, "REPORT_WRITER_FAILED")
        .await;
    let retried = world.store.retry(&world.project, id).await.unwrap();
    assert_eq!(retried.scan.state, ScanState::Pending);
    assert_eq!(retried.scan.report.state, ReportState::Pending);
    assert_eq!(world.work_off().await, 1);
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Completed);
    assert_eq!(view.scan.report.state, ReportState::Ready);
}

async fn a_running_scan_is_refused(world: &World) {
    let id = world.create(1).await;
    let refusal = "FAILED_PRECONDITION/SCAN_NOT_TERMINAL";
    assert_eq!(
        refused(world.store.retry(&world.project, id).await),
        refusal
    );
    world.leased().await;
    assert_eq!(
        refused(world.store.retry(&world.project, id).await),
        refusal
    );
}

async fn nothing_to_do_is_refused(world: &World) {
    let id = world.create(1).await;
    world.work_off().await;
    let retried = world.store.retry(&world.project, id).await;
    assert_eq!(refused(retried), "FAILED_PRECONDITION/NOTHING_TO_RETRY");
    assert_eq!(world.get(id).await.scan.state, ScanState::Completed);
}

async fn what_the_plan_ruled_out_is_not_retried(world: &World) {
    let mut new = new_scan(2);
    new.tasks[0].not_evaluated = Some(("DETECTOR_UNAVAILABLE".to_owned(), String::new()));
    let id = world.create_new(&new).await;
    world.work_off().await;
    let retried = world.store.retry(&world.project, id).await;
    assert_eq!(refused(retried), "FAILED_PRECONDITION/NOTHING_TO_RETRY");
}

async fn a_failed_scan_and_a_cancelled_one_can_be_retried(world: &World) {
    let failed = world.create(1).await;
    let granted = world.leased().await;
    world
        .fail(&granted, OutcomeKind::Permanent, "TARGET_UNREACHABLE")
        .await;
    let cancelled = world.create(1).await;
    world
        .store
        .cancel(&world.project, cancelled, "")
        .await
        .unwrap();
    for id in [failed, cancelled] {
        let retried = world.store.retry(&world.project, id).await.unwrap();
        assert_eq!(retried.scan.failure, None);
        assert_eq!(retried.scan.cancel_requested_at, None);
    }
    assert_eq!(world.work_off().await, 4);
    for id in [failed, cancelled] {
        let view = world.get(id).await;
        assert_eq!(view.scan.state, ScanState::Completed);
        assert_eq!(view.attempts_done, view.attempts_total);
    }
}

async fn attempts_are_found_in_the_part_until_they_are_composed(world: &World) {
    let id = world.create(2).await;
    let failed = world.leased().await;
    let late = probe(&failed).to_owned();
    world
        .fail(&failed, OutcomeKind::Permanent, "PROBE_CRASHED")
        .await;
    let part = world.leased().await;
    let early = probe(&part).to_owned();
    world.done(&part).await.unwrap();
    let locate = async |probe: &str| world.store.locate(&world.project, id, probe).await;
    assert_eq!(locate(&early).await.unwrap().artifact.task, part.lease.task);
    assert_eq!(
        refused(locate(&late).await),
        "NOT_FOUND/PROBE_NOT_EVALUATED"
    );
    world.work_off().await;
    let composed = locate(&early).await.unwrap();
    assert_eq!(
        (composed.artifact.revision, composed.artifact.name),
        (1, ArtifactName::Report)
    );
    assert_eq!(composed.eval_threshold, 0.5);
    world.store.retry(&world.project, id).await.unwrap();
    let again = world.leased().await;
    world.done(&again).await.unwrap();
    // Revision 1 has the early one only.
    assert_eq!(locate(&early).await.unwrap().artifact.revision, 1);
    assert_eq!(locate(&late).await.unwrap().artifact.task, again.lease.task);
    world.work_off().await;
    assert_eq!(locate(&early).await.unwrap().artifact.revision, 2);
    assert_eq!(locate(&late).await.unwrap().artifact.revision, 2);
}
