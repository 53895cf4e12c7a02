//! Step 2: each task is leased once, within the limits of scan and lane.

use std::{collections::BTreeSet, time::Duration};

use aegis_catalog::{
    domain::{scan::ScanState, task::OutcomeKind, waiting::WaitingReason},
    store::{LeaseCall, Leased, Work},
};
use futures_util::future::join_all;

use crate::{
    on_both,
    world::{World, call, new_scan, probe, share},
};

on_both!(
    the_longest_comes_first_and_the_scan_runs,
    a_repeated_poll_gets_the_same_lease,
    two_polls_with_one_request_id_at_once_get_one_lease,
    calls_in_flight_are_shared_and_bounded_by_the_scan,
    a_scan_is_spread_over_all_runners_that_are_there,
    calls_in_flight_are_bounded_by_the_lane,
    higher_priority_then_older_scan_first,
    only_a_matching_catalogue_gets_tasks,
    eight_workers_lease_each_of_200_tasks_once,
    a_poll_hears_of_a_new_scan,
    a_poll_of_another_replica_finds_it_within_seconds,
    waiting_reasons_are_told,
);

async fn the_longest_comes_first_and_the_scan_runs(world: &World) {
    let mut new = new_scan(3);
    new.tasks[2].planned_calls = 5_000;
    new.tasks[2].detectors = vec!["always.Pass".to_owned()];
    let id = world.create_new(&new).await;
    let granted = world.leased().await;
    let Work::Probe(grant) = &granted.work else {
        panic!("a probe comes before any report")
    };
    assert_eq!(grant.task.probe, "test.Probe2");
    assert_eq!(grant.task.detectors, ["always.Pass"]);
    assert_eq!(grant.spec, new.spec);
    assert_eq!((grant.effective_seed, granted.lease.epoch.0), (7, 1));
    assert_eq!(probe(&world.leased().await), "test.Probe0");
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Running);
    assert!(view.scan.started_at.is_some());
    assert_eq!(
        world.kinds(id).await,
        [
            "STATE_CHANGED",
            "STATE_CHANGED",
            "PROBE_STARTED",
            "PROBE_STARTED"
        ]
    );
}

async fn a_repeated_poll_gets_the_same_lease(world: &World) {
    world.create(3).await;
    let poll = call();
    let first = world.lease_as(&poll).await.unwrap();
    world.age_leases().await;
    let second = world.lease_as(&poll).await.unwrap();
    assert_eq!(first, second);
    // It is a fresh answer, so its time begins again.
    assert_eq!(world.expire().await, 0);
    assert_ne!(world.leased().await.lease.task, first.lease.task);
    world.done(&first).await.unwrap();
    let next = world.lease_as(&poll).await.unwrap();
    assert_ne!(next.lease.task, first.lease.task);
}

async fn two_polls_with_one_request_id_at_once_get_one_lease(world: &World) {
    world.create(8).await;
    let poll = call();
    let other = world.replica().await;
    let polls = [&world.store, &other, &world.store, &other]
        .map(|store| store.lease(&world.project, &poll, Duration::ZERO));
    let granted = join_all(polls).await;
    let tasks: BTreeSet<_> = granted
        .into_iter()
        .map(|leased| leased.unwrap().and_then(Leased::task).unwrap().lease.task)
        .collect();
    assert_eq!(tasks.len(), 1);
}

async fn calls_in_flight_are_shared_and_bounded_by_the_scan(world: &World) {
    let mut new = new_scan(5);
    new.max_in_flight = 10;
    world.create_new(&new).await;
    let four_slots = || LeaseCall { slots: 4, ..call() };
    let mut shares = Vec::new();
    let mut leases = Vec::new();
    while let Some(granted) = world.lease_as(&four_slots()).await {
        shares.push(share(&granted));
        leases.push(granted);
    }
    // 10 over 4 slots is 3; the last gets what is left.
    assert_eq!(shares, [3, 3, 3, 1]);
    world.done(&leases[0]).await.unwrap();
    assert_eq!(share(&world.lease_as(&four_slots()).await.unwrap()), 3);
}

/// However many runners there are, each gets its part: a scan is as short as they are many.
async fn a_scan_is_spread_over_all_runners_that_are_there(world: &World) {
    let runner = |n: usize| LeaseCall {
        runner_id: format!("runner-{n}"),
        slots: 2,
        ..call()
    };
    // They are known from their polls.
    for n in 0..4 {
        assert_eq!(world.lease_as(&runner(n)).await, None);
    }
    let mut new = new_scan(20);
    new.max_in_flight = 16;
    world.create_new(&new).await;
    for n in 0..8 {
        let granted = world.lease_as(&runner(n % 4)).await;
        assert_eq!(granted.as_ref().map(share), Some(2), "lease {n}");
    }
    // One has gone: what it had comes to the others.
    let gone = "UPDATE runners SET seen_at = 1 WHERE runner_id <> 'runner-0'";
    world.sql(gone, vec![]).await;
    world.age_leases().await;
    world.expire().await;
    let granted = world.lease_as(&runner(0)).await;
    assert_eq!(granted.as_ref().map(share), Some(8));
}

async fn calls_in_flight_are_bounded_by_the_lane(world: &World) {
    let mut new = new_scan(3);
    new.lane.max_in_flight = 9;
    new.max_in_flight = 6;
    world.create_new(&new).await;
    world.create_new(&new).await;
    let one_slot = LeaseCall { slots: 1, ..call() };
    let mut shares = Vec::new();
    loop {
        let poll = LeaseCall {
            request_id: uuid::Uuid::new_v4().to_string(),
            ..one_slot.clone()
        };
        let Some(granted) = world.lease_as(&poll).await else {
            break;
        };
        shares.push(share(&granted));
    }
    assert_eq!(shares, [6, 3]);
}

async fn higher_priority_then_older_scan_first(world: &World) {
    let first = world.create(1).await;
    let second = world.create(1).await;
    let mut urgent = new_scan(1);
    urgent.priority = 90;
    urgent.lane.key = "target-2".to_owned();
    let urgent = world.create_new(&urgent).await;
    let mut order = Vec::new();
    for _ in 0..3 {
        order.push(world.leased().await.lease.scan);
    }
    assert_eq!(order, [urgent, first, second]);
}

async fn only_a_matching_catalogue_gets_tasks(world: &World) {
    world.create(1).await;
    let stranger = LeaseCall {
        plugin_catalogue: "c".repeat(64),
        ..call()
    };
    assert_eq!(world.lease_as(&stranger).await, None);
    world.done(&world.leased().await).await.unwrap();
    // Nor reports: their digest would be another garak's.
    assert_eq!(world.lease_as(&stranger).await, None);
    assert!(matches!(
        world.leased().await.work,
        Work::Report { revision: 1, .. }
    ));
}

async fn eight_workers_lease_each_of_200_tasks_once(world: &World) {
    let mut new = new_scan(200);
    new.max_in_flight = 10_000;
    new.lane.max_in_flight = 10_000;
    let id = world.create_new(&new).await;
    let other = world.replica().await;
    let workers = (0..8).map(|n| {
        let store = if n % 2 == 0 { &world.store } else { &other };
        async move {
            let mut leased = Vec::new();
            loop {
                let poll = LeaseCall {
                    slots: 200,
                    ..call()
                };
                let lease = store.lease(&world.project, &poll, Duration::ZERO);
                let Some(granted) = lease.await.unwrap().and_then(Leased::task) else {
                    break leased;
                };
                leased.push(granted.lease.task);
            }
        }
    });
    let leased: Vec<_> = join_all(workers).await.into_iter().flatten().collect();
    assert_eq!(leased.len(), 200);
    assert_eq!(leased.iter().collect::<BTreeSet<_>>().len(), 200);
    assert_eq!(world.get(id).await.scan.running, 200);
}

async fn a_poll_hears_of_a_new_scan(world: &World) {
    let poll = call();
    let waiting = world
        .store
        .lease(&world.project, &poll, Duration::from_secs(20));
    let creating = async {
        // The poll is under way once its runner is known.
        while world.number("SELECT COUNT(*) FROM runners").await == 0 {}
        world.create(1).await
    };
    let (granted, id) = tokio::join!(waiting, creating);
    let granted = granted.unwrap().and_then(Leased::task);
    assert_eq!(granted.unwrap().lease.scan, id);
}

async fn a_poll_of_another_replica_finds_it_within_seconds(world: &World) {
    let other = world.replica().await;
    let poll = call();
    let waiting = other.lease(&world.project, &poll, Duration::from_secs(20));
    let creating = async {
        while world.number("SELECT COUNT(*) FROM runners").await == 0 {}
        world.create(1).await
    };
    let (granted, id) = tokio::join!(waiting, creating);
    let granted = granted.unwrap().and_then(Leased::task);
    assert_eq!(granted.unwrap().lease.scan, id);
}

async fn waiting_reasons_are_told(world: &World) {
    let id = world.create(2).await;
    let waiting = async || world.get(id).await.waiting.map(|waiting| waiting.reason);
    assert_eq!(waiting().await, Some(WaitingReason::NoMatchingRunner));
    let first = world.leased().await;
    assert_eq!(waiting().await, None);
    world.fail(&first, OutcomeKind::Released, "").await;
    assert_eq!(waiting().await, Some(WaitingReason::Queued));
    let again = world.leased().await;
    world
        .fail(&again, OutcomeKind::Backpressure, "TARGET_BUSY")
        .await;
    assert_eq!(waiting().await, Some(WaitingReason::TargetNotAnswering));
    world.end_waits().await;
    world.sql("UPDATE runners SET seen_at = 1", vec![]).await;
    assert_eq!(waiting().await, Some(WaitingReason::NoMatchingRunner));
    world.store.cancel(&world.project, id, "").await.unwrap();
    assert_eq!(waiting().await, None);
}
