//! What a call costs does not grow with what is stored.

use aegis_catalog::domain::scan::ScanFilter;

use crate::{
    on_both,
    world::{World, call, new_scan},
};

on_both!(
    lists_and_gets_take_a_fixed_number_of_statements,
    an_empty_poll_costs_the_same_whatever_waits,
);

async fn statements<T>(world: &World, work: impl Future<Output = T>) -> u64 {
    let before = world.store.statements();
    work.await;
    world.store.statements() - before
}

async fn lists_and_gets_take_a_fixed_number_of_statements(world: &World) {
    let list = async || {
        let filter = ScanFilter::default();
        let page = world.store.list(&world.project, &filter, None, 100).await;
        page.unwrap().scans.len()
    };
    let first = world.create(1).await;
    world.leased().await;
    world.create(1).await;
    let few = statements(world, list()).await;
    for _ in 0..20 {
        let id = world.create(3).await;
        if world.lease().await.is_none() {
            world.store.cancel(&world.project, id, "").await.unwrap();
        }
    }
    assert_eq!(list().await, 22);
    assert_eq!(statements(world, list()).await, few);
    assert!(few <= 8, "{few} statements for a list");
    let get = statements(world, world.get(first)).await;
    let large = world.create(300).await;
    assert!(statements(world, world.get(large)).await <= get.max(7));
}

/// Read off the number of statements and the plan, not off a clock.
async fn an_empty_poll_costs_the_same_whatever_waits(world: &World) {
    for n in 0..4 {
        let mut new = new_scan(500);
        new.lane.key = format!("target-{n}");
        new.lane.max_in_flight = 16;
        world.create_new(&new).await;
    }
    while world.lease().await.is_some() {}
    let polls = statements(world, world.lease()).await;
    // The repeat, a check, a report, a probe: nothing is begun, locked or written.
    assert_eq!(polls, 4);
    let plan = world
        .store
        .poll_plan(&world.project, &call())
        .await
        .unwrap();
    for index in [
        "lanes_with_room",
        "scans_with_work",
        "tasks_queued",
        "checks_queued",
        "checks_lease_request",
    ] {
        assert!(plan.contains(index), "{index} is not used:\n{plan}");
    }
    // Not even the paused lanes are read: they lie past the end of the index's range.
    assert!(plan.contains("paused_until"), "{plan}");
}
