//! A mesh's data directory, looked at from outside.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use sea_orm::{
    ConnectionTrait, Database, DatabaseBackend, DatabaseConnection, Statement, TryGetable,
};

/// The database of `aegis up`, which was started with a folder `data`.
///
/// # Errors
/// When it is not there, or no database.
pub async fn database(data: &Path, mode: &str) -> Result<DatabaseConnection> {
    let file = data.join("data/catalog/catalog.db");
    ensure!(file.try_exists()?, "{} is not there", file.display());
    let url = format!("sqlite:{}?mode={mode}", file.display());
    Ok(Database::connect(url).await?)
}

/// The first column of what a statement gives.
///
/// # Errors
/// When the statement is wrong, or the column of another type.
pub async fn column<T: TryGetable>(database: &DatabaseConnection, sql: &str) -> Result<Vec<T>> {
    let statement = Statement::from_string(DatabaseBackend::Sqlite, sql);
    let rows = database.query_all_raw(statement).await?;
    let values = rows.iter().map(|row| row.try_get_by_index(0));
    Ok(values.collect::<Result<_, _>>()?)
}

/// Keys of the objects in a directory.
///
/// # Errors
/// When it cannot be read.
pub fn objects(root: &Path) -> Result<BTreeSet<String>> {
    let mut keys = BTreeSet::new();
    let mut folders = vec![PathBuf::from(root)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else {
                keys.insert(path.strip_prefix(root)?.display().to_string());
            }
        }
    }
    Ok(keys)
}

/// Every object has its row, and every row its object, and nothing is garbage: the rows' keys.
///
/// # Errors
/// When that is not so.
pub async fn balanced(data: &Path) -> Result<BTreeSet<String>> {
    let database = database(data, "ro").await?;
    let rows = "SELECT object_key FROM artifacts WHERE state = 'COMMITTED'";
    let rows: Vec<String> = column(&database, rows).await?;
    let rows: BTreeSet<String> = rows.into_iter().collect();
    let others = "SELECT object_key FROM artifacts WHERE state <> 'COMMITTED'
        UNION ALL SELECT object_key FROM garbage";
    let others: Vec<String> = column(&database, others).await?;
    ensure!(others.is_empty(), "{others:?}");
    database.close().await?;
    let found = objects(&data.join("data/artifact/objects"))?;
    let base = |key: &String| key.strip_suffix(".index").unwrap_or(key).to_owned();
    let with_row: BTreeSet<String> = found.iter().map(base).collect();
    ensure!(
        with_row == rows,
        "{with_row:?} are there, {rows:?} should be"
    );
    Ok(rows)
}
