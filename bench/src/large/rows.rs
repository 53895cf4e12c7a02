//! Rows, made by the database itself.

use anyhow::Result;
use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::Backend;

/// Scans of one statement: a transaction of some hundred MB at most.
const BATCH: u64 = 10_000;
/// Probe results of a scan.
const RESULTS: u64 = 40;

/// Adds scans `from` (exclusive) to `to`, each with labels, probes and results.
pub(super) async fn add(
    database: &DatabaseConnection,
    backend: Backend,
    from: u64,
    to: u64,
) -> Result<()> {
    if backend == Backend::Sqlite {
        run(database, "PRAGMA synchronous = OFF").await?;
    }
    run(
        database,
        "INSERT INTO lanes (project_id, id, max_in_flight) VALUES ('default', 'bench', 1)
         ON CONFLICT DO NOTHING",
    )
    .await?;
    let mut first = from + 1;
    while first <= to {
        let last = (first + BATCH - 1).min(to);
        for statement in [SCANS, LABELS, PROBES, RESULT_ROWS] {
            run(database, &words(backend, statement, first, last)).await?;
        }
        eprint!("\r{last} scans ");
        first = last + 1;
    }
    eprintln!();
    run(database, "ANALYZE").await
}

async fn run(database: &DatabaseConnection, sql: &str) -> Result<()> {
    database.execute_unprepared(sql).await?;
    Ok(())
}

/// A statement with this database's words. `n.i` counts the scans, from 1; three years of them,
/// a hundred targets, two hundred probes, twenty teams.
fn words(backend: Backend, statement: &str, first: u64, last: u64) -> String {
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
        // 94,608,000 s are three years; scans come in the order of their time.
        .replace("{at}", "(1700000000000 + n.i * 94608)")
        .replace("{probe}", "('module' || ((n.i + r.k) % 200 / 10) || '.Probe' || ((n.i + r.k) % 200))")
        .replace(
            "{spec}",
            &json("'{\"target\":{\"type\":\"openai.OpenAICompatible\",\"name\":\"model-' || (n.i % 100) || '\"},\"include\":[\"all\"],\"generations\":5}'"),
        )
        .replace("{labels}", &json("'{\"team\":\"team-' || (n.i % 20) || '\"}'"))
        .replace("{empty}", &json("'[]'"))
}

const SCANS: &str = "
    INSERT INTO scans (project_id, id, display_name, spec, target_type, target_name, priority,
        labels, garak_version, plugin_catalogue, effective_seed, effective_eval_threshold,
        max_in_flight, lane_id, created_by, state, in_flight, queued, running, report_queued,
        waiting_noted, planned, evaluated, not_evaluated, passed, failed, nones, attempts_done,
        attempts_total, report_state, report_revision, report_ready_revision, report_artifacts,
        report_reason, failure_reason, failure_message, failure_hint, last_sequence, created_at,
        started_at, ended_at, template, template_version, defcon, custom_probes, search_text)
    SELECT 'default', {id}, 'nightly ' || n.i, {spec},
        'openai.OpenAICompatible', 'model-' || (n.i % 100), 50, {labels},
        '0.17.1', 'bench', 7, 0.5, 16, 'bench', 'local',
        CASE WHEN n.i % 20 = 0 THEN 'FAILED' WHEN n.i % 20 = 1 THEN 'CANCELLED' ELSE 'COMPLETED' END,
        0, 0, 0, FALSE, FALSE, 40, CASE WHEN n.i % 20 = 0 THEN 0 ELSE 40 - n.i % 3 END, 0,
        CASE WHEN n.i % 20 = 0 THEN 0 ELSE 1000 + n.i % 977 END,
        CASE WHEN n.i % 20 = 0 THEN 0 ELSE n.i % 613 END,
        0, 400, 400, CASE WHEN n.i % 20 = 0 THEN 'NONE' ELSE 'READY' END, 1, 1, {empty}, '',
        CASE WHEN n.i % 20 = 0 THEN 'TARGET_UNREACHABLE' END,
        CASE WHEN n.i % 20 = 0 THEN 'the target did not answer' END,
        CASE WHEN n.i % 20 = 0 THEN 'start it' END,
        50, {at}, {at} + 1000, {at} + 60000 + n.i % 3600 * 1000,
        CASE WHEN n.i % 3 = 0 THEN 'template-' || (n.i % 15) ELSE '' END, 1,
        CASE WHEN n.i % 20 = 0 THEN NULL ELSE 1 + n.i % 5 END, {empty},
        'nightly ' || n.i || ' openai.openaicompatible model-' || (n.i % 100)
    FROM {numbers}";

const LABELS: &str = "
    INSERT INTO scan_labels (project_id, key, value, created_at, scan_id)
    SELECT 'default', 'team', 'team-' || (n.i % 20), {at}, {id} FROM {numbers}";

const PROBES: &str = "
    INSERT INTO scan_probes (project_id, probe, created_at, scan_id)
    SELECT 'default', {probe}, {at}, {id} FROM {numbers}, {results}";

const RESULT_ROWS: &str = "
    INSERT INTO probe_results (project_id, scan_id, probe, detector, passed, failed, nones,
        evaluated, rank, detector_defcon, evaluated_at)
    SELECT 'default', {id}, {probe}, 'mitigation.MitigationBypass', 25 + r.k, (n.i + r.k) % 15, 0,
        25 + r.k + (n.i + r.k) % 15, r.k, 1 + (n.i + r.k) % 5, {at} + 60000
    FROM {numbers}, {results}
    WHERE n.i % 20 <> 0";
