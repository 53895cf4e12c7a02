//! A run: a cluster, users and faults, then quiet, then the check.

use std::time::{Duration, Instant};

use aegis_demo_target::DemoTarget;
use aegis_tests::cluster::{Cluster, Options};
use anyhow::{Context, Result, bail};
use futures_util::future::join_all;
use sea_orm::{Database, DatabaseConnection};
use serde_json::json;
use tokio::time::sleep;

use crate::{
    checker::{Violation, objects, rows},
    load::{Ledger, told, user},
    plan::{Fault, Plan, PlannedFault},
};

/// Longest from the last fault, or the end of a scan or task after it, until the next ends: how long
/// all of them take says something of the machine alone.
const QUIET: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(250);

/// So that bad luck shows, and passes, in seconds. 4 s is the lease.
const SETTINGS: [(&str, &str, &str); 21] = [
    ("scan-orchestrator", "LEASE_SECONDS", "4"),
    ("scan-orchestrator", "REAPER_PERIOD_SECONDS", "1"),
    ("scan-orchestrator", "MAX_FAILURES", "10"),
    ("scan-orchestrator", "BACKOFF_SECONDS", "0"),
    ("scan-orchestrator", "MAX_BACKOFF_SECONDS", "2"),
    ("scan-orchestrator", "TARGET_PATIENCE_SECONDS", "2"),
    ("scan-orchestrator", "LANE_PAUSE_SECONDS", "1"),
    ("scan-orchestrator", "MAX_BACKPRESSURE_SECONDS", "3"),
    // Garbage is collected while all this goes on, but nothing that a frozen process may have in
    // hand: that is what the grace is for.
    ("scan-orchestrator", "JOBS__GC_PERIOD_SECONDS", "10"),
    ("scan-orchestrator", "JOBS__GRACE_SECONDS", "60"),
    ("scan-orchestrator", "JOBS__SCRUB_PERIOD_SECONDS", "2678400"),
    ("scan-orchestrator", "CATALOG__UNARY_DEADLINE_SECONDS", "8"),
    ("scan-orchestrator", "ARTIFACT__UNARY_DEADLINE_SECONDS", "8"),
    ("artifact", "CATALOG__UNARY_DEADLINE_SECONDS", "8"),
    ("artifact", "MINIO__TIMEOUT_SECONDS", "5"),
    ("artifact", "UPLOAD_IDLE_SECONDS", "20"),
    ("artifact", "SWEEP_SECONDS", "5"),
    ("gateway", "UNARY_DEADLINE_SECONDS", "8"),
    ("catalog", "DATABASE_IDLE_TRANSACTION_SECONDS", "3"),
    ("garak-runner", "KILL_GRACE_SECONDS", "2"),
    ("garak-runner", "UPLOAD_PATIENCE_SECONDS", "60"),
];

/// A cluster in which nothing has happened yet.
pub(crate) struct Run {
    pub(crate) cluster: Cluster,
    pub(crate) database: DatabaseConnection,
    pub(crate) ledger: Ledger,
    target: DemoTarget,
}

impl Run {
    /// Starts one, with some services from other binaries.
    pub(crate) async fn start(binaries: &[(&'static str, &'static str)]) -> Result<Self> {
        let options = Options {
            settings: SETTINGS.to_vec(),
            binaries: binaries.to_vec(),
        };
        let cluster = Cluster::start(&options).await?;
        let database = Database::connect(cluster.database_url()).await?;
        Ok(Self {
            cluster,
            database,
            ledger: Ledger::default(),
            target: DemoTarget::start(([127, 0, 0, 1], 0).into()).await?,
        })
    }

    /// Lets all that is planned happen, then waits until nothing goes on any more.
    pub(crate) async fn happen(&self, plan: &Plan) -> Result<String> {
        let began = Instant::now();
        let faults = plan.faults.iter().map(|fault| self.fault(fault));
        let users = plan
            .scans
            .iter()
            .map(|scan| user(&self.cluster, &self.target, &self.ledger, scan));
        let all = async {
            let (faults, users) = tokio::join!(join_all(faults), join_all(users));
            // The faults first: a cluster that was not put right says nothing of the product.
            faults.into_iter().chain(users).collect::<Result<()>>()
        };
        tokio::select! {
            happened = all => happened?,
            tended = self.cluster.tend() => tended?,
        }
        let happened = began.elapsed();
        tokio::select! {
            ended = self.ended() => ended?,
            tended = self.cluster.tend() => tended?,
        }
        let quiet = began.elapsed() - happened;
        Ok(format!(
            "{} scans, {} faults in {:.0} s, quiet after {:.0} s more; {} starts of processes, of \
             which by themselves: {:?}",
            plan.scans.len(),
            plan.faults.len(),
            happened.as_secs_f64(),
            quiet.as_secs_f64(),
            self.cluster.starts(),
            self.cluster.ended_by_themselves(),
        ))
    }

    async fn fault(&self, planned: &PlannedFault) -> Result<()> {
        sleep(planned.at).await;
        let (place, lasts) = (planned.place.as_str(), planned.lasts);
        let cluster = &self.cluster;
        let done = match planned.fault {
            Fault::Kill => cluster.kill(place, lasts).await,
            Fault::Freeze => cluster.freeze(place, lasts).await,
            Fault::FullDisk => cluster.fill_disk(place, lasts).await,
            Fault::Cut => cluster.cut(place),
            Fault::Hold => cluster.hold(place, lasts),
            Fault::Database => cluster.database_down(lasts).await,
            Fault::Store => cluster.store_down(lasts).await,
        };
        done.with_context(|| planned.to_string())
    }

    /// Waits until no scan and no task is left, or none ends any more; what is left then is found
    /// by the check.
    async fn ended(&self) -> Result<()> {
        let mut fewest = usize::MAX;
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            let open = rows::open(&self.database).await?.len();
            if open == 0 {
                return Ok(());
            }
            if open < fewest {
                (fewest, since) = (open, Instant::now());
            }
            sleep(LOOK).await;
        }
        eprintln!("does not end: {:#?}", rows::waiting(&self.database).await?);
        Ok(())
    }

    /// Stops what could still write, checks, collects all garbage, and checks again.
    pub(crate) async fn check(&self) -> Result<Vec<Violation>> {
        self.cluster.stop("garak-runner").await?;
        let accepted = self.ledger.accepted();
        let mut found = rows::check(&self.database, &accepted).await?;
        let store = objects::store(&self.cluster)?;
        found.extend(objects::check(&self.database, &store).await?);
        // What is marked is deleted at once now: nobody reads any more.
        self.cluster.stop("scan-orchestrator").await?;
        let at_once = [("JOBS__GRACE_SECONDS", "0")];
        self.cluster
            .start_again("scan-orchestrator", &at_once)
            .await?;
        self.job("gc").await?;
        self.job("scrub").await?;
        found.extend(rows::check(&self.database, &accepted).await?);
        found.extend(rows::check_collected(&self.database).await?);
        found.extend(objects::check(&self.database, &store).await?);
        let mad = ["panicked at", "changed under its lock"];
        let said = self.cluster.lines_with(&mad).await?.into_iter();
        found.extend(said.map(|line| Violation::new("a process said", line)));
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Runs one of the store's jobs.
    async fn job(&self, name: &str) -> Result<()> {
        let path = format!("/v1/admin/jobs/{name}:run");
        let run = told(self.cluster.client(), &path, &json!({})).await?.ok()?;
        if run["run"]["succeeded"] != true {
            bail!("{name}: {run:#}");
        }
        Ok(())
    }
}
