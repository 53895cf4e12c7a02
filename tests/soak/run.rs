//! A run: a cluster under constant load for so long, then quiet, then the verdict.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use aegis_demo_target::DemoTarget;
use aegis_tests::{
    cluster::{Cluster, Options},
    usage,
};
use anyhow::{Context, Result, ensure};
use sea_orm::Database;
use tokio::time::{sleep, timeout};

use crate::{
    load::{self, Figures},
    measures::{Samples, row},
};

/// With fewer scans a minute nothing was shown.
const LEAST_A_MINUTE: u64 = 6;
/// Longest from the last answer until nothing runs any more.
const QUIET: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(250);
/// Of each service with a disk: where its scratch lies.
const SCRATCH: [(&str, &str); 2] = [("artifact", "uploads"), ("garak-runner", "scratch")];
/// In the order in which they are stopped.
const SERVICES: [&str; 5] = [
    "garak-runner",
    "gateway",
    "scan-orchestrator",
    "artifact",
    "catalog",
];
/// Nothing is broken, so nobody has reason to say so.
const MAD: [&str; 3] = ["panicked at", "ERROR", "ALARM"];

/// All jobs run, often, and find something to do: history is bounded. Connections age.
const SETTINGS: [(&str, &str, &str); 19] = [
    ("scan-orchestrator", "JOBS__GC_PERIOD_SECONDS", "10"),
    ("scan-orchestrator", "JOBS__GRACE_SECONDS", "20"),
    ("scan-orchestrator", "JOBS__RETENTION_PERIOD_SECONDS", "10"),
    ("scan-orchestrator", "JOBS__RETENTION_PER_TARGET", "20"),
    ("scan-orchestrator", "JOBS__PURGE_PERIOD_SECONDS", "10"),
    ("scan-orchestrator", "JOBS__EXPIRE_PERIOD_SECONDS", "10"),
    ("scan-orchestrator", "JOBS__COMPACT_PERIOD_SECONDS", "10"),
    ("scan-orchestrator", "JOBS__SCRUB_PERIOD_SECONDS", "30"),
    ("scan-orchestrator", "JOBS__SCRUB_READS", "50"),
    ("scan-orchestrator", "REAPER_PERIOD_SECONDS", "1"),
    ("scan-orchestrator", "PAGE_TOKEN_SECRET", "of both replicas"),
    ("artifact", "PAGE_TOKEN_KEY", "of both replicas"),
    ("artifact", "SWEEP_SECONDS", "5"),
    // What a cancelled run was uploading waits for so long for somebody to go on.
    ("artifact", "UPLOAD_IDLE_SECONDS", "15"),
    ("catalog", "DELETED_SCAN_DAYS", "0"),
    ("catalog", AGE, "30"),
    ("artifact", AGE, "30"),
    ("scan-orchestrator", AGE, "30"),
    ("garak-runner", AGE, "30"),
];
const AGE: &str = "SERVER__MAX_CONNECTION_AGE_SECONDS";

/// Runs for so long, and tells what grew.
pub(crate) async fn soak(time: Duration) -> Result<()> {
    let options = Options {
        settings: settings(),
        binaries: Vec::new(),
    };
    let cluster = Cluster::start(&options).await?;
    let starts = cluster.starts();
    let done = under_load(&cluster, time).await;
    let (figures, samples) = done.with_context(|| cluster.log_ends())?;
    eprintln!("{figures}");
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join("soak.tsv");
    samples.write(&file)?;
    let (table, grew) = samples.judge()?;
    eprintln!("{table}all samples: {}", file.display());
    let quiet = quiet(&cluster).await;
    for line in cluster.lines_with(&["WARN"]).await? {
        eprintln!("{line}");
    }
    // Nothing is broken, so each answer must be good.
    ensure!(figures.failures.is_empty(), "{:#?}", figures.failures);
    ensure!(cluster.starts() == starts, "a process was started again");
    quiet?;
    let least = LEAST_A_MINUTE * time.as_secs() / 60;
    ensure!(
        figures.scans() >= least,
        "{least} scans, of each kind some, are the least that shows anything: {figures}"
    );
    ensure!(grew.is_empty(), "{grew:#?}");
    Ok(())
}

fn settings() -> Vec<(&'static str, &'static str, &'static str)> {
    let quiet = SERVICES.map(|service| (service, "TELEMETRY__LOG_FILTER", "warn"));
    quiet.into_iter().chain(SETTINGS).collect()
}

/// Works for so long, and looks at it.
async fn under_load(cluster: &Cluster, time: Duration) -> Result<(Figures, Samples)> {
    let database = Database::connect(cluster.database_url()).await?;
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    let mut samples = Samples::default();
    let working = load::work(cluster.client().base(), &target, Instant::now() + time);
    let looking = async {
        match timeout(time, samples.take(cluster, &database)).await {
            // Time is over.
            Err(_) => Ok(()),
            Ok(Err(error)) => Err(error),
        }
    };
    let (figures, ()) = tokio::try_join!(working, looking)?;
    database.close().await?;
    Ok((figures, samples))
}

/// What holds once nobody asks for anything any more.
async fn quiet(cluster: &Cluster) -> Result<()> {
    ended(cluster).await?;
    stopped(cluster).await
}

/// Waits until no scan is left, and nothing in scratch.
async fn ended(cluster: &Cluster) -> Result<()> {
    let database = Database::connect(cluster.database_url()).await?;
    let open = "SELECT COUNT(*) FROM scans WHERE ended_at IS NULL";
    let until = Instant::now() + QUIET;
    loop {
        let scans: i64 = row(&database, open).await?.try_get_by_index(0)?;
        let left = left_in_scratch(cluster).await?;
        if scans == 0 && left.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < until,
            "{scans} scans have not ended; left in scratch: {left:?}"
        );
        sleep(LOOK).await;
    }
}

async fn left_in_scratch(cluster: &Cluster) -> Result<BTreeMap<String, u64>> {
    let mut left = BTreeMap::new();
    for process in cluster.running().await? {
        let scratch = SCRATCH.iter().find(|(of, _)| process.name.starts_with(of));
        if let (Some(disk), Some((_, folder))) = (&process.disk, scratch) {
            let folder = disk.join(folder);
            ensure!(folder.try_exists()?, "{} is gone", folder.display());
            let (files, _) = usage::files(&folder)?;
            if files > 0 {
                left.insert(process.name, files);
            }
        }
    }
    Ok(left)
}

/// Stops all of it, as an operator would: each process ends well and leaves none behind, and none
/// had anything to complain of.
async fn stopped(cluster: &Cluster) -> Result<()> {
    for service in SERVICES {
        cluster.stop(service).await?;
    }
    let said = cluster.lines_with(&MAD).await?;
    ensure!(said.is_empty(), "{said:#?}");
    Ok(())
}
