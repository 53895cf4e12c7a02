//! The old system's database: PostgreSQL or SQLite, only ever read.

use std::collections::BTreeMap;

use aegis_mesh::{Error, Result, Secret};
use futures_util::{Stream, stream};
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement};

use super::address::options;

/// Rows of one question: each may have options of some kilobytes.
const PAGE_ROWS: usize = 100;

/// A table, its unique text, and what is asked of it. Columns that an older schema has not are left out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
    pub(super) columns: &'static [&'static str],
}

/// `scans`
pub(super) const SCANS: Table = Table {
    name: "scans",
    key: "id",
    columns: &[
        "id",
        "target_type",
        "target_name",
        "status",
        "started_at",
        "completed_at",
        "total_probes",
        "passed",
        "failed",
        "error_message",
        "report_path",
        "html_report_path",
        "report_key",
        "html_report_key",
        "probe_stats_json",
        "config_json",
        "created_at",
    ],
};

/// `config_templates`
pub(super) const TEMPLATES: Table = Table {
    name: "config_templates",
    key: "name",
    columns: &["name", "description", "config_json"],
};

/// `custom_probes`
pub(super) const PROBES: Table = Table {
    name: "custom_probes",
    key: "name",
    columns: &["name", "description", "file_path", "goal"],
};

/// A row as texts; what is NULL, or no column here, is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Row(pub(super) BTreeMap<&'static str, String>);

impl Row {
    /// A column's text; empty when it has none.
    pub(super) fn text(&self, column: &str) -> &str {
        self.0.get(column).map_or("", String::as_str)
    }
}

/// An open database.
#[derive(Debug, Clone)]
pub(super) struct OldDatabase {
    connection: DatabaseConnection,
}

impl OldDatabase {
    /// Opens it, and looks that it is the old system's.
    ///
    /// # Errors
    /// An address that is none, a database that does not answer, or one without scans.
    pub(super) async fn open(url: &Secret) -> Result<Self> {
        let options = options(url.expose())?;
        let connection = Database::connect(options).await.map_err(unusable)?;
        let opened = Self { connection };
        if opened.columns(SCANS).await?.is_empty() {
            let message = "the database has no table scans: it is not the old system's";
            return Err(
                Error::failed_precondition("IMPORT_DATABASE_UNUSABLE", message)
                    .hint("look at --database: the right server, database, file?"),
            );
        }
        Ok(opened)
    }

    /// Those columns of a table that are there; none when there is no such table.
    async fn columns(&self, table: Table) -> Result<Vec<&'static str>> {
        let backend = self.connection.get_database_backend();
        let question = match backend {
            DbBackend::Postgres => {
                "SELECT column_name AS name FROM information_schema.columns \
                 WHERE table_name = $1 AND table_schema = ANY (current_schemas(false))"
            }
            _ => "SELECT name FROM pragma_table_info(?)",
        };
        let question = Statement::from_sql_and_values(backend, question, [table.name.into()]);
        let rows = self
            .connection
            .query_all_raw(question)
            .await
            .map_err(unusable)?;
        let mut found = Vec::new();
        for row in rows {
            let name: String = row.try_get("", "name").map_err(unusable)?;
            found.extend(table.columns.iter().find(|column| **column == name));
        }
        Ok(found)
    }

    /// Every row of a table, page by page in the order of its key.
    pub(super) fn rows(&self, table: Table) -> impl Stream<Item = Result<Vec<Row>>> + use<> {
        let start = Some((self.clone(), String::new(), None));
        stream::try_unfold(start, move |at| async move {
            let Some((database, after, columns)) = at else {
                return Ok(None);
            };
            let columns = match columns {
                Some(columns) => columns,
                None => database.columns(table).await?,
            };
            if columns.is_empty() {
                return Ok(None);
            }
            let rows = database.page(table, &columns, &after).await?;
            let last = rows.last().map(|row| row.text(table.key).to_owned());
            let next = last.filter(|_| rows.len() == PAGE_ROWS);
            Ok(Some((
                rows,
                next.map(|last| (database, last, Some(columns))),
            )))
        })
    }

    async fn page(&self, table: Table, columns: &[&'static str], after: &str) -> Result<Vec<Row>> {
        let backend = self.connection.get_database_backend();
        // As texts, whatever type a schema gave them. No name here comes from outside.
        let texts: Vec<_> = columns
            .iter()
            .map(|column| format!("CAST(\"{column}\" AS TEXT) AS \"{column}\""))
            .collect();
        let Table { name, key, .. } = table;
        let parameter = if backend == DbBackend::Postgres {
            "$1"
        } else {
            "?"
        };
        let question = format!(
            "SELECT {} FROM \"{name}\" WHERE \"{name}\".\"{key}\" > {parameter} \
             ORDER BY \"{name}\".\"{key}\" LIMIT {PAGE_ROWS}",
            texts.join(", ")
        );
        let question = Statement::from_sql_and_values(backend, question, [after.into()]);
        let rows = self
            .connection
            .query_all_raw(question)
            .await
            .map_err(unusable)?;
        rows.into_iter()
            .map(|row| {
                let mut texts = BTreeMap::new();
                for column in columns {
                    let text: Option<String> = row.try_get("", column).map_err(unusable)?;
                    texts.extend(text.map(|text| (*column, text)));
                }
                Ok(Row(texts))
            })
            .collect()
    }

    /// Lets go of it.
    pub(super) async fn close(self) -> Result<()> {
        self.connection.close().await.map_err(unusable)
    }
}

/// Says what a database says. Neither sqlx nor a database repeats an address with its password.
fn unusable(error: DbErr) -> Error {
    let message = format!("the old system's database: {error}");
    Error::failed_precondition("IMPORT_DATABASE_UNUSABLE", message)
        .hint("look at --database, and stop the old system first")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures_util::TryStreamExt;

    use super::*;

    async fn made(file: &Path, sql: &str) {
        let url = format!("sqlite:{}?mode=rwc", file.display());
        let database = Database::connect(url).await.unwrap();
        database.execute_unprepared(sql).await.unwrap();
        database.close().await.unwrap();
    }

    fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let entries = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries
            .map(|path| (path.display().to_string(), std::fs::read(path).unwrap()))
            .collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn rows_come_by_pages_and_nothing_is_changed() {
        for mode in ["WAL", "DELETE"] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("old one?.db");
            let plain = folder.path().join("x.db");
            let rows: Vec<_> = (0..251).map(|n| format!("('{n:05}', {n}, NULL)")).collect();
            let sql = format!(
                "PRAGMA journal_mode={mode}; CREATE TABLE scans(id TEXT PRIMARY KEY, passed INTEGER, status TEXT);
                 INSERT INTO scans VALUES {};",
                rows.join(",")
            );
            made(&plain, &sql).await;
            std::fs::rename(&plain, &file).unwrap();
            let before = files(folder.path());
            let url = Secret::new(file.display().to_string());
            let database = OldDatabase::open(&url).await.unwrap();
            let pages: Vec<_> = database.rows(SCANS).try_collect().await.unwrap();
            let sizes: Vec<_> = pages.iter().map(Vec::len).collect();
            assert_eq!(sizes, [100, 100, 51]);
            assert_eq!(pages[2][50].text("id"), "00250");
            assert_eq!(
                (pages[2][50].text("passed"), pages[0][0].text("status")),
                ("250", "")
            );
            let none: Vec<_> = database.rows(PROBES).try_collect().await.unwrap();
            assert!(none.is_empty());
            let write = database
                .connection
                .execute_unprepared("DELETE FROM scans")
                .await;
            assert!(write.unwrap_err().to_string().contains("readonly"));
            database.close().await.unwrap();
            assert_eq!(files(folder.path()), before, "{mode}");
        }
    }

    #[tokio::test]
    async fn what_is_no_database_of_the_old_system_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.db");
        for (content, reason) in [("CREATE TABLE a(b)", "IMPORT_DATABASE_UNUSABLE")] {
            made(&file, content).await;
            let url = Secret::new(format!("sqlite:{}", file.display()));
            assert_eq!(OldDatabase::open(&url).await.unwrap_err().reason(), reason);
        }
        std::fs::write(&file, "no database").unwrap();
        for url in [
            format!("sqlite:///{}", file.display()),
            "mysql://me:hunter2@h/x".to_owned(),
            "sqlite:nothing.db".to_owned(),
        ] {
            let error = OldDatabase::open(&Secret::new(url.clone()))
                .await
                .unwrap_err();
            assert!(!format!("{error:?}").contains("hunter2"), "{url}");
        }
    }
}
