//! Connections: SQLite with one writer and a few readers, or a pool of PostgreSQL's.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ConnectOptions, ConnectionTrait, Database as SeaDatabase, DatabaseConnection, DbErr,
    TransactionTrait,
};
use sea_orm_migration::MigratorTrait;

use super::{dialect::Dialect, fault::Result, migration::Migrator};

/// Which database, and how many connections to it.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Where it is.
    pub location: Location,
    /// Connections to PostgreSQL, or readers of SQLite; at least 1.
    pub max_connections: u32,
    /// Longest wait for a connection or a lock.
    pub timeout: Duration,
}

/// Where the database is.
#[derive(Clone)]
pub enum Location {
    /// SQLite's file; made when it is missing.
    File(PathBuf),
    /// PostgreSQL's URL; it may hold a password.
    Postgres(String),
}

// Written by hand: a password stays out of logs.
impl std::fmt::Debug for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(_) => f.write_str("postgres:***"),
        }
    }
}

/// An open database.
#[derive(Debug)]
pub(crate) struct Database {
    pub(crate) writer: DatabaseConnection,
    pub(crate) reader: DatabaseConnection,
    pub(crate) dialect: Dialect,
    statements: Arc<AtomicU64>,
}

impl Database {
    /// Opens it and brings its schema up to date.
    pub(crate) async fn open(options: &DatabaseOptions) -> Result<Self> {
        let (mut writer, mut reader) = match &options.location {
            Location::File(path) => {
                let writer = SeaDatabase::connect(sqlite(path, options, true)).await?;
                migrate(&writer, Dialect::Sqlite).await?;
                let reader = SeaDatabase::connect(sqlite(path, options, false)).await?;
                (writer, reader)
            }
            Location::Postgres(url) => {
                let pool = SeaDatabase::connect(postgres(url, options)).await?;
                migrate(&pool, Dialect::Postgres).await?;
                (pool.clone(), pool)
            }
        };
        let dialect = Dialect::of(writer.get_database_backend())?;
        let statements = Arc::new(AtomicU64::new(0));
        for connection in [&mut writer, &mut reader] {
            let statements = Arc::clone(&statements);
            connection.set_metric_callback(move |_| {
                statements.fetch_add(1, Ordering::Relaxed);
            });
        }
        Ok(Self {
            writer,
            reader,
            dialect,
            statements,
        })
    }

    /// Statements sent since it was opened.
    pub(crate) fn statements(&self) -> u64 {
        self.statements.load(Ordering::Relaxed)
    }
}

fn common(url: String, options: &DatabaseOptions) -> ConnectOptions {
    let mut common = ConnectOptions::new(url);
    common
        .acquire_timeout(options.timeout)
        .connect_timeout(options.timeout)
        .sqlx_logging(false)
        // Statements' values are other people's prompts: no trace has them.
        .record_stmt_in_spans(false);
    common
}

fn sqlite(path: &Path, options: &DatabaseOptions, writes: bool) -> ConnectOptions {
    // The file is named below: in a URL its name would have to be escaped.
    let mut sqlite = common("sqlite:catalog.db".to_owned(), options);
    let (path, timeout) = (path.to_owned(), options.timeout);
    sqlite
        .max_connections(if writes { 1 } else { options.max_connections })
        .map_sqlx_sqlite_opts(move |sqlite| {
            let sqlite = sqlite
                .filename(&path)
                .create_if_missing(writes)
                .busy_timeout(timeout)
                .foreign_keys(true)
                .pragma("journal_mode", "WAL")
                // What was answered as done survives a power cut.
                .pragma("synchronous", "FULL");
            if writes {
                sqlite
            } else {
                sqlite.pragma("query_only", "ON")
            }
        });
    sqlite
}

fn postgres(url: &str, options: &DatabaseOptions) -> ConnectOptions {
    let mut postgres = common(url.to_owned(), options);
    let timeout = options.timeout.as_millis().to_string();
    postgres
        .max_connections(options.max_connections)
        .min_connections(1)
        .set_application_name("aegis-catalog")
        .map_sqlx_postgres_opts(move |postgres| {
            postgres.options([
                ("lock_timeout", timeout.clone()),
                // A replica that froze in a transaction must not hold a scan's lock for ever.
                ("idle_in_transaction_session_timeout", timeout.clone()),
            ])
        });
    postgres
}

/// Any number: the same in every replica.
const MIGRATION_LOCK: i64 = 0x0061_6567_6973;

/// Brings the schema up to date in one transaction, of one replica at a time.
async fn migrate(writer: &DatabaseConnection, dialect: Dialect) -> Result<(), DbErr> {
    let tx = writer.begin_with_options(dialect.write_options()).await?;
    if dialect == Dialect::Postgres {
        let lock = dialect.statement("SELECT pg_advisory_xact_lock($1)", [MIGRATION_LOCK.into()]);
        tx.query_one_raw(lock).await?;
    }
    Migrator::up(&tx, None).await?;
    tx.commit().await
}
