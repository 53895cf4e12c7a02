//! A catalog that has its database to itself begins: what the dead held is free at once.

use aegis_catalog::{
    domain::{
        event::Event,
        keeping::{Claimed, JobClaim},
        scan::ScanState,
        waiting::WaitingReason,
    },
    store::Store,
};

use crate::{
    checks, on_both,
    world::{POLICY, World, refused},
};

on_both!(
    leases_of_the_dead_run_out_at_once,
    a_check_of_the_dead_runs_again,
    a_job_of_the_dead_is_taken,
    runners_of_the_dead_are_not_there,
);

/// The catalog of the next process, which knows that there is no other.
async fn next(world: &World) -> Store {
    let next = world.replica().await;
    next.end_leases().await.unwrap();
    next
}

async fn leases_of_the_dead_run_out_at_once(world: &World) {
    let id = world.create(2).await;
    let done = world.leased().await;
    world.done(&done).await.unwrap();
    let lost = world.leased().await;
    // They hold for a minute.
    assert_eq!(world.expire().await, 0);
    let next = next(world).await;
    let expired = next.expire(&world.project, &POLICY, 1_000).await;
    assert_eq!(expired.unwrap(), 1);
    // The first time there is nothing to wait for, and what was done is not done again.
    let again = world.leased().await;
    assert_eq!(again.lease.task, lost.lease.task);
    assert_eq!(again.lease.epoch.0, lost.lease.epoch.0 + 1);
    assert_eq!(world.lease().await, None);
    // One that lives after all is not believed; one that lives now is not disturbed.
    assert_eq!(
        refused(world.done(&lost).await),
        "ABORTED/LEASE_LOST",
        "of the dead"
    );
    assert_eq!(world.expire().await, 0);
    world.done(&again).await.unwrap();
    world.work_off().await;
    assert_eq!(world.get(id).await.scan.state, ScanState::Completed);
    let log = world.log(id).await;
    let expired = log.iter().filter(|logged| {
        matches!(&logged.event, Event::TaskRetried { reason, .. } if reason == "LEASE_EXPIRED")
    });
    assert_eq!(expired.count(), 1, "it counts as any that expires");
}

async fn a_check_of_the_dead_runs_again(world: &World) {
    checks::create(world, "custom_one").await;
    let lost = checks::check(world).await;
    let next = next(world).await;
    let expired = next.expire(&world.project, &POLICY, 1_000).await;
    assert_eq!(expired.unwrap(), 1);
    let again = checks::check(world).await;
    assert_eq!(again.lease.check, lost.lease.check);
    assert_eq!(again.lease.epoch.0, lost.lease.epoch.0 + 1);
}

async fn a_job_of_the_dead_is_taken(world: &World) {
    let claim = |holder: &str| JobClaim {
        name: "retention".to_owned(),
        holder: holder.to_owned(),
        ttl_ms: 60_000,
        period_ms: 1_000,
        when_due: false,
    };
    let claimed = async |store: &Store, holder| {
        let claimed = store.claim_job(&world.project, &claim(holder)).await;
        claimed.unwrap()
    };
    let first = claimed(&world.store, "dead").await;
    assert!(matches!(first, Claimed::Ours(_)), "{first:?}");
    let other = world.replica().await;
    let held = claimed(&other, "alive").await;
    assert!(matches!(held, Claimed::Running), "{held:?}");
    let taken = claimed(&next(world).await, "alive").await;
    assert!(matches!(taken, Claimed::Ours(_)), "{taken:?}");
}

async fn runners_of_the_dead_are_not_there(world: &World) {
    assert_eq!(world.lease().await, None);
    let id = world.create(1).await;
    let waits_for = async || world.get(id).await.waiting.unwrap().reason;
    assert_eq!(waits_for().await, WaitingReason::Queued);
    next(world).await;
    assert_eq!(waits_for().await, WaitingReason::NoMatchingRunner);
}
