//! Statistics: what changed, and what it was folded into.

use sea_orm_migration::prelude::*;

use crate::store::dialect::Dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &str = include_str!("m20261124_000004_statistics.sql");

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let dialect = Dialect::of(manager.get_database_backend())?;
        let connection = manager.get_connection();
        connection.execute_unprepared(&dialect.sql(UP)).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["statistics_rollups", "statistics_deltas"] {
            let drop = format!("DROP TABLE {table}");
            manager.get_connection().execute_unprepared(&drop).await?;
        }
        Ok(())
    }
}
