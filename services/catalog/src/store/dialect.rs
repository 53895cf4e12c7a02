//! The one place for what must differ between the databases.

use sea_orm::{
    DatabaseBackend, DbErr, IsolationLevel, SqliteTransactionMode, Statement, TransactionOptions,
    Value,
};

use super::fence;

/// Which database speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

/// A word in a statement, and what SQLite and PostgreSQL say for it.
const WORDS: [(&str, &str, &str); 14] = [
    // The database's clock, in unix milliseconds. Not the start of the transaction: time
    // passes while a lock is waited for.
    (
        "{now}",
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        "(extract(epoch FROM clock_timestamp()) * 1000)::bigint",
    ),
    // The run that may write.
    ("{fence}", fence::CONDITION, fence::CONDITION),
    // A row that is read to be changed. SQLite has one writer and needs none. NO KEY: a row
    // that refers to this one may be inserted meanwhile without a deadlock.
    ("{lock}", "", "FOR NO KEY UPDATE"),
    // A row that must stay as it is until the end of the transaction.
    ("{share}", "", "FOR SHARE"),
    // 1 for the one that folds a project's statistics, until its transaction ends; the project
    // is the statement's first value. Any number, so that no other lock is meant.
    (
        "{fold_claim}",
        "CAST($1 IS NOT NULL AS INTEGER)",
        "pg_try_advisory_xact_lock(1634035315, hashtext($1))::int",
    ),
    // One after the other, until its transaction ends: who begins to run a scan.
    (
        "{start_claim}",
        "CAST($1 IS NOT NULL AS INTEGER)",
        "pg_advisory_xact_lock(1634035316, hashtext($1))",
    ),
    ("{uuid}", "BLOB", "UUID"),
    ("{json}", "TEXT", "JSONB"),
    ("{blob}", "BLOB", "BYTEA"),
    ("{double}", "REAL", "DOUBLE PRECISION"),
    // Rows lie in the order of their key.
    ("{clustered}", "WITHOUT ROWID", ""),
    // Key and value of each label.
    (
        "{labels}",
        "json_each(s.labels)",
        "jsonb_each_text(s.labels)",
    ),
    // Where the second text begins in the first, from 1; 0 when it does not occur.
    ("{position}", "instr", "strpos"),
    (
        "{migrations_exist}",
        "EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations')",
        "to_regclass('seaql_migrations') IS NOT NULL",
    ),
];

impl Dialect {
    /// The dialect of a connection.
    pub(crate) fn of(backend: DatabaseBackend) -> Result<Self, DbErr> {
        match backend {
            DatabaseBackend::Sqlite => Ok(Self::Sqlite),
            DatabaseBackend::Postgres => Ok(Self::Postgres),
            other => Err(DbErr::Custom(format!("{other:?} is not supported"))),
        }
    }

    /// The text with this database's words.
    pub(crate) fn sql(self, text: &str) -> String {
        WORDS.iter().fold(text.to_owned(), |sql, word| {
            sql.replace(
                word.0,
                match self {
                    Self::Sqlite => word.1,
                    Self::Postgres => word.2,
                },
            )
        })
    }

    /// A statement with its values.
    pub(crate) fn statement(
        self,
        text: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Statement {
        let backend = match self {
            Self::Sqlite => DatabaseBackend::Sqlite,
            Self::Postgres => DatabaseBackend::Postgres,
        };
        Statement::from_sql_and_values(backend, self.sql(text), values)
    }

    /// How a transaction that writes begins. SQLite: as the writer from the start, for a reader
    /// that becomes a writer is refused when another came first.
    pub(crate) fn write_options(self) -> TransactionOptions {
        match self {
            Self::Sqlite => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..TransactionOptions::default()
            },
            Self::Postgres => TransactionOptions {
                isolation_level: Some(IsolationLevel::ReadCommitted),
                ..TransactionOptions::default()
            },
        }
    }
}
