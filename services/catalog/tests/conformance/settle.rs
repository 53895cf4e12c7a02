//! Step 8: whatever ends the last task lets the scan go on to its report, or end.

use aegis_catalog::{
    domain::{
        artifact::ArtifactName,
        event::Event,
        scan::{ReportState, ScanState},
        tally::{Grades, Tally},
        task::{Outcome, OutcomeKind},
    },
    store::Work,
};

use crate::{
    on_both,
    world::{World, outcome, probe, refused, tally},
};

on_both!(
    the_report_is_made_and_then_the_scan_is_completed,
    grades_come_from_the_composed_report,
    a_failed_report_leaves_the_results_valid,
    nothing_evaluated_fails_with_the_common_reason,
    nothing_evaluated_for_several_reasons_says_so,
    some_not_evaluated_is_still_completed,
);

async fn the_report_is_made_and_then_the_scan_is_completed(world: &World) {
    let id = world.create(1).await;
    world.done(&world.leased().await).await.unwrap();
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Running);
    assert_eq!(view.scan.report.state, ReportState::Pending);
    let granted = world.leased().await;
    assert!(matches!(granted.work, Work::Report { revision: 1, .. }));
    world.done(&granted).await.unwrap();
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Completed);
    assert!(view.scan.ended_at.is_some());
    assert_eq!(view.scan.report.state, ReportState::Ready);
    // The digest line is never shown.
    assert_eq!(view.scan.report.artifacts, ["report.jsonl", "report.html"]);
    let log = world.log(id).await;
    assert!(matches!(
        &log[log.len() - 2].event,
        Event::ReportReady { revision: 1, .. }
    ));
    assert!(log[log.len() - 1].event.ends_scan());
    let files = world
        .store
        .report_artifacts(&world.project, id, 0)
        .await
        .unwrap();
    assert_eq!(files.len(), 3);
    assert!(files.iter().all(|file| file.revision == 1));
    let none = world.store.report_artifacts(&world.project, id, 2).await;
    assert_eq!(refused(none), "NOT_FOUND/REPORT_NOT_FOUND");
}

async fn grades_come_from_the_composed_report(world: &World) {
    let id = world.create(1).await;
    let part = world.leased().await;
    let probe = probe(&part).to_owned();
    world.done(&part).await.unwrap();
    let granted = world.leased().await;
    let mut composed: Tally = tally(&probe, 1, 1);
    let grades = Grades {
        absolute_defcon: Some(3),
        relative_defcon: None,
        detector_defcon: Some(3),
        relative_score: Some(-0.25),
    };
    composed.rows[0].grades = Some(grades);
    let report = world
        .upload(&granted.lease, ArtifactName::Report, Some(&composed))
        .await;
    let done = Outcome {
        artifacts: vec![report.unwrap()],
        ..outcome(OutcomeKind::Done, "")
    };
    world.finish(&granted.lease, &done).await.unwrap();
    let page = world
        .store
        .results(&world.project, id, None, 10)
        .await
        .unwrap();
    assert_eq!(page.results[0].row.grades, Some(grades));
    // The counts stay those of the part.
    assert_eq!(
        (page.results[0].row.passed, page.results[0].row.failed),
        (3, 1)
    );
}

async fn a_failed_report_leaves_the_results_valid(world: &World) {
    let id = world.create(1).await;
    world.done(&world.leased().await).await.unwrap();
    let granted = world.leased().await;
    world
        .fail(&granted, OutcomeKind::Permanent, "REPORT_WRITER_FAILED")
        .await;
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Completed);
    assert_eq!(view.scan.report.state, ReportState::Failed);
    assert_eq!(view.scan.report.reason, "REPORT_WRITER_FAILED");
    assert_eq!(view.scan.totals.passed, 3);
    let log = world.log(id).await;
    assert!(
        matches!(&log[log.len() - 2].event, Event::ReportFailed { reason }
        if reason == "REPORT_WRITER_FAILED")
    );
}

async fn nothing_evaluated_fails_with_the_common_reason(world: &World) {
    let id = world.create(2).await;
    for _ in 0..2 {
        let granted = world.leased().await;
        world
            .fail(&granted, OutcomeKind::Permanent, "TARGET_UNREACHABLE")
            .await;
    }
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Failed);
    let failure = view.scan.failure.unwrap();
    assert_eq!(failure.reason, "TARGET_UNREACHABLE");
    assert_eq!(failure.message, "why: TARGET_UNREACHABLE");
    assert!(failure.hint.contains("address"), "{}", failure.hint);
    assert_eq!(view.scan.report.state, ReportState::None);
    assert_eq!(world.lease().await, None);
}

async fn nothing_evaluated_for_several_reasons_says_so(world: &World) {
    let id = world.create(3).await;
    for reason in ["PROBE_CRASHED", "TARGET_UNREACHABLE", "PROBE_CRASHED"] {
        let granted = world.leased().await;
        world.fail(&granted, OutcomeKind::Permanent, reason).await;
    }
    let view = world.get(id).await;
    assert_eq!(view.scan.failure.unwrap().reason, "NOTHING_EVALUATED");
    assert_eq!(view.not_evaluated.len(), 3);
}

async fn some_not_evaluated_is_still_completed(world: &World) {
    let id = world.create(2).await;
    let granted = world.leased().await;
    world
        .fail(&granted, OutcomeKind::Permanent, "PROBE_CRASHED")
        .await;
    world.work_off().await;
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Completed);
    assert_eq!((view.scan.evaluated, view.scan.not_evaluated), (1, 1));
    // What was not evaluated has no results, neither passed nor failed.
    let page = world
        .store
        .results(&world.project, id, None, 10)
        .await
        .unwrap();
    assert_eq!(page.results.len(), 1);
    assert_eq!(view.attempts_done, view.attempts_total);
}
