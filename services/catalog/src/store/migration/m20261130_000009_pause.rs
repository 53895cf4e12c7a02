//! Scans can be paused.

use sea_orm_migration::{
    prelude::*,
    sea_orm::{ConnectionTrait, Statement},
};

use crate::store::dialect::Dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// What the states were, and what they are, as the table's definition has them.
const STATES: [&str; 2] = [
    "state IN ('PENDING', 'RUNNING', 'CANCELLING', 'COMPLETED', 'FAILED', 'CANCELLED')",
    "state IN ('PENDING', 'RUNNING', 'PAUSED', 'CANCELLING', 'COMPLETED', 'FAILED', 'CANCELLED')",
];
/// The best scan of a lane, first row.
const WITH_WORK: &str = "
    CREATE INDEX scans_with_work ON scans (project_id, lane_id, plugin_catalogue, priority DESC, id)
        WHERE queued > 0 AND in_flight < max_in_flight";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let [before, now] = STATES;
        change_states(manager, before, now).await?;
        let column = "
            ALTER TABLE scans ADD COLUMN paused_at BIGINT
                CHECK ((state = 'PAUSED') = (paused_at IS NOT NULL))";
        let index = format!("{WITH_WORK} AND state <> 'PAUSED'");
        run(manager, &[column, "DROP INDEX scans_with_work", &index]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let [before, now] = STATES;
        // The column keeps the schema here while there is any: only the trial meets one.
        let none = "UPDATE scans SET state = 'PENDING', paused_at = NULL WHERE state = 'PAUSED'";
        run(manager, &[none]).await?;
        let column = "ALTER TABLE scans DROP COLUMN paused_at";
        run(manager, &["DROP INDEX scans_with_work", column, WITH_WORK]).await?;
        change_states(manager, now, before).await
    }
}

async fn run(manager: &SchemaManager<'_>, statements: &[&str]) -> Result<(), DbErr> {
    for statement in statements {
        manager
            .get_connection()
            .execute_unprepared(statement)
            .await?;
    }
    Ok(())
}

/// SQLite changes no constraint, and to write a large table again takes long: the definition is
/// edited, as <https://www.sqlite.org/lang_altertable.html#otheralter> says for changes that leave
/// the rows as they are.
async fn change_states(manager: &SchemaManager<'_>, from: &str, to: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    if Dialect::of(manager.get_database_backend())? == Dialect::Postgres {
        let drop = "ALTER TABLE scans DROP CONSTRAINT scans_state_check";
        let add = format!("ALTER TABLE scans ADD CONSTRAINT scans_state_check CHECK ({to})");
        return run(manager, &[drop, &add]).await;
    }
    let version = Statement::from_string(manager.get_database_backend(), "PRAGMA schema_version");
    let version = connection.query_one_raw(version).await?;
    let version: i32 = version
        .ok_or_else(|| DbErr::Migration("the schema has no version".to_owned()))?
        .try_get_by_index(0)?;
    let edit = Statement::from_sql_and_values(
        manager.get_database_backend(),
        "UPDATE sqlite_schema SET sql = replace(sql, $1, $2)
         WHERE type = 'table' AND name = 'scans' AND instr(sql, $1) > 0",
        [from.into(), to.into()],
    );
    run(manager, &["PRAGMA writable_schema = ON"]).await?;
    let edited = connection.execute_raw(edit).await?;
    let version = format!("PRAGMA schema_version = {}", version.wrapping_add(1));
    run(manager, &[&version, "PRAGMA writable_schema = OFF"]).await?;
    match edited.rows_affected() {
        1 => Ok(()),
        _ => Err(DbErr::Migration(
            "the table scans has other states".to_owned(),
        )),
    }
}
