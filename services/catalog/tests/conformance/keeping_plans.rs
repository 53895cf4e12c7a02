//! The store's jobs find their work without walking through tables.

use crate::{many, on_both_without_books, world::World};

on_both_without_books!(work_is_found_by_indexes);

/// With many rows, and statistics of them where the database has some: no table is walked.
async fn work_is_found_by_indexes(world: &World) {
    many::fill(world, 3_000).await;
    let analyze = match world.backend() {
        sea_orm::DatabaseBackend::Sqlite => "PRAGMA optimize",
        _ => "ANALYZE",
    };
    world.sql(analyze, vec![]).await;
    for (what, plan) in world.store.keeping_plans(&world.project).await.unwrap() {
        // SQLite names what it walks; the empty tables of PostgreSQL may be walked.
        let walks = |line: &&str| match world.backend() {
            sea_orm::DatabaseBackend::Sqlite => {
                line.starts_with("SCAN") && !line.contains("CONSTANT ROW")
            }
            _ => line.contains("Seq Scan on scans"),
        };
        let walked: Vec<&str> = plan.lines().filter(walks).collect();
        assert!(walked.is_empty(), "{what}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{what}: {plan}");
    }
}
