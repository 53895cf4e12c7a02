//! What the database must say after every death.

use std::path::Path;

use aegis_tests::data::{column, database};
use anyhow::{Result, ensure};
use sea_orm::ConnectionTrait;

/// Each gives the number of rows that are wrong.
const WRONG: &[(&str, &str)] = &[
    (
        "a log has gaps",
        "SELECT COUNT(*) FROM scans s WHERE s.last_sequence <> (SELECT COUNT(*)
             FROM scan_events e WHERE e.scan_id = s.id)
         OR s.last_sequence <> (SELECT COALESCE(MAX(e.sequence), 0)
             FROM scan_events e WHERE e.scan_id = s.id)",
    ),
    (
        "an event of an older epoch comes after one of a newer",
        "SELECT COUNT(*) FROM scan_events e JOIN scan_events f
         ON f.scan_id = e.scan_id AND f.task_id = e.task_id
         WHERE f.sequence < e.sequence AND f.epoch > e.epoch",
    ),
    (
        "a probe that was evaluated ran again",
        "SELECT COUNT(*) FROM scan_events e JOIN scan_events f
         ON f.scan_id = e.scan_id AND f.task_id = e.task_id AND f.sequence < e.sequence
         WHERE f.kind = 'PROBE_EVALUATED' AND e.kind IN ('PROBE_STARTED', 'PROBE_EVALUATED')",
    ),
    (
        "a done probe has not exactly one result, or another one has",
        "SELECT COUNT(*) FROM tasks t WHERE t.kind = 'PROBE' AND (t.state = 'DONE')
         <> (SELECT COUNT(DISTINCT r.probe) FROM probe_results r
             WHERE r.scan_id = t.scan_id AND r.probe = t.probe)",
    ),
    (
        "a done task has no committed report of its epoch",
        "SELECT COUNT(*) FROM tasks t WHERE t.state = 'DONE' AND t.composed_revision = 0
         AND 1 <> (SELECT COUNT(*) FROM artifacts a WHERE a.task_id = t.id
             AND a.name = 'report.jsonl' AND a.state = 'COMMITTED' AND a.epoch = t.epoch)",
    ),
    (
        "a lane's calls in flight are not those of what runs",
        "SELECT COUNT(*) FROM lanes l WHERE l.in_flight <> (SELECT COALESCE(SUM(t.granted), 0)
         FROM tasks t WHERE t.lane_id = l.id AND t.state = 'RUNNING')",
    ),
    (
        "a terminal scan has open tasks, or an open one has none",
        "SELECT COUNT(*) FROM scans s WHERE (s.ended_at IS NULL) <> EXISTS (SELECT 1
         FROM tasks t WHERE t.scan_id = s.id AND t.state IN ('QUEUED', 'RUNNING'))",
    ),
];

/// As if the minute had passed for which the dead hold their leases. Shorter leases would be lost
/// by the living as well on a busy machine.
pub(crate) async fn end_leases(data: &Path) -> Result<()> {
    let database = database(data, "rw").await?;
    for end in [
        "UPDATE tasks SET lease_expires_at = 0 WHERE state = 'RUNNING'",
        "UPDATE jobs SET held_until = 0 WHERE holder IS NOT NULL",
    ] {
        database.execute_unprepared(end).await?;
    }
    Ok(database.close().await?)
}

/// The books of a mesh that is down, and a condition that must hold.
pub(crate) async fn check(data: &Path, condition: &str) -> Result<()> {
    // What a killed process left in SQLite's log is brought in.
    let database = database(data, "rw").await?;
    for (what, sql) in WRONG {
        let wrong: Vec<i64> = column(&database, sql).await?;
        ensure!(wrong == [0], "{what}: {wrong:?}");
    }
    let holds: Vec<i64> = column(&database, &format!("SELECT {condition}")).await?;
    ensure!(holds == [1], "not so: {condition}");
    database.close().await?;
    Ok(())
}
