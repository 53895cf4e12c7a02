//! The database.

use aegis_testkit::books;
use anyhow::Result;
use sea_orm::{ConnectionTrait, DatabaseBackend, QueryResult, Statement, Value};
use uuid::Uuid;

use super::Violation;

/// What must hold besides the books, once nothing runs any more. Each statement gives the ids of
/// what is wrong.
const WRONG: [(&str, &str); 15] = [
    (
        "a scan has not ended",
        "SELECT id::text FROM scans WHERE ended_at IS NULL",
    ),
    (
        "a task has not ended",
        "SELECT id::text FROM tasks WHERE state IN ('QUEUED', 'RUNNING')",
    ),
    (
        "a lane counts what does not run",
        "SELECT id FROM lanes WHERE in_flight <> 0 OR queued <> 0",
    ),
    (
        "a scan counts what does not run",
        "SELECT id::text FROM scans
         WHERE in_flight <> 0 OR queued <> 0 OR running <> 0 OR report_queued",
    ),
    (
        "a scan's log does not begin with 1, or a number is there twice",
        "SELECT s.id::text FROM scans s JOIN scan_events e ON e.scan_id = s.id GROUP BY s.id
         HAVING MIN(e.sequence) <> 1 OR COUNT(*) <> COUNT(DISTINCT e.sequence)",
    ),
    (
        "a probe's event is there twice of one run",
        "SELECT e.task_id::text FROM scan_events e WHERE e.source_sequence IS NOT NULL
         GROUP BY e.task_id, e.epoch, e.source_sequence HAVING COUNT(*) > 1",
    ),
    (
        "more than one run of a task is done",
        "SELECT task_id::text FROM task_runs WHERE outcome = 'DONE'
         GROUP BY task_id HAVING COUNT(*) > 1",
    ),
    (
        "a task is done, but its last run is not",
        "SELECT t.id::text FROM tasks t WHERE t.state = 'DONE' AND NOT EXISTS (SELECT 1
         FROM task_runs r WHERE r.task_id = t.id AND r.epoch = t.epoch AND r.outcome = 'DONE')",
    ),
    (
        "an epoch has no run",
        "SELECT t.id::text FROM tasks t
         WHERE t.epoch <> (SELECT COUNT(*) FROM task_runs r WHERE r.task_id = t.id)",
    ),
    (
        "STALE WRITE: a run ended after the next one of its task had begun",
        "SELECT r.task_id || ' epoch ' || r.epoch FROM task_runs r JOIN task_runs n
         ON n.task_id = r.task_id AND n.epoch = r.epoch + 1
         WHERE r.ended_at IS NULL OR r.ended_at > n.started_at",
    ),
    (
        "STALE WRITE: a file was announced by a run that had lost its task",
        "SELECT DISTINCT a.object_key FROM artifacts a JOIN task_runs n
         ON n.task_id = a.task_id AND n.epoch > a.epoch WHERE n.started_at < a.created_at",
    ),
    (
        "STALE WRITE: an event of a run that had lost its task",
        "SELECT DISTINCT e.task_id || ' epoch ' || e.epoch FROM scan_events e JOIN task_runs n
         ON n.task_id = e.task_id AND n.epoch > e.epoch
         WHERE e.source_sequence IS NOT NULL AND n.started_at < e.at",
    ),
    (
        "an object's key is not its run's",
        "SELECT id::text FROM artifacts WHERE object_key <> project_id || '/scans/' || scan_id
             || '/' || task_id || '/' || epoch || '/' || name",
    ),
    (
        "a probe is done, but has no result",
        "SELECT t.id::text FROM tasks t WHERE t.kind = 'PROBE' AND t.state = 'DONE' AND NOT EXISTS
         (SELECT 1 FROM probe_results r WHERE r.scan_id = t.scan_id AND r.probe = t.probe)",
    ),
    (
        "a scan's counts of results are not those of its tasks",
        "SELECT s.id::text FROM scans s WHERE s.evaluated + s.not_evaluated <> s.planned",
    ),
];

/// What must hold once all garbage was collected.
const NOT_COLLECTED: [(&str, &str); 2] = [
    (
        "a file is neither committed nor collected",
        "SELECT object_key FROM artifacts WHERE state <> 'COMMITTED'",
    ),
    (
        "an object is still to be deleted",
        "SELECT object_key FROM garbage",
    ),
];

/// The scans of a request that was answered, of those that carry its id as their name.
const OF_REQUEST: &str = "
    SELECT s.id::text FROM scans s WHERE s.display_name = $1
    UNION ALL SELECT i.scan_id::text FROM idempotency i WHERE i.request_id = $1";

/// What is wrong once nothing runs any more.
pub(crate) async fn check(
    database: &impl ConnectionTrait,
    accepted: &[(Uuid, String)],
) -> Result<Vec<Violation>> {
    let mut found = Vec::new();
    for (what, sql) in books::WRONG.iter().chain(&WRONG) {
        found.extend(violations(database, what, sql).await?);
    }
    for (request, scan) in accepted {
        let scans = ids(database, OF_REQUEST, [request.to_string().into()]).await?;
        if scans != [scan.clone(), scan.clone()] {
            let what = "a request that was answered is not exactly the scan of the answer";
            found.push(Violation::new(what, format!("{request}: {scans:?}")));
        }
    }
    Ok(found)
}

/// What was not collected.
pub(crate) async fn check_collected(database: &impl ConnectionTrait) -> Result<Vec<Violation>> {
    let mut found = Vec::new();
    for (what, sql) in NOT_COLLECTED {
        found.extend(violations(database, what, sql).await?);
    }
    Ok(found)
}

/// Scans and tasks that have not ended.
pub(crate) async fn open(database: &impl ConnectionTrait) -> Result<Vec<Violation>> {
    let mut found = Vec::new();
    for (what, sql) in &WRONG[..2] {
        found.extend(violations(database, what, sql).await?);
    }
    Ok(found)
}

/// What each task that has not ended waits for: times are in seconds from now.
const WAITING: &str = "
    SELECT t.id || ' ' || jsonb_build_object(
        'scan', t.scan_id, 'scan state', s.state, 'target', s.spec #>> '{target,options,uri}',
        'kind', t.kind, 'probe', t.probe, 'state', t.state, 'epoch', t.epoch,
        'failures', t.failures, 'reason', t.reason,
        'not before', (t.not_before - n.now) / 1000, 'lease expires', (t.lease_expires_at - n.now) / 1000,
        'lane', jsonb_build_object('in flight', l.in_flight, 'queued', l.queued,
            'paused until', (l.paused_until - n.now) / 1000,
            'silent since', (l.backpressure_since - n.now) / 1000, 'has answered', l.has_answered))
    FROM tasks t JOIN scans s ON s.id = t.scan_id LEFT JOIN lanes l ON l.id = t.lane_id
    CROSS JOIN (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now) n
    WHERE t.state IN ('QUEUED', 'RUNNING')";

/// Tasks that have not ended, and why: for whoever looks into a run that did not come to its end.
pub(crate) async fn waiting(database: &impl ConnectionTrait) -> Result<Vec<String>> {
    ids(database, WAITING, []).await
}

async fn violations(
    database: &impl ConnectionTrait,
    what: &str,
    sql: &str,
) -> Result<Vec<Violation>> {
    let ids = ids(database, sql, []).await?;
    Ok(ids.into_iter().map(|id| Violation::new(what, id)).collect())
}

/// The first column.
async fn ids(
    database: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<String>> {
    let rows = query(database, sql, values).await?;
    let ids = rows.iter().map(|row| row.try_get_by_index(0));
    Ok(ids.collect::<Result<_, _>>()?)
}

pub(super) async fn query(
    database: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<QueryResult>> {
    let statement = Statement::from_sql_and_values(DatabaseBackend::Postgres, sql, values);
    Ok(database.query_all_raw(statement).await?)
}
