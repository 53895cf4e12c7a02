//! An open database: SQLite with one writer and a few readers, or a pool of PostgreSQL's.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use sea_orm::DatabaseConnection;

use super::{
    connect::{DatabaseOptions, Location, Purpose, connect},
    dialect::Dialect,
    fault::Result,
    late::LateIndexes,
    schema, slow,
};

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) writer: DatabaseConnection,
    pub(crate) reader: DatabaseConnection,
    pub(crate) dialect: Dialect,
    /// Which of the large indexes are there.
    pub(crate) late: Arc<LateIndexes>,
    statements: Arc<AtomicU64>,
}

impl Database {
    /// Opens it; its schema is this version's then.
    pub(crate) async fn open(options: &DatabaseOptions) -> Result<Self> {
        if options.migrate {
            schema::up(options).await?;
        }
        let mut writer = connect(options, Purpose::Write).await?;
        let dialect = Dialect::of(writer.get_database_backend())?;
        schema::require_current(&writer, dialect).await?;
        let mut reader = match options.location {
            Location::File(_) => connect(options, Purpose::Read).await?,
            Location::Postgres(_) => writer.clone(),
        };
        let late = Arc::new(LateIndexes::look(&writer, dialect).await?);
        let statements = Arc::new(AtomicU64::new(0));
        for connection in [&mut writer, &mut reader] {
            let (statements, slow) = (Arc::clone(&statements), options.slow_statement);
            connection.set_metric_callback(move |run| {
                statements.fetch_add(1, Ordering::Relaxed);
                slow::note(run, slow);
            });
        }
        Ok(Self {
            writer,
            reader,
            dialect,
            late,
            statements,
        })
    }

    /// Statements sent since it was opened.
    pub(crate) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }
}
