//! Large indexes. They are built while the service works already, so that an upgrade of a large
//! database does not keep it from starting; what needs one that is not there yet waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnectionTrait, DatabaseConnection};

use super::{
    connect::{DatabaseOptions, Purpose, connect},
    dialect::Dialect,
    fault::{Fault, Result},
};

/// An index that is built late.
#[derive(Debug)]
pub(crate) struct LateIndex {
    /// Its name. One that is defined otherwise later needs another name.
    pub(crate) name: &'static str,
    /// The table, and what of it.
    pub(crate) on: &'static str,
}

/// All of them, at most 64. Every key begins with project_id and ends with the row's id, all in one
/// direction: then it serves both directions, and a page begins with one comparison of rows.
pub(crate) const LATE: [LateIndex; 13] = [
    LateIndex {
        name: "scans_by_state_rank",
        on: "scans (project_id, state_rank, created_at, id) WHERE deleted_at IS NULL",
    },
    LateIndex {
        name: "scans_by_target_time",
        on: "scans (project_id, target_type, target_name, created_at, id) WHERE deleted_at IS NULL",
    },
    LateIndex {
        name: "scans_by_target_type",
        on: "scans (project_id, target_type, created_at, id) WHERE deleted_at IS NULL",
    },
    LateIndex {
        name: "scans_by_template",
        on: "scans (project_id, template, created_at, id) WHERE deleted_at IS NULL AND template <> ''",
    },
    LateIndex {
        name: "scans_by_defcon",
        on: "scans (project_id, defcon, created_at, id) WHERE deleted_at IS NULL AND defcon IS NOT NULL",
    },
    LateIndex {
        name: "scans_by_start",
        on: "scans (project_id, started_at, id) WHERE deleted_at IS NULL",
    },
    LateIndex {
        name: "scans_by_end",
        on: "scans (project_id, ended_at, id) WHERE deleted_at IS NULL",
    },
    LateIndex {
        name: "scans_by_pass_rate",
        on: "scans (project_id, pass_rate, id) WHERE deleted_at IS NULL",
    },
    LateIndex {
        name: "scans_by_duration",
        on: "scans (project_id, duration_ms, id) WHERE deleted_at IS NULL",
    },
    LateIndex {
        name: "scans_deleted",
        on: "scans (project_id, created_at, id) WHERE deleted_at IS NOT NULL",
    },
    LateIndex {
        name: "scan_labels_by_key",
        on: "scan_labels (project_id, key, created_at, scan_id)",
    },
    LateIndex {
        name: "scans_to_compact",
        on: "scans (project_id, ended_at, id) WHERE compacted_sequence < last_sequence AND ended_at IS NOT NULL",
    },
    LateIndex {
        name: "task_runs_ended",
        on: "task_runs (project_id, ended_at, task_id, epoch) WHERE ended_at IS NOT NULL",
    },
];

/// Those of columns that came with the store's jobs.
pub(crate) const OF_STORE_KEEPING: [&str; 1] = ["scans_to_compact"];

/// Any number but the one of migrations: the same in every replica.
const LOCK: i64 = 0x0061_6567_6974;

/// Which of them are there.
#[derive(Debug, Default)]
pub(crate) struct LateIndexes {
    /// A bit an index, in the order of [`LATE`].
    there: AtomicU64,
}

impl LateIndexes {
    /// Looks what is there.
    pub(crate) async fn look(conn: &impl ConnectionTrait, dialect: Dialect) -> Result<Self> {
        let indexes = Self::default();
        indexes.look_again(conn, dialect).await?;
        Ok(indexes)
    }

    async fn look_again(&self, conn: &impl ConnectionTrait, dialect: Dialect) -> Result<()> {
        for (at, index) in LATE.iter().enumerate() {
            if !self.has_at(at) && state(conn, dialect, index).await? == Some(true) {
                self.note(at);
            }
        }
        Ok(())
    }

    /// Whether this one is there; those that are not built late always are.
    pub(crate) fn has(&self, name: &str) -> bool {
        LATE.iter()
            .position(|index| index.name == name)
            .is_none_or(|at| self.has_at(at))
    }

    /// Whether all are there.
    pub(crate) fn complete(&self) -> bool {
        (0..LATE.len()).all(|at| self.has_at(at))
    }

    fn has_at(&self, at: usize) -> bool {
        self.there.load(Ordering::Relaxed) & (1 << at) != 0
    }

    fn note(&self, at: usize) {
        self.there.fetch_or(1 << at, Ordering::Relaxed);
    }
}

/// Whether an index can be used; `None` when there is none. On PostgreSQL one whose building was
/// cut short is there, is kept up to date and serves nothing.
async fn state(
    conn: &impl ConnectionTrait,
    dialect: Dialect,
    index: &LateIndex,
) -> Result<Option<bool>> {
    let sql = match dialect {
        Dialect::Sqlite => {
            "SELECT TRUE AS valid FROM sqlite_master WHERE type = 'index' AND name = $1"
        }
        Dialect::Postgres => {
            "SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass($1)"
        }
    };
    let row = conn
        .query_one_raw(dialect.statement(sql, [index.name.into()]))
        .await?;
    Ok(row.map(|row| row.try_get("", "valid")).transpose()?)
}

/// In a database without a scan nothing is large: all are built in the migration's transaction.
pub(crate) async fn build_when_empty(tx: &impl ConnectionTrait, dialect: Dialect) -> Result<()> {
    let any = dialect.statement("SELECT 1 FROM scans LIMIT 1", []);
    if tx.query_one_raw(any).await?.is_some() {
        return Ok(());
    }
    for LateIndex { name, on } in &LATE {
        tx.execute_unprepared(&format!("CREATE INDEX IF NOT EXISTS {name} ON {on}"))
            .await?;
    }
    Ok(())
}

/// Works until all are there, whoever builds them. A role that must not build only waits.
pub(crate) async fn complete(options: DatabaseOptions, indexes: Arc<LateIndexes>, build: bool) {
    const LONGEST_PAUSE: Duration = Duration::from_secs(300);
    let mut pause = Duration::from_secs(1);
    while !indexes.complete() {
        match work(&options, &indexes, build).await {
            Ok(true) => break,
            Ok(false) => {}
            Err(fault) => {
                tracing::warn!(?fault, again_in = ?pause, "the large indexes are not complete");
            }
        }
        tokio::time::sleep(pause).await;
        pause = LONGEST_PAUSE.min(pause * 2);
    }
    tracing::debug!("the large indexes are complete");
}

/// One round; whether all are there.
pub(crate) async fn work(
    options: &DatabaseOptions,
    indexes: &LateIndexes,
    build: bool,
) -> Result<bool> {
    let connection = connect(options, Purpose::Schema).await?;
    let dialect = Dialect::of(connection.get_database_backend())?;
    let result = async {
        indexes.look_again(&connection, dialect).await?;
        if build && !indexes.complete() && is_our_turn(&connection, dialect).await? {
            build_missing(&connection, dialect, indexes).await?;
        }
        Ok::<_, Fault>(indexes.complete())
    }
    .await;
    // With the connection the turn ends.
    connection.close().await?;
    result
}

/// Never waits for the turn inside a statement: whoever builds waits for all statements to end.
async fn is_our_turn(connection: &DatabaseConnection, dialect: Dialect) -> Result<bool> {
    if dialect == Dialect::Sqlite {
        return Ok(true);
    }
    let lock = dialect.statement("SELECT pg_try_advisory_lock($1) AS ours", [LOCK.into()]);
    let row = connection.query_one_raw(lock).await?;
    Ok(row.is_some_and(|row| row.try_get("", "ours").unwrap_or(false)))
}

async fn build_missing(
    connection: &DatabaseConnection,
    dialect: Dialect,
    indexes: &LateIndexes,
) -> Result<()> {
    let concurrently = match dialect {
        Dialect::Sqlite => "",
        Dialect::Postgres => "CONCURRENTLY",
    };
    for (at, index) in LATE.iter().enumerate() {
        let LateIndex { name, on } = index;
        match state(connection, dialect, index).await? {
            Some(true) => {
                indexes.note(at);
                continue;
            }
            Some(false) => {
                let leftover = format!("DROP INDEX {concurrently} IF EXISTS {name}");
                connection.execute_unprepared(&leftover).await?;
            }
            None => {}
        }
        let begun = std::time::Instant::now();
        let create = format!("CREATE INDEX {concurrently} IF NOT EXISTS {name} ON {on}");
        connection.execute_unprepared(&create).await?;
        indexes.note(at);
        tracing::info!(index = name, took = ?begun.elapsed(), "a large index is built");
    }
    Ok(())
}
