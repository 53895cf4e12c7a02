//! Step 10: a target that pushes back rests its lane; that is no failure, but has an end.

use aegis_catalog::{
    domain::{
        policy::RetryPolicy,
        scan::ScanState,
        task::{LeaseProof, Outcome, OutcomeKind, TaskProgress},
        waiting::{Waiting, WaitingReason},
    },
    store::ReportCall,
};

use crate::{
    on_both,
    world::{POLICY, World, new_scan, outcome},
};

on_both!(
    the_lane_rests_and_nothing_counts_as_a_failure,
    the_target_may_name_the_time,
    other_lanes_go_on,
    it_ends_after_its_longest_time,
    the_next_scan_is_tried_soon,
    a_paused_scan_is_not_given_up,
    one_good_run_begins_anew,
    an_idle_lane_forgets,
    one_run_alone_tries_the_target_again,
    a_run_that_gets_answers_lets_the_others_go,
    answers_from_before_prove_nothing,
    a_target_that_has_answered_is_waited_for_longer,
    the_scan_says_since_when,
);

async fn push_back(world: &World, policy: &RetryPolicy) {
    let granted = world.leased().await;
    let busy = outcome(OutcomeKind::Backpressure, "TARGET_BUSY");
    world
        .finish_with(&granted.lease, &busy, policy)
        .await
        .unwrap();
}

async fn the_lane_rests_and_nothing_counts_as_a_failure(world: &World) {
    let id = world.create(2).await;
    for _ in 0..5 {
        push_back(world, &POLICY).await;
        assert_eq!(world.lease().await, None);
        world.end_waits().await;
    }
    assert_eq!(
        world
            .number("SELECT CAST(MAX(failures) AS BIGINT) FROM tasks")
            .await,
        0
    );
    let kinds = world.kinds(id).await;
    // Said once, not each time.
    assert_eq!(kinds.iter().filter(|kind| *kind == "WAITING").count(), 1);
    assert_eq!(
        kinds.iter().filter(|kind| *kind == "TASK_RETRIED").count(),
        5
    );
    world.work_off().await;
    assert_eq!(world.get(id).await.scan.state, ScanState::Completed);
}

async fn the_target_may_name_the_time(world: &World) {
    world.create(1).await;
    let granted = world.leased().await;
    let busy = Outcome {
        retry_after_ms: Some(900_000),
        ..outcome(OutcomeKind::Backpressure, "TARGET_BUSY")
    };
    world.finish(&granted.lease, &busy).await.unwrap();
    let rest = "SELECT MAX(l.paused_until - e.at) FROM lanes l, scan_events e";
    assert!(world.number(rest).await >= 900_000);
    assert!(
        world
            .number("SELECT MIN(not_before - e.at) FROM tasks, scan_events e")
            .await
            > 800_000
    );
}

async fn other_lanes_go_on(world: &World) {
    world.create(2).await;
    push_back(world, &POLICY).await;
    let mut other = new_scan(1);
    other.lane.key = "target-2".to_owned();
    let other = world.create_new(&other).await;
    assert_eq!(world.leased().await.lease.scan, other);
    assert_eq!(world.lease().await, None);
}

/// The target has been silent for longer than any policy waits.
async fn silent_for_ever(world: &World) {
    world
        .sql("UPDATE lanes SET backpressure_since = 1", vec![])
        .await;
    world.end_waits().await;
}

async fn it_ends_after_its_longest_time(world: &World) {
    let id = world.create(20).await;
    push_back(world, &POLICY).await;
    silent_for_ever(world).await;
    // One try for all of the scan's probes.
    push_back(world, &POLICY).await;
    let view = world.get(id).await;
    assert_eq!(view.scan.state, ScanState::Failed);
    assert_eq!(view.scan.failure.unwrap().reason, "TARGET_BUSY");
    assert_eq!(view.scan.not_evaluated, 20);
    let kinds = world.kinds(id).await.into_iter();
    assert_eq!(
        kinds.filter(|kind| kind == "PROBE_NOT_EVALUATED").count(),
        20
    );
}

async fn the_next_scan_is_tried_soon(world: &World) {
    world.create(3).await;
    let next = world.create(3).await;
    push_back(world, &POLICY).await;
    silent_for_ever(world).await;
    push_back(world, &POLICY).await;
    let rest = "SELECT MAX(l.paused_until) - MAX(e.at) FROM lanes l, scan_events e";
    assert!(world.number(rest).await <= POLICY.lane_pause_ms);
    // It is not given up unasked: its target may be back.
    assert_eq!(world.get(next).await.scan.not_evaluated, 0);
    world.end_waits().await;
    world.done(&world.leased().await).await.unwrap();
    world.work_off().await;
    assert_eq!(world.get(next).await.scan.state, ScanState::Completed);
}

async fn a_paused_scan_is_not_given_up(world: &World) {
    let id = world.create(3).await;
    push_back(world, &POLICY).await;
    silent_for_ever(world).await;
    let trial = world.leased().await;
    world.store.pause(&world.project, id, "").await.unwrap();
    let busy = outcome(OutcomeKind::Backpressure, "TARGET_BUSY");
    world.finish(&trial.lease, &busy).await.unwrap();
    assert_eq!(world.get(id).await.scan.not_evaluated, 1);
}

async fn one_good_run_begins_anew(world: &World) {
    world.create(3).await;
    push_back(world, &POLICY).await;
    world.end_waits().await;
    world.done(&world.leased().await).await.unwrap();
    let since = "SELECT COUNT(*) FROM lanes WHERE backpressure_since IS NOT NULL";
    assert_eq!(world.number(since).await, 0);
    push_back(world, &POLICY).await;
    assert_eq!(world.number(since).await, 1);
}

async fn an_idle_lane_forgets(world: &World) {
    let id = world.create(1).await;
    push_back(world, &POLICY).await;
    world.store.cancel(&world.project, id, "").await.unwrap();
    let past =
        "SELECT COUNT(*) FROM lanes WHERE backpressure_since IS NOT NULL OR paused_until > 0";
    assert_eq!(world.number(past).await, 0);
    // So the next scan of this target is not judged by the last one's troubles.
    world.create(1).await;
    world.leased().await;
}

/// As a run that has gone on since the target stopped.
async fn answers(world: &World, lease: &LeaseProof, attempts_done: i64) {
    let call = ReportCall {
        lease: lease.clone(),
        progress: Some(TaskProgress {
            attempts_done,
            ..TaskProgress::default()
        }),
        waits_for: None,
        detectors_finished: Vec::new(),
        ttl_ms: 60_000,
    };
    world.store.report(&world.project, &call).await.unwrap();
}

async fn one_run_alone_tries_the_target_again(world: &World) {
    world.create(3).await;
    push_back(world, &POLICY).await;
    world.end_waits().await;
    let trial = world.leased().await;
    // There is room for more, but not for a target that does not answer.
    assert_eq!(world.lease().await, None);
    let unreachable = outcome(OutcomeKind::Backpressure, "TARGET_UNREACHABLE");
    world.finish(&trial.lease, &unreachable).await.unwrap();
    assert_eq!(world.lease().await, None);
    world.end_waits().await;
    world.done(&world.leased().await).await.unwrap();
    world.leased().await;
    world.leased().await;
}

async fn a_run_that_gets_answers_lets_the_others_go(world: &World) {
    let id = world.create(3).await;
    push_back(world, &POLICY).await;
    world.end_waits().await;
    let trial = world.leased().await;
    answers(world, &trial.lease, 0).await;
    assert_eq!(world.lease().await, None);
    answers(world, &trial.lease, 1).await;
    assert_eq!(world.get(id).await.waiting, None);
    world.leased().await;
}

async fn answers_from_before_prove_nothing(world: &World) {
    let id = world.create(3).await;
    let old = world.leased().await;
    world
        .sql("UPDATE task_runs SET started_at = started_at - 5", vec![])
        .await;
    push_back(world, &POLICY).await;
    answers(world, &old.lease, 7).await;
    let waiting = world.get(id).await.waiting.unwrap();
    assert_eq!(waiting.reason, WaitingReason::TargetNotAnswering);
    world.end_waits().await;
    assert_eq!(world.lease().await, None);
}

async fn a_target_that_has_answered_is_waited_for_longer(world: &World) {
    let (old, older) = (POLICY.max_backpressure_ms, POLICY.max_outage_ms);
    let silent_for = async |ms: i64| {
        let sql = "UPDATE lanes SET backpressure_since = backpressure_since - $1";
        world.sql(sql, vec![ms.into()]).await;
        world.end_waits().await;
    };
    let id = world.create(2).await;
    world.done(&world.leased().await).await.unwrap();
    push_back(world, &POLICY).await;
    silent_for(old + 1_000).await;
    push_back(world, &POLICY).await;
    assert_eq!(world.get(id).await.scan.not_evaluated, 0);
    silent_for(older).await;
    push_back(world, &POLICY).await;
    assert_eq!(world.get(id).await.scan.not_evaluated, 1);
}

async fn the_scan_says_since_when(world: &World) {
    let id = world.create(2).await;
    push_back(world, &POLICY).await;
    let since = world.number("SELECT backpressure_since FROM lanes").await;
    let expected = Waiting {
        reason: WaitingReason::TargetNotAnswering,
        since: Some(since),
        place: None,
    };
    assert_eq!(world.get(id).await.waiting.as_ref(), Some(&expected));
    // Also while it is tried again.
    world.end_waits().await;
    world.leased().await;
    assert_eq!(world.get(id).await.waiting, Some(expected));
}
