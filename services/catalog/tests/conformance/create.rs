//! Step 1: a scan is made once, with all that belongs to it.

use std::{collections::BTreeSet, time::Instant};

use aegis_catalog::domain::{
    event::Event,
    scan::{IdempotencyKey, NewScan, ScanState},
};

use crate::{
    on_both,
    world::{World, new_scan, refused},
};

on_both!(
    a_new_scan_waits_with_all_its_tasks,
    a_repeated_request_gives_the_same_scan,
    two_requests_at_once_make_one_scan,
    a_reused_request_id_is_refused,
    an_expired_request_is_forgotten,
    what_cannot_be_evaluated_never_runs,
    a_scan_of_nothing_evaluable_fails_at_once,
    two_hundred_tasks_are_made_quickly,
    projects_do_not_see_each_other,
);

fn with_request(content: char) -> NewScan {
    NewScan {
        key: IdempotencyKey {
            method: "aegis.scan.v1.ScanService/CreateScan".to_owned(),
            request_id: "0198c0de-0000-7000-8000-000000000001".to_owned(),
            request_sha256: content.to_string().repeat(64),
        },
        ..new_scan(2)
    }
}

async fn a_new_scan_waits_with_all_its_tasks(world: &World) {
    let view = world.get(world.create(3).await).await;
    assert_eq!(view.scan.state, ScanState::Pending);
    assert_eq!((view.scan.planned, view.scan.queued), (3, 3));
    assert_eq!(view.attempts_total, 30);
    assert_eq!(view.scan.labels["team"], "red");
    assert_eq!(view.scan.spec, new_scan(3).spec);
    assert_eq!(view.scan.last_sequence, 1);
    assert_eq!(world.kinds(view.scan.id).await, ["STATE_CHANGED"]);
}

async fn a_repeated_request_gives_the_same_scan(world: &World) {
    let new = with_request('c');
    let nothing = world.store.find_by_request(&world.project, &new.key).await;
    assert_eq!(nothing.unwrap(), None);
    let first = world.create_new(&new).await;
    assert_eq!(world.create_new(&new).await, first);
    let found = world.store.find_by_request(&world.project, &new.key).await;
    assert_eq!(found.unwrap().unwrap().scan.id, first);
    assert_eq!(world.number("SELECT COUNT(*) FROM scans").await, 1);
}

async fn two_requests_at_once_make_one_scan(world: &World) {
    let new = with_request('c');
    let other = world.replica().await;
    let stores = [&world.store, &other, &world.store, &other];
    let creating = stores.map(|store| store.create(&world.project, &new));
    let made = futures_util::future::join_all(creating).await;
    let ids: BTreeSet<_> = made.into_iter().map(|view| view.unwrap().scan.id).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(world.number("SELECT COUNT(*) FROM scans").await, 1);
    assert_eq!(world.number("SELECT COUNT(*) FROM tasks").await, 2);
}

async fn a_reused_request_id_is_refused(world: &World) {
    world.create_new(&with_request('c')).await;
    let other = with_request('d');
    let refusal = "INVALID_ARGUMENT/REQUEST_ID_REUSED";
    assert_eq!(
        refused(world.store.create(&world.project, &other).await),
        refusal
    );
    let found = world
        .store
        .find_by_request(&world.project, &other.key)
        .await;
    assert_eq!(refused(found), refusal);
}

async fn an_expired_request_is_forgotten(world: &World) {
    let first = world.create_new(&with_request('c')).await;
    world
        .sql("UPDATE idempotency SET expires_at = 1", vec![])
        .await;
    let second = world.create_new(&with_request('d')).await;
    assert_ne!(first, second);
}

async fn what_cannot_be_evaluated_never_runs(world: &World) {
    let mut new = new_scan(3);
    let why = ("DETECTOR_UNAVAILABLE".to_owned(), "no torch".to_owned());
    new.tasks[1].not_evaluated = Some(why);
    let id = world.create_new(&new).await;
    let view = world.get(id).await;
    assert_eq!((view.scan.queued, view.scan.not_evaluated), (2, 1));
    assert_eq!(view.not_evaluated[0].probe, "test.Probe1");
    assert_eq!(view.not_evaluated[0].reason, "DETECTOR_UNAVAILABLE");
    // Two probes and the report.
    assert_eq!(world.work_off().await, 3);
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Completed);
    assert_eq!((view.scan.evaluated, view.scan.not_evaluated), (2, 1));
    assert_eq!(view.attempts_done, view.attempts_total);
}

async fn a_scan_of_nothing_evaluable_fails_at_once(world: &World) {
    let mut new = new_scan(2);
    for task in &mut new.tasks {
        task.not_evaluated = Some(("DETECTOR_UNAVAILABLE".to_owned(), "no torch".to_owned()));
    }
    let view = world.get(world.create_new(&new).await).await;
    assert_eq!(view.scan.state, ScanState::Failed);
    let failure = view.scan.failure.unwrap();
    assert_eq!(failure.reason, "DETECTOR_UNAVAILABLE");
    assert_eq!(failure.message, "no torch");
    assert!(!failure.hint.is_empty());
    let log = world.log(view.scan.id).await;
    assert!(log.last().is_some_and(|last| last.event.ends_scan()));
    assert!(matches!(&log[1].event, Event::ProbeNotEvaluated { .. }));
}

async fn two_hundred_tasks_are_made_quickly(world: &World) {
    world.create(1).await;
    let started = Instant::now();
    let before = world.store.statements();
    world.create(200).await;
    let statements = world.store.statements() - before;
    // The time depends on the machine; the number of statements does not.
    assert!(statements <= 20, "{statements} statements");
    println!(
        "200 tasks in {:?}, {statements} statements",
        started.elapsed()
    );
}

async fn projects_do_not_see_each_other(world: &World) {
    let id = world.create(1).await;
    let other = "other".parse().unwrap();
    let not_found = "NOT_FOUND/SCAN_NOT_FOUND";
    assert_eq!(refused(world.store.get(&other, id).await), not_found);
    assert_eq!(refused(world.store.cancel(&other, id, "").await), not_found);
    assert_eq!(refused(world.store.watch(&other, id, 0).await), not_found);
    let wait = std::time::Duration::ZERO;
    let leased = world.store.lease(&other, &crate::world::call(), wait).await;
    assert_eq!(leased.unwrap(), None);
    let granted = world.leased().await;
    let directive = world.store.await_directive(&other, &granted.lease, wait);
    assert_eq!(refused(directive.await), "ABORTED/LEASE_LOST");
}
