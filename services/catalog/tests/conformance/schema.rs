//! The schema: made by one of many, never behind or ahead of the program, its large indexes built
//! while it works.

use std::time::Duration;

use aegis_catalog::{
    domain::history::{ScanFilter, ScanOrder, ScanQuery},
    store::{self, Store},
};
use sea_orm::{ConnectionTrait, DatabaseBackend};

use crate::{
    many, on_both_without_books,
    world::{World, new_scan, options, refused, retention},
};

on_both_without_books!(
    many_processes_migrate_at_once,
    a_newer_database_is_refused,
    an_older_database_is_refused_where_it_must_not_be_changed,
    a_downgrade_that_would_lose_data_is_refused,
    a_paused_scan_keeps_the_schema_from_going_back,
    large_indexes_are_built_while_it_works,
);

/// All that was made is gone.
async fn empty(world: &World) {
    match world.backend() {
        DatabaseBackend::Sqlite => {
            let tables = "SELECT name FROM sqlite_master WHERE type = 'table'";
            world.sql("PRAGMA foreign_keys = OFF", vec![]).await;
            for row in world.sql(tables, vec![]).await {
                let name: String = row.try_get("", "name").unwrap();
                if !name.starts_with("sqlite_") {
                    world.sql(&format!("DROP TABLE {name}"), vec![]).await;
                }
            }
        }
        _ => {
            world.sql("DROP SCHEMA public CASCADE", vec![]).await;
            world.sql("CREATE SCHEMA public", vec![]).await;
        }
    }
}

async fn many_processes_migrate_at_once(world: &World) {
    empty(world).await;
    let mut options = options(&world.location);
    let starting = (0..6).map(|n| {
        let options = options.clone();
        aegis_mesh::spawn("starts", async move {
            if n % 2 == 0 {
                store::migrate(&options).await.map(drop)
            } else {
                Store::open(&options, retention()).await.map(drop)
            }
        })
    });
    for started in starting.collect::<Vec<_>>() {
        started.await.unwrap().unwrap();
    }
    let twice = "SELECT COUNT(*) - COUNT(DISTINCT version) FROM seaql_migrations";
    assert_eq!(world.number(twice).await, 0);
    options.migrate = false;
    let store = Store::open(&options, retention()).await.unwrap();
    let made = store.create(&world.project, &new_scan(2)).await.unwrap();
    assert_eq!(made.scan.planned, 2);
    store::answers(&options, true).await.unwrap();
}

async fn a_newer_database_is_refused(world: &World) {
    let newer = "INSERT INTO seaql_migrations (version, applied_at)
        VALUES ('m20991231_000099_from_the_future', 0)";
    world.sql(newer, vec![]).await;
    let mut options = options(&world.location);
    let refusal = "FAILED_PRECONDITION/DATABASE_NEWER";
    for migrate in [true, false] {
        options.migrate = migrate;
        assert_eq!(refused(Store::open(&options, retention()).await), refusal);
    }
    assert_eq!(refused(store::migrate(&options).await), refusal);
    assert_eq!(
        refused(store::migrate_down(&options, "000002").await),
        refusal
    );
    assert_eq!(refused(store::answers(&options, false).await), refusal);
}

async fn an_older_database_is_refused_where_it_must_not_be_changed(world: &World) {
    empty(world).await;
    let mut options = options(&world.location);
    options.migrate = false;
    let refusal = "FAILED_PRECONDITION/DATABASE_NOT_MIGRATED";
    assert_eq!(refused(Store::open(&options, retention()).await), refusal);
    assert_eq!(refused(store::answers(&options, true).await), refusal);
    store::answers(&options, false).await.unwrap();
    store::migrate(&options).await.unwrap();
    Store::open(&options, retention()).await.unwrap();
}

/// The older version knows no such state: the scan would be nobody's.
async fn a_paused_scan_keeps_the_schema_from_going_back(world: &World) {
    let options = options(&world.location);
    let id = world.create(1).await;
    world.store.pause(&world.project, id, "").await.unwrap();
    let lost = store::migrate_down(&options, "000008").await.unwrap_err();
    assert_eq!(lost.reason(), "DOWNGRADE_LOSES_DATA");
    assert!(lost.message().contains("scans.paused_at"), "{lost}");
    world.store.resume(&world.project, id).await.unwrap();
    store::migrate_down(&options, "000008").await.unwrap();
    let paused = "UPDATE scans SET state = 'PAUSED'";
    let tx = world.hold("SELECT 1", vec![]).await;
    assert!(tx.execute_unprepared(paused).await.is_err());
    tx.rollback().await.unwrap();
    store::migrate(&options).await.unwrap();
    let again = Store::open(&options, retention()).await.unwrap();
    let view = again.pause(&world.project, id, "").await.unwrap();
    assert!(view.scan.is_paused());
}

async fn a_downgrade_that_would_lose_data_is_refused(world: &World) {
    let options = options(&world.location);
    let first = "m20261124_000001_initial";
    // Nothing is stored in what came later: it goes, and comes back, with the scan untouched.
    let kept = world.create(1).await;
    let back = store::migrate_down(&options, "000001").await.unwrap();
    assert_eq!(back.newest, first);
    let again = Store::open(&options, retention()).await.unwrap();
    let view = again.get(&world.project, kept).await.unwrap();
    assert_eq!(
        view.scan.labels.get("team").map(String::as_str),
        Some("red")
    );
    let labelled = ScanQuery {
        filter: ScanFilter {
            probe: "test.Probe0".to_owned(),
            labels: view.scan.labels.clone(),
            text: "a scan".to_owned(),
            ..ScanFilter::default()
        },
        ..ScanQuery::default()
    };
    let page = again.list(&world.project, &labelled, None, 5).await;
    assert_eq!(page.unwrap().scans[0].scan.id, kept);
    // Now something is.
    let mut new = new_scan(1);
    (new.template, new.template_version) = ("quick".to_owned(), 3);
    let made = again.create(&world.project, &new).await.unwrap();
    let lost = store::migrate_down(&options, "000001").await.unwrap_err();
    assert_eq!(lost.reason(), "DOWNGRADE_LOSES_DATA");
    assert!(lost.message().contains("scans.template"), "{lost}");
    let view = again.get(&world.project, made.scan.id).await.unwrap();
    assert_eq!(view.scan.template, "quick");
    let unknown = store::migrate_down(&options, "000777").await;
    assert_eq!(refused(unknown), "INVALID_ARGUMENT/INVALID_FIELD");
}

async fn large_indexes_are_built_while_it_works(world: &World) {
    many::fill(world, 400).await;
    world.sql("DROP INDEX scans_by_target_type", vec![]).await;
    match world.backend() {
        DatabaseBackend::Sqlite => world.sql("DROP INDEX scans_by_start", vec![]).await,
        // As a build that was cut short leaves it.
        _ => {
            let cut = "UPDATE pg_index SET indisvalid = FALSE
                WHERE indexrelid = 'scans_by_start'::regclass";
            world.sql(cut, vec![]).await
        }
    };
    let mut options = options(&world.location);
    options.migrate = false;
    let without = Store::open(&options, retention()).await.unwrap();
    let by_start = ScanQuery {
        order: ScanOrder::StartTime,
        ..ScanQuery::default()
    };
    let list = without.list(&world.project, &by_start, None, 5).await;
    assert_eq!(refused(list), "UNAVAILABLE/INDEX_BUILDING");
    let of_type = ScanQuery {
        filter: ScanFilter {
            target_type: "type.T3".to_owned(),
            ..ScanFilter::default()
        },
        ..ScanQuery::default()
    };
    let page = without.list(&world.project, &of_type, None, 5).await;
    assert_eq!(page.unwrap().scans.len(), 5);
    assert!(!without.list_index(&of_type).unwrap().1);
    // Two replicas that may build do so, once; the one that may not hears of it.
    options.migrate = true;
    let first = Store::open(&options, retention()).await.unwrap();
    let second = Store::open(&options, retention()).await.unwrap();
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    for store in [first, second, without] {
        loop {
            match store.list(&world.project, &by_start, None, 5).await {
                Ok(page) if store.list_index(&of_type).unwrap().1 => {
                    assert_eq!(page.scans.len(), 5);
                    break;
                }
                _ => assert!(tokio::time::Instant::now() < end, "no index in a minute"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
