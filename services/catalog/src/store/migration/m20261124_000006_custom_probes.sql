-- Python of custom probes, named by its checksum; its bytes are an object of the artifact service.
CREATE TABLE sources (
    project_id   TEXT   NOT NULL,
    sha256       TEXT   NOT NULL,
    size         BIGINT NOT NULL CHECK (size >= 1),
    object_key   TEXT   NOT NULL,
    state        TEXT   NOT NULL CHECK (state IN ('STAGED', 'COMMITTED')),
    created_at   BIGINT NOT NULL,
    committed_at BIGINT,
    PRIMARY KEY (project_id, sha256),
    CHECK ((state = 'COMMITTED') = (committed_at IS NOT NULL))
);

CREATE TABLE custom_probes (
    project_id    TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    description   TEXT    NOT NULL,
    -- The newest. Numbers go on when the name is deleted and taken again.
    version       INTEGER NOT NULL CHECK (version >= first_version),
    -- Of this life of the name: older ones are known only to the scans that are pinned to them.
    first_version INTEGER NOT NULL CHECK (first_version >= 1),
    -- Counts the changes that users made: the etag.
    revision      BIGINT  NOT NULL CHECK (revision >= 1),
    created_by    TEXT    NOT NULL,
    created_at    BIGINT  NOT NULL,
    deleted_at    BIGINT,
    PRIMARY KEY (project_id, name)
);
-- Pages of the list.
CREATE INDEX custom_probes_by_name ON custom_probes (project_id, name) WHERE deleted_at IS NULL;

CREATE TABLE custom_probe_versions (
    project_id TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    version    INTEGER NOT NULL CHECK (version >= 1),
    sha256     TEXT    NOT NULL,
    state      TEXT    NOT NULL CHECK (state IN ('CHECKING', 'VALID', 'INVALID')),
    validation {json},
    created_by TEXT    NOT NULL,
    created_at BIGINT  NOT NULL,
    checked_at BIGINT,
    PRIMARY KEY (project_id, name, version),
    FOREIGN KEY (project_id, name) REFERENCES custom_probes (project_id, name),
    FOREIGN KEY (project_id, sha256) REFERENCES sources (project_id, sha256),
    CHECK ((state = 'CHECKING') = (validation IS NULL)),
    CHECK ((state = 'CHECKING') = (checked_at IS NULL))
);
-- The newest version that a scan may use.
CREATE INDEX custom_probe_versions_valid ON custom_probe_versions (project_id, name, version DESC)
    WHERE state = 'VALID';

-- A source to be tried out by a runner: leased as tasks are, but of no scan and no lane.
CREATE TABLE checks (
    project_id       TEXT    NOT NULL,
    id               {uuid}  NOT NULL,
    name             TEXT    NOT NULL,
    -- NULL: somebody only wants to know, until give_up_at.
    version          INTEGER,
    sha256           TEXT    NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('QUEUED', 'RUNNING', 'DONE', 'FAILED')),
    epoch            BIGINT  NOT NULL CHECK (epoch >= 0),
    failures         INTEGER NOT NULL CHECK (failures >= 0),
    not_before       BIGINT  NOT NULL,
    give_up_at       BIGINT,
    lease_runner     TEXT,
    lease_request_id TEXT,
    lease_token_hash {blob},
    lease_expires_at BIGINT,
    -- The run that ended last, which its repeat is compared with.
    sent_epoch       BIGINT,
    sent_token_hash  {blob},
    sent             {json},
    validation       {json},
    created_at       BIGINT  NOT NULL,
    ended_at         BIGINT,
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, sha256) REFERENCES sources (project_id, sha256),
    FOREIGN KEY (project_id, name, version) REFERENCES custom_probe_versions (project_id, name, version),
    CHECK ((state = 'RUNNING') = (lease_runner IS NOT NULL)),
    CHECK ((state = 'RUNNING') = (lease_request_id IS NOT NULL)),
    CHECK ((state = 'RUNNING') = (lease_token_hash IS NOT NULL)),
    CHECK ((state = 'RUNNING') = (lease_expires_at IS NOT NULL)),
    CHECK ((state IN ('DONE', 'FAILED')) = (ended_at IS NOT NULL)),
    CHECK ((state IN ('DONE', 'FAILED')) = (validation IS NOT NULL)),
    CHECK ((version IS NULL) = (give_up_at IS NOT NULL)),
    CHECK ((sent IS NULL) = (sent_epoch IS NULL))
);
-- Oldest first: their ids grow with time.
CREATE INDEX checks_queued ON checks (project_id, id) WHERE state = 'QUEUED';
CREATE INDEX checks_expiring ON checks (project_id, lease_expires_at) WHERE state = 'RUNNING';
-- The repeat of a lost answer gets the same lease.
CREATE UNIQUE INDEX checks_lease_request ON checks (project_id, lease_runner, lease_request_id)
    WHERE state = 'RUNNING';
-- One check of each version, and one at a time of a source that has none.
CREATE UNIQUE INDEX checks_of_version ON checks (project_id, name, version) WHERE version IS NOT NULL;
CREATE UNIQUE INDEX checks_trial ON checks (project_id, name, sha256)
    WHERE version IS NULL AND state IN ('QUEUED', 'RUNNING');
-- Trials are forgotten after a while.
CREATE INDEX checks_forgotten ON checks (project_id, give_up_at) WHERE version IS NULL;

-- Who uses a custom probe: a bounded look, whatever has ended.
CREATE INDEX scans_open_custom ON scans (project_id, id) WHERE ended_at IS NULL AND custom_probes <> '[]';
