//! Steps 4 and 5: heartbeats are fenced, progress is a last value, sequences have no gaps.

use std::time::Duration;

use aegis_catalog::{
    domain::{
        event::Event,
        task::{Directive, LeaseProof, TaskProgress},
        waiting::WaitingReason,
    },
    store::{ReportCall, Reported},
};
use aegis_proto::ids::Epoch;
use futures_util::future::join_all;

use crate::{
    on_both,
    world::{World, new_scan, refused},
};

on_both!(
    a_report_renews_the_lease_and_keeps_progress,
    an_expired_lease_that_nobody_took_back_may_be_renewed,
    a_stale_epoch_a_wrong_token_and_a_finished_run_are_refused,
    events_are_logged_once,
    sequences_have_no_gaps_when_many_report_at_once,
    a_directive_arrives_at_once,
    what_a_run_waits_for_is_what_its_scan_waits_for,
    a_runner_that_works_is_there,
);

fn report(lease: &LeaseProof) -> ReportCall {
    ReportCall {
        lease: lease.clone(),
        progress: None,
        waits_for: None,
        detectors_finished: Vec::new(),
        ttl_ms: 60_000,
    }
}

async fn send(world: &World, call: &ReportCall) -> aegis_mesh::Result<Reported> {
    world.store.report(&world.project, call).await
}

async fn a_report_renews_the_lease_and_keeps_progress(world: &World) {
    let id = world.create(2).await;
    let granted = world.leased().await;
    world.age_leases().await;
    let mut call = report(&granted.lease);
    call.progress = Some(TaskProgress {
        attempts_done: 4,
        attempts_total: 12,
        target_retries: 1,
    });
    let reported = send(world, &call).await.unwrap();
    assert_eq!(reported.directive, Directive::Continue);
    assert_eq!(world.expire().await, 0);
    let view = world.get(id).await;
    // 12 of the one that runs, 10 planned of the other.
    assert_eq!((view.attempts_done, view.attempts_total), (4, 22));
    assert_eq!(view.probes.len(), 1);
    assert_eq!(
        (view.probes[0].attempts_done, view.probes[0].target_retries),
        (4, 1)
    );
    // Last values: the same again, and none at all, change nothing.
    send(world, &call).await.unwrap();
    send(world, &report(&granted.lease)).await.unwrap();
    assert_eq!(world.get(id).await.attempts_done, 4);
    // No event, so no sequence was spent.
    assert_eq!(world.get(id).await.scan.last_sequence, 3);
}

async fn an_expired_lease_that_nobody_took_back_may_be_renewed(world: &World) {
    world.create(1).await;
    let granted = world.leased().await;
    world.age_leases().await;
    send(world, &report(&granted.lease)).await.unwrap();
    assert_eq!(world.expire().await, 0);
    world.age_leases().await;
    world.done(&granted).await.unwrap();
}

async fn a_stale_epoch_a_wrong_token_and_a_finished_run_are_refused(world: &World) {
    world.create(1).await;
    let zombie = world.leased().await;
    world.age_leases().await;
    assert_eq!(world.expire().await, 1);
    let granted = world.leased().await;
    assert_eq!(granted.lease.epoch, Epoch(2));
    let mut forged = granted.lease.clone();
    forged.token[0] ^= 1;
    let mut mixed = zombie.lease.clone();
    mixed.epoch = Epoch(2);
    for lease in [&zombie.lease, &forged, &mixed] {
        assert_lost(world, lease).await;
    }
    world.done(&granted).await.unwrap();
    assert_lost(world, &granted.lease).await;
}

async fn assert_lost(world: &World, lease: &LeaseProof) {
    let lost = "ABORTED/LEASE_LOST";
    assert_eq!(refused(send(world, &report(lease)).await), lost);
    let mut with_event = report(lease);
    with_event.detectors_finished.push((1, "a.B".to_owned()));
    assert_eq!(refused(send(world, &with_event).await), lost);
    let directive = world
        .store
        .await_directive(&world.project, lease, Duration::ZERO);
    assert_eq!(refused(directive.await), lost);
}

async fn events_are_logged_once(world: &World) {
    let id = world.create(1).await;
    let granted = world.leased().await;
    let mut call = report(&granted.lease);
    call.detectors_finished = vec![(1, "a.A".to_owned()), (2, "a.B".to_owned())];
    assert_eq!(
        send(world, &call).await.unwrap().committed_source_sequence,
        2
    );
    // The answer was lost: the same again, and one more.
    call.detectors_finished.push((3, "a.C".to_owned()));
    assert_eq!(
        send(world, &call).await.unwrap().committed_source_sequence,
        3
    );
    let kinds = world.kinds(id).await;
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| *kind == "DETECTOR_FINISHED")
            .count(),
        3
    );
    // Events without progress leave progress alone.
    assert_eq!(world.get(id).await.probes[0].attempts_total, 10);
    // A new run counts anew.
    world.age_leases().await;
    world.expire().await;
    let mut call = report(&world.leased().await.lease);
    call.detectors_finished = vec![(1, "a.A".to_owned())];
    assert_eq!(
        send(world, &call).await.unwrap().committed_source_sequence,
        1
    );
}

async fn sequences_have_no_gaps_when_many_report_at_once(world: &World) {
    const RUNS: usize = 6;
    const REPORTS: i64 = 10;
    let id = world.create_new(&new_scan(RUNS)).await;
    let other = world.replica().await;
    let mut leases = Vec::new();
    for _ in 0..2 {
        leases.push(world.leased().await);
    }
    let runs = leases.iter().enumerate().map(|(n, granted)| {
        let store = if n % 2 == 0 { &world.store } else { &other };
        async move {
            for sequence in 1..=REPORTS {
                let mut call = report(&granted.lease);
                call.detectors_finished = vec![(sequence, format!("a.D{sequence}"))];
                store.report(&world.project, &call).await.unwrap();
            }
        }
    });
    join_all(runs).await;
    world.store.cancel(&world.project, id, "").await.unwrap();
    for granted in &leases {
        world.done(granted).await.unwrap();
    }
    world.work_off().await;
    let log = world.log(id).await;
    for (index, logged) in log.iter().enumerate() {
        assert_eq!(logged.sequence, index as i64 + 1);
    }
    let finished = |event: &Event| matches!(event, Event::DetectorFinished { .. });
    let count = log.iter().filter(|logged| finished(&logged.event)).count();
    assert_eq!(count, leases.len() * REPORTS as usize);
}

async fn a_directive_arrives_at_once(world: &World) {
    let id = world.create(1).await;
    let granted = world.leased().await;
    let now = world
        .store
        .await_directive(&world.project, &granted.lease, Duration::ZERO);
    assert_eq!(now.await.unwrap(), Directive::Continue);
    let wait = Duration::from_secs(20);
    let waiting = world
        .store
        .await_directive(&world.project, &granted.lease, wait);
    let cancelling = async {
        while world.store.listened_scans() == 0 {
            tokio::task::yield_now().await;
        }
        world.store.cancel(&world.project, id, "").await.unwrap();
    };
    let (directive, ()) = tokio::join!(waiting, cancelling);
    assert_eq!(directive.unwrap(), Directive::Stop);
    let reported = send(world, &report(&granted.lease)).await.unwrap();
    assert_eq!(reported.directive, Directive::Stop);
    assert_eq!(world.store.listened_scans(), 0);
}

async fn what_a_run_waits_for_is_what_its_scan_waits_for(world: &World) {
    let id = world.create(2).await;
    let granted = world.leased().await;
    let waiting = async || world.get(id).await.waiting.map(|waiting| waiting.reason);
    let mut call = report(&granted.lease);
    call.progress = Some(TaskProgress::default());
    for waits_for in [Some(WaitingReason::StorageFull), None] {
        call.waits_for = waits_for;
        send(world, &call).await.unwrap();
        assert_eq!(waiting().await, waits_for);
        // A heartbeat without news leaves it.
        send(world, &report(&granted.lease)).await.unwrap();
        assert_eq!(waiting().await, waits_for);
    }
    call.waits_for = Some(WaitingReason::StorageDown);
    send(world, &call).await.unwrap();
    world.age_leases().await;
    world.expire().await;
    assert_eq!(waiting().await, Some(WaitingReason::Queued));
    world.leased().await;
    assert_eq!(waiting().await, None);
}

/// It does not ask for work meanwhile. Another replica hears it first: that one writes it down.
async fn a_runner_that_works_is_there(world: &World) {
    world.create(1).await;
    let granted = world.leased().await;
    world.sql("UPDATE runners SET seen_at = 1", vec![]).await;
    let other = world.replica().await;
    let call = report(&granted.lease);
    other.report(&world.project, &call).await.unwrap();
    let seen = "SELECT COUNT(*) FROM runners WHERE seen_at > 1";
    assert_eq!(world.number(seen).await, 1);
}
