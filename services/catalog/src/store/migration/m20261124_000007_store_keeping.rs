//! The jobs that keep the store in order: what is marked, what is kept in between, who runs them.

use sea_orm_migration::prelude::*;

use crate::store::dialect::Dialect;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &str = include_str!("m20261124_000007_store_keeping.sql");

/// `{parent}` refers to tasks, or to nothing: rows come before their tasks when a report is
/// imported, and outlive them when a scan is purged.
const TABLE: &str = "
    CREATE TABLE artifacts_rebuilt (
        project_id      TEXT    NOT NULL,
        id              {uuid}  NOT NULL,
        scan_id         {uuid}  NOT NULL,
        task_id         {uuid}  NOT NULL,
        epoch           BIGINT  NOT NULL,
        name            TEXT    NOT NULL,
        object_key      TEXT    NOT NULL,
        state           TEXT    NOT NULL,
        sha256          TEXT,
        size            BIGINT  CHECK (size >= 0),
        tally           {json},
        revision        INTEGER NOT NULL CHECK (revision >= 0),
        created_at      BIGINT  NOT NULL,
        upload_deadline BIGINT  NOT NULL,
        committed_at    BIGINT,
        {marked}
        PRIMARY KEY (project_id, id),
        {parent}
        UNIQUE (project_id, object_key),
        UNIQUE (project_id, task_id, epoch, name),
        {checks}
        CHECK ((sha256 IS NULL) = (size IS NULL))
    )";

const OF_REPORTS: &str = "
    CREATE INDEX artifacts_of_reports ON artifacts (project_id, scan_id, revision, name)
        WHERE state = 'COMMITTED'";

/// Columns that there were before.
const COLUMNS: &str = "project_id, id, scan_id, task_id, epoch, name, object_key, state, sha256, \
    size, tally, revision, created_at, upload_deadline, committed_at";

const PARENT: &str = "FOREIGN KEY (project_id, task_id) REFERENCES tasks (project_id, id)";

/// Names as PostgreSQL gave them to what had none, and what comes in their place. A file that is
/// to be deleted keeps what it was.
const CHECKS: [(&str, &str, &str); 3] = [
    (
        "artifacts_state_check",
        "state IN ('STAGED', 'UPLOADED', 'COMMITTED')",
        "state IN ('STAGED', 'UPLOADED', 'COMMITTED', 'DELETING')",
    ),
    (
        "artifacts_check",
        "(state = 'STAGED') = (sha256 IS NULL)",
        "state = 'DELETING' OR (state = 'STAGED') = (sha256 IS NULL)",
    ),
    (
        "artifacts_check2",
        "(state = 'COMMITTED') = (committed_at IS NOT NULL)",
        "state = 'DELETING' OR (state = 'COMMITTED') = (committed_at IS NOT NULL)",
    ),
];
const MARKED: &str = "(state = 'DELETING') = (marked_at IS NOT NULL)";

/// PostgreSQL changes the table in place.
const UP_POSTGRES: [&str; 3] = [
    "ALTER TABLE artifacts ADD COLUMN marked_at BIGINT",
    "ALTER TABLE artifacts ADD CONSTRAINT artifacts_marked_check \
        CHECK ((state = 'DELETING') = (marked_at IS NOT NULL))",
    "ALTER TABLE artifacts DROP CONSTRAINT artifacts_project_id_task_id_fkey",
];

/// What scans were pinned to until now.
const PINNED_ON_SQLITE: &str = "
    INSERT INTO scan_sources (project_id, sha256, scan_id)
    SELECT DISTINCT s.project_id, json_extract(p.value, '$.sha256'), s.id
    FROM scans s, json_each(s.custom_probes) p";
const PINNED_ON_POSTGRES: &str = "
    INSERT INTO scan_sources (project_id, sha256, scan_id)
    SELECT DISTINCT s.project_id, p.value ->> 'sha256', s.id
    FROM scans s, jsonb_array_elements(s.custom_probes) p";

const DOWN: [&str; 19] = [
    "DROP TABLE scan_sources",
    "DROP TABLE outbox",
    "DROP TABLE jobs",
    "DROP TABLE orphans",
    "DROP TABLE garbage",
    "DROP INDEX idempotency_expiring",
    "DROP INDEX checks_by_source",
    "DROP INDEX custom_probe_versions_by_source",
    "DROP INDEX sources_by_touch",
    "DROP INDEX sources_by_object",
    "ALTER TABLE sources DROP COLUMN touched_at",
    "DROP INDEX scans_parts_taken_in",
    "DROP INDEX scans_to_purge",
    "ALTER TABLE scans DROP COLUMN compacted_sequence",
    "ALTER TABLE scans DROP COLUMN parts_taken_in",
    "ALTER TABLE scans DROP COLUMN purge_begun_at",
    "DROP INDEX artifacts_of_scans",
    "DROP INDEX artifacts_marked",
    "DROP INDEX artifacts_unfinished",
];

/// SQLite changes no constraint: the table is made again with its rows. Nothing refers to it.
fn rebuild(dialect: Dialect, down: bool) -> Vec<String> {
    let mut checks: Vec<String> = CHECKS
        .iter()
        .map(|(_, before, now)| format!("CHECK ({}),", if down { before } else { now }))
        .collect();
    let (marked, parent) = if down {
        ("", format!("{PARENT},"))
    } else {
        checks.push(format!("CHECK ({MARKED}),"));
        ("marked_at BIGINT,", String::new())
    };
    let table = TABLE
        .replace("{marked}", marked)
        .replace("{parent}", &parent)
        .replace("{checks}", &checks.join("\n"));
    vec![
        dialect.sql(&table),
        format!("INSERT INTO artifacts_rebuilt ({COLUMNS}) SELECT {COLUMNS} FROM artifacts"),
        "DROP TABLE artifacts".to_owned(),
        "ALTER TABLE artifacts_rebuilt RENAME TO artifacts".to_owned(),
        OF_REPORTS.to_owned(),
    ]
}

/// In place of each constraint comes another.
fn replace_checks(down: bool) -> impl Iterator<Item = String> {
    CHECKS.iter().flat_map(move |(name, before, now)| {
        let check = if down { before } else { now };
        [
            format!("ALTER TABLE artifacts DROP CONSTRAINT {name}"),
            format!("ALTER TABLE artifacts ADD CONSTRAINT {name} CHECK ({check})"),
        ]
    })
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let dialect = Dialect::of(manager.get_database_backend())?;
        let connection = manager.get_connection();
        let (artifacts, pinned) = match dialect {
            Dialect::Sqlite => (rebuild(dialect, false), PINNED_ON_SQLITE),
            Dialect::Postgres => {
                let columns = UP_POSTGRES.map(str::to_owned).into_iter();
                let changes = columns.chain(replace_checks(false)).collect();
                (changes, PINNED_ON_POSTGRES)
            }
        };
        for statement in artifacts {
            connection.execute_unprepared(&statement).await?;
        }
        connection.execute_unprepared(&dialect.sql(UP)).await?;
        connection.execute_unprepared(pinned).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let dialect = Dialect::of(manager.get_database_backend())?;
        let connection = manager.get_connection();
        for index in crate::store::late::OF_STORE_KEEPING {
            let drop = format!("DROP INDEX IF EXISTS {index}");
            connection.execute_unprepared(&drop).await?;
        }
        for statement in DOWN {
            connection.execute_unprepared(statement).await?;
        }
        let artifacts = match dialect {
            Dialect::Sqlite => rebuild(dialect, true),
            Dialect::Postgres => {
                let columns = [
                    "ALTER TABLE artifacts DROP COLUMN marked_at".to_owned(),
                    format!(
                        "ALTER TABLE artifacts
                         ADD CONSTRAINT artifacts_project_id_task_id_fkey {PARENT}"
                    ),
                ];
                columns.into_iter().chain(replace_checks(true)).collect()
            }
        };
        for statement in artifacts {
            connection.execute_unprepared(&statement).await?;
        }
        Ok(())
    }
}
