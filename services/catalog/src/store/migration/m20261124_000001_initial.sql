-- Times are unix milliseconds by the database's clock. project_id is first in every key.

CREATE TABLE meta (
    key   TEXT   NOT NULL PRIMARY KEY,
    value {blob} NOT NULL
);

CREATE TABLE lanes (
    project_id         TEXT    NOT NULL,
    id                 TEXT    NOT NULL,
    max_in_flight      INTEGER NOT NULL CHECK (max_in_flight >= 1),
    in_flight          INTEGER NOT NULL DEFAULT 0 CHECK (in_flight >= 0),
    queued             INTEGER NOT NULL DEFAULT 0 CHECK (queued >= 0),
    paused_until       BIGINT  NOT NULL DEFAULT 0,
    backpressure_since BIGINT,
    PRIMARY KEY (project_id, id)
);
-- Lanes that a poll has to look at: busy and empty ones cost nothing, paused ones are past the end of the range.
CREATE INDEX lanes_with_room ON lanes (project_id, paused_until)
    WHERE queued > 0 AND in_flight < max_in_flight;

CREATE TABLE scans (
    project_id               TEXT     NOT NULL,
    id                       {uuid}   NOT NULL,
    display_name             TEXT     NOT NULL,
    spec                     {json}   NOT NULL,
    target_type              TEXT     NOT NULL,
    target_name              TEXT     NOT NULL,
    priority                 INTEGER  NOT NULL,
    labels                   {json}   NOT NULL,
    garak_version            TEXT     NOT NULL,
    plugin_catalogue         TEXT     NOT NULL,
    effective_seed           BIGINT   NOT NULL,
    effective_eval_threshold {double} NOT NULL,
    max_in_flight            INTEGER  NOT NULL CHECK (max_in_flight >= 1),
    lane_id                  TEXT     NOT NULL,
    created_by               TEXT     NOT NULL,
    state                    TEXT     NOT NULL
        CHECK (state IN ('PENDING', 'RUNNING', 'CANCELLING', 'COMPLETED', 'FAILED', 'CANCELLED')),
    cancel_requested_at      BIGINT,
    in_flight                INTEGER  NOT NULL CHECK (in_flight >= 0),
    queued                   INTEGER  NOT NULL CHECK (queued >= 0),
    running                  INTEGER  NOT NULL CHECK (running >= 0),
    report_queued            BOOLEAN  NOT NULL,
    waiting_noted            BOOLEAN  NOT NULL,
    planned                  INTEGER  NOT NULL CHECK (planned >= 1),
    evaluated                INTEGER  NOT NULL CHECK (evaluated >= 0),
    not_evaluated            INTEGER  NOT NULL CHECK (not_evaluated >= 0),
    passed                   BIGINT   NOT NULL CHECK (passed >= 0),
    failed                   BIGINT   NOT NULL CHECK (failed >= 0),
    nones                    BIGINT   NOT NULL CHECK (nones >= 0),
    attempts_done            BIGINT   NOT NULL CHECK (attempts_done >= 0),
    attempts_total           BIGINT   NOT NULL CHECK (attempts_total >= 0),
    report_state             TEXT     NOT NULL CHECK (report_state IN ('NONE', 'PENDING', 'READY', 'FAILED')),
    report_revision          INTEGER  NOT NULL,
    report_ready_revision    INTEGER  NOT NULL,
    report_artifacts         {json}   NOT NULL,
    report_reason            TEXT     NOT NULL,
    failure_reason           TEXT,
    failure_message          TEXT,
    failure_hint             TEXT,
    last_sequence            BIGINT   NOT NULL CHECK (last_sequence >= 0),
    created_at               BIGINT   NOT NULL,
    started_at               BIGINT,
    ended_at                 BIGINT,
    deleted_at               BIGINT,
    purge_at                 BIGINT,
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, lane_id) REFERENCES lanes (project_id, id),
    CHECK ((state IN ('COMPLETED', 'FAILED', 'CANCELLED')) = (ended_at IS NOT NULL)),
    CHECK ((state = 'FAILED') = (failure_reason IS NOT NULL)),
    CHECK (evaluated + not_evaluated <= planned),
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
);
-- Pages of the history, newest first, with and without a filter.
CREATE INDEX scans_by_time ON scans (project_id, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX scans_by_state ON scans (project_id, state, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX scans_by_target ON scans (project_id, target_type, target_name, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;
CREATE INDEX scans_by_target_name ON scans (project_id, target_name, created_at DESC, id DESC)
    WHERE deleted_at IS NULL;
-- The best scan of a lane, first row. Scans without room or waiting tasks are not in it.
CREATE INDEX scans_with_work ON scans (project_id, lane_id, plugin_catalogue, priority DESC, id)
    WHERE queued > 0 AND in_flight < max_in_flight;
CREATE INDEX scans_with_report_queued ON scans (project_id, plugin_catalogue, priority DESC, id)
    WHERE report_queued;

CREATE TABLE idempotency (
    project_id     TEXT   NOT NULL,
    method         TEXT   NOT NULL,
    request_id     TEXT   NOT NULL,
    request_sha256 TEXT   NOT NULL,
    scan_id        {uuid} NOT NULL,
    expires_at     BIGINT NOT NULL,
    PRIMARY KEY (project_id, method, request_id)
);

CREATE TABLE tasks (
    project_id           TEXT    NOT NULL,
    id                   {uuid}  NOT NULL,
    scan_id              {uuid}  NOT NULL,
    lane_id              TEXT,
    kind                 TEXT    NOT NULL CHECK (kind IN ('PROBE', 'REPORT')),
    probe                TEXT    NOT NULL,
    shard_index          INTEGER NOT NULL CHECK (shard_index >= 0),
    shard_count          INTEGER NOT NULL CHECK (shard_count > shard_index),
    revision             INTEGER NOT NULL CHECK (revision >= 0),
    ordinal              INTEGER NOT NULL CHECK (ordinal >= 0),
    planned_calls        BIGINT  NOT NULL CHECK (planned_calls >= 0),
    planned_attempts     BIGINT  NOT NULL CHECK (planned_attempts >= 0),
    detectors            {json}  NOT NULL,
    planned_out          BOOLEAN NOT NULL,
    state                TEXT    NOT NULL
        CHECK (state IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED', 'CANCELLED')),
    epoch                BIGINT  NOT NULL CHECK (epoch >= 0),
    failures             INTEGER NOT NULL CHECK (failures >= 0),
    max_failures         INTEGER NOT NULL CHECK (max_failures >= 1),
    not_before           BIGINT  NOT NULL,
    granted              INTEGER NOT NULL CHECK (granted >= 0),
    lease_runner         TEXT,
    lease_request_id     TEXT,
    lease_token_hash     {blob},
    lease_expires_at     BIGINT,
    attempts_done        BIGINT  NOT NULL CHECK (attempts_done >= 0),
    attempts_total       BIGINT  NOT NULL CHECK (attempts_total >= 0),
    target_retries       BIGINT  NOT NULL CHECK (target_retries >= 0),
    last_source_sequence BIGINT  NOT NULL,
    composed_revision    INTEGER NOT NULL,
    reason               TEXT    NOT NULL,
    message              TEXT    NOT NULL,
    ended_at             BIGINT,
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, scan_id) REFERENCES scans (project_id, id),
    UNIQUE (project_id, scan_id, kind, probe, shard_index, revision),
    CHECK ((kind = 'PROBE') = (lane_id IS NOT NULL)),
    CHECK ((state = 'RUNNING') = (lease_runner IS NOT NULL)),
    CHECK ((state = 'RUNNING') = (lease_token_hash IS NOT NULL)),
    CHECK ((state = 'RUNNING') = (lease_expires_at IS NOT NULL)),
    CHECK ((state IN ('DONE', 'FAILED', 'CANCELLED')) = (ended_at IS NOT NULL)),
    CHECK (granted = 0 OR state = 'RUNNING')
);
-- Longest first within a scan.
CREATE INDEX tasks_queued ON tasks (project_id, scan_id, kind, planned_calls DESC, ordinal) WHERE state = 'QUEUED';
CREATE INDEX tasks_running ON tasks (project_id, scan_id) WHERE state = 'RUNNING';
CREATE INDEX tasks_expiring ON tasks (project_id, lease_expires_at) WHERE state = 'RUNNING';
-- The repeat of a lost answer gets the same lease.
CREATE UNIQUE INDEX tasks_lease_request ON tasks (project_id, lease_runner, lease_request_id)
    WHERE state = 'RUNNING';

CREATE TABLE task_runs (
    project_id TEXT   NOT NULL,
    task_id    {uuid} NOT NULL,
    epoch      BIGINT NOT NULL,
    runner     TEXT   NOT NULL,
    token_hash {blob} NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT,
    -- How it ended, and the outcome as its runner sent it, which its repeat is compared with.
    outcome    TEXT,
    reason     TEXT,
    sent       {json},
    PRIMARY KEY (project_id, task_id, epoch),
    FOREIGN KEY (project_id, task_id) REFERENCES tasks (project_id, id),
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
);

CREATE TABLE scan_events (
    project_id      TEXT   NOT NULL,
    scan_id         {uuid} NOT NULL,
    sequence        BIGINT NOT NULL CHECK (sequence >= 1),
    at              BIGINT NOT NULL,
    task_id         {uuid},
    epoch           BIGINT,
    source_sequence BIGINT,
    kind            TEXT   NOT NULL,
    payload         {json} NOT NULL,
    PRIMARY KEY (project_id, scan_id, sequence),
    FOREIGN KEY (project_id, scan_id) REFERENCES scans (project_id, id),
    CHECK ((task_id IS NULL) = (epoch IS NULL))
);
CREATE UNIQUE INDEX scan_events_source ON scan_events (project_id, task_id, epoch, source_sequence)
    WHERE source_sequence IS NOT NULL;

CREATE TABLE artifacts (
    project_id      TEXT    NOT NULL,
    id              {uuid}  NOT NULL,
    scan_id         {uuid}  NOT NULL,
    task_id         {uuid}  NOT NULL,
    epoch           BIGINT  NOT NULL,
    name            TEXT    NOT NULL,
    object_key      TEXT    NOT NULL,
    state           TEXT    NOT NULL CHECK (state IN ('STAGED', 'UPLOADED', 'COMMITTED')),
    sha256          TEXT,
    size            BIGINT  CHECK (size >= 0),
    tally           {json},
    revision        INTEGER NOT NULL CHECK (revision >= 0),
    created_at      BIGINT  NOT NULL,
    upload_deadline BIGINT  NOT NULL,
    committed_at    BIGINT,
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, task_id) REFERENCES tasks (project_id, id),
    UNIQUE (project_id, object_key),
    UNIQUE (project_id, task_id, epoch, name),
    CHECK ((state = 'STAGED') = (sha256 IS NULL)),
    CHECK ((sha256 IS NULL) = (size IS NULL)),
    CHECK ((state = 'COMMITTED') = (committed_at IS NOT NULL))
);
CREATE INDEX artifacts_of_reports ON artifacts (project_id, scan_id, revision, name)
    WHERE state = 'COMMITTED';

CREATE TABLE probe_results (
    project_id      TEXT    NOT NULL,
    scan_id         {uuid}  NOT NULL,
    probe           TEXT    NOT NULL,
    detector        TEXT    NOT NULL,
    passed          BIGINT  NOT NULL CHECK (passed >= 0),
    failed          BIGINT  NOT NULL CHECK (failed >= 0),
    nones           BIGINT  NOT NULL CHECK (nones >= 0),
    evaluated       BIGINT  NOT NULL CHECK (evaluated >= 0),
    rank            BIGINT  NOT NULL,
    absolute_defcon INTEGER,
    relative_defcon INTEGER,
    detector_defcon INTEGER,
    relative_score  {double},
    evaluated_at    BIGINT  NOT NULL,
    PRIMARY KEY (project_id, scan_id, probe, detector),
    FOREIGN KEY (project_id, scan_id) REFERENCES scans (project_id, id)
);
CREATE INDEX probe_results_worst_first ON probe_results (project_id, scan_id, rank, probe, detector);

CREATE TABLE plugin_catalogues (
    project_id     TEXT   NOT NULL,
    sha256         TEXT   NOT NULL,
    garak_version  TEXT   NOT NULL,
    catalogue_json {blob} NOT NULL,
    allowance      {json} NOT NULL,
    created_at     BIGINT NOT NULL,
    updated_at     BIGINT NOT NULL,
    PRIMARY KEY (project_id, sha256)
);
CREATE INDEX plugin_catalogues_newest ON plugin_catalogues (project_id, updated_at DESC);

CREATE TABLE runners (
    project_id       TEXT    NOT NULL,
    runner_id        TEXT    NOT NULL,
    plugin_catalogue TEXT    NOT NULL,
    slots            INTEGER NOT NULL,
    seen_at          BIGINT  NOT NULL,
    PRIMARY KEY (project_id, runner_id)
);
CREATE INDEX runners_by_catalogue ON runners (project_id, plugin_catalogue, seen_at);
