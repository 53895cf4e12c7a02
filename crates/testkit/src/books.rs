//! What holds in the catalog's database after anything, on both databases: the books balance.

/// What is wrong, and a statement that gives the rows of which it is so, as `id`.
pub const WRONG: [(&str, &str); 26] = [
    (
        "a lane's calls in flight are not those of what runs",
        "SELECT CAST(l.id AS TEXT) AS id FROM lanes l WHERE l.in_flight <> (SELECT COALESCE(SUM(t.granted), 0)
         FROM tasks t WHERE t.lane_id = l.id AND t.state = 'RUNNING')",
    ),
    (
        "a lane's queue is not what waits",
        "SELECT CAST(l.id AS TEXT) AS id FROM lanes l WHERE l.queued <> (SELECT COUNT(*)
         FROM tasks t JOIN scans s ON s.id = t.scan_id
         WHERE t.lane_id = l.id AND t.state = 'QUEUED' AND s.state <> 'PAUSED')",
    ),
    (
        "a scan is paused with nothing left to pause",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE s.state = 'PAUSED' AND NOT EXISTS (SELECT 1
         FROM tasks t WHERE t.scan_id = s.id AND t.kind = 'PROBE'
           AND t.state IN ('QUEUED', 'RUNNING'))",
    ),
    (
        "a scan's calls in flight are not those of what runs",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE s.in_flight <> (SELECT COALESCE(SUM(t.granted), 0)
         FROM tasks t WHERE t.scan_id = s.id AND t.state = 'RUNNING')",
    ),
    (
        "a scan has more calls in flight than it may",
        "SELECT CAST(scans.id AS TEXT) AS id FROM scans WHERE in_flight > max_in_flight",
    ),
    (
        "a scan's queue is not what waits",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE s.queued <> (SELECT COUNT(*)
         FROM tasks t WHERE t.scan_id = s.id AND t.state = 'QUEUED' AND t.kind = 'PROBE')",
    ),
    (
        "a scan's running tasks are not counted",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE s.running <> (SELECT COUNT(*)
         FROM tasks t WHERE t.scan_id = s.id AND t.state = 'RUNNING')",
    ),
    (
        "a scan's queued report is not noted",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE s.report_queued <> EXISTS (SELECT 1
         FROM tasks t WHERE t.scan_id = s.id AND t.state = 'QUEUED' AND t.kind = 'REPORT')",
    ),
    (
        "coverage is not what tasks say",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE s.purge_begun_at IS NULL AND (
         s.evaluated <> (SELECT COUNT(*) FROM tasks t
             WHERE t.scan_id = s.id AND t.kind = 'PROBE' AND t.state = 'DONE')
         OR s.not_evaluated <> (SELECT COUNT(*) FROM tasks t
             WHERE t.scan_id = s.id AND t.kind = 'PROBE' AND t.state IN ('FAILED', 'CANCELLED'))
         OR s.planned <> (SELECT COUNT(*) FROM tasks t
             WHERE t.scan_id = s.id AND t.kind = 'PROBE'))",
    ),
    (
        "totals are not the sums of results",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE s.purge_begun_at IS NULL AND (
         s.passed <> (SELECT COALESCE(SUM(r.passed), 0) FROM probe_results r WHERE r.scan_id = s.id)
         OR s.failed <> (SELECT COALESCE(SUM(r.failed), 0) FROM probe_results r WHERE r.scan_id = s.id)
         OR s.nones <> (SELECT COALESCE(SUM(r.nones), 0) FROM probe_results r WHERE r.scan_id = s.id))",
    ),
    (
        "a terminal scan has open tasks, or an open one has none",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE (s.ended_at IS NULL) <> EXISTS (SELECT 1
         FROM tasks t WHERE t.scan_id = s.id AND t.state IN ('QUEUED', 'RUNNING'))",
    ),
    (
        "a log has gaps although it was not compacted",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE s.purge_begun_at IS NULL AND (
         s.last_sequence - s.compacted_sequence <> (SELECT COUNT(*)
             FROM scan_events e WHERE e.scan_id = s.id AND e.sequence > s.compacted_sequence)
         OR s.last_sequence <> (SELECT COALESCE(MAX(e.sequence), 0)
             FROM scan_events e WHERE e.scan_id = s.id))",
    ),
    (
        "an event of an older epoch comes after one of a newer",
        "SELECT CAST(e.scan_id AS TEXT) AS id FROM scan_events e WHERE EXISTS (SELECT 1 FROM scan_events f
         WHERE f.scan_id = e.scan_id AND f.task_id = e.task_id
           AND f.sequence < e.sequence AND f.epoch > e.epoch)",
    ),
    (
        "a done task has not exactly one committed report, of its epoch",
        "SELECT CAST(t.id AS TEXT) AS id FROM tasks t JOIN scans s ON s.id = t.scan_id
         WHERE s.purge_begun_at IS NULL AND t.state = 'DONE' AND t.composed_revision = 0
           AND 1 <> (SELECT COUNT(*) FROM artifacts a
             WHERE a.task_id = t.id AND a.name = 'report.jsonl' AND a.state = 'COMMITTED'
               AND a.epoch = t.epoch)",
    ),
    (
        "a done task is in a report that is not there",
        "SELECT CAST(t.id AS TEXT) AS id FROM tasks t JOIN scans s ON s.id = t.scan_id
         WHERE s.purge_begun_at IS NULL AND t.composed_revision > 0
           AND NOT (s.imported AND s.report_ready_revision = 0)
           AND 1 <> (SELECT COUNT(*) FROM artifacts a
             WHERE a.scan_id = t.scan_id AND a.name = 'report.jsonl' AND a.state = 'COMMITTED'
               AND a.revision = t.composed_revision)",
    ),
    (
        "a scan that is being purged counts, or has a file that readers may see",
        "SELECT CAST(s.id AS TEXT) AS id FROM scans s WHERE s.purge_begun_at IS NOT NULL AND (
             s.purge_at IS NULL
             OR EXISTS (SELECT 1 FROM probe_results r WHERE r.scan_id = s.id)
             OR (NOT EXISTS (SELECT 1 FROM tasks t WHERE t.scan_id = s.id)
                 AND EXISTS (SELECT 1 FROM artifacts a
                     WHERE a.scan_id = s.id AND a.state <> 'DELETING')))",
    ),
    (
        "a committed file belongs to no done run",
        "SELECT CAST(a.id AS TEXT) AS id FROM artifacts a JOIN tasks t ON t.id = a.task_id
         WHERE a.state = 'COMMITTED' AND (t.state <> 'DONE' OR a.epoch <> t.epoch)",
    ),
    (
        "a run is open although its task does not run it, or the other way",
        "SELECT CAST(r.task_id AS TEXT) AS id FROM task_runs r JOIN tasks t ON t.id = r.task_id
         WHERE (r.ended_at IS NULL) <> (t.state = 'RUNNING' AND t.epoch = r.epoch)",
    ),
    (
        "a probe that was not evaluated has results",
        "SELECT CAST(r.scan_id AS TEXT) AS id FROM probe_results r WHERE NOT EXISTS (SELECT 1 FROM tasks t
         WHERE t.scan_id = r.scan_id AND t.probe = r.probe AND t.kind = 'PROBE'
           AND t.state = 'DONE')",
    ),
    (
        "statistics of results are not their sums",
        "SELECT 'all' AS id FROM (SELECT COUNT(*) AS evaluations, COALESCE(SUM(passed), 0) AS passed,
             COALESCE(SUM(failed), 0) AS failed, COALESCE(SUM(nones), 0) AS nones
             FROM probe_results) r,
         (SELECT COALESCE(SUM(evaluations), 0) AS evaluations, COALESCE(SUM(passed), 0) AS passed,
             COALESCE(SUM(failed), 0) AS failed, COALESCE(SUM(nones), 0) AS nones
             FROM (SELECT evaluations, passed, failed, nones FROM statistics_deltas
                 UNION ALL SELECT evaluations, passed, failed, nones FROM statistics_rollups
                 WHERE dimension = 'TOTAL' AND target_type = '' AND period = 'YEAR') a) s
         WHERE r.evaluations <> s.evaluations OR r.passed <> s.passed
             OR r.failed <> s.failed OR r.nones <> s.nones",
    ),
    (
        "statistics of scans are not those that ended",
        "SELECT 'all' AS id FROM (SELECT COUNT(*) AS ended FROM scans
             WHERE ended_at IS NOT NULL AND purge_begun_at IS NULL) r,
         (SELECT COALESCE(SUM(scans_completed + scans_failed + scans_cancelled), 0) AS ended
             FROM (SELECT scans_completed, scans_failed, scans_cancelled FROM statistics_deltas
                 UNION ALL SELECT scans_completed, scans_failed, scans_cancelled
                 FROM statistics_rollups
                 WHERE dimension = 'TOTAL' AND target_type = '' AND period = 'YEAR') a) s
         WHERE r.ended <> s.ended",
    ),
    (
        "a check runs without a lease, or a lease is held of one that does not",
        "SELECT CAST(checks.name AS TEXT) AS id FROM checks WHERE
         (state = 'RUNNING') <> (lease_runner IS NOT NULL AND lease_request_id IS NOT NULL
             AND lease_token_hash IS NOT NULL AND lease_expires_at IS NOT NULL)",
    ),
    (
        "a version has not exactly one check, or is decided otherwise than it",
        "SELECT CAST(v.name AS TEXT) AS id FROM custom_probe_versions v WHERE 1 <> (SELECT COUNT(*) FROM checks c
             WHERE c.name = v.name AND c.version = v.version AND c.sha256 = v.sha256
               AND (c.state IN ('DONE', 'FAILED')) = (v.state <> 'CHECKING'))",
    ),
    (
        "a source of a version or a check is not committed",
        "SELECT CAST(s.sha256 AS TEXT) AS id FROM sources s WHERE s.state <> 'COMMITTED' AND (
             EXISTS (SELECT 1 FROM custom_probe_versions v WHERE v.sha256 = s.sha256)
             OR EXISTS (SELECT 1 FROM checks c WHERE c.sha256 = s.sha256))",
    ),
    (
        "a custom probe's newest version is missing, or not the newest",
        "SELECT CAST(p.name AS TEXT) AS id FROM custom_probes p WHERE p.deleted_at IS NULL AND (
         p.version <> (SELECT COALESCE(MAX(v.version), 0)
             FROM custom_probe_versions v WHERE v.name = p.name)
         OR p.version - p.first_version + 1 <> (SELECT COUNT(*) FROM custom_probe_versions v
             WHERE v.name = p.name AND v.version >= p.first_version))",
    ),
    (
        "a check has failed more often than it may",
        "SELECT CAST(checks.name AS TEXT) AS id FROM checks WHERE failures >= 3",
    ),
];
