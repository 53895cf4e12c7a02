//! How much there is to do: what another runner could begin with, and what runs.

use aegis_catalog::domain::{lane::NewLane, queue::QueueDepth, task::OutcomeKind};

use crate::{
    checks, on_both,
    world::{World, new_scan},
};

on_both!(
    what_waits_becomes_what_runs,
    more_slots_share_a_scans_calls_out,
    no_lane_lets_more_begin_than_it_has_calls,
    what_nobody_may_begin_with_does_not_count,
    a_report_counts_while_it_waits_and_while_it_is_made,
    a_check_counts_while_it_waits_and_while_it_runs,
    it_is_one_statement_whatever_waits,
);

async fn depth_for(world: &World, slots: i32) -> (i32, i32) {
    let depth = world.store.queue_depth(&world.project, slots).await;
    let QueueDepth { waiting, running } = depth.unwrap();
    (waiting, running)
}

/// For two slots in all, as the world's runner has.
async fn depth(world: &World) -> (i32, i32) {
    depth_for(world, 2).await
}

async fn what_waits_becomes_what_runs(world: &World) {
    assert_eq!(depth(world).await, (0, 0));
    world.create(1).await;
    assert_eq!(depth(world).await, (1, 0));
    world.create(5).await;
    assert_eq!(depth(world).await, (3, 0), "two of the second scan's calls");
    let mut leased = Vec::new();
    for expected in [(2, 1), (1, 2), (0, 3)] {
        leased.push(world.leased().await);
        assert_eq!(depth(world).await, expected);
    }
    assert_eq!(world.lease().await, None, "nothing waits, as was said");
    let given_back = leased.pop().unwrap();
    world
        .fail(&given_back, OutcomeKind::Released, "DRAINING")
        .await;
    assert_eq!(depth(world).await, (1, 2));
}

async fn more_slots_share_a_scans_calls_out(world: &World) {
    // 16 calls: one slot takes them all, five take 4 each, sixty-four one each.
    world.create(9).await;
    for (slots, waiting) in [(0, 1), (1, 1), (5, 4), (9, 8), (64, 9)] {
        assert_eq!(depth_for(world, slots).await, (waiting, 0), "{slots}");
    }
}

async fn no_lane_lets_more_begin_than_it_has_calls(world: &World) {
    let mut new = new_scan(4);
    new.lane = NewLane {
        key: "narrow".to_owned(),
        max_in_flight: 3,
    };
    for _ in 0..5 {
        world.create_new(&new).await;
    }
    assert_eq!(depth(world).await, (3, 0));
    world.create(1).await;
    assert_eq!(depth(world).await, (4, 0), "another target has its own");
}

async fn what_nobody_may_begin_with_does_not_count(world: &World) {
    let id = world.create(2).await;
    world.store.pause(&world.project, id, "").await.unwrap();
    assert_eq!(depth(world).await, (0, 0));
    world.store.resume(&world.project, id).await.unwrap();
    assert_eq!(depth(world).await, (2, 0));
    let rest = "UPDATE lanes SET paused_until = 9000000000000000";
    world.sql(rest, vec![]).await;
    assert_eq!(depth(world).await, (0, 0));
    world.end_waits().await;
    // A target that pushed back is tried by one run alone.
    let pushed_back = "UPDATE lanes SET backpressure_since = 1";
    world.sql(pushed_back, vec![]).await;
    assert_eq!(depth(world).await, (1, 0));
    world.leased().await;
    assert_eq!(depth(world).await, (0, 1));
    world.store.cancel(&world.project, id, "").await.unwrap();
    assert_eq!(depth(world).await, (0, 1), "what runs is told to stop");
}

async fn a_report_counts_while_it_waits_and_while_it_is_made(world: &World) {
    world.create(1).await;
    let probe = world.leased().await;
    world.done(&probe).await.unwrap();
    assert_eq!(depth(world).await, (1, 0));
    let report = world.leased().await;
    assert_eq!(depth(world).await, (0, 1));
    world.done(&report).await.unwrap();
    assert_eq!(depth(world).await, (0, 0));
}

async fn a_check_counts_while_it_waits_and_while_it_runs(world: &World) {
    checks::create(world, "acme.Probe").await;
    assert_eq!(depth(world).await, (1, 0));
    checks::check(world).await;
    assert_eq!(depth(world).await, (0, 1));
}

async fn it_is_one_statement_whatever_waits(world: &World) {
    for _ in 0..20 {
        world.create(30).await;
    }
    let before = world.store.statements();
    assert_eq!(depth(world).await, (40, 0));
    assert_eq!(world.store.statements() - before, 1);
}
