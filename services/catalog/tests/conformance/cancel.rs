//! Step 11: what waits ends at once, what runs is told to, what was evaluated stays.

use aegis_catalog::{
    domain::{
        event::Event,
        scan::{ReportState, ScanState},
        task::{Directive, OutcomeKind},
    },
    store::{ReportCall, Work},
};

use crate::{
    on_both,
    world::{World, refused},
};

on_both!(
    before_anything_ran_it_is_cancelled_at_once,
    while_something_runs_it_waits_for_it,
    what_was_evaluated_gets_its_report,
    while_the_report_is_made_it_is_made_to_the_end,
    an_ended_scan_is_left_as_it_is,
    a_result_that_arrives_after_the_cancel_counts,
    a_failure_after_the_cancel_is_not_retried,
);

async fn cancel(world: &World, id: aegis_proto::ids::ScanId) -> ScanState {
    let view = world
        .store
        .cancel(&world.project, id, "enough")
        .await
        .unwrap();
    view.scan.state
}

async fn before_anything_ran_it_is_cancelled_at_once(world: &World) {
    let id = world.create(3).await;
    assert_eq!(cancel(world, id).await, ScanState::Cancelled);
    assert_eq!(cancel(world, id).await, ScanState::Cancelled);
    assert_eq!(world.lease().await, None);
    let view = world.get(id).await;
    assert_eq!(view.not_evaluated.len(), 3);
    assert_eq!(view.scan.report.state, ReportState::None);
    assert_eq!(view.attempts_total, 0);
    let log = world.log(id).await;
    let said = |logged: &&aegis_catalog::domain::event::LoggedEvent| matches!(&logged.event, Event::StateChanged { reason, .. } if reason == "enough");
    assert_eq!(log.iter().filter(said).count(), 1);
    assert!(log.last().is_some_and(|last| last.event.ends_scan()));
}

async fn while_something_runs_it_waits_for_it(world: &World) {
    let id = world.create(3).await;
    let running = world.leased().await;
    assert_eq!(cancel(world, id).await, ScanState::Cancelling);
    assert_eq!(cancel(world, id).await, ScanState::Cancelling);
    assert_eq!(world.lease().await, None);
    world.fail(&running, OutcomeKind::Cancelled, "").await;
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Cancelled);
    assert_eq!(view.not_evaluated.len(), 3);
}

async fn what_was_evaluated_gets_its_report(world: &World) {
    let id = world.create(3).await;
    world.done(&world.leased().await).await.unwrap();
    assert_eq!(cancel(world, id).await, ScanState::Cancelling);
    // No probe, but the report.
    assert_eq!(world.work_off().await, 1);
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Cancelled);
    assert_eq!((view.scan.evaluated, view.scan.not_evaluated), (1, 2));
    assert_eq!(view.scan.report.state, ReportState::Ready);
}

async fn while_the_report_is_made_it_is_made_to_the_end(world: &World) {
    let id = world.create(1).await;
    world.done(&world.leased().await).await.unwrap();
    let report = world.leased().await;
    assert!(matches!(report.work, Work::Report { .. }));
    assert_eq!(cancel(world, id).await, ScanState::Cancelling);
    let call = ReportCall {
        lease: report.lease.clone(),
        progress: None,
        waits_for: None,
        detectors_finished: Vec::new(),
        ttl_ms: 60_000,
    };
    let reported = world.store.report(&world.project, &call).await.unwrap();
    assert_eq!(reported.directive, Directive::Continue);
    world.done(&report).await.unwrap();
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Cancelled);
    assert_eq!(view.scan.report.state, ReportState::Ready);
}

async fn an_ended_scan_is_left_as_it_is(world: &World) {
    let id = world.create(1).await;
    world.work_off().await;
    let before = world.get(id).await;
    assert_eq!(cancel(world, id).await, ScanState::Completed);
    assert_eq!(world.get(id).await, before);
    let missing = aegis_proto::ids::ScanId::generate();
    let cancelled = world.store.cancel(&world.project, missing, "").await;
    assert_eq!(refused(cancelled), "NOT_FOUND/SCAN_NOT_FOUND");
}

async fn a_result_that_arrives_after_the_cancel_counts(world: &World) {
    let id = world.create(2).await;
    let running = world.leased().await;
    cancel(world, id).await;
    world.done(&running).await.unwrap();
    world.work_off().await;
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Cancelled);
    assert_eq!((view.scan.evaluated, view.scan.totals.passed), (1, 3));
}

async fn a_failure_after_the_cancel_is_not_retried(world: &World) {
    let id = world.create(2).await;
    let first = world.leased().await;
    let second = world.leased().await;
    cancel(world, id).await;
    world
        .fail(&first, OutcomeKind::Retryable, "PROBE_CRASHED")
        .await;
    world
        .fail(&second, OutcomeKind::Backpressure, "TARGET_BUSY")
        .await;
    assert_eq!(world.get(id).await.scan.state, ScanState::Cancelled);
}
