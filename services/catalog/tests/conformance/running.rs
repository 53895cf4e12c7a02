//! So many scans run at once; the others wait in the queue, and say at which place.

use std::collections::BTreeMap;

use aegis_catalog::{
    domain::{
        scan::ScanState,
        task::{LeaseProof, OutcomeKind},
        waiting::{FAR, WaitingReason},
    },
    store::{Granted, LeaseCall, Update},
};
use aegis_proto::ids::ScanId;
use futures_util::future::join_all;

use crate::{
    many, on_both,
    world::{World, call, new_scan, open},
};

on_both!(
    as_many_scans_run_as_may_and_the_first_go_first,
    those_that_wait_say_at_which_place,
    a_watcher_hears_when_the_place_moves,
    a_scan_that_rests_gives_its_place,
    many_polls_at_once_keep_to_the_limit,
    a_report_needs_no_place,
);

fn at_most(max_running_scans: i32) -> LeaseCall {
    LeaseCall {
        max_running_scans,
        ..call()
    }
}

/// Leases with this limit until nothing comes.
async fn all(world: &World, max_running_scans: i32) -> Vec<Granted> {
    let mut granted = Vec::new();
    while let Some(lease) = world.lease_as(&at_most(max_running_scans)).await {
        granted.push(lease);
    }
    granted
}

fn per_scan(granted: &[Granted]) -> BTreeMap<ScanId, usize> {
    let mut count = BTreeMap::new();
    for grant in granted {
        *count.entry(grant.lease.scan).or_default() += 1;
    }
    count
}

async fn place(world: &World, id: ScanId) -> Option<i32> {
    let waiting = world.get(id).await.waiting?;
    assert_eq!(waiting.reason, WaitingReason::Queued);
    waiting.place
}

async fn create(world: &World, scans: usize, probes: usize) -> Vec<ScanId> {
    let mut made = Vec::new();
    for _ in 0..scans {
        made.push(world.create(probes).await);
    }
    made
}

async fn as_many_scans_run_as_may_and_the_first_go_first(world: &World) {
    let scans = create(world, 4, 2).await;
    let granted = all(world, 2).await;
    let expected = BTreeMap::from([(scans[0], 2), (scans[1], 2)]);
    assert_eq!(per_scan(&granted), expected);
    // One that has ended its probes makes room for one more.
    for grant in granted.iter().filter(|grant| grant.lease.scan == scans[0]) {
        world.done(grant).await.unwrap();
    }
    let report = world.lease_as(&at_most(2)).await.unwrap();
    assert_eq!(report.lease.scan, scans[0]);
    let next = all(world, 2).await;
    assert_eq!(per_scan(&next), BTreeMap::from([(scans[2], 2)]));
    // Without a limit the last one need not wait.
    assert_eq!(
        per_scan(&all(world, 0).await),
        BTreeMap::from([(scans[3], 2)])
    );
}

async fn those_that_wait_say_at_which_place(world: &World) {
    // A runner is there.
    assert_eq!(world.lease().await, None);
    let scans = create(world, 3, 1).await;
    let mut urgent = new_scan(1);
    urgent.priority = 90;
    let urgent = world.create_new(&urgent).await;
    assert_eq!(place(world, urgent).await, Some(1));
    assert_eq!(place(world, scans[0]).await, Some(2));
    assert_eq!(place(world, scans[2]).await, Some(4));
    let running = all(world, 1).await;
    assert_eq!(running[0].lease.scan, urgent);
    assert_eq!(world.get(urgent).await.waiting, None);
    assert_eq!(place(world, scans[0]).await, Some(1));
    // Who is not to run is not waited for.
    world
        .store
        .pause(&world.project, scans[0], "")
        .await
        .unwrap();
    assert_eq!(world.get(scans[0]).await.waiting, None);
    assert_eq!(place(world, scans[2]).await, Some(2));
    world
        .store
        .cancel(&world.project, scans[1], "")
        .await
        .unwrap();
    assert_eq!(place(world, scans[2]).await, Some(1));
}

async fn a_watcher_hears_when_the_place_moves(world: &World) {
    assert_eq!(world.lease().await, None);
    let scans = create(world, 2, 1).await;
    let watch = world.store.watch(&world.project, scans[1], 1).await;
    let (view, mut watch) = watch.unwrap();
    assert_eq!(view.waiting.and_then(|waiting| waiting.place), Some(2));
    let running = all(world, 1).await;
    assert_eq!(running[0].lease.scan, scans[0]);
    let place = loop {
        match watch.next().await.unwrap().expect("the scan goes on") {
            Update::Progress(view) => break view.waiting.as_ref().and_then(|w| w.place),
            Update::Events(_) => {}
        }
    };
    assert_eq!(place, Some(1));
}

async fn a_scan_that_rests_gives_its_place(world: &World) {
    let first = world.create(2).await;
    let mut other = new_scan(1);
    other.lane.key = "target-2".to_owned();
    let other = world.create_new(&other).await;
    let granted = world.lease_as(&at_most(1)).await.unwrap();
    assert_eq!(granted.lease.scan, first);
    world
        .fail(&granted, OutcomeKind::Backpressure, "TARGET_BUSY")
        .await;
    let next = world.lease_as(&at_most(1)).await.unwrap();
    assert_eq!(next.lease.scan, other);
    // Its target is well again: it is the first in the queue, not a second one that runs.
    world.end_waits().await;
    assert_eq!(world.lease_as(&at_most(1)).await, None);
    world.done(&next).await.unwrap();
    let runs = all(world, 1).await;
    assert!(runs.iter().any(|grant| grant.lease.scan == first));
}

async fn many_polls_at_once_keep_to_the_limit(world: &World) {
    create(world, 8, 3).await;
    let other = open(&world.location).await.unwrap();
    let polls = (0..16).map(|n| {
        let store = if n % 2 == 0 { &world.store } else { &other };
        async move {
            let poll = at_most(3);
            let lease = store.lease(&world.project, &poll, std::time::Duration::ZERO);
            lease.await.unwrap()
        }
    });
    let granted = join_all(polls).await;
    let leases = granted.into_iter().flatten();
    let scans: std::collections::BTreeSet<ScanId> = leases
        .map(|leased| leased.task().expect("a task").lease)
        .map(|lease: LeaseProof| lease.scan)
        .collect();
    assert!((1..=3).contains(&scans.len()), "{} scans run", scans.len());
    // What the race left is found by the next polls.
    all(world, 3).await;
    let running = "SELECT COUNT(*) FROM scans WHERE in_flight > 0";
    assert_eq!(world.number(running).await, 3);
}

async fn a_report_needs_no_place(world: &World) {
    let scans = create(world, 2, 1).await;
    let first = world.lease_as(&at_most(1)).await.unwrap();
    world.done(&first).await.unwrap();
    let runs = all(world, 1).await;
    let expected = BTreeMap::from([(scans[0], 1), (scans[1], 1)]);
    assert_eq!(per_scan(&runs), expected);
    for grant in &runs {
        world.done(grant).await.unwrap();
    }
    assert_eq!(world.get(scans[0]).await.scan.state, ScanState::Completed);
}

mod far {
    use super::*;

    crate::on_both_without_books!(the_place_is_counted_up_to_a_bound);

    async fn the_place_is_counted_up_to_a_bound(world: &World) {
        // A runner is there.
        assert_eq!(world.lease().await, None);
        many::fill(world, 1_200).await;
        let waiting = "UPDATE scans SET state = 'PENDING', ended_at = NULL,
            failure_reason = NULL, queued = 1";
        world.sql(waiting, vec![]).await;
        let mut last = new_scan(1);
        last.priority = 0;
        let last = world.create_new(&last).await;
        assert_eq!(place(world, last).await, Some(FAR));
    }
}
