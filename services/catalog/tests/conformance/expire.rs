//! Step 9: a dead runner's task runs again, but not for ever.

use aegis_catalog::{
    domain::{event::Event, scan::ScanState, task::OutcomeKind},
    store::Work,
};
use futures_util::future::join_all;

use crate::{
    on_both,
    world::{POLICY, World, share},
};

on_both!(
    the_first_time_it_is_queued_at_once,
    then_with_backoff_and_in_the_end_given_up,
    a_cancelled_scan_ends_with_its_last_lease,
    what_was_granted_is_given_back,
    several_reapers_at_once_expire_each_lease_once,
    a_lost_report_is_made_by_another_runner,
);

async fn lose(world: &World) {
    world.leased().await;
    world.age_leases().await;
    assert_eq!(world.expire().await, 1);
}

async fn the_first_time_it_is_queued_at_once(world: &World) {
    world.create(1).await;
    let lost = world.leased().await;
    assert_eq!(world.expire().await, 0);
    world.age_leases().await;
    assert_eq!(world.expire().await, 1);
    assert_eq!(world.expire().await, 0);
    let again = world.leased().await;
    assert_eq!(again.lease.task, lost.lease.task);
    assert_eq!(again.lease.epoch.0, lost.lease.epoch.0 + 1);
    assert_ne!(again.lease.token, lost.lease.token);
}

async fn then_with_backoff_and_in_the_end_given_up(world: &World) {
    let id = world.create(1).await;
    lose(world).await;
    lose(world).await;
    assert_eq!(world.lease().await, None);
    world.end_waits().await;
    lose(world).await;
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Failed);
    assert_eq!(view.not_evaluated[0].reason, "RUNNER_LOST");
    let log = world.log(id).await;
    let expired = log.iter().filter(|logged| {
        matches!(&logged.event, Event::TaskRetried { reason, .. } if reason == "LEASE_EXPIRED")
    });
    assert_eq!(expired.count(), 2);
}

async fn a_cancelled_scan_ends_with_its_last_lease(world: &World) {
    let id = world.create(2).await;
    world.leased().await;
    world.store.cancel(&world.project, id, "").await.unwrap();
    assert_eq!(world.get(id).await.scan.state, ScanState::Cancelling);
    world.age_leases().await;
    assert_eq!(world.expire().await, 1);
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Cancelled);
    assert!(
        view.not_evaluated
            .iter()
            .all(|probe| probe.reason == "CANCELLED")
    );
}

async fn what_was_granted_is_given_back(world: &World) {
    world.create(2).await;
    let first = world.leased().await;
    world.leased().await;
    assert_eq!(world.lease().await, None);
    world.age_leases().await;
    assert_eq!(world.expire().await, 2);
    assert_eq!(share(&world.leased().await), share(&first));
}

async fn several_reapers_at_once_expire_each_lease_once(world: &World) {
    world.create(2).await;
    world.leased().await;
    world.leased().await;
    world.age_leases().await;
    let other = world.replica().await;
    let reapers =
        [&world.store, &other, &world.store].map(|store| store.expire(&world.project, &POLICY, 10));
    let expired: u32 = join_all(reapers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    assert_eq!(expired, 2);
    assert_eq!(
        world
            .number("SELECT CAST(MAX(failures) AS BIGINT) FROM tasks")
            .await,
        1
    );
}

async fn a_lost_report_is_made_by_another_runner(world: &World) {
    let id = world.create(1).await;
    world.done(&world.leased().await).await.unwrap();
    lose(world).await;
    let granted = world.leased().await;
    assert!(matches!(granted.work, Work::Report { revision: 1, .. }));
    world.fail(&granted, OutcomeKind::Released, "").await;
    world.work_off().await;
    assert_eq!(world.get(id).await.scan.state, ScanState::Completed);
}
