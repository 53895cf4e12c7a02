//! Step 11: nothing new of a paused scan is leased, what runs goes on, and resumed it is as before.

use aegis_catalog::{
    domain::{
        event::Event,
        scan::{ReportState, ScanState},
        task::OutcomeKind,
    },
    store::Work,
};
use aegis_proto::ids::ScanId;

use crate::{
    on_both,
    world::{World, new_scan, refused},
};

on_both!(
    nothing_of_it_is_leased_until_it_is_resumed,
    what_runs_goes_on_and_what_comes_back_waits,
    its_last_probes_end_and_the_report_is_made,
    others_of_its_target_go_on,
    a_paused_scan_is_cancelled_at_once,
    whatever_has_nothing_to_pause_is_left_as_it_is,
    it_is_listed_by_its_state,
    a_lane_of_paused_scans_is_not_looked_at,
);

async fn pause(world: &World, id: ScanId) -> ScanState {
    let view = world.store.pause(&world.project, id, "lunch").await;
    view.unwrap().scan.state
}

async fn resume(world: &World, id: ScanId) -> ScanState {
    let view = world.store.resume(&world.project, id).await;
    view.unwrap().scan.state
}

async fn nothing_of_it_is_leased_until_it_is_resumed(world: &World) {
    let id = world.create(3).await;
    assert_eq!(pause(world, id).await, ScanState::Paused);
    let paused_at = world.get(id).await.scan.paused_at;
    assert!(paused_at.is_some());
    assert_eq!(pause(world, id).await, ScanState::Paused);
    let view = world.get(id).await;
    assert_eq!((view.scan.paused_at, view.waiting), (paused_at, None));
    assert_eq!(world.lease().await, None);
    assert_eq!(resume(world, id).await, ScanState::Pending);
    assert_eq!(resume(world, id).await, ScanState::Pending);
    assert_eq!(world.get(id).await.scan.paused_at, None);
    world.work_off().await;
    assert_eq!(world.get(id).await.scan.state, ScanState::Completed);
    let log = world.log(id).await;
    let changes = log.iter().filter_map(|logged| match &logged.event {
        Event::StateChanged { to, reason, .. } => Some((*to, reason.as_str())),
        _ => None,
    });
    let expected = [
        (ScanState::Pending, ""),
        (ScanState::Paused, "lunch"),
        (ScanState::Pending, "RESUMED"),
        (ScanState::Running, ""),
        (ScanState::Completed, ""),
    ];
    assert_eq!(changes.collect::<Vec<_>>(), expected);
}

async fn what_runs_goes_on_and_what_comes_back_waits(world: &World) {
    let id = world.create(3).await;
    let (done, released) = (world.leased().await, world.leased().await);
    assert_eq!(pause(world, id).await, ScanState::Paused);
    world.done(&done).await.unwrap();
    world
        .fail(&released, OutcomeKind::Released, "DRAINING")
        .await;
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Paused);
    assert_eq!(
        (view.scan.evaluated, view.scan.queued, view.scan.running),
        (1, 2, 0)
    );
    world.end_waits().await;
    assert_eq!(world.lease().await, None);
    assert_eq!(resume(world, id).await, ScanState::Running);
    assert_eq!(world.work_off().await, 3, "two probes and the report");
    assert_eq!(world.get(id).await.scan.evaluated, 3);
}

async fn its_last_probes_end_and_the_report_is_made(world: &World) {
    let id = world.create(1).await;
    let last = world.leased().await;
    assert_eq!(pause(world, id).await, ScanState::Paused);
    world.done(&last).await.unwrap();
    assert_eq!(world.get(id).await.scan.state, ScanState::Running);
    let report = world.leased().await;
    assert!(matches!(report.work, Work::Report { .. }));
    assert_eq!(
        pause(world, id).await,
        ScanState::Running,
        "a report is no probe"
    );
    world.done(&report).await.unwrap();
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Completed);
    assert_eq!(view.scan.report.state, ReportState::Ready);
}

async fn others_of_its_target_go_on(world: &World) {
    let first = world.create(2).await;
    let second = world.create(2).await;
    assert_eq!(pause(world, first).await, ScanState::Paused);
    let leased = world.leased().await;
    assert_eq!(leased.lease.scan, second);
    world.done(&leased).await.unwrap();
    world.work_off().await;
    assert_eq!(world.get(second).await.scan.state, ScanState::Completed);
    assert_eq!(world.get(first).await.scan.state, ScanState::Paused);
}

async fn a_paused_scan_is_cancelled_at_once(world: &World) {
    let id = world.create(3).await;
    world.done(&world.leased().await).await.unwrap();
    assert_eq!(pause(world, id).await, ScanState::Paused);
    let view = world
        .store
        .cancel(&world.project, id, "enough")
        .await
        .unwrap();
    assert_eq!(view.scan.state, ScanState::Cancelling);
    assert_eq!(resume(world, id).await, ScanState::Cancelling);
    assert_eq!(pause(world, id).await, ScanState::Cancelling);
    world.work_off().await;
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Cancelled);
    assert_eq!((view.scan.evaluated, view.scan.not_evaluated), (1, 2));
}

async fn whatever_has_nothing_to_pause_is_left_as_it_is(world: &World) {
    let id = world.create(1).await;
    world.work_off().await;
    let before = world.get(id).await;
    assert_eq!(pause(world, id).await, ScanState::Completed);
    assert_eq!(resume(world, id).await, ScanState::Completed);
    assert_eq!(world.get(id).await, before);
    let unknown = ScanId::generate();
    let error = world.store.pause(&world.project, unknown, "").await;
    assert_eq!(refused(error), "NOT_FOUND/SCAN_NOT_FOUND");
    let error = world.store.resume(&world.project, unknown).await;
    assert_eq!(refused(error), "NOT_FOUND/SCAN_NOT_FOUND");
}

async fn it_is_listed_by_its_state(world: &World) {
    let (first, _) = (world.create(1).await, world.create(1).await);
    assert_eq!(pause(world, first).await, ScanState::Paused);
    let listed = "SELECT COUNT(*) FROM scans WHERE state = 'PAUSED' AND state_rank = 3";
    assert_eq!(world.number(listed).await, 1);
}

/// However many wait in it.
async fn a_lane_of_paused_scans_is_not_looked_at(world: &World) {
    let mut new = new_scan(5);
    new.lane.key = "paused".to_owned();
    let id = world.create_new(&new).await;
    let queued = "SELECT CAST(queued AS BIGINT) FROM lanes WHERE id = 'paused'";
    assert_eq!(world.number(queued).await, 5);
    assert_eq!(pause(world, id).await, ScanState::Paused);
    assert_eq!(world.number(queued).await, 0);
    assert_eq!(resume(world, id).await, ScanState::Pending);
    assert_eq!(world.number(queued).await, 5);
}
