//! What the history is searched and ordered by.

use sea_orm_migration::prelude::*;

use crate::store::dialect::Dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &str = include_str!("m20261124_000003_history.sql");

/// Columns that the database computes, so that nobody can forget to write them: name, type and
/// expression. A state's rank is its place in a scan's life, as `ScanState::rank` has it.
const COMPUTED: [(&str, &str, &str); 4] = [
    (
        "state_rank",
        "INTEGER",
        "CASE state WHEN 'PENDING' THEN 1 WHEN 'RUNNING' THEN 2 WHEN 'PAUSED' THEN 3
         WHEN 'CANCELLING' THEN 4 WHEN 'COMPLETED' THEN 5 WHEN 'FAILED' THEN 6 ELSE 7 END",
    ),
    ("duration_ms", "BIGINT", "ended_at - started_at"),
    (
        "pass_rate",
        "{double}",
        "CASE WHEN passed + failed > 0 THEN CAST(passed AS {double}) / (passed + failed) END",
    ),
    (
        "coverage",
        "{double}",
        "CAST(evaluated AS {double}) / planned",
    ),
];

const LABELS_ON_SQLITE: &str = "
    INSERT INTO scan_labels (project_id, key, value, created_at, scan_id)
    SELECT s.project_id, l.key, l.value, s.created_at, s.id FROM scans s, json_each(s.labels) l";
const LABELS_ON_POSTGRES: &str = "
    INSERT INTO scan_labels (project_id, key, value, created_at, scan_id)
    SELECT s.project_id, l.key, l.value, s.created_at, s.id
    FROM scans s, jsonb_each_text(s.labels) l";

/// SQLite adds one column at a time and computes it when it is read; PostgreSQL stores it, and
/// writes the table once for all of them.
fn add_computed(dialect: Dialect) -> Vec<String> {
    let columns = COMPUTED.iter().map(|(name, kind, expression)| {
        format!("ADD COLUMN {name} {kind} GENERATED ALWAYS AS ({expression})")
    });
    match dialect {
        Dialect::Sqlite => columns
            .map(|column| dialect.sql(&format!("ALTER TABLE scans {column} VIRTUAL")))
            .collect(),
        Dialect::Postgres => {
            let columns: Vec<String> = columns.map(|column| column + " STORED").collect();
            vec![dialect.sql(&format!("ALTER TABLE scans {}", columns.join(", ")))]
        }
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let dialect = Dialect::of(manager.get_database_backend())?;
        let connection = manager.get_connection();
        connection.execute_unprepared(&dialect.sql(UP)).await?;
        for statement in add_computed(dialect) {
            connection.execute_unprepared(&statement).await?;
        }
        let labels = match dialect {
            Dialect::Sqlite => LABELS_ON_SQLITE,
            Dialect::Postgres => LABELS_ON_POSTGRES,
        };
        connection.execute_unprepared(labels).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        // SQLite drops no column that an index has.
        for index in crate::store::late::LATE {
            let drop = format!("DROP INDEX IF EXISTS {}", index.name);
            connection.execute_unprepared(&drop).await?;
        }
        for table in ["scan_probes", "scan_labels"] {
            let drop = format!("DROP TABLE {table}");
            connection.execute_unprepared(&drop).await?;
        }
        let computed = COMPUTED.iter().map(|(name, ..)| *name);
        for column in computed.chain(["search_text"]) {
            let drop = format!("ALTER TABLE scans DROP COLUMN {column}");
            connection.execute_unprepared(&drop).await?;
        }
        for index in [
            "scans_by_state ON scans (project_id, state, created_at DESC, id DESC)",
            "scans_by_target ON scans (project_id, target_type, target_name, created_at DESC, id DESC)",
        ] {
            let create = format!("CREATE INDEX {index} WHERE deleted_at IS NULL");
            connection.execute_unprepared(&create).await?;
        }
        Ok(())
    }
}
