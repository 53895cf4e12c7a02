//! The schema is brought to this version, by one process at a time.

use std::collections::BTreeSet;

use aegis_mesh::Error;
use sea_orm::{ConnectionTrait, DatabaseConnection, TransactionTrait};
use sea_orm_migration::MigratorTrait;

use super::{
    connect::{DatabaseOptions, Purpose, connect},
    dialect::Dialect,
    fault::Result,
    late,
    migration::Migrator,
};

/// Any number: the same in every replica.
const LOCK: i64 = 0x0061_6567_6973;

/// How a database's schema stands to this program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Schema {
    /// Exactly what is expected.
    Current,
    /// Migrations are missing: so many.
    Older(usize),
    /// It has migrations that this program does not know: the first of them.
    Newer(String),
}

/// How it stands.
pub(crate) async fn state(conn: &impl ConnectionTrait, dialect: Dialect) -> Result<Schema> {
    let applied = applied(conn, dialect).await?;
    let known: BTreeSet<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    if let Some(unknown) = applied.difference(&known).next() {
        return Ok(Schema::Newer(unknown.clone()));
    }
    Ok(match known.difference(&applied).count() {
        0 => Schema::Current,
        missing => Schema::Older(missing),
    })
}

pub(crate) async fn applied(
    conn: &impl ConnectionTrait,
    dialect: Dialect,
) -> Result<BTreeSet<String>> {
    let there = dialect.statement("SELECT 1 WHERE {migrations_exist}", []);
    if conn.query_one_raw(there).await?.is_none() {
        return Ok(BTreeSet::new());
    }
    let names = dialect.statement("SELECT version FROM seaql_migrations", []);
    let mut applied = BTreeSet::new();
    for row in conn.query_all_raw(names).await? {
        applied.insert(row.try_get("", "version")?);
    }
    Ok(applied)
}

/// Refuses a schema that is not this version's.
///
/// # Errors
/// FAILED_PRECONDITION / DATABASE_NEWER or DATABASE_NOT_MIGRATED.
pub(crate) async fn require_current(conn: &impl ConnectionTrait, dialect: Dialect) -> Result<()> {
    match state(conn, dialect).await? {
        Schema::Current => Ok(()),
        Schema::Newer(migration) => Err(newer(&migration).into()),
        Schema::Older(missing) => Err(not_migrated(missing).into()),
    }
}

/// Brings the schema up to date in one transaction, of one process at a time. Nothing is
/// written, and no right to change the schema is needed, when it is so already.
pub(crate) async fn up(options: &DatabaseOptions) -> Result<()> {
    let connection = connect(options, Purpose::Schema).await?;
    let result = up_on(&connection).await;
    connection.close().await?;
    result
}

async fn up_on(connection: &DatabaseConnection) -> Result<()> {
    let dialect = Dialect::of(connection.get_database_backend())?;
    if state(connection, dialect).await? == Schema::Current {
        return Ok(());
    }
    let tx = connection
        .begin_with_options(dialect.write_options())
        .await?;
    take_turn(&tx, dialect).await?;
    match state(&tx, dialect).await? {
        // Another process was faster.
        Schema::Current => return Ok(()),
        Schema::Newer(migration) => return Err(newer(&migration).into()),
        Schema::Older(_) => Migrator::up(&tx, None).await?,
    }
    late::build_when_empty(&tx, dialect).await?;
    tx.commit().await?;
    Ok(())
}

/// Waits until nobody else changes the schema; until the transaction ends nobody else does.
/// SQLite: to have begun is to have the turn.
pub(crate) async fn take_turn(tx: &impl ConnectionTrait, dialect: Dialect) -> Result<()> {
    if dialect == Dialect::Postgres {
        // As long as the other one takes; for the locks of tables the usual limit holds again.
        tx.execute_unprepared("SET LOCAL lock_timeout = 0").await?;
        let lock = dialect.statement("SELECT pg_advisory_xact_lock($1)", [LOCK.into()]);
        tx.query_one_raw(lock).await?;
        tx.execute_unprepared("SET LOCAL lock_timeout TO DEFAULT")
            .await?;
    }
    Ok(())
}

pub(crate) fn newer(migration: &str) -> Error {
    Error::failed_precondition(
        "DATABASE_NEWER",
        format!("the database was made by a newer version: it has {migration}, which this one does not know"),
    )
    .with("migration", migration)
    .hint("run the newer version, or go back with its own `aegis-catalog migrate --down-to`; nothing was changed")
}

pub(crate) fn not_migrated(missing: usize) -> Error {
    Error::failed_precondition(
        "DATABASE_NOT_MIGRATED",
        format!("{missing} of this version's migrations are not in the database yet"),
    )
    .hint("run `aegis-catalog migrate` with a role that may change the schema, or set migrate_on_start = true")
}
