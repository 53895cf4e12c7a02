//! A watcher misses nothing, and is told when the scan has ended.

use aegis_catalog::{
    domain::{event::Event, task::TaskProgress},
    store::{ReportCall, ScanWatch, Update},
};

use futures_util::future::join_all;

use crate::{
    on_both,
    world::{World, new_scan, refused},
};

on_both!(
    an_ended_scan_is_replayed_from_any_sequence,
    a_long_log_is_read_in_pages,
    live_events_arrive_and_the_watch_ends,
    progress_is_told_when_it_changed,
    a_sequence_that_is_not_reached_is_refused,
    a_retried_scan_is_followed_past_its_first_end,
    nobody_listens_afterwards,
    a_slow_watcher_misses_nothing,
    many_watchers_are_read_for_once,
);

async fn an_ended_scan_is_replayed_from_any_sequence(world: &World) {
    let id = world.create(2).await;
    world.work_off().await;
    let log = world.log(id).await;
    for after in 0..=log.len() {
        assert_eq!(world.log_after(id, after as i64).await, log[after..]);
    }
}

async fn a_long_log_is_read_in_pages(world: &World) {
    let id = world.create_new(&new_scan(600)).await;
    world.store.cancel(&world.project, id, "").await.unwrap();
    // Made, cancelling, 600 probes, cancelled.
    assert_eq!(world.log(id).await.len(), 603);
}

async fn next_event(watch: &mut ScanWatch) -> Option<Event> {
    loop {
        match watch.next().await.unwrap()? {
            Update::Events(mut events) => return events.pop().map(|logged| logged.event),
            Update::Progress(_) => {}
        }
    }
}

async fn live_events_arrive_and_the_watch_ends(world: &World) {
    let id = world.create(1).await;
    let other = world.replica().await;
    // One in this process, which is woken, and one in another, which looks by itself.
    for store in [&world.store, &other] {
        let (snapshot, mut watch) = store.watch(&world.project, id, 0).await.unwrap();
        assert_eq!(snapshot.scan.id, id);
        assert!(next_event(&mut watch).await.is_some());
    }
    let last = world.get(id).await.scan.last_sequence;
    let (_, mut here) = world.store.watch(&world.project, id, last).await.unwrap();
    let (_, mut there) = other.watch(&world.project, id, last).await.unwrap();
    let working = async { world.work_off().await };
    let (first, second, _) = tokio::join!(drain(&mut here), drain(&mut there), working);
    let whole = world.log_after(id, last).await;
    assert_eq!(first, whole.len());
    assert_eq!(second, whole.len());
}

async fn drain(watch: &mut ScanWatch) -> usize {
    let mut events = 0;
    while let Some(update) = watch.next().await.unwrap() {
        if let Update::Events(page) = update {
            events += page.len();
        }
    }
    events
}

async fn progress_is_told_when_it_changed(world: &World) {
    let id = world.create(1).await;
    let granted = world.leased().await;
    let (_, mut watch) = world.store.watch(&world.project, id, 3).await.unwrap();
    let call = ReportCall {
        lease: granted.lease.clone(),
        progress: Some(TaskProgress {
            attempts_done: 6,
            attempts_total: 10,
            target_retries: 0,
        }),
        waits_for: None,
        detectors_finished: Vec::new(),
        ttl_ms: 60_000,
    };
    world.store.report(&world.project, &call).await.unwrap();
    let Some(Update::Progress(view)) = watch.next().await.unwrap() else {
        panic!("only progress changed")
    };
    assert_eq!((view.attempts_done, view.attempts_total), (6, 10));
}

async fn a_sequence_that_is_not_reached_is_refused(world: &World) {
    let id = world.create(1).await;
    for sequence in [2, -1, i64::MAX] {
        let watch = world.store.watch(&world.project, id, sequence).await;
        let error = watch.expect_err("a refusal");
        assert_eq!(error.reason(), "INVALID_FIELD");
        assert_eq!(error.fields()[0].path, "after_sequence");
    }
    let missing = aegis_proto::ids::ScanId::generate();
    let watch = world.store.watch(&world.project, missing, 0).await;
    assert_eq!(refused(watch), "NOT_FOUND/SCAN_NOT_FOUND");
}

async fn a_retried_scan_is_followed_past_its_first_end(world: &World) {
    let id = world.create(1).await;
    world.store.cancel(&world.project, id, "").await.unwrap();
    let first = world.log(id).await.len();
    world.store.retry(&world.project, id).await.unwrap();
    let (_, mut watch) = world.store.watch(&world.project, id, 0).await.unwrap();
    let (events, _) = tokio::join!(drain(&mut watch), world.work_off());
    assert!(events > first + 4, "{events} events");
}

async fn nobody_listens_afterwards(world: &World) {
    let id = world.create(1).await;
    let watch = world.store.watch(&world.project, id, 0).await.unwrap();
    assert_eq!(world.store.listened_scans(), 1);
    drop(watch);
    // Whoever reads for the watchers is told to end, and does so.
    while world.store.listened_scans() > 0 {
        tokio::task::yield_now().await;
    }
}

/// More happens than is kept for those who are behind.
async fn a_slow_watcher_misses_nothing(world: &World) {
    let id = world.create_new(&new_scan(300)).await;
    let (_, mut fast) = world.store.watch(&world.project, id, 1).await.unwrap();
    let (_, mut slow) = world.store.watch(&world.project, id, 1).await.unwrap();
    // It has begun, and then does not read for a while.
    let lease = world.leased().await;
    assert!(next_event(&mut slow).await.is_some());
    world.store.cancel(&world.project, id, "").await.unwrap();
    world.done(&lease).await.unwrap();
    let (seen, _) = tokio::join!(drain(&mut fast), world.work_off());
    let all = world.log_after(id, 1).await.len();
    assert!(seen == all && all > 300, "{seen} of {all}");
    let mut sequences = Vec::new();
    while let Some(update) = slow.next().await.unwrap() {
        if let Update::Events(page) = update {
            sequences.extend(page.iter().map(|logged| logged.sequence));
        }
    }
    let last = *sequences.last().unwrap();
    assert!(sequences.iter().copied().eq(sequences[0]..=last));
    assert_eq!(last, world.get(id).await.scan.last_sequence);
}

/// A hundred cost the database what one costs, once they have begun.
async fn many_watchers_are_read_for_once(world: &World) {
    let mut costs = Vec::new();
    for watchers in [1, 100] {
        let id = world.create(20).await;
        let mut watches = Vec::new();
        for _ in 0..watchers {
            let watch = world.store.watch(&world.project, id, 1).await;
            watches.push(watch.unwrap().1);
        }
        let before = world.store.statements();
        world.work_off().await;
        let working = world.store.statements() - before;
        let drained = join_all(watches.iter_mut().map(drain)).await;
        let all = world.log_after(id, 1).await.len();
        assert!(drained.iter().all(|events| *events == all), "{drained:?}");
        costs.push((working, world.store.statements() - before));
    }
    let (one, hundred) = (costs[0].1, costs[1].1);
    // How often the feed looks depends on how long the work takes: not exactly the same.
    assert!(hundred < one * 2, "{costs:?}");
}
