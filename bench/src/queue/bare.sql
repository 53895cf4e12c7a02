-- One lease and its end, as the catalog asks for them (services/catalog/src/store: pick.rs,
-- lease.rs, finish.rs, conclude.rs), with nothing around: no service, no RPC, and of each row only
-- what changes is written.
\set request random(1, 9000000000000)
SELECT
  CASE WHEN EXISTS (SELECT 1 FROM tasks
    WHERE project_id = 'default' AND lease_runner = 'pgbench' AND lease_request_id = :request::text
      AND state = 'RUNNING') THEN 1 ELSE 0 END AS repeat,
  (SELECT s.id FROM scans s
   WHERE s.project_id = 'default' AND s.plugin_catalogue = :catalogue::text AND s.report_queued
     AND EXISTS (SELECT 1 FROM tasks t WHERE t.project_id = s.project_id AND t.scan_id = s.id
       AND t.kind = 'REPORT' AND t.state = 'QUEUED' AND t.not_before <= (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint))
   ORDER BY s.priority DESC, s.id LIMIT 1) AS report,
  coalesce((
    SELECT best.id FROM (
      SELECT (
        SELECT c.id FROM scans c
        WHERE c.project_id = l.project_id AND c.lane_id = l.id AND c.plugin_catalogue = :catalogue::text
          AND c.queued > 0 AND c.in_flight < c.max_in_flight AND c.state <> 'PAUSED'
          AND EXISTS (SELECT 1 FROM tasks t WHERE t.project_id = c.project_id AND t.scan_id = c.id
            AND t.kind = 'PROBE' AND t.state = 'QUEUED' AND t.not_before <= (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint))
        ORDER BY c.priority DESC, c.id LIMIT 1) AS id
      FROM lanes l
      WHERE l.project_id = 'default' AND l.queued > 0 AND l.in_flight < l.max_in_flight
        AND (l.backpressure_since IS NULL OR l.in_flight = 0) AND l.paused_until <= (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
    ) AS best
    WHERE best.id IS NOT NULL
    ORDER BY (SELECT s.priority FROM scans s WHERE s.project_id = 'default' AND s.id = best.id) DESC, best.id
    LIMIT 1
  ), '00000000-0000-0000-0000-000000000000'::uuid) AS scan,
  (SELECT SUM(slots) FROM runners
   WHERE project_id = 'default' AND plugin_catalogue = :catalogue::text AND runner_id <> 'pgbench'
     AND seen_at > (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint) - 60000) AS slots \gset
SELECT id FROM checks
WHERE project_id = 'default' AND state = 'QUEUED' AND not_before <= (SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint)
ORDER BY id LIMIT 1;
BEGIN;
SELECT * FROM scans WHERE project_id = 'default' AND id = :scan::uuid FOR NO KEY UPDATE;
SELECT * FROM lanes
WHERE project_id = 'default' AND id = (SELECT lane_id FROM scans WHERE project_id = 'default' AND id = :scan::uuid)
FOR NO KEY UPDATE;
SELECT coalesce((
  SELECT id FROM tasks
  WHERE project_id = 'default' AND scan_id = :scan::uuid AND kind = 'PROBE' AND state = 'QUEUED'
    AND not_before <= (extract(epoch FROM clock_timestamp()) * 1000)::bigint
  ORDER BY planned_calls DESC, ordinal, shard_index LIMIT 1 FOR NO KEY UPDATE
), '00000000-0000-0000-0000-000000000000'::uuid) AS task \gset
UPDATE tasks SET state = 'RUNNING', epoch = epoch + 1, granted = 1, lease_runner = 'pgbench',
  lease_request_id = :request::text, lease_token_hash = sha256(convert_to(:request::text, 'UTF8')),
  lease_expires_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint + 3600000
WHERE project_id = 'default' AND id = :task::uuid AND state = 'QUEUED';
INSERT INTO task_runs (project_id, task_id, epoch, runner, token_hash, started_at)
SELECT project_id, id, epoch, lease_runner, lease_token_hash, lease_expires_at - 3600000
FROM tasks WHERE project_id = 'default' AND id = :task::uuid AND state = 'RUNNING';
UPDATE lanes SET queued = queued - 1, in_flight = in_flight + 1
WHERE project_id = 'default' AND id = (SELECT lane_id FROM tasks WHERE project_id = 'default' AND id = :task::uuid);
UPDATE scans SET state = 'RUNNING', queued = queued - 1, in_flight = in_flight + 1, running = running + 1,
  last_sequence = last_sequence + 1
WHERE project_id = 'default' AND id = (SELECT scan_id FROM tasks WHERE project_id = 'default' AND id = :task::uuid);
INSERT INTO scan_events (project_id, scan_id, sequence, at, task_id, epoch, kind, payload)
SELECT t.project_id, t.scan_id, s.last_sequence, t.lease_expires_at - 3600000, t.id, t.epoch,
  'PROBE_STARTED', jsonb_build_object('probe', t.probe, 'runner', 'pgbench')
FROM tasks t JOIN scans s ON s.project_id = t.project_id AND s.id = t.scan_id
WHERE t.project_id = 'default' AND t.id = :task::uuid;
COMMIT;
BEGIN;
SELECT * FROM scans WHERE project_id = 'default' AND id = :scan::uuid FOR NO KEY UPDATE;
SELECT * FROM lanes
WHERE project_id = 'default' AND id = (SELECT lane_id FROM scans WHERE project_id = 'default' AND id = :scan::uuid)
FOR NO KEY UPDATE;
SELECT * FROM tasks
WHERE project_id = 'default' AND id = :task::uuid AND scan_id = :scan::uuid
  AND lease_token_hash = sha256(convert_to(:request::text, 'UTF8')) AND state = 'RUNNING'
FOR NO KEY UPDATE;
UPDATE tasks SET state = 'FAILED', failures = failures + 1, granted = 0, lease_runner = NULL,
  lease_request_id = NULL, lease_token_hash = NULL, lease_expires_at = NULL, reason = 'BENCH',
  ended_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint
WHERE project_id = 'default' AND id = :task::uuid AND state = 'RUNNING';
UPDATE task_runs SET ended_at = (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
  outcome = 'FAILED_PERMANENT', reason = 'BENCH', sent = '{"kind": "FAILED_PERMANENT"}'
WHERE project_id = 'default' AND task_id = :task::uuid AND ended_at IS NULL;
UPDATE lanes SET in_flight = in_flight - 1
WHERE project_id = 'default' AND id = (SELECT lane_id FROM tasks WHERE project_id = 'default' AND id = :task::uuid);
UPDATE scans SET in_flight = in_flight - 1, running = running - 1, not_evaluated = not_evaluated + 1,
  last_sequence = last_sequence + 1
WHERE project_id = 'default' AND id = (SELECT scan_id FROM tasks WHERE project_id = 'default' AND id = :task::uuid);
INSERT INTO scan_events (project_id, scan_id, sequence, at, task_id, epoch, kind, payload)
SELECT t.project_id, t.scan_id, s.last_sequence, t.ended_at, t.id, t.epoch,
  'PROBE_FAILED', jsonb_build_object('probe', t.probe, 'reason', 'BENCH')
FROM tasks t JOIN scans s ON s.project_id = t.project_id AND s.id = t.scan_id
WHERE t.project_id = 'default' AND t.id = :task::uuid;
COMMIT;
