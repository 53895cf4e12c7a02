//! What is done to a database from the command line.

use std::fmt;

use super::{
    connect::{DatabaseOptions, Purpose, connect},
    dialect::Dialect,
    down,
    fault::{Fault, Result},
    late::{self, LateIndexes},
    schema,
};

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// The newest migration in the database.
    pub newest: String,
}

impl fmt::Display for Migrated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the schema is at {}", self.newest)
    }
}

/// Brings the schema up to date and builds the large indexes.
///
/// # Errors
/// UNAVAILABLE / DATABASE_DOWN; FAILED_PRECONDITION / DATABASE_UNUSABLE, DATABASE_NEWER.
pub async fn migrate(options: &DatabaseOptions) -> aegis_mesh::Result<Migrated> {
    let done = async {
        schema::up(options).await?;
        let indexes = LateIndexes::default();
        // Another process may be at it.
        while !late::work(options, &indexes, true).await? {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
        newest(options).await
    };
    done.await
        .map_err(|fault: Fault| fault.at_start(&options.location))
}

/// Takes migrations back, down to the one with this number.
///
/// # Errors
/// As [`migrate`]; FAILED_PRECONDITION / DOWNGRADE_LOSES_DATA;
/// INVALID_ARGUMENT / INVALID_FIELD when there is no such migration.
pub async fn migrate_down(options: &DatabaseOptions, to: &str) -> aegis_mesh::Result<Migrated> {
    let done = async {
        down::down(options, to).await?;
        newest(options).await
    };
    done.await
        .map_err(|fault: Fault| fault.at_start(&options.location))
}

async fn newest(options: &DatabaseOptions) -> Result<Migrated> {
    let connection = connect(options, Purpose::Schema).await?;
    let dialect = Dialect::of(sea_orm::ConnectionTrait::get_database_backend(&connection))?;
    let applied = schema::applied(&connection, dialect).await?;
    connection.close().await?;
    Ok(Migrated {
        newest: applied.last().cloned().unwrap_or_default(),
    })
}

/// Whether the database answers, and has this version's schema if that is asked.
///
/// # Errors
/// As [`migrate`]; FAILED_PRECONDITION / DATABASE_NOT_MIGRATED.
pub async fn answers(options: &DatabaseOptions, migrated: bool) -> aegis_mesh::Result<()> {
    let looked = async {
        let connection = connect(options, Purpose::Schema).await?;
        let dialect = Dialect::of(sea_orm::ConnectionTrait::get_database_backend(&connection))?;
        let state = schema::state(&connection, dialect).await?;
        connection.close().await?;
        match state {
            schema::Schema::Newer(migration) => Err(schema::newer(&migration).into()),
            schema::Schema::Older(missing) if migrated => Err(schema::not_migrated(missing).into()),
            schema::Schema::Older(_) | schema::Schema::Current => Ok(()),
        }
    };
    looked
        .await
        .map_err(|fault: Fault| fault.at_start(&options.location))
}
