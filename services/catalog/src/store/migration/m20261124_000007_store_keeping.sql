-- The jobs that keep the store in order. What differs between the databases is beside this file:
-- artifacts get DELETING and marked_at, and no longer depend on tasks.

-- Whose files are due: found by the state they are in, not by reading the table.
CREATE INDEX artifacts_unfinished ON artifacts (project_id, upload_deadline, id)
    WHERE state IN ('STAGED', 'UPLOADED');
CREATE INDEX artifacts_marked ON artifacts (project_id, marked_at, id) WHERE state = 'DELETING';
CREATE INDEX artifacts_of_scans ON artifacts (project_id, scan_id, id);

-- Objects to delete whose row is gone already, because another of the same name may come.
CREATE TABLE garbage (
    project_id TEXT   NOT NULL,
    object_key TEXT   NOT NULL,
    size       BIGINT NOT NULL CHECK (size >= 0),
    marked_at  BIGINT NOT NULL,
    PRIMARY KEY (project_id, object_key)
);
CREATE INDEX garbage_marked ON garbage (project_id, marked_at, object_key);

-- Objects that a scrub found without a row: a later one deletes those that still have none.
CREATE TABLE orphans (
    project_id TEXT   NOT NULL,
    object_key TEXT   NOT NULL,
    size       BIGINT NOT NULL CHECK (size >= 0),
    found_at   BIGINT NOT NULL,
    PRIMARY KEY (project_id, object_key)
);

-- A job's lease, and what is known of its last run. The lease saves work: each step of a job may
-- be taken twice at once without harm.
CREATE TABLE jobs (
    project_id TEXT   NOT NULL,
    name       TEXT   NOT NULL,
    period_ms  BIGINT NOT NULL CHECK (period_ms > 0),
    next_at    BIGINT NOT NULL,
    holder     TEXT,
    held_until BIGINT,
    -- Where a job goes on that does not get through all in one run.
    position   TEXT   NOT NULL DEFAULT '',
    last_run   {json},
    PRIMARY KEY (project_id, name),
    CHECK ((holder IS NULL) = (held_until IS NULL))
);

-- Room for events that leave the catalog, in the transaction of what they tell. Nothing writes or
-- reads it yet.
CREATE TABLE outbox (
    project_id TEXT   NOT NULL,
    id         {uuid} NOT NULL,
    kind       TEXT   NOT NULL,
    payload    {json} NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (project_id, id)
);

-- A purge takes several transactions: from the first on the scan counts nowhere.
ALTER TABLE scans ADD COLUMN purge_begun_at BIGINT;
CREATE INDEX scans_to_purge ON scans (project_id, purge_at, id) WHERE purge_at IS NOT NULL;
-- A revision of the report has taken in parts that are not marked yet.
ALTER TABLE scans ADD COLUMN parts_taken_in BOOLEAN NOT NULL DEFAULT FALSE;
UPDATE scans SET parts_taken_in = TRUE WHERE report_ready_revision > 0;
CREATE INDEX scans_parts_taken_in ON scans (project_id, id) WHERE parts_taken_in;
-- Up to here the log has only what is kept for good.
ALTER TABLE scans ADD COLUMN compacted_sequence BIGINT NOT NULL DEFAULT 0;

-- Scans that are pinned to a source, whatever has ended.
CREATE TABLE scan_sources (
    project_id TEXT   NOT NULL,
    sha256     TEXT   NOT NULL,
    scan_id    {uuid} NOT NULL,
    PRIMARY KEY (project_id, sha256, scan_id)
) {clustered};

-- When somebody last announced it: one that is in use from then on is not taken away before.
ALTER TABLE sources ADD COLUMN touched_at BIGINT NOT NULL DEFAULT 0;
UPDATE sources SET touched_at = created_at;
CREATE UNIQUE INDEX sources_by_object ON sources (project_id, object_key);
CREATE INDEX sources_by_touch ON sources (project_id, touched_at, sha256);
CREATE INDEX custom_probe_versions_by_source ON custom_probe_versions (project_id, sha256);
CREATE INDEX checks_by_source ON checks (project_id, sha256);

CREATE INDEX idempotency_expiring ON idempotency (project_id, expires_at);
