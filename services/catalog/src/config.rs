//! The catalog's configuration.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use aegis_mesh::{
    ConfigError, PlainVariable, Secret, ServerConfig, ServiceConfig, TelemetryConfig,
};
use serde::{Deserialize, Serialize};

use crate::store::{DatabaseOptions, Location, Retention};

/// Configuration of catalog; environment prefix `AEGIS_CATALOG__`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub server: ServerConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Folder of SQLite's `catalog.db`, made when it is missing. Not used with PostgreSQL.
    pub data_dir: PathBuf,
    /// `postgres://user:password@host/database`, or `sqlite:PATH`. Unset: `catalog.db` in `data_dir`.
    pub database_url: Option<Secret>,
    /// Connections to PostgreSQL, or readers of SQLite, 1 to 1000.
    pub database_connections: u32,
    /// Connections that are kept open when nothing is asked, 0 to `database_connections`.
    pub database_idle_connections: u32,
    /// Longest wait for a connection or a lock, 1 to 300.
    pub database_timeout_seconds: u64,
    /// Longest time of one statement on PostgreSQL, 1 to 3600. SQLite has no such limit: only the
    /// wait for its lock ends, by `database_timeout_seconds`.
    pub database_statement_timeout_seconds: u64,
    /// Longest pause inside a transaction on PostgreSQL, 1 to 3600; then it is rolled back.
    pub database_idle_transaction_seconds: u64,
    /// A statement that takes longer is logged without its values, 0 to 3600000; 0: none.
    pub database_slow_statement_ms: u64,
    /// Whether the schema is brought up to date on start. Switched off where the service's
    /// database role may not change it: then `aegis-catalog migrate` does it.
    pub migrate_on_start: bool,
    /// How long a deleted scan can be restored, 0 to 3650.
    pub deleted_scan_days: u64,
    /// How long a request's repeat is known, 24 to 8760.
    pub request_hours: u64,
    /// How long a file may take from its announcement to its commit, 1 to 720.
    pub upload_hours: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_port(7103),
            telemetry: TelemetryConfig::default(),
            data_dir: PathBuf::from("data"),
            database_url: None,
            database_connections: 8,
            database_idle_connections: 1,
            database_timeout_seconds: 10,
            database_statement_timeout_seconds: 30,
            database_idle_transaction_seconds: 10,
            database_slow_statement_ms: 500,
            migrate_on_start: true,
            deleted_scan_days: 7,
            request_hours: 48,
            upload_hours: 24,
        }
    }
}

impl ServiceConfig for Config {
    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn listen(&self) -> SocketAddr {
        self.server.listen
    }

    fn plain_variables() -> &'static [PlainVariable] {
        const URL: &[PlainVariable] = &[PlainVariable::text("DATABASE_URL", "database_url")];
        URL
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate()?;
        self.validate_own()
    }
}

impl Config {
    /// The checks of what is the catalog's own.
    ///
    /// # Errors
    /// Naming the first field that is out of range.
    pub fn validate_own(&self) -> Result<(), ConfigError> {
        let ranges = [
            (
                "database_connections",
                u64::from(self.database_connections),
                1..=1000,
            ),
            (
                "database_timeout_seconds",
                self.database_timeout_seconds,
                1..=300,
            ),
            (
                "database_idle_connections",
                u64::from(self.database_idle_connections),
                0..=u64::from(self.database_connections),
            ),
            (
                "database_statement_timeout_seconds",
                self.database_statement_timeout_seconds,
                1..=3600,
            ),
            (
                "database_idle_transaction_seconds",
                self.database_idle_transaction_seconds,
                1..=3600,
            ),
            (
                "database_slow_statement_ms",
                self.database_slow_statement_ms,
                0..=3_600_000,
            ),
            ("deleted_scan_days", self.deleted_scan_days, 0..=3650),
            ("request_hours", self.request_hours, 24..=8760),
            ("upload_hours", self.upload_hours, 1..=720),
        ];
        for (field, value, range) in ranges {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                return Err(ConfigError::invalid(format!(
                    "{field} is {value}; it must be {least} to {most}"
                )));
            }
        }
        self.location().map(drop)
    }

    fn location(&self) -> Result<Location, ConfigError> {
        let Some(url) = &self.database_url else {
            return Ok(Location::File(self.data_dir.join("catalog.db")));
        };
        let url = url.expose();
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            return Ok(Location::Postgres(url.to_owned()));
        }
        match url.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() && !path.starts_with("//") && path != ":memory:" => {
                Ok(Location::File(PathBuf::from(path)))
            }
            // The value is not shown: it may hold a password.
            _ => Err(ConfigError::invalid(
                "database_url must begin with postgres://, or be sqlite: and a file's path",
            )),
        }
    }

    pub(crate) fn database(&self) -> Result<DatabaseOptions, ConfigError> {
        let slow = Duration::from_millis(self.database_slow_statement_ms);
        Ok(DatabaseOptions {
            location: self.location()?,
            max_connections: self.database_connections,
            idle_connections: self.database_idle_connections,
            timeout: Duration::from_secs(self.database_timeout_seconds),
            statement_timeout: Duration::from_secs(self.database_statement_timeout_seconds),
            idle_transaction: Duration::from_secs(self.database_idle_transaction_seconds),
            slow_statement: (!slow.is_zero()).then_some(slow),
            migrate: self.migrate_on_start,
        })
    }

    pub(crate) fn retention(&self) -> Retention {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        Retention {
            deleted_scan: hours(self.deleted_scan_days * 24),
            request: hours(self.request_hours),
            upload: hours(self.upload_hours),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_url(url: &str) -> Config {
        Config {
            database_url: Some(Secret::new(url)),
            ..Config::default()
        }
    }

    #[test]
    fn the_default_is_a_file_in_the_data_folder() {
        let location = Config::default().location().unwrap();
        assert!(matches!(location, Location::File(path) if path.ends_with("data/catalog.db")));
    }

    #[test]
    fn a_database_url_is_postgres_or_a_file_and_never_shown() {
        let url = "postgres://me:hunter2@db/aegis";
        let location = with_url(url).location().unwrap();
        assert!(matches!(&location, Location::Postgres(found) if found == url));
        assert!(!format!("{location:?}").contains("hunter2"));
        assert!(with_url("sqlite:/tmp/x.db").location().is_ok());
        for bad in ["", "mysql://me:hunter2@db/x", "sqlite:", "sqlite::memory:"] {
            let error = with_url(bad).validate().unwrap_err().to_string();
            assert!(error.contains("database_url"), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let config = Config {
            request_hours: 1,
            ..Config::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("request_hours is 1"), "{error}");
    }
}
