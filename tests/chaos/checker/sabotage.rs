//! Whether the checker sees: each thing is broken on purpose.

use std::collections::BTreeSet;

use aegis_artifact::{
    domain::key::ObjectKey,
    store::{ObjectStore, S3Store},
};
use anyhow::{Context, Result, ensure};
use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseConnection, Statement, TransactionTrait};
use uuid::Uuid;

use super::{Violation, objects, rows};

/// What is done to a run that went well, and a part of what must be said of it.
const BROKEN: [(&str, &str); 13] = [
    (
        "UPDATE probe_results SET passed = passed + 1",
        "totals are not the sums of results",
    ),
    (
        "UPDATE probe_results SET passed = passed + 1",
        "results are not those of a committed report",
    ),
    (
        "UPDATE scan_events SET sequence = 1000 WHERE sequence = 2",
        "a log has gaps",
    ),
    (
        "UPDATE scan_events SET epoch = epoch + 1 WHERE sequence =
             (SELECT MIN(sequence) FROM scan_events WHERE task_id IS NOT NULL)",
        "an event of an older epoch",
    ),
    (
        "UPDATE artifacts SET epoch = epoch + 1 WHERE name = 'report.jsonl'",
        "an object's key is not its run's",
    ),
    (
        "UPDATE artifacts SET epoch = epoch + 1 WHERE name = 'report.jsonl'",
        "a committed file belongs to no done run",
    ),
    (
        "DELETE FROM probe_results",
        "a probe is done, but has no result",
    ),
    (
        "INSERT INTO task_runs SELECT project_id, task_id, epoch + 1, runner, token_hash,
             started_at, ended_at, outcome, reason, sent FROM task_runs
         WHERE outcome = 'DONE'",
        "more than one run of a task is done",
    ),
    (
        "INSERT INTO task_runs SELECT project_id, task_id, epoch + 1, runner, token_hash,
             started_at, ended_at, outcome, reason, sent FROM task_runs
         WHERE outcome = 'DONE'",
        "STALE WRITE: a run ended after",
    ),
    (
        "INSERT INTO task_runs SELECT project_id, task_id, epoch + 1, runner, token_hash,
             started_at - 1, ended_at, outcome, reason, sent FROM task_runs
         WHERE outcome = 'DONE'",
        "STALE WRITE: a file was announced",
    ),
    (
        "UPDATE lanes SET in_flight = 1",
        "a lane counts what does not run",
    ),
    (
        "UPDATE artifacts SET sha256 = repeat('0', 64) WHERE name = 'report.jsonl'",
        "an object is not what was committed",
    ),
    (
        "DELETE FROM idempotency",
        "a request that was answered is not",
    ),
];

/// Breaks one thing after another of a run that is well, and puts it back.
pub(crate) async fn is_seen(
    database: &DatabaseConnection,
    store: &S3Store,
    accepted: &[(Uuid, String)],
) -> Result<()> {
    for (sql, what) in BROKEN {
        let broken = database.begin().await?;
        let statement = Statement::from_string(DatabaseBackend::Postgres, sql);
        let changed = broken.execute_raw(statement).await.context(sql)?;
        ensure!(changed.rows_affected() > 0, "nothing is broken by {sql}");
        let mut found = rows::check(&broken, accepted).await?;
        found.extend(objects::check(&broken, store).await?);
        broken.rollback().await?;
        seen(&found, what, sql)?;
    }
    let stray = ObjectKey::parse("default/scans/stray/report.jsonl")?;
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), "stray")?;
    store.put(&stray, file.path()).await?;
    let found = objects::check(database, store).await?;
    seen(&found, "an object has no row", "a stray object")?;
    store.delete(&stray).await?;
    let found = objects::check(database, store).await?;
    ensure!(found.is_empty(), "{found:?}");
    let first = store.list("", None, 1).await?;
    let key = &first.first().context("no object")?.key;
    let key = ObjectKey::parse(key.as_str().trim_end_matches(".index"))?;
    store.delete(&key).await?;
    let found = objects::check(database, store).await?;
    seen(&found, "a committed file has no object", key.as_str())
}

fn seen(found: &[Violation], what: &str, by: &str) -> Result<()> {
    let said: BTreeSet<_> = found.iter().map(|one| one.what.as_str()).collect();
    let is_seen = said.iter().any(|one| one.starts_with(what));
    ensure!(is_seen, "{by} is not seen as {what:?}: {said:#?}");
    Ok(())
}
