//! Rows of scans, made by the database itself.

use anyhow::Result;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};

use super::{Backend, sums};

/// Scans of one statement: a transaction of some hundred MB at most.
const BATCH: u64 = 10_000;
/// Probe results of a scan.
const RESULTS: u64 = 40;
/// The first scan's time, 2023-11-14, and how long all of them take: three years, however many.
pub(super) const FIRST_MS: u64 = 1_700_000_000_000;
pub(super) const SPAN_MS: u64 = 94_608_000_000;

/// Puts so many scans into a database without others, each with labels, probes and results, and
/// then the statistics of them all. Goes on where it was interrupted.
pub(super) async fn fill(
    database: &DatabaseConnection,
    backend: Backend,
    scans: u64,
) -> Result<()> {
    run(database, settings(backend)).await?;
    let lane = "INSERT INTO lanes (project_id, id, max_in_flight) VALUES ('default', 'bench', 1)
        ON CONFLICT DO NOTHING";
    run(database, lane).await?;
    let mut first = made(database).await? + 1;
    while first <= scans {
        let last = (first + BATCH - 1).min(scans);
        let batch = database.begin().await?;
        for statement in [SCANS, LABELS, PROBES, RESULT_ROWS] {
            let sql = words(backend, statement, scans, first, last);
            batch.execute_unprepared(&sql).await?;
        }
        batch.commit().await?;
        eprint!("\r{last} scans ");
        first = last + 1;
    }
    eprintln!();
    sums::fill(database).await?;
    // What PostgreSQL's autovacuum does by itself after a while. SQLite does nothing of the kind,
    // and the catalog does not ask it to.
    if backend == Backend::Postgres {
        run(database, "VACUUM (ANALYZE)").await?;
        run(database, "CHECKPOINT").await?;
    }
    Ok(())
}

async fn made(database: &DatabaseConnection) -> Result<u64> {
    let count = "SELECT COUNT(*) AS made FROM scans";
    let count = Statement::from_string(database.get_database_backend(), count);
    let row = database.query_one_raw(count).await?;
    let made = row.map_or(Ok(0), |row| row.try_get::<i64>("", "made"))?;
    Ok(u64::try_from(made)?)
}

pub(super) async fn run(database: &DatabaseConnection, sql: &str) -> Result<()> {
    database.execute_unprepared(sql).await?;
    Ok(())
}

/// Of the one connection that fills: no waiting for the disk, no look whether each result has its
/// scan, and sums made scan by scan instead of from the whole of the results.
fn settings(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => {
            "PRAGMA synchronous = OFF; PRAGMA foreign_keys = OFF; PRAGMA cache_size = -400000"
        }
        Backend::Postgres => {
            "SET session_replication_role = replica; SET work_mem = '256MB';
             SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off;
             SET jit = off"
        }
    }
}

/// A statement with this database's words. `n.i` counts the scans, from 1, and `r.k` a scan's
/// results; a hundred targets, two hundred probes of fifty modules, a hundred detectors, twenty
/// teams, each independent of the others.
fn words(backend: Backend, statement: &str, scans: u64, first: u64, last: u64) -> String {
    let (numbers, results, id) = match backend {
        Backend::Sqlite => (
            format!(
                "(WITH RECURSIVE n(i) AS (SELECT {first} UNION ALL SELECT i + 1 FROM n WHERE i < {last})
                  SELECT i FROM n) n"
            ),
            format!(
                "(WITH RECURSIVE r(k) AS (SELECT 0 UNION ALL SELECT k + 1 FROM r WHERE k < {})
                  SELECT k FROM r) r",
                RESULTS - 1
            ),
            "unhex(printf('%012x7%03x8%015x', {at}, n.i % 4096, n.i))",
        ),
        Backend::Postgres => (
            format!("generate_series({first}::bigint, {last}::bigint) n(i)"),
            format!("generate_series(0, {}) r(k)", RESULTS - 1),
            "(lpad(to_hex({at}), 12, '0') || '7' || lpad(to_hex(n.i % 4096), 3, '0') || '8'
              || lpad(to_hex(n.i), 15, '0'))::uuid",
        ),
    };
    let json = |text: &str| match backend {
        Backend::Sqlite => text.to_owned(),
        Backend::Postgres => format!("({text})::jsonb"),
    };
    statement
        .replace("{numbers}", &numbers)
        .replace("{results}", &results)
        .replace("{id}", id)
        .replace("{at}", &format!("({FIRST_MS} + n.i * {})", SPAN_MS / scans))
        .replace("{state}", "((n.i / 100 + n.i) % 20)")
        .replace("{team}", "'team-' || (n.i / 7 % 20)")
        .replace("{detector}", "('detectors' || (10 + {p} % 25) || '.D' || (100 + {p} % 100))")
        // Names of one length: the statistics take them apart.
        .replace("{probe}", "('module' || (10 + {p} % 50) || '.Probe' || (100 + {p}))")
        .replace("{p}", "(n.i / 100 * 37 + n.i + r.k) % 200")
        .replace(
            "{spec}",
            &json("'{\"target\":{\"type\":\"openai.OpenAICompatible\",\"name\":\"model-' || (n.i % 100) || '\"},\"include\":[\"all\"],\"generations\":5}'"),
        )
        .replace("{labels}", &json("'{\"team\":\"team-' || (n.i / 7 % 20) || '\"}'"))
        .replace("{empty}", &json("'[]'"))
}

const SCANS: &str = "
    INSERT INTO scans (project_id, id, display_name, spec, target_type, target_name, priority,
        labels, garak_version, plugin_catalogue, effective_seed, effective_eval_threshold,
        max_in_flight, lane_id, created_by, state, in_flight, queued, running, report_queued,
        waiting_noted, planned, evaluated, not_evaluated, passed, failed, nones, attempts_done,
        attempts_total, report_state, report_revision, report_ready_revision, report_artifacts,
        report_reason, failure_reason, failure_message, failure_hint, last_sequence,
        compacted_sequence, created_at, started_at, ended_at, template, template_version, defcon,
        custom_probes, search_text)
    SELECT 'default', {id}, 'nightly ' || n.i, {spec},
        'openai.OpenAICompatible', 'model-' || (n.i % 100), 50, {labels},
        '0.17.1', 'bench', 7, 0.5, 16, 'bench', 'local',
        CASE {state} WHEN 0 THEN 'FAILED' WHEN 1 THEN 'CANCELLED' ELSE 'COMPLETED' END,
        0, 0, 0, FALSE, FALSE, 40, CASE WHEN {state} = 0 THEN 0 ELSE 40 - n.i % 3 END, 0,
        CASE WHEN {state} = 0 THEN 0 ELSE 1000 + n.i % 977 END,
        CASE WHEN {state} = 0 THEN 0 ELSE n.i % 613 END,
        0, 400, 400, CASE WHEN {state} = 0 THEN 'NONE' ELSE 'READY' END, 1, 1, {empty}, '',
        CASE WHEN {state} = 0 THEN 'TARGET_UNREACHABLE' END,
        CASE WHEN {state} = 0 THEN 'the target did not answer' END,
        CASE WHEN {state} = 0 THEN 'start it' END,
        50, 50, {at}, {at} + 1000, {at} + 60000 + n.i % 3600 * 1000,
        CASE WHEN n.i % 3 = 0 THEN 'template-' || (n.i % 15) ELSE '' END, 1,
        CASE WHEN {state} = 0 THEN NULL ELSE 1 + n.i / 3 % 5 END, {empty},
        'nightly ' || n.i || ' openai.openaicompatible model-' || (n.i % 100)
    FROM {numbers}";

const LABELS: &str = "
    INSERT INTO scan_labels (project_id, key, value, created_at, scan_id)
    SELECT 'default', 'team', {team}, {at}, {id} FROM {numbers}";

const PROBES: &str = "
    INSERT INTO scan_probes (project_id, probe, created_at, scan_id)
    SELECT 'default', {probe}, {at}, {id} FROM {numbers}, {results}";

const RESULT_ROWS: &str = "
    INSERT INTO probe_results (project_id, scan_id, probe, detector, passed, failed, nones,
        evaluated, rank, detector_defcon, evaluated_at)
    SELECT 'default', {id}, {probe}, {detector}, 25 + r.k, (n.i + r.k) % 15, 0,
        25 + r.k + (n.i + r.k) % 15, r.k, 1 + (n.i + r.k) % 5, {at} + 60000
    FROM {numbers}, {results}
    WHERE {state} <> 0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_known() {
        for backend in [Backend::Sqlite, Backend::Postgres] {
            for statement in [SCANS, LABELS, PROBES, RESULT_ROWS] {
                let sql = words(backend, statement, 1_000, 1, 1_000);
                let json = sql.replace("'{\"", "").replace(":{\"", "");
                assert!(!json.contains('{'), "{sql}");
            }
        }
    }
}
