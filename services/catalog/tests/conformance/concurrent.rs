//! Everything at once on one target, over two replicas: no deadlock, no lost work.

use std::time::Duration;

use aegis_catalog::{
    domain::scan::ScanState,
    store::{Leased, ReportCall, Store},
};
use aegis_mesh::{Code, Error};
use futures_util::future::join_all;

use crate::{
    on_both,
    world::{World, call, new_scan},
};

on_both!(
    workers_reapers_and_cancels_work_off_everything,
    replicas_may_start_at_once,
);

async fn workers_reapers_and_cancels_work_off_everything(world: &World) {
    let mut scans = Vec::new();
    for _ in 0..4 {
        scans.push(world.create_new(&new_scan(10)).await);
    }
    let other = world.replica().await;
    let stores = [&world.store, &other];
    let workers = (0..6).map(|n| worker(world, stores[n % 2]));
    let disturbance = async {
        for step in 0..8 {
            if step % 3 == 0 {
                world.age_leases().await;
            }
            let store = stores[step % 2];
            store
                .expire(&world.project, &crate::world::POLICY, 100)
                .await
                .unwrap();
            world.end_waits().await;
        }
        other.cancel(&world.project, scans[3], "").await.unwrap();
    };
    tokio::join!(join_all(workers), disturbance);
    // What was lost in the last moments runs again.
    world.age_leases().await;
    while world.expire().await + world.work_off().await as u32 > 0 {
        world.end_waits().await;
    }
    for id in scans {
        let view = world.get(id).await;
        let ended = [
            ScanState::Completed,
            ScanState::Cancelled,
            ScanState::Failed,
        ];
        assert!(ended.contains(&view.scan.state), "{:?}", view.scan.state);
    }
}

/// Leases, reports and finishes until nothing comes for a while. Only a lost lease is no fault.
async fn worker(world: &World, store: &Store) {
    loop {
        let poll = call();
        let lease = store.lease(&world.project, &poll, Duration::from_millis(1_500));
        let Some(granted) = lease.await.unwrap().and_then(Leased::task) else {
            return;
        };
        let report = ReportCall {
            lease: granted.lease.clone(),
            progress: None,
            waits_for: None,
            detectors_finished: vec![(1, "a.B".to_owned())],
            ttl_ms: 60_000,
        };
        let reported = store.report(&world.project, &report).await;
        let done = async { world.done(&granted).await };
        only_lost(reported.map(drop).and(done.await));
    }
}

fn only_lost(result: Result<(), Error>) {
    if let Err(error) = result {
        assert_eq!(
            (error.code(), error.reason()),
            (Code::Aborted, "LEASE_LOST")
        );
    }
}

async fn replicas_may_start_at_once(world: &World) {
    let starting = (0..4).map(|_| crate::world::open(&world.location));
    for store in join_all(starting).await {
        assert_eq!(store.unwrap().page_key(), world.store.page_key());
    }
}
