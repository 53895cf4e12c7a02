//! Custom probes, their versions, sources and checks.

use sea_orm_migration::prelude::*;

use crate::store::dialect::Dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &str = include_str!("m20261124_000006_custom_probes.sql");

const DOWN: [&str; 5] = [
    "DROP INDEX IF EXISTS scans_open_custom",
    "DROP TABLE IF EXISTS checks",
    "DROP TABLE IF EXISTS custom_probe_versions",
    "DROP TABLE IF EXISTS custom_probes",
    "DROP TABLE IF EXISTS sources",
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
        for statement in DOWN {
            manager
                .get_connection()
                .execute_unprepared(statement)
                .await?;
        }
        Ok(())
    }
}
