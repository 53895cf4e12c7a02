//! What a scan was made from, and how it was graded.

use sea_orm_migration::prelude::*;

use crate::store::dialect::Dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &str = include_str!("m20261124_000002_scan_columns.sql");

const COLUMNS: [(&str, &str); 6] = [
    ("scans", "template"),
    ("scans", "template_version"),
    ("scans", "defcon"),
    ("scans", "custom_probes"),
    ("scans", "imported"),
    ("tasks", "tags"),
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let dialect = Dialect::of(manager.get_database_backend())?;
        let connection = manager.get_connection();
        connection.execute_unprepared(&dialect.sql(UP)).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in COLUMNS {
            let drop = format!("ALTER TABLE {table} DROP COLUMN {column}");
            manager.get_connection().execute_unprepared(&drop).await?;
        }
        Ok(())
    }
}
