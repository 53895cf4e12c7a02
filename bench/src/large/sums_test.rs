//! The statistics that are made are those that the catalog folds.

use std::time::Duration;

use aegis_catalog::store::{DatabaseOptions, Location, Retention, Store};
use aegis_proto::ids::ProjectId;
use aegis_testkit::Postgres;
use anyhow::Result;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, Statement};

use super::{KEYS, NUMBER, NUMBERS, changes};
use crate::large::{
    Backend,
    rows::{self, run},
};

/// One a month; many more take minutes to fold.
const SCANS: u64 = 40;

#[tokio::test]
async fn sqlite_makes_what_the_catalog_folds() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("catalog.db");
    let url = format!("sqlite:{}", file.display());
    compare(Backend::Sqlite, Location::File(file), &url).await
}

#[tokio::test]
async fn postgres_makes_what_the_catalog_folds() -> Result<()> {
    let database = Postgres::shared().create_database();
    let url = database.url();
    compare(Backend::Postgres, Location::Postgres(url.clone()), &url).await
}

async fn compare(backend: Backend, location: Location, url: &str) -> Result<()> {
    const DAY: Duration = Duration::from_secs(86_400);
    let retention = Retention {
        deleted_scan: DAY,
        request: DAY,
        upload: DAY,
    };
    let store = Store::open(&DatabaseOptions::at(location), retention).await?;
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    let raw = Database::connect(options).await?;
    rows::fill(&raw, backend, SCANS).await?;
    let made = rollups(&raw).await?;
    assert!(made.len() > 5_000, "{} rows", made.len());

    run(&raw, "DELETE FROM statistics_rollups").await?;
    run(&raw, &deltas(backend)).await?;
    let project = ProjectId::default_project();
    while store.fold_statistics(&project, 2_000).await?.more {}
    let folded = rollups(&raw).await?;
    assert_eq!(made.len(), folded.len());
    for (made, folded) in made.iter().zip(&folded) {
        assert_eq!(made, folded);
    }
    raw.close().await?;
    store.close().await?;
    Ok(())
}

/// All rows as text, in one order.
async fn rollups(raw: &DatabaseConnection) -> Result<Vec<String>> {
    let columns = [
        "dimension",
        "key",
        "target_type",
        "target_name",
        "period",
        "bucket",
    ];
    let columns: Vec<_> = columns.iter().chain(&NUMBERS).chain(&["days"]).collect();
    let columns: Vec<_> = columns
        .iter()
        .map(|name| format!("CAST({name} AS TEXT)"))
        .collect();
    let sql = format!(
        "SELECT {} AS line FROM statistics_rollups",
        columns.join(" || ' ' || ")
    );
    let statement = Statement::from_string(raw.get_database_backend(), sql);
    let found = raw.query_all_raw(statement).await?;
    let lines = found.iter().map(|row| row.try_get::<String>("", "line"));
    let mut lines = lines.collect::<Result<Vec<_>, _>>()?;
    lines.sort();
    Ok(lines)
}

/// A change for everything, as each of them would have been appended when it happened.
fn deltas(backend: Backend) -> String {
    let (id, json) = match backend {
        Backend::Sqlite => ("randomblob(16)", ""),
        Backend::Postgres => ("gen_random_uuid()", "::jsonb"),
    };
    let tags = KEYS.iter().filter(|(dimension, _)| *dimension == "TAG");
    let tags = tags.map(|(_, key)| format!("'\"' || {} || '\"'", key.replace("{number}", NUMBER)));
    let tags: Vec<_> = tags.collect();
    let last = rows::FIRST_MS + 2 * rows::SPAN_MS;
    let last = i64::try_from(last).unwrap() / super::DAY_MS;
    format!(
        "INSERT INTO statistics_deltas (project_id, id, target_type, target_name, day, probe, detector,
             tags, {names})
         SELECT 'default', {id}, target_type, target_name, day, probe, detector,
             (CASE WHEN probe = '' THEN '[]' ELSE '[' || {tags} || ']' END){json}, {names}
         FROM ({changes}) c",
        names = NUMBERS.join(", "),
        tags = tags.join(" || ',' || "),
        changes = changes(0, last),
    )
}
