//! Many scans at once, written past the store. Their columns follow from their number, so that
//! each filter finds some and misses some, and each order has ties.

use sea_orm::DatabaseBackend;

use crate::world::World;

/// Numbers from 1, and the state of each.
const NUMBERED: &str = "
    WITH RECURSIVE g(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM g WHERE i < {n}),
    n AS (SELECT i, {id} AS id, 1700000000000 + (i / 3) * 1000 AS created_at,
        CASE i % 10 WHEN 0 THEN 'PENDING' WHEN 1 THEN 'RUNNING' WHEN 2 THEN 'FAILED'
            WHEN 3 THEN 'CANCELLED' ELSE 'COMPLETED' END AS state FROM g)";

const SCANS: &str = "
    INSERT INTO scans (project_id, id, display_name, spec, target_type, target_name, priority,
        labels, garak_version, plugin_catalogue, effective_seed, effective_eval_threshold,
        max_in_flight, lane_id, created_by, state, in_flight, queued, running, report_queued,
        waiting_noted, planned, evaluated, not_evaluated, passed, failed, nones, attempts_done,
        attempts_total, report_state, report_revision, report_ready_revision, report_artifacts,
        report_reason, failure_reason, failure_message, last_sequence, created_at, started_at,
        ended_at, deleted_at, purge_at, template, template_version, defcon, search_text)
    {numbered}
    SELECT 'default', id, 'Scan ' || i, CAST('{}' AS {json}), 'type.T' || (i % 4),
        'name-' || (i % 9), 50,
        CAST('{\"team\":\"t' || (i % 5) || '\"'
            || CASE WHEN i % 50 = 0 THEN ',\"rare\":\"yes\"' ELSE '' END || '}' AS {json}),
        '0.17.1', 'c', 1, 0.5, 1, 'lane', 'local', state, 0, 0, 0, FALSE, FALSE, 40, i % 41, 0,
        CASE WHEN state = 'FAILED' THEN 0 ELSE i % 11 END,
        CASE WHEN state = 'FAILED' THEN 0 ELSE i % 5 END, 0, 0, 0, 'NONE', 0, 0,
        CAST('[]' AS {json}), '',
        CASE WHEN state = 'FAILED' THEN 'TARGET_ERROR' END,
        CASE WHEN state = 'FAILED' THEN 'No answer ' || i END, 1, created_at,
        CASE WHEN state <> 'PENDING' THEN created_at + i % 7 * 500 END,
        CASE WHEN state IN ('COMPLETED', 'FAILED', 'CANCELLED')
            THEN created_at + i % 7 * 500 + i % 97 * 1000 END,
        CASE WHEN i % 37 = 4 AND state = 'COMPLETED' THEN created_at END,
        CASE WHEN i % 37 = 4 AND state = 'COMPLETED'
            THEN CASE WHEN i % 2 = 0 THEN 4000000000000 ELSE 1 END END,
        CASE WHEN i % 6 = 0 THEN 'quick' ELSE '' END, CASE WHEN i % 6 = 0 THEN 1 ELSE 0 END,
        CASE WHEN i % 8 BETWEEN 1 AND 5 THEN i % 8 END,
        'scan ' || i || '{newline}type.t' || (i % 4) || '{newline}name-' || (i % 9) || '{newline}'
            || CASE WHEN state = 'FAILED' THEN 'target_error{newline}no answer ' || i
                ELSE '{newline}' END
    FROM n";

const LABELS: &str = "
    INSERT INTO scan_labels (project_id, key, value, created_at, scan_id)
    {numbered}
    SELECT 'default', 'team', 't' || (i % 5), created_at, id FROM n
    UNION ALL SELECT 'default', 'rare', 'yes', created_at, id FROM n WHERE i % 50 = 0";

const PROBES: &str = "
    INSERT INTO scan_probes (project_id, probe, created_at, scan_id)
    {numbered}
    SELECT 'default', 'dan.P' || (i % 7), created_at, id FROM n
    UNION ALL SELECT 'default', 'lmrc.Q' || (i % 300), created_at, id FROM n";

/// Writes so many scans with their labels and probes, and lets the database count its rows.
pub(crate) async fn fill(world: &World, scans: usize) {
    let lane = "INSERT INTO lanes (project_id, id, max_in_flight) VALUES ('default', 'lane', 1)";
    world.sql(lane, vec![]).await;
    let (id, json) = match world.backend() {
        DatabaseBackend::Sqlite => ("unhex(printf('%032x', i * 7919 % 1000003))", "TEXT"),
        _ => (
            "CAST(lpad(to_hex(i * 7919 % 1000003), 32, '0') AS UUID)",
            "JSONB",
        ),
    };
    for statement in [SCANS, LABELS, PROBES] {
        let sql = statement
            .replace("{numbered}", NUMBERED)
            .replace("{n}", &scans.to_string())
            .replace("{id}", id)
            .replace("{json}", json)
            .replace("{newline}", "\n");
        world.sql(&sql, vec![]).await;
    }
    world.sql("ANALYZE", vec![]).await;
    if world.backend() == DatabaseBackend::Postgres {
        // Which pages hold only rows that all can see: otherwise a plan looks at each row.
        world.sql("VACUUM ANALYZE", vec![]).await;
    }
}
