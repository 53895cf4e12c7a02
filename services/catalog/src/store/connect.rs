//! How connections are made: their limits, and what they log.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::{self, Connection, SqliteConnection},
};

/// Which database, and how it is used.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// Where it is.
    pub location: Location,
    /// Connections to PostgreSQL, or readers of SQLite; at least 1.
    pub max_connections: u32,
    /// Connections that stay open when nothing is asked.
    pub idle_connections: u32,
    /// Longest wait for a connection or a lock.
    pub timeout: Duration,
    /// Longest time of one statement; PostgreSQL only.
    pub statement_timeout: Duration,
    /// Longest pause inside a transaction; PostgreSQL only.
    pub idle_transaction: Duration,
    /// Statements that take longer are logged.
    pub slow_statement: Option<Duration>,
    /// Whether the schema is brought up to date when it is opened.
    pub migrate: bool,
}

impl DatabaseOptions {
    /// A database with the limits that the configuration has by default.
    pub fn at(location: Location) -> Self {
        Self {
            location,
            max_connections: 8,
            idle_connections: 1,
            timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(30),
            idle_transaction: Duration::from_secs(10),
            slow_statement: Some(Duration::from_millis(500)),
            migrate: true,
        }
    }
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

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// All that the service writes; on PostgreSQL also what it reads.
    Write,
    /// What it reads from SQLite.
    Read,
    /// One connection that changes the schema: it waits for its turn and takes the time it needs.
    Schema,
    /// Two connections to PostgreSQL: what is changed here is told, what others change is heard.
    Listen,
}

/// A connection that was idle for longer is asked whether it is still there before it is used.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How long a change of the schema waits for another one to end.
const SCHEMA_WAIT: Duration = Duration::from_secs(600);

pub(crate) async fn connect(
    options: &DatabaseOptions,
    purpose: Purpose,
) -> Result<DatabaseConnection, DbErr> {
    Database::connect(match &options.location {
        Location::File(path) => sqlite(path, options, purpose),
        Location::Postgres(url) => postgres(url, options, purpose),
    })
    .await
}

fn common(url: String, options: &DatabaseOptions) -> ConnectOptions {
    let mut common = ConnectOptions::new(url);
    common
        .acquire_timeout(options.timeout)
        .connect_timeout(options.timeout)
        // One that was in use a moment ago is there, and asking it would double most reads.
        .test_before_acquire_if_idle_for(TRUSTED_FOR)
        // Slow statements are logged by the catalog itself.
        .sqlx_logging(false)
        // Statements' values are other people's prompts: no trace has them.
        .record_stmt_in_spans(false);
    common
}

fn sqlite(path: &Path, options: &DatabaseOptions, purpose: Purpose) -> ConnectOptions {
    // The file is named below: in a URL its name would have to be escaped.
    let mut sqlite = common("sqlite:catalog.db".to_owned(), options);
    let path = path.to_owned();
    let reads = purpose == Purpose::Read;
    let wait = match purpose {
        Purpose::Schema => SCHEMA_WAIT,
        Purpose::Write | Purpose::Read | Purpose::Listen => options.timeout,
    };
    sqlite
        .max_connections(if reads { options.max_connections } else { 1 })
        .min_connections(u32::from(reads) * options.idle_connections)
        .map_sqlx_sqlite_pool_opts(|pool| {
            pool.after_release(|connection, _| Box::pin(is_at_rest(connection)))
        })
        .map_sqlx_sqlite_opts(move |sqlite| {
            let sqlite = sqlite
                .filename(&path)
                .create_if_missing(!reads)
                .busy_timeout(wait)
                .foreign_keys(true)
                .pragma("journal_mode", "WAL")
                // What was answered as done survives a power cut.
                .pragma("synchronous", "FULL");
            if reads {
                sqlite.pragma("query_only", "ON")
            } else {
                sqlite
            }
        });
    sqlite
}

/// Whether a connection may be used again. SQLite itself takes a transaction back that meets a full
/// disk or a failing one. Then there is none for sqlx to take back, and it counts that one as open
/// for ever: all that comes later would be a part of what is never committed.
async fn is_at_rest(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // One that was dropped is taken back before this is answered.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

fn postgres(url: &str, options: &DatabaseOptions, purpose: Purpose) -> ConnectOptions {
    let mut postgres = common(url.to_owned(), options);
    let ms = |limit: Duration| limit.as_millis().to_string();
    let (connections, idle, statement_timeout) = match purpose {
        Purpose::Schema => (1, 1, "0".to_owned()),
        Purpose::Listen => (2, 1, ms(options.statement_timeout)),
        Purpose::Write | Purpose::Read => (
            options.max_connections,
            options.idle_connections,
            ms(options.statement_timeout),
        ),
    };
    let limits = [
        ("lock_timeout", ms(options.timeout)),
        ("statement_timeout", statement_timeout),
        // A replica that froze in a transaction must not hold a scan's lock for ever.
        (
            "idle_in_transaction_session_timeout",
            ms(options.idle_transaction),
        ),
    ];
    postgres
        .max_connections(connections)
        .min_connections(idle)
        .set_application_name("aegis-catalog")
        .map_sqlx_postgres_opts(move |postgres| postgres.options(limits.clone()));
    if matches!(purpose, Purpose::Schema | Purpose::Listen) {
        // An advisory lock belongs to its connection, and so does LISTEN.
        postgres.max_lifetime(None).idle_timeout(None);
    }
    postgres
}

#[cfg(test)]
mod tests {
    use sea_orm::{ConnectionTrait, TransactionTrait};

    use super::{super::dialect::Dialect, *};

    #[tokio::test]
    async fn what_is_written_after_a_full_disk_is_committed() {
        let folder = tempfile::tempdir().unwrap();
        let location = Location::File(folder.path().join("catalog.db"));
        let options = DatabaseOptions::at(location);
        let writer = connect(&options, Purpose::Write).await.unwrap();
        let begin = || writer.begin_with_options(Dialect::Sqlite.write_options());
        let table = "CREATE TABLE a (b TEXT)";
        writer.execute_unprepared(table).await.unwrap();
        let full = "PRAGMA max_page_count = 2";
        writer.execute_unprepared(full).await.unwrap();
        let tx = begin().await.unwrap();
        let large = "INSERT INTO a VALUES (printf('%.*c', 100000, 'x'))";
        tx.execute_unprepared(large).await.unwrap_err();
        drop(tx);
        // There is room again, for all that comes by any connection.
        let room = "PRAGMA max_page_count = 1000000";
        writer.execute_unprepared(room).await.unwrap();
        let dropped = begin().await.unwrap();
        dropped.execute_unprepared(large).await.unwrap();
        drop(dropped);
        let tx = begin().await.unwrap();
        tx.execute_unprepared(large).await.unwrap();
        tx.commit().await.unwrap();
        let reader = connect(&options, Purpose::Read).await.unwrap();
        let count = Dialect::Sqlite.statement("SELECT COUNT(*) FROM a", []);
        let row = reader.query_one_raw(count).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<i64>(0).unwrap(), 1);
    }
}
