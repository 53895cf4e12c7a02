//! The schema goes back to an older version, when nothing that is stored would be lost.

use std::collections::BTreeSet;

use aegis_mesh::Error;
use sea_orm::{ConnectionTrait, TransactionTrait};
use sea_orm_migration::MigratorTrait;

use super::{
    connect::{DatabaseOptions, Purpose, connect},
    dialect::Dialect,
    fault::Result,
    migration::Migrator,
    schema,
};
use crate::domain::refusal::invalid_field;

/// Takes migrations back, newest first, down to the one with this number, all or none.
///
/// Each is tried first, to see which tables and columns go with it. None of them may hold anything:
/// no row in such a table, no value but the default's in such a column.
pub(crate) async fn down(options: &DatabaseOptions, to: &str) -> Result<()> {
    let steps = steps(to)?;
    let connection = connect(options, Purpose::Schema).await?;
    let dialect = Dialect::of(connection.get_database_backend())?;
    let tx = connection
        .begin_with_options(dialect.write_options())
        .await?;
    schema::take_turn(&tx, dialect).await?;
    schema::require_current(&tx, dialect).await?;
    for _ in 0..steps {
        let lost = lost(&tx, dialect).await?;
        for column in &lost {
            if holds_data(&tx, dialect, column).await? {
                return Err(loses_data(column).into());
            }
        }
        Migrator::down(&tx, Some(1)).await?;
    }
    tx.commit().await?;
    connection.close().await?;
    Ok(())
}

/// Migrations after the one with this number.
fn steps(to: &str) -> Result<usize> {
    let migrations = Migrator::migrations();
    let number = format!("_{to}_");
    let at = migrations
        .iter()
        .position(|migration| migration.name().contains(&number));
    let at = at.ok_or_else(|| {
        let numbers = migrations.iter().map(|migration| migration.name());
        let known: Vec<&str> = numbers.collect();
        invalid_field(
            "down_to",
            format!("is the number of one of {}", known.join(", ")),
        )
    })?;
    Ok(migrations.len() - 1 - at)
}

type Column = (String, String);

/// Columns that the newest migration's way back removes.
async fn lost(tx: &sea_orm::DatabaseTransaction, dialect: Dialect) -> Result<Vec<Column>> {
    let before = columns(tx, dialect).await?;
    let trial = tx.begin().await?;
    Migrator::down(&trial, Some(1)).await?;
    let after = columns(&trial, dialect).await?;
    trial.rollback().await?;
    Ok(before.difference(&after).cloned().collect())
}

/// Columns that hold what was stored, not what is computed from it.
async fn columns(conn: &impl ConnectionTrait, dialect: Dialect) -> Result<BTreeSet<Column>> {
    let sql = match dialect {
        // hidden is 2 or 3 for a generated column.
        Dialect::Sqlite => {
            "SELECT t.name AS tbl, c.name AS col
             FROM sqlite_master t JOIN pragma_table_xinfo(t.name) c
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND c.hidden = 0"
        }
        Dialect::Postgres => {
            "SELECT table_name::text AS tbl, column_name::text AS col
             FROM information_schema.columns
             WHERE table_schema = current_schema() AND is_generated = 'NEVER'"
        }
    };
    let mut columns = BTreeSet::new();
    for row in conn.query_all_raw(dialect.statement(sql, [])).await? {
        columns.insert((row.try_get("", "tbl")?, row.try_get("", "col")?));
    }
    Ok(columns)
}

/// Tables whose rows are made from others' rows, or found again: objects that nobody uses.
const DERIVED: [&str; 6] = [
    "scan_labels",
    "scan_probes",
    "scan_sources",
    "jobs",
    "garbage",
    "orphans",
];
/// Columns that are made from others, are found out again, or say how far a job has come.
const DERIVED_COLUMNS: [&str; 6] = [
    "search_text",
    "touched_at",
    "parts_taken_in",
    "compacted_sequence",
    "has_answered",
    "waits_for",
];

/// Names come from the schema itself, never from a caller.
async fn holds_data(
    conn: &impl ConnectionTrait,
    dialect: Dialect,
    (table, column): &Column,
) -> Result<bool> {
    if DERIVED.contains(&table.as_str()) || DERIVED_COLUMNS.contains(&column.as_str()) {
        return Ok(false);
    }
    let text = format!("CAST({column} AS TEXT)");
    let sql = format!(
        "SELECT 1 FROM {table}
         WHERE {text} NOT IN ('', '0', 'false', '[]', '{{}}') LIMIT 1"
    );
    let row = conn.query_one_raw(dialect.statement(&sql, [])).await?;
    Ok(row.is_some())
}

fn loses_data((table, column): &Column) -> Error {
    Error::failed_precondition(
        "DOWNGRADE_LOSES_DATA",
        format!("{table}.{column} holds data that the older version has no place for"),
    )
    .with("table", table)
    .with("column", column)
    .hint("keep this version, or restore the backup that was made before the upgrade; nothing was changed")
}
