//! The schema's history. Each migration is written by hand and never changed after a release.

use sea_orm_migration::prelude::*;

mod m20261124_000001_initial;
mod m20261124_000002_scan_columns;
mod m20261124_000003_history;
mod m20261124_000004_statistics;
mod m20261124_000005_templates;
mod m20261124_000006_custom_probes;
mod m20261124_000007_store_keeping;
mod m20261124_000008_imports;
mod m20261130_000009_pause;
mod m20261130_000010_running_scans;

/// All migrations, in order.
pub(crate) struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261124_000001_initial::Migration),
            Box::new(m20261124_000002_scan_columns::Migration),
            Box::new(m20261124_000003_history::Migration),
            Box::new(m20261124_000004_statistics::Migration),
            Box::new(m20261124_000005_templates::Migration),
            Box::new(m20261124_000006_custom_probes::Migration),
            Box::new(m20261124_000007_store_keeping::Migration),
            Box::new(m20261124_000008_imports::Migration),
            Box::new(m20261130_000009_pause::Migration),
            Box::new(m20261130_000010_running_scans::Migration),
        ]
    }
}
