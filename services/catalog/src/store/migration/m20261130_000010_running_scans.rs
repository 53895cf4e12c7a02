//! A limit on scans that run at once, their queue, targets that are tried again, and what runs
//! wait for.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: [&str; 4] = [
    "ALTER TABLE lanes ADD COLUMN has_answered BOOLEAN NOT NULL DEFAULT FALSE",
    "ALTER TABLE tasks ADD COLUMN waits_for TEXT NOT NULL DEFAULT ''",
    // Never many more than may run at once.
    "CREATE INDEX scans_in_flight ON scans (project_id) WHERE in_flight > 0",
    // The queue, in its order.
    "CREATE INDEX scans_waiting ON scans (project_id, priority DESC, id)
        WHERE queued > 0 AND in_flight = 0 AND state <> 'PAUSED'",
];
const DOWN: [&str; 4] = [
    "DROP INDEX scans_waiting",
    "DROP INDEX scans_in_flight",
    "ALTER TABLE tasks DROP COLUMN waits_for",
    "ALTER TABLE lanes DROP COLUMN has_answered",
];

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &DOWN).await
    }
}

async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    for statement in statements {
        connection.execute_unprepared(statement).await?;
    }
    Ok(())
}
