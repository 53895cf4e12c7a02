-- What the history is searched and ordered by. Large indexes are in late.rs.

-- Name, target and error in lower case, a line each; written by the catalog.
ALTER TABLE scans ADD COLUMN search_text TEXT NOT NULL DEFAULT '';
UPDATE scans SET search_text = lower(
    display_name || '
' || target_type || '
' || target_name || '
' || COALESCE(failure_reason, '') || '
' || COALESCE(failure_message, ''));

-- A row for each label of a scan, in the order of its creation. Rows of scans that are gone are
-- found by nobody.
CREATE TABLE scan_labels (
    project_id TEXT   NOT NULL,
    key        TEXT   NOT NULL,
    value      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    scan_id    {uuid} NOT NULL,
    PRIMARY KEY (project_id, key, value, created_at, scan_id)
) {clustered};

-- A row for each probe that was planned for a scan, evaluated or not.
CREATE TABLE scan_probes (
    project_id TEXT   NOT NULL,
    probe      TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    scan_id    {uuid} NOT NULL,
    PRIMARY KEY (project_id, probe, created_at, scan_id)
) {clustered};
INSERT INTO scan_probes (project_id, probe, created_at, scan_id)
    SELECT DISTINCT t.project_id, t.probe, s.created_at, s.id
    FROM tasks t JOIN scans s ON s.project_id = t.project_id AND s.id = t.scan_id
    WHERE t.kind = 'PROBE';

-- In their place come scans_by_state_rank and scans_by_target_time, which serve orders, too.
DROP INDEX scans_by_state;
DROP INDEX scans_by_target;
