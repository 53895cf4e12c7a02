-- What changed, not yet folded. Appended by whatever finishes; no row is ever updated, so that
-- two that finish at once never wait for each other here.
CREATE TABLE statistics_deltas (
    project_id      TEXT    NOT NULL,
    id              {uuid}  NOT NULL,
    target_type     TEXT    NOT NULL,
    target_name     TEXT    NOT NULL,
    -- Days since 1970-01-01, UTC.
    day             INTEGER NOT NULL,
    -- Both empty for the end of a scan.
    probe           TEXT    NOT NULL,
    detector        TEXT    NOT NULL,
    tags            {json}  NOT NULL,
    scans_completed BIGINT  NOT NULL,
    scans_failed    BIGINT  NOT NULL,
    scans_cancelled BIGINT  NOT NULL,
    evaluations     BIGINT  NOT NULL,
    passed          BIGINT  NOT NULL,
    failed          BIGINT  NOT NULL,
    nones           BIGINT  NOT NULL,
    defcon_1        BIGINT  NOT NULL,
    defcon_2        BIGINT  NOT NULL,
    defcon_3        BIGINT  NOT NULL,
    defcon_4        BIGINT  NOT NULL,
    defcon_5        BIGINT  NOT NULL,
    PRIMARY KEY (project_id, id),
    CHECK ((probe = '') = (detector = ''))
);

-- Sums of a month or a year. A month's row also has its days, so that any window of whole days is
-- a few rows: 30 times fewer than a row per day would be. Only the fold writes here. Numbers may
-- be below zero for a moment, when what is taken back is folded before what it takes back.
CREATE TABLE statistics_rollups (
    project_id      TEXT    NOT NULL,
    dimension       TEXT    NOT NULL
        CHECK (dimension IN ('TOTAL', 'PROBE', 'MODULE', 'TAG', 'DETECTOR')),
    key             TEXT    NOT NULL,
    -- Both empty for all targets together.
    target_type     TEXT    NOT NULL,
    target_name     TEXT    NOT NULL,
    period          TEXT    NOT NULL CHECK (period IN ('MONTH', 'YEAR')),
    -- The year, or the months since the year 0.
    bucket          INTEGER NOT NULL,
    scans_completed BIGINT  NOT NULL,
    scans_failed    BIGINT  NOT NULL,
    scans_cancelled BIGINT  NOT NULL,
    evaluations     BIGINT  NOT NULL,
    passed          BIGINT  NOT NULL,
    failed          BIGINT  NOT NULL,
    nones           BIGINT  NOT NULL,
    defcon_1        BIGINT  NOT NULL,
    defcon_2        BIGINT  NOT NULL,
    defcon_3        BIGINT  NOT NULL,
    defcon_4        BIGINT  NOT NULL,
    defcon_5        BIGINT  NOT NULL,
    -- {"24": [the numbers above, in their order, without the zeros at the end], …}
    days            TEXT    NOT NULL,
    PRIMARY KEY (project_id, dimension, key, target_type, target_name, period, bucket)
);
-- All keys of a dimension in a window, with their numbers: whole months and years are read out of
-- this index alone, and lie in it side by side.
CREATE INDEX statistics_rollups_by_time ON statistics_rollups
    (project_id, target_type, target_name, dimension, period, bucket, key,
     scans_completed, scans_failed, scans_cancelled, evaluations, passed, failed, nones,
     defcon_1, defcon_2, defcon_3, defcon_4, defcon_5);
