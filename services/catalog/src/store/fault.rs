//! What can go wrong in here, before it is told to callers.

use std::time::Duration;

use aegis_mesh::Error;
use sea_orm::{DbErr, RuntimeErr, SqlErr};

use super::connect::Location;
use crate::domain::UnknownWord;

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
/// PostgreSQL: 40001, 40P01, 55P03; SQLite: SQLITE_BUSY 5 and its extended codes.
const TRANSIENT: [&str; 7] = ["40001", "40P01", "55P03", "5", "261", "517", "773"];

/// PostgreSQL: a statement that took longer than `statement_timeout`.
const QUERY_CANCELED: &str = "57014";

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
        let message = format!("the database {location:?} cannot be used: {error}");
        Error::failed_precondition("DATABASE_UNUSABLE", message)
            .hint("check that it is this version's own database and can be written to")
    }

    /// Whether the same transaction may succeed when it is run again.
    pub(crate) fn is_transient(&self) -> bool {
        let Self::Database(error) = self else {
            return false;
        };
        if let Some(SqlErr::UniqueConstraintViolation(_)) = error.sql_err() {
            return true;
        }
        database_code(error).is_some_and(|code| TRANSIENT.contains(&code.as_str()))
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

fn is_connection(error: &DbErr) -> bool {
    matches!(error, DbErr::Conn(_) | DbErr::ConnectionAcquire(_))
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
            Fault::Database(error) if database_code(&error).as_deref() == Some(QUERY_CANCELED) => {
                tracing::warn!(%error, "a statement was given up");
                Self::unavailable("DATABASE_BUSY", "the database took too long", RETRY_AFTER)
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
