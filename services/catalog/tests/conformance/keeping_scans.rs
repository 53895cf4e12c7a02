//! Step 12 for whole scans: purged, kept by rules, forgotten in part.

use std::time::Duration;

use aegis_catalog::domain::keeping::{KeepLabels, Step, Sweep};

use crate::{
    keeping::{NOTHING, collect, past_its_time, states},
    on_both,
    world::{World, new_scan, refused},
};

on_both!(
    a_purged_scan_leaves_nothing,
    a_restored_scan_is_not_purged,
    a_purge_that_is_cut_short_goes_on,
    old_scans_are_deleted_restorably,
    so_many_scans_of_a_target_are_kept,
    old_requests_and_runs_are_forgotten,
    a_compacted_log_keeps_what_its_timeline_shows,
);

async fn a_purged_scan_leaves_nothing(world: &World) {
    let mut new = new_scan(3);
    new.key.method = "Create".to_owned();
    new.key.request_id = "r-1".to_owned();
    let id = world.create_new(&new).await;
    let kept = world.create(1).await;
    world.work_off().await;
    past_its_time(world, id).await;
    let would = world.would_sweep(&Sweep::Purge).await;
    assert_eq!(would.counted("purged"), 1);
    assert_eq!(
        would.details,
        [format!("purge scan {id}: its time to be restored is over")]
    );
    let purged = world.sweep(&Sweep::Purge).await;
    assert_eq!(purged.details, would.details);
    // 3 parts and 3 files of the report; 4 tasks with a run each.
    let counts = ["marked", "tasks", "runs", "scans"].map(|what| purged.counted(what));
    assert_eq!(counts, [6, 4, 4, 0]);
    // Its row stays until its files are gone.
    assert_eq!(world.would_sweep(&Sweep::Purge).await.counted("purged"), 0);
    assert_eq!(world.number("SELECT COUNT(*) FROM scans").await, 2);
    assert_eq!(collect(world).await, 6);
    assert_eq!(world.sweep(&Sweep::Purge).await.counted("scans"), 1);
    for (table, left) in [
        ("scans", 1),
        ("tasks", 2),
        ("task_runs", 2),
        ("probe_results", 1),
        ("artifacts", 4),
        ("scan_labels", 1),
        ("scan_probes", 1),
    ] {
        let number = world.number(&format!("SELECT COUNT(*) FROM {table}")).await;
        assert_eq!(number, left, "{table}");
    }
    let events = "SELECT COUNT(DISTINCT scan_id) FROM scan_events";
    assert_eq!(world.number(events).await, 1);
    assert_eq!(world.get(kept).await.scan.evaluated, 1);
    let restore = world.store.undelete(&world.project, id).await;
    assert_eq!(refused(restore), "NOT_FOUND/SCAN_NOT_FOUND");
}

async fn a_restored_scan_is_not_purged(world: &World) {
    let id = world.create(1).await;
    world.work_off().await;
    world.store.delete(&world.project, id).await.unwrap();
    // Its time is not over.
    assert!(world.sweep(&Sweep::Purge).await.counts.is_empty());
    world.store.undelete(&world.project, id).await.unwrap();
    assert!(world.sweep(&Sweep::Purge).await.counts.is_empty());
    assert_eq!(world.get(id).await.scan.evaluated, 1);
}

async fn a_purge_that_is_cut_short_goes_on(world: &World) {
    let id = world.create(3).await;
    world.work_off().await;
    past_its_time(world, id).await;
    let step = Step {
        limit: 2,
        ..NOTHING
    };
    // Each time it dies after a step; nothing is counted twice.
    let mut purged = 0;
    for _ in 0..40 {
        let swept = world
            .store
            .sweep(&world.project, &Sweep::Purge, &step)
            .await
            .unwrap();
        purged += swept.counted("purged");
        crate::invariants::check(world).await;
    }
    assert_eq!(purged, 1);
    assert_eq!(
        states(world)
            .await
            .iter()
            .filter(|(_, state)| state != "DELETING")
            .count(),
        0
    );
    assert_eq!(collect(world).await, 6);
    world.sweep(&Sweep::Purge).await;
    assert_eq!(world.number("SELECT COUNT(*) FROM scans").await, 0);
}

async fn old_scans_are_deleted_restorably(world: &World) {
    let mut ids = Vec::new();
    for keep in ["", "yes", "", "no"] {
        let mut new = new_scan(1);
        if !keep.is_empty() {
            new.labels.insert("keep".to_owned(), keep.to_owned());
        }
        ids.push(world.create_new(&new).await);
    }
    world.work_off().await;
    let runs = world.create(1).await;
    for id in &ids[..2] {
        let old = "UPDATE scans SET ended_at = ended_at - 3456000000 WHERE id = $1";
        world.sql(old, vec![id.0.into()]).await;
    }
    let age =
        |labels: &[&str]| Sweep::Age(30 * 86_400_000, KeepLabels::new(labels.iter().copied()));
    let would = world.would_sweep(&age(&["keep=yes"])).await;
    assert_eq!(
        would.details,
        [format!("delete scan {}: it ended 40 days ago", ids[0])]
    );
    assert_eq!(would.counted("kept_by_label"), 1);
    assert_eq!(world.get(ids[0]).await.scan.evaluated, 1);
    assert_eq!(world.sweep(&age(&["keep=yes"])).await, would);
    let gone = world.store.get(&world.project, ids[0]).await;
    assert_eq!(refused(gone), "NOT_FOUND/SCAN_NOT_FOUND");
    for id in [ids[1], ids[2], ids[3], runs] {
        world.get(id).await;
    }
    // It is not purged before its time, and comes back.
    world.sweep(&Sweep::Purge).await;
    world.store.undelete(&world.project, ids[0]).await.unwrap();
    // For statistics: the day that it ended is the day that it counts.
    let back = "UPDATE scans SET ended_at = ended_at + 3456000000 WHERE id = $1";
    for id in &ids[..2] {
        world.sql(back, vec![id.0.into()]).await;
    }
}

async fn so_many_scans_of_a_target_are_kept(world: &World) {
    let mut of_x = Vec::new();
    let mut of_y = Vec::new();
    for n in 0..5 {
        let mut new = new_scan(1);
        if n == 0 {
            new.labels.insert("keep".to_owned(), "yes".to_owned());
        }
        of_x.push(world.create_new(&new).await);
        new.target_name = "y".to_owned();
        new.labels.clear();
        if n < 2 {
            of_y.push(world.create_new(&new).await);
        }
        world.work_off().await;
        // Otherwise several have the same time.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    of_x.push(world.create(1).await);
    let count = Sweep::Count(2, KeepLabels::new(["keep"]));
    let would = world.would_sweep(&count).await;
    let line = |id| format!("delete scan {id}: its target has 2 newer ones");
    assert_eq!(would.details, [line(of_x[2]), line(of_x[1])]);
    assert_eq!(world.sweep(&count).await, would);
    for id in [of_x[0], of_x[3], of_x[4], of_x[5], of_y[0], of_y[1]] {
        world.get(id).await;
    }
    assert_eq!(world.sweep(&count).await.counted("deleted"), 0);
}

async fn old_requests_and_runs_are_forgotten(world: &World) {
    for n in 0..5 {
        let mut new = new_scan(1);
        new.key.method = "Create".to_owned();
        new.key.request_id = format!("r-{n}");
        world.create_new(&new).await;
    }
    world.work_off().await;
    assert!(world.sweep(&Sweep::Requests).await.counts.is_empty());
    let old = "UPDATE idempotency SET expires_at = 1 WHERE request_id <> 'r-0'";
    world.sql(old, vec![]).await;
    assert_eq!(
        world
            .would_sweep(&Sweep::Requests)
            .await
            .counted("requests"),
        4
    );
    assert_eq!(world.sweep(&Sweep::Requests).await.counted("requests"), 4);
    let runs = Sweep::Runs(86_400_000);
    assert!(world.sweep(&runs).await.counts.is_empty());
    let old = "UPDATE task_runs SET ended_at = 1 WHERE runner = 'runner-1'";
    world.sql(old, vec![]).await;
    world.create(1).await;
    let open = world.leased().await;
    assert_eq!(world.sweep(&runs).await.counted("runs"), 10);
    world.done(&open).await.unwrap();
}

async fn a_compacted_log_keeps_what_its_timeline_shows(world: &World) {
    let id = world.create(1).await;
    let granted = world.leased().await;
    let call = aegis_catalog::store::ReportCall {
        lease: granted.lease.clone(),
        progress: None,
        waits_for: None,
        detectors_finished: (1..=5).map(|n| (n, format!("a.D{n}"))).collect(),
        ttl_ms: 60_000,
    };
    world.store.report(&world.project, &call).await.unwrap();
    world.done(&granted).await.unwrap();
    world.work_off().await;
    let before = world.kinds(id).await;
    let events = Sweep::Events(86_400_000);
    assert!(world.sweep(&events).await.counts.is_empty());
    world
        .sql("UPDATE scans SET ended_at = ended_at - 86400001", vec![])
        .await;
    assert_eq!(world.sweep(&events).await.counted("events"), 5);
    world
        .sql("UPDATE scans SET ended_at = ended_at + 86400001", vec![])
        .await;
    let after: Vec<String> = before
        .into_iter()
        .filter(|kind| kind != "DETECTOR_FINISHED")
        .collect();
    assert_eq!(world.kinds(id).await, after);
    // Whoever watches it gets the rest, and its end.
    assert_eq!(world.log(id).await.len(), after.len());
    world
        .sql("UPDATE scans SET ended_at = ended_at - 86400001", vec![])
        .await;
    assert!(world.sweep(&events).await.counts.is_empty());
    world
        .sql("UPDATE scans SET ended_at = ended_at + 86400001", vec![])
        .await;
}
