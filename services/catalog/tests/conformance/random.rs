//! Anything in any order, by a seed: the books balance after every step.

use std::time::Duration;

use aegis_catalog::{
    domain::task::OutcomeKind,
    store::{Granted, LeaseCall, Leased, ReportCall},
};
use aegis_proto::ids::ScanId;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    invariants, on_both,
    world::{World, call, new_scan},
};

on_both!(seed_1, seed_2, seed_3);

async fn seed_1(world: &World) {
    run(world, 1).await;
}

async fn seed_2(world: &World) {
    run(world, 2).await;
}

async fn seed_3(world: &World) {
    run(world, 3).await;
}

const STEPS: usize = 150;
const FAILURES: [OutcomeKind; 5] = [
    OutcomeKind::Retryable,
    OutcomeKind::Backpressure,
    OutcomeKind::Permanent,
    OutcomeKind::Cancelled,
    OutcomeKind::Released,
];

async fn run(world: &World, seed: u64) {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut scans: Vec<ScanId> = Vec::new();
    let mut leases: Vec<Granted> = Vec::new();
    for _ in 0..STEPS {
        step(world, &mut dice, &mut scans, &mut leases).await;
        invariants::check(world).await;
    }
    for id in scans {
        world.store.resume(&world.project, id).await.unwrap();
    }
    world.end_waits().await;
    world.age_leases().await;
    while world.expire().await > 0 {
        world.end_waits().await;
    }
    for _ in 0..100 {
        if world.work_off().await == 0 {
            break;
        }
        world.end_waits().await;
    }
    invariants::check(world).await;
    let stuck = "SELECT COUNT(*) FROM scans WHERE ended_at IS NULL";
    assert_eq!(world.number(stuck).await, 0);
}

async fn step(
    world: &World,
    dice: &mut StdRng,
    scans: &mut Vec<ScanId>,
    leases: &mut Vec<Granted>,
) {
    match dice.random_range(0..14) {
        0 => {
            let mut new = new_scan(dice.random_range(1..5));
            new.lane.key = format!("target-{}", dice.random_range(0..2));
            new.lane.max_in_flight = dice.random_range(1..20);
            new.max_in_flight = dice.random_range(1..20);
            scans.push(world.create_new(&new).await);
        }
        1..=4 => {
            let poll = LeaseCall {
                slots: dice.random_range(1..6),
                ..call()
            };
            let lease = world.store.lease(&world.project, &poll, Duration::ZERO);
            leases.extend(lease.await.unwrap().and_then(Leased::task));
        }
        5..=7 => finish(world, dice, leases).await,
        8 => {
            world.age_leases().await;
            world.expire().await;
        }
        9 => {
            if let Some(id) = some(dice, scans) {
                world.store.cancel(&world.project, *id, "").await.unwrap();
            }
        }
        10 => {
            if let Some(id) = some(dice, scans) {
                // Refused while it runs, or when nothing is left to do.
                let _ = world.store.retry(&world.project, *id).await;
            }
        }
        11 => {
            if let Some(id) = some(dice, scans) {
                world.store.pause(&world.project, *id, "").await.unwrap();
            }
        }
        12 => {
            if let Some(id) = some(dice, scans) {
                world.store.resume(&world.project, *id).await.unwrap();
            }
        }
        _ => world.end_waits().await,
    }
}

fn some<'a, T>(dice: &mut StdRng, list: &'a [T]) -> Option<&'a T> {
    (!list.is_empty()).then(|| &list[dice.random_range(0..list.len())])
}

/// A lease that was expired meanwhile is a zombie: all it says is refused.
async fn finish(world: &World, dice: &mut StdRng, leases: &mut Vec<Granted>) {
    if leases.is_empty() {
        return;
    }
    let granted = leases.swap_remove(dice.random_range(0..leases.len()));
    let report = ReportCall {
        lease: granted.lease.clone(),
        progress: None,
        waits_for: None,
        detectors_finished: vec![(1, "a.B".to_owned())],
        ttl_ms: 60_000,
    };
    let held = world.store.report(&world.project, &report).await.is_ok();
    if dice.random_bool(0.6) {
        assert_eq!(world.done(&granted).await.is_ok(), held);
        return;
    }
    let kind = FAILURES[dice.random_range(0..FAILURES.len())];
    let outcome = crate::world::outcome(kind, "SOME_REASON");
    assert_eq!(world.finish(&granted.lease, &outcome).await.is_ok(), held);
}
