//! What can go wrong in here, before it is told to callers.

use std::time::Duration;

use aegis_mesh::Error;
use sea_orm::{DbErr, RuntimeErr, SqlErr};

use super::connect::Location;
use crate::domain::{UnknownWord, waiting::WaitingReason};

/// A refusal by the rules, or a fault of the database.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The rules say no.
    Refused(Error),
    /// The database says no.
    Database(DbErr),
    /// A row that we cannot read: a fault of ours.
    Corrupt(String),
}

pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<DbErr> for Fault {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<UnknownWord> for Fault {
    fn from(error: UnknownWord) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<serde_json::Error> for Fault {
    fn from(error: serde_json::Error) -> Self {
        Self::Corrupt(error.to_string())
    }
}

impl From<aegis_proto::ids::InvalidId> for Fault {
    fn from(error: aegis_proto::ids::InvalidId) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// A deadlock, a lost serialization, a unique key that another transaction took first: the
/// whole transaction may be run again.
/// PostgreSQL: 40001, 40P01, 55P03, and 25001: a transaction could not begin, since its connection
/// was left in another by a call that was given up; nothing of either is stored. SQLite:
/// SQLITE_BUSY 5 and its extended codes.
const TRANSIENT: [&str; 8] = ["40001", "40P01", "55P03", "25001", "5", "261", "517", "773"];

/// PostgreSQL: a statement that took longer than `statement_timeout`.
const QUERY_CANCELED: &str = "57014";

/// What PostgreSQL says as it stops, starts or has no connection left: admin_shutdown,
/// crash_shutdown, cannot_connect_now, idle_session_timeout, too_many_connections,
/// idle_in_transaction_session_timeout
/// (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
const GOING: [&str; 6] = ["57P01", "57P02", "57P03", "57P05", "53300", "25P03"];

/// No room: PostgreSQL's disk_full, SQLite's SQLITE_FULL, and SQLITE_IOERR_SHMSIZE when there is none
/// for the index of its log, which is made anew by the first who opens the file.
const FULL: [&str; 3] = ["53100", "13", "4874"];

/// Nothing may be written: PostgreSQL's read_only_sql_transaction (a standby, say), SQLite's
/// SQLITE_READONLY.
const READ_ONLY: [&str; 2] = ["25006", "8"];

impl Fault {
    /// What whoever starts the catalog is told: what is wrong with which database.
    pub(crate) fn at_start(self, location: &Location) -> Error {
        let Self::Database(error) = self else {
            return self.into();
        };
        if matches!(location, Location::Postgres(_)) && is_connection(&error) {
            let message = format!("the database cannot be reached: {error}");
            return Error::unavailable("DATABASE_DOWN", message, Duration::from_secs(1));
        }
        if has_code(&error, &FULL) {
            return Self::Database(error).into();
        }
        let message = format!("the database {location:?} cannot be used: {error}");
        Error::failed_precondition("DATABASE_UNUSABLE", message)
            .hint("check that it is this version's own database and can be written to")
    }

    /// Why no write can succeed, when that is why this one did not.
    pub(crate) fn all_writes(&self) -> Option<WaitingReason> {
        let Self::Database(error) = self else {
            return None;
        };
        if has_code(error, &FULL) {
            return Some(WaitingReason::DatabaseFull);
        }
        has_code(error, &READ_ONLY).then_some(WaitingReason::DatabaseReadOnly)
    }

    /// Whether the same transaction may succeed when it is run again.
    pub(crate) fn is_transient(&self) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
            return true;
        }
        has_code(error, &TRANSIENT)
    }
}

fn database_code(error: &DbErr) -> Option<String> {
    let (DbErr::Exec(RuntimeErr::SqlxError(source))
    | DbErr::Query(RuntimeErr::SqlxError(source))
    | DbErr::Conn(RuntimeErr::SqlxError(source))) = error
    else {
        return None;
    };
    let code = source.as_database_error()?.code()?;
    Some(code.into_owned())
}

fn has_code(error: &DbErr, codes: &[&str]) -> bool {
    database_code(error).is_some_and(|code| codes.contains(&code.as_str()))
}

fn is_connection(error: &DbErr) -> bool {
    has_code(error, &GOING)
        || matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_))
        || matches!(error,
            DbErr::Exec(RuntimeErr::SqlxError(source)) | DbErr::Query(RuntimeErr::SqlxError(source))
                if source.as_database_error().is_none())
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        const RETRY_AFTER: Duration = Duration::from_secs(1);
        if fault.is_transient() {
            return Self::unavailable("DATABASE_BUSY", "the database is busy", RETRY_AFTER);
        }
        match fault {
            Fault::Refused(error) => error,
            Fault::Database(error) if has_code(&error, &[QUERY_CANCELED]) => {
                tracing::warn!(%error, "a statement was given up");
                Self::unavailable("DATABASE_BUSY", "the database took too long", RETRY_AFTER)
            }
            Fault::Database(error) if has_code(&error, &FULL) => {
                tracing::error!(%error, "the database has no room left");
                let message = "the catalog's database has no room left";
                Self::unavailable("DATABASE_FULL", message, RETRY_AFTER)
                    .hint("free space where the database lies; work goes on by itself")
            }
            Fault::Database(error) if has_code(&error, &READ_ONLY) => {
                tracing::error!(%error, "the database takes no writes");
                let message = "the catalog's database takes no writes now";
                Self::unavailable("DATABASE_READ_ONLY", message, RETRY_AFTER)
                    .hint("is it a standby, or mounted read-only? work goes on by itself")
            }
            Fault::Database(error) if is_connection(&error) => {
                tracing::warn!(%error, "the database cannot be reached");
                Self::unavailable(
                    "DATABASE_DOWN",
                    "the catalog's database cannot be reached",
                    RETRY_AFTER,
                )
            }
            Fault::Database(error) => Self::internal(error),
            Fault::Corrupt(what) => Self::internal(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use aegis_testkit::Postgres;
    use sea_orm::{ConnectionTrait, Database};

    use super::*;

    #[tokio::test]
    async fn what_passes_by_itself_is_no_internal_error() {
        let database = Postgres::shared().create_database();
        let connection = Database::connect(database.url()).await.unwrap();
        for (code, reason) in [
            ("57P01", "DATABASE_DOWN"),
            ("25P03", "DATABASE_DOWN"),
            ("40001", "DATABASE_BUSY"),
            ("25001", "DATABASE_BUSY"),
            ("53100", "DATABASE_FULL"),
            ("25006", "DATABASE_READ_ONLY"),
            ("22012", "INTERNAL"),
        ] {
            let raise = format!("DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$");
            let error = connection.execute_unprepared(&raise).await.unwrap_err();
            let error = Error::from(Fault::from(error));
            assert_eq!(error.reason(), reason, "{code}");
        }
    }

    #[tokio::test]
    async fn a_file_that_may_not_grow_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("catalog.db");
        let url = format!("sqlite:{}?mode=rwc", file.display());
        let connection = Database::connect(url).await.unwrap();
        let grow = "PRAGMA max_page_count = 2; CREATE TABLE a (b); CREATE TABLE c (d)";
        let error = connection.execute_unprepared(grow).await.unwrap_err();
        let fault = Fault::from(error);
        assert_eq!(fault.all_writes(), Some(WaitingReason::DatabaseFull));
        assert_eq!(Error::from(fault).reason(), "DATABASE_FULL");
    }
}
