//! Where the old system's database is, and how it is opened so that it cannot be changed.

use std::{
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use aegis_mesh::{Error, Result};
use sea_orm::ConnectOptions;

const TIMEOUT: Duration = Duration::from_secs(10);
const STATEMENT_TIMEOUT_MS: &str = "60000";

/// How to connect to the database of this address.
///
/// # Errors
/// An address that is none, or of a file that is not there.
pub(super) fn options(url: &str) -> Result<ConnectOptions> {
    // SQLAlchemy names its driver: postgresql+psycopg2://, sqlite+aiosqlite:///
    let (scheme, rest) = url.split_once(':').unwrap_or(("", url));
    let scheme = scheme.split('+').next().unwrap_or_default();
    match scheme {
        "postgres" | "postgresql" => Ok(postgres(format!("postgres:{rest}"))),
        "sqlite" => sqlite(&sqlite_file(rest)?),
        "" => sqlite(Path::new(url)),
        _ => Err(Error::invalid_field(
            "--database",
            "must begin with postgresql:// or sqlite:",
        )),
    }
}

fn common(url: String) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(1)
        .acquire_timeout(TIMEOUT)
        .connect_timeout(TIMEOUT)
        .sqlx_logging(false)
        .record_stmt_in_spans(false);
    options
}

fn postgres(url: String) -> ConnectOptions {
    let mut options = common(url);
    options
        .set_application_name("aegis-import")
        .map_sqlx_postgres_opts(|postgres| {
            postgres.options([
                ("default_transaction_read_only", "on"),
                ("statement_timeout", STATEMENT_TIMEOUT_MS),
            ])
        });
    options
}

/// The file behind "sqlite:". SQLAlchemy has `///name` for a file here and `////name` for one from
/// the root on; others have `//` and `///`. What there is, is meant.
fn sqlite_file(rest: &str) -> Result<PathBuf> {
    let rest = rest.split('?').next().unwrap_or_default();
    let bare = rest.trim_start_matches('/');
    let slashes = rest.len() - bare.len();
    let rooted = PathBuf::from(format!("/{bare}"));
    let here = PathBuf::from(bare);
    match slashes {
        0 | 2 => Ok(here),
        3 if !rooted.is_file() => Ok(here),
        _ => Ok(rooted),
    }
}

fn sqlite(file: &Path) -> Result<ConnectOptions> {
    // sqlx would call a missing file one that cannot be opened, without its name.
    if !file.is_file() {
        let description = format!("there is no file {}", file.display());
        return Err(Error::invalid_field("--database", description));
    }
    let immutable = is_at_rest(file).map_err(|error| {
        let description = format!("cannot read {}: {error}", file.display());
        Error::invalid_field("--database", description)
    })?;
    let mut options = common("sqlite:old.db".to_owned());
    let file = file.to_owned();
    options.map_sqlx_sqlite_opts(move |sqlite| {
        sqlite
            .filename(&file)
            .create_if_missing(false)
            .read_only(true)
            .immutable(immutable)
            .busy_timeout(TIMEOUT)
    });
    Ok(options)
}

/// Whether a database has a write-ahead log, which is empty: SQLite would put files beside it even
/// to read it, unless it is told that nobody changes it.
fn is_at_rest(file: &Path) -> std::io::Result<bool> {
    /// "File format write version": 2 is the write-ahead log (sqlite.org/fileformat.html, 1.3).
    const WRITE_VERSION: usize = 18;
    let mut header = Vec::new();
    let opened = std::fs::File::open(file)?;
    opened.take(100).read_to_end(&mut header)?;
    let has_log = header.get(WRITE_VERSION) == Some(&2);
    let mut log = file.as_os_str().to_owned();
    log.push("-wal");
    let is_empty = std::fs::metadata(log).map_or(true, |log| log.len() == 0);
    Ok(has_log && is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_sqlalchemy_and_others_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.db");
        std::fs::write(&file, "").unwrap();
        let path = file.display().to_string();
        for rest in [path.clone(), format!("//{path}"), format!("///{path}")] {
            assert_eq!(sqlite_file(&rest).unwrap(), file, "{rest}");
        }
        for rest in ["a.db", "///a.db", "//a.db"] {
            assert_eq!(sqlite_file(rest).unwrap(), Path::new("a.db"), "{rest}");
        }
    }
}
