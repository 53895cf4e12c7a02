//! Scans, tasks and all that belongs to them.

use sea_orm_migration::prelude::*;

use crate::store::dialect::Dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// One text for both databases; [`Dialect::sql`] puts in what must differ.
const UP: &str = include_str!("m20261124_000001_initial.sql");

const TABLES: [&str; 11] = [
    "probe_results",
    "artifacts",
    "scan_events",
    "task_runs",
    "tasks",
    "idempotency",
    "scans",
    "lanes",
    "plugin_catalogues",
    "runners",
    "meta",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let dialect = Dialect::of(manager.get_database_backend())?;
        manager
            .get_connection()
            .execute_unprepared(&dialect.sql(UP))
            .await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in TABLES {
            manager
                .get_connection()
                .execute_unprepared(&format!("DROP TABLE IF EXISTS {table}"))
                .await?;
        }
        Ok(())
    }
}
