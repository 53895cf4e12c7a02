//! The database: every intent is one transaction, safe to repeat.

mod alone;
mod artifacts;
mod cancel;
mod catalogues;
mod checks;
mod comparison;
mod conclude;
mod connect;
mod create;
mod custom_probes;
mod database;
mod delete;
mod dialect;
mod down;
mod entity;
mod expire;
mod fault;
mod fence;
mod finish;
mod history;
mod hub;
mod import;
mod keeping;
mod late;
mod lease;
mod list;
mod located;
mod migration;
mod notify;
mod operate;
mod pause;
mod pick;
mod queue;
mod report;
mod reports;
mod results;
mod retry;
mod rows;
mod runners;
mod scan_keys;
mod scans;
mod schema;
mod secrets;
mod settle;
mod slow;
mod statistics;
mod tasks;
mod templates;
mod tx;
mod update;
mod watch;

use std::{future::Future, sync::Arc, time::Duration};

use aegis_mesh::{TaskHandle, spawn};
use aegis_proto::ids::ProjectId;
use sea_orm::ConnectionTrait;

pub use artifacts::Staged;
pub use catalogues::PluginCatalogue;
pub use checks::{CheckGrant, CheckStatus, Leased};
pub use connect::{DatabaseOptions, Location};
pub use custom_probes::{CustomProbeRef, CustomProbeUpdate, NewCustomProbe};
pub use import::{Imported, StagedImport};
pub use keeping::{Committed, CommittedPage, Garbage, GarbagePage, Orphan};
pub use lease::{Grant, Granted, LeaseCall, Work};
pub use list::{ScanCursor, ScanPage};
pub use located::{FindingQuery, FindingReport, LocatedReport, ScanPosition, WALKED_SCANS};
pub use operate::{answers, migrate, migrate_down};
pub use report::{ReportCall, Reported};
pub use reports::{ProbeReport, ReportParts};
pub use results::{ResultCursor, ResultPage};
pub use statistics::Folded;
pub use update::ScanEdit;
pub use watch::{ScanWatch, Update};

use database::Database;
use fault::{Fault, Result};
use hub::Hub;
use runners::SeenRunners;
use secrets::Secrets;
use tx::Tx;
use watch::feed::Feeds;

/// How long things are kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// A deleted scan can be restored for this long.
    pub deleted_scan: Duration,
    /// A request's repeat is known for this long; at least 24 hours.
    pub request: Duration,
    /// A file that was announced must be uploaded and committed within this.
    pub upload: Duration,
}

/// The catalog's database.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    database: Database,
    hub: Arc<Hub>,
    feeds: Feeds,
    secrets: Secrets,
    seen: SeenRunners,
    retention: Retention,
    /// Builds large indexes until they are there.
    _late: Option<TaskHandle<()>>,
    /// Talks to the other replicas, on PostgreSQL.
    _notify: Option<TaskHandle<()>>,
}

impl Store {
    /// Opens the database and brings its schema up to date. Large indexes that are missing are
    /// built from now on.
    ///
    /// # Errors
    /// UNAVAILABLE / DATABASE_DOWN when it cannot be reached;
    /// FAILED_PRECONDITION / DATABASE_UNUSABLE when it is not ours, DATABASE_NEWER when a newer
    /// version made it, DATABASE_NOT_MIGRATED when it is older and must not be changed.
    pub async fn open(options: &DatabaseOptions, retention: Retention) -> aegis_mesh::Result<Self> {
        let unusable = |fault: Fault| fault.at_start(&options.location);
        let database = Database::open(options).await.map_err(unusable)?;
        let secrets = Secrets::load(&database).await.map_err(unusable)?;
        let late = (!database.late.complete()).then(|| {
            let indexes = Arc::clone(&database.late);
            let work = late::complete(options.clone(), indexes, options.migrate);
            spawn("late-indexes", work)
        });
        let hub = Arc::<Hub>::default();
        let notify = matches!(options.location, Location::Postgres(_))
            .then(|| spawn("notify", notify::run(options.clone(), Arc::clone(&hub))));
        let inner = Inner {
            _late: late,
            _notify: notify,
            database,
            hub,
            feeds: Feeds::default(),
            secrets,
            seen: SeenRunners::default(),
            retention,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// Closes all connections; SQLite's log is then part of its file.
    ///
    /// # Errors
    /// When the database is gone already.
    pub async fn close(self) -> aegis_mesh::Result<()> {
        let database = &self.inner.database;
        database.reader.clone().close().await.map_err(Fault::from)?;
        database.writer.clone().close().await.map_err(Fault::from)?;
        Ok(())
    }

    /// Whether the database answers now.
    ///
    /// # Errors
    /// UNAVAILABLE / DATABASE_DOWN, DATABASE_BUSY.
    pub async fn check(&self) -> aegis_mesh::Result<()> {
        let database = &self.inner.database;
        Ok(database.reader.ping().await.map_err(Fault::from)?)
    }

    /// Statements sent to the database since it was opened.
    pub fn statements(&self) -> u64 {
        self.inner.database.statements()
    }

    /// Scans that somebody listens to in this process.
    pub fn listened_scans(&self) -> usize {
        self.inner.hub.listened_scans()
    }

    /// Changes that other replicas told of.
    pub fn changes_heard(&self) -> u64 {
        self.inner.hub.heard()
    }

    /// The key of this installation's page tokens: the same in every replica.
    pub fn page_key(&self) -> &[u8] {
        &self.inner.secrets.page
    }

    /// As [`retrying`], for what may write: it shows whether nothing can be written. That something
    /// can, a commit shows (see [`Tx::commit`]).
    async fn writing<T, F: Future<Output = Result<T>>>(
        &self,
        run: impl Fn() -> F,
    ) -> aegis_mesh::Result<T> {
        let noted = || {
            let run = run();
            async {
                let result = run.await;
                if let Err(fault) = &result
                    && let Some(ill) = fault.all_writes()
                {
                    self.inner.hub.set_ill(Some(ill));
                }
                result
            }
        };
        retrying(noted).await
    }

    /// Writes with one statement, which is a transaction of its own.
    async fn write_row(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = sea_orm::Value>,
    ) -> Result<()> {
        let database = &self.inner.database;
        let statement = database.dialect.statement(sql, values);
        database.writer.execute_raw(statement).await?;
        self.inner.hub.set_ill(None);
        Ok(())
    }

    async fn write(&self) -> Result<Tx> {
        let database = &self.inner.database;
        Tx::write(&database.writer, database.dialect, &self.inner.hub).await
    }

    async fn read(&self) -> Result<Tx> {
        let database = &self.inner.database;
        Tx::read(&database.reader, database.dialect, &self.inner.hub).await
    }
}

/// Runs a transaction again when it lost against another one; nothing of it was kept.
async fn retrying<T, F: Future<Output = Result<T>>>(run: impl Fn() -> F) -> aegis_mesh::Result<T> {
    const RUNS: u32 = 4;
    for _ in 1..RUNS {
        match run().await {
            Err(fault) if fault.is_transient() => {
                tracing::debug!(?fault, "the transaction is run again");
            }
            result => return Ok(result?),
        }
    }
    Ok(run().await?)
}

/// The two values that every key begins with.
fn key(project: &ProjectId, id: uuid::Uuid) -> [sea_orm::Value; 2] {
    [project.as_str().into(), id.into()]
}
