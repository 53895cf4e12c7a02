//! A fresh database, and short words for what a case does to it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use aegis_catalog::{
    domain::{
        artifact::{ArtifactName, Checksum},
        event::LoggedEvent,
        keeping::{Step, Sweep, Swept},
        lane::NewLane,
        policy::RetryPolicy,
        scan::{IdempotencyKey, NewScan, ScanView},
        tally::{Tally, TallyRow},
        task::{LeaseProof, NewTask, Outcome, OutcomeKind},
    },
    store::{
        DatabaseOptions, Granted, LeaseCall, Leased, Location, Retention, Store, Update, Work,
    },
};
use aegis_mesh::Result;
use aegis_proto::ids::{ArtifactId, ProjectId, ScanId};
use aegis_testkit::{Postgres, TestDatabase};
use sea_orm::{
    ConnectionTrait, Database, DatabaseBackend, DatabaseConnection, DatabaseTransaction,
    QueryResult, Statement, TransactionTrait, Value,
};

pub(crate) const CATALOGUE: &str =
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A database and a store on it.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) project: ProjectId,
    pub(crate) location: Location,
    retention: Retention,
    raw: DatabaseConnection,
    _home: Home,
}

/// What the database lies in, and what goes with it.
enum Home {
    Folder { _folder: tempfile::TempDir },
    Server { _database: TestDatabase<'static> },
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        Self::sqlite_in(&std::env::temp_dir(), retention()).await
    }

    /// In a folder of its own below this one.
    pub(crate) async fn sqlite_in(above: &Path, retention: Retention) -> Self {
        let folder = tempfile::tempdir_in(above).unwrap();
        let file: PathBuf = folder.path().join("catalog.db");
        let url = format!("sqlite:{}", file.display());
        let home = Home::Folder { _folder: folder };
        Self::open(Location::File(file), &url, home, retention).await
    }

    pub(crate) async fn postgres() -> Self {
        let database = Postgres::shared().create_database();
        let url = database.url();
        let home = Home::Server {
            _database: database,
        };
        Self::open(Location::Postgres(url.clone()), &url, home, retention()).await
    }

    async fn open(location: Location, url: &str, home: Home, retention: Retention) -> Self {
        let store = Store::open(&options(&location), retention).await.unwrap();
        Self {
            retention,
            store,
            project: ProjectId::default_project(),
            location,
            raw: Database::connect(url.to_owned()).await.unwrap(),
            _home: home,
        }
    }

    /// Another replica on the same database.
    pub(crate) async fn replica(&self) -> Store {
        let opened = Store::open(&options(&self.location), self.retention).await;
        opened.unwrap()
    }

    /// Rows of a statement, past all rules.
    pub(crate) async fn sql(&self, sql: &str, values: Vec<Value>) -> Vec<QueryResult> {
        let backend = self.raw.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        self.raw.query_all_raw(statement).await.unwrap()
    }

    /// Runs statements, past all rules.
    pub(crate) async fn run(&self, statements: &str) {
        self.raw.execute_unprepared(statements).await.unwrap();
    }

    /// Which database it is.
    pub(crate) fn backend(&self) -> DatabaseBackend {
        self.raw.get_database_backend()
    }

    /// The one number that a statement gives.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        let rows = self.sql(sql, vec![]).await;
        rows[0].try_get_by_index(0).unwrap()
    }

    /// A transaction that has run a statement and stays open with its locks.
    pub(crate) async fn hold(&self, sql: &str, values: Vec<Value>) -> DatabaseTransaction {
        let held = self.raw.begin().await.unwrap();
        let backend = self.raw.get_database_backend();
        let statement = Statement::from_sql_and_values(backend, sql, values);
        held.query_all_raw(statement).await.unwrap();
        held
    }

    /// Waits until a statement gives this number.
    pub(crate) async fn wait_for(&self, sql: &str, number: i64) {
        while self.number(sql).await != number {
            tokio::task::yield_now().await;
        }
    }

    /// All leases ran out a second ago.
    pub(crate) async fn age_leases(&self) {
        let sql = "UPDATE tasks SET lease_expires_at = 1 WHERE state = 'RUNNING'";
        self.sql(sql, vec![]).await;
    }

    /// All backoffs and pauses are over. Not in one transaction: the lock order is lane before task.
    pub(crate) async fn end_waits(&self) {
        self.run("UPDATE tasks SET not_before = 0").await;
        self.run("UPDATE lanes SET paused_until = 0").await;
    }

    pub(crate) async fn create(&self, probes: usize) -> ScanId {
        self.create_new(&new_scan(probes)).await
    }

    pub(crate) async fn create_new(&self, new: &NewScan) -> ScanId {
        let view = self.store.create(&self.project, new).await.unwrap();
        view.scan.id
    }

    pub(crate) async fn get(&self, id: ScanId) -> ScanView {
        self.store.get(&self.project, id).await.unwrap()
    }

    /// Leases at once.
    pub(crate) async fn lease(&self) -> Option<Granted> {
        self.lease_as(&call()).await
    }

    pub(crate) async fn lease_as(&self, call: &LeaseCall) -> Option<Granted> {
        let leased = self.lease_any(call).await?;
        Some(leased.task().expect("a task, no check"))
    }

    /// Leases a task or a check at once.
    pub(crate) async fn lease_any(&self, call: &LeaseCall) -> Option<Leased> {
        let lease = self.store.lease(&self.project, call, Duration::ZERO);
        lease.await.unwrap()
    }

    pub(crate) async fn leased(&self) -> Granted {
        self.lease().await.expect("a task to lease")
    }

    /// Uploads a file of a run.
    pub(crate) async fn upload(
        &self,
        lease: &LeaseProof,
        name: ArtifactName,
        tally: Option<&Tally>,
    ) -> Result<ArtifactId> {
        let staged = self.store.stage(&self.project, lease, name).await?;
        let id = staged.artifact.id;
        self.store
            .complete(&self.project, lease, id, &checksum(), tally)
            .await?;
        Ok(id)
    }

    /// Uploads a report of the leased task and finishes it.
    pub(crate) async fn done(&self, granted: &Granted) -> Result<()> {
        let outcome = self.uploaded(granted).await?;
        self.finish(&granted.lease, &outcome).await
    }

    /// Uploads what the leased task makes; the outcome that names it.
    pub(crate) async fn uploaded(&self, granted: &Granted) -> Result<Outcome> {
        let lease = &granted.lease;
        let artifacts = match &granted.work {
            Work::Probe(grant) => {
                let tally = tally(&grant.task.probe, 3, 1);
                vec![
                    self.upload(lease, ArtifactName::Report, Some(&tally))
                        .await?,
                ]
            }
            Work::Report { .. } => {
                let mut files = Vec::new();
                let tally = Tally::default();
                let names = [
                    ArtifactName::Report,
                    ArtifactName::Html,
                    ArtifactName::Digest,
                ];
                for name in names {
                    files.push(self.upload(lease, name, Some(&tally)).await?);
                }
                files
            }
        };
        Ok(Outcome {
            artifacts,
            ..outcome(OutcomeKind::Done, "")
        })
    }

    pub(crate) async fn finish(&self, lease: &LeaseProof, outcome: &Outcome) -> Result<()> {
        self.finish_with(lease, outcome, &POLICY).await
    }

    pub(crate) async fn finish_with(
        &self,
        lease: &LeaseProof,
        outcome: &Outcome,
        policy: &RetryPolicy,
    ) -> Result<()> {
        let finish = self
            .store
            .finish(&self.project, lease, outcome, None, policy);
        finish.await
    }

    pub(crate) async fn fail(&self, granted: &Granted, kind: OutcomeKind, reason: &str) {
        let outcome = outcome(kind, reason);
        self.finish(&granted.lease, &outcome).await.unwrap();
    }

    pub(crate) async fn expire(&self) -> u32 {
        let expire = self.store.expire(&self.project, &POLICY, 1_000);
        expire.await.unwrap()
    }

    /// Does all steps of this work; what it did.
    pub(crate) async fn sweep(&self, sweep: &Sweep) -> Swept {
        self.sweep_on(&self.store, sweep, 2, false).await.unwrap()
    }

    /// What all steps of this work would do.
    pub(crate) async fn would_sweep(&self, sweep: &Sweep) -> Swept {
        self.sweep_on(&self.store, sweep, 2, true).await.unwrap()
    }

    /// Does all steps of this work on a replica, each of so many rows, or says what they would do.
    pub(crate) async fn sweep_on(
        &self,
        store: &Store,
        sweep: &Sweep,
        limit: u32,
        dry_run: bool,
    ) -> Result<Swept> {
        let mut step = Step {
            after: String::new(),
            limit,
            dry_run,
        };
        let mut all = Swept::default();
        loop {
            let swept = store.sweep(&self.project, sweep, &step).await?;
            for (what, number) in &swept.counts {
                all.count(what, *number);
            }
            all.details.extend(swept.details);
            if swept.next.is_empty() {
                return Ok(all);
            }
            step.after = swept.next;
        }
    }

    /// Leases and does everything that there is, reports included; how many.
    pub(crate) async fn work_off(&self) -> usize {
        let mut done = 0;
        while let Some(granted) = self.lease().await {
            self.done(&granted).await.unwrap();
            done += 1;
        }
        done
    }

    /// The whole log of an ended scan.
    pub(crate) async fn log(&self, id: ScanId) -> Vec<LoggedEvent> {
        self.log_after(id, 0).await
    }

    pub(crate) async fn log_after(&self, id: ScanId, sequence: i64) -> Vec<LoggedEvent> {
        let watch = self.store.watch(&self.project, id, sequence).await;
        let (_, mut watch) = watch.unwrap();
        let mut log = Vec::new();
        while let Some(update) = watch.next().await.unwrap() {
            if let Update::Events(events) = update {
                log.extend(events);
            }
        }
        log
    }

    /// Kinds of the newest events, oldest first, also of a scan that goes on.
    pub(crate) async fn kinds(&self, id: ScanId) -> Vec<String> {
        let sql = "SELECT kind FROM scan_events WHERE scan_id = $1 ORDER BY sequence";
        let rows = self.sql(sql, vec![id.0.into()]).await;
        rows.iter()
            .map(|row| row.try_get("", "kind").unwrap())
            .collect()
    }
}

pub(crate) async fn open(location: &Location) -> Result<Store> {
    Store::open(&options(location), retention()).await
}

pub(crate) fn options(location: &Location) -> DatabaseOptions {
    DatabaseOptions {
        max_connections: 6,
        timeout: Duration::from_secs(30),
        ..DatabaseOptions::at(location.clone())
    }
}

pub(crate) fn retention() -> Retention {
    const DAY: Duration = Duration::from_secs(86_400);
    Retention {
        deleted_scan: DAY * 7,
        request: DAY,
        upload: DAY,
    }
}

/// A scan of so many probes, the first with the most calls.
pub(crate) fn new_scan(probes: usize) -> NewScan {
    let tasks = (0..probes).map(|n| NewTask {
        probe: format!("test.Probe{n}"),
        shard_count: 1,
        ordinal: n as i32,
        planned_calls: 1_000 - n as i64,
        planned_attempts: 10,
        ..NewTask::default()
    });
    NewScan {
        key: IdempotencyKey::default(),
        display_name: "a scan".to_owned(),
        spec: serde_json::json!({"target": {"type": "test.Repeat", "name": "x"}}),
        target_type: "test.Repeat".to_owned(),
        target_name: "x".to_owned(),
        priority: 50,
        labels: BTreeMap::from([("team".to_owned(), "red".to_owned())]),
        garak_version: "0.17.1".to_owned(),
        plugin_catalogue: CATALOGUE.to_owned(),
        effective_seed: 7,
        effective_eval_threshold: 0.5,
        max_in_flight: 16,
        lane: NewLane {
            key: "target-1".to_owned(),
            max_in_flight: 1_000,
        },
        tasks: tasks.collect(),
        max_failures: 3,
        created_by: "local".to_owned(),
        template: String::new(),
        template_version: 0,
        custom_probes: Vec::new(),
    }
}

/// A poll of its own.
pub(crate) fn call() -> LeaseCall {
    LeaseCall {
        runner_id: "runner-1".to_owned(),
        request_id: uuid::Uuid::new_v4().to_string(),
        plugin_catalogue: CATALOGUE.to_owned(),
        slots: 2,
        ttl_ms: 60_000,
        max_running_scans: 0,
    }
}

pub(crate) const POLICY: RetryPolicy = RetryPolicy {
    backoff_ms: 10_000,
    max_backoff_ms: 60_000,
    lane_pause_ms: 5_000,
    max_backpressure_ms: 60_000,
    max_outage_ms: 600_000,
};

pub(crate) fn outcome(kind: OutcomeKind, reason: &str) -> Outcome {
    Outcome {
        kind,
        reason: reason.to_owned(),
        message: format!("why: {reason}"),
        retry_after_ms: None,
        artifacts: Vec::new(),
    }
}

pub(crate) fn tally(probe: &str, passed: i64, failed: i64) -> Tally {
    Tally {
        rows: vec![TallyRow {
            probe: probe.to_owned(),
            detector: "test.Detector".to_owned(),
            passed,
            failed,
            nones: 1,
            evaluated: passed + failed,
            grades: None,
        }],
        attempts: 5,
    }
}

pub(crate) fn checksum() -> Checksum {
    Checksum {
        sha256: "b".repeat(64),
        size: 42,
    }
}

/// The probe of a lease.
pub(crate) fn probe(granted: &Granted) -> &str {
    match &granted.work {
        Work::Probe(grant) => &grant.task.probe,
        Work::Report { .. } => panic!("a report's lease has no probe"),
    }
}

/// Calls in flight of a lease.
pub(crate) fn share(granted: &Granted) -> i32 {
    match &granted.work {
        Work::Probe(grant) => grant.task.granted,
        Work::Report { .. } => 0,
    }
}

/// The reason of a refusal.
pub(crate) fn refused<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.expect_err("a refusal");
    format!("{}/{}", error.code().name(), error.reason())
}
