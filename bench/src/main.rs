//! The measurements that the README quotes: Aegis against plain `garak`, in one run, at the
//! plain one's best setting, with no more calls in flight than it had.

mod catalogue;
mod cost;
mod large;
mod ours;
mod plain;
mod probes;
mod process;
mod progress;
mod queue;
mod recovery;
mod runner;
mod scaling;
mod services;
mod sse;
mod table;

use std::time::Duration;

use aegis_demo_target::DemoTarget;
use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use large::{Backend, Part, Plan};
use table::Table;

/// Measure Aegis against plain garak.
#[derive(Parser)]
struct Args {
    /// What to measure; when none is named, the first of them, some ten minutes
    #[arg(value_enum)]
    what: Vec<Measurement>,
    /// The aegis binary
    #[arg(long, default_value = "target/release/aegis")]
    aegis: std::path::PathBuf,
    /// Settings of plain garak's parallel_attempts to choose the best of; 0 is off
    #[arg(long, value_delimiter = ',', default_values_t = [0, 8, 16, 32])]
    plain: Vec<u32>,
    /// Databases that `large` measures
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Backend::Sqlite, Backend::Postgres])]
    database: Vec<Backend>,
    /// Scans in the databases of `large`
    #[arg(long, value_delimiter = ',', default_values_t = large::SIZES)]
    scans: Vec<u64>,
    /// Parts of `large`; all when none is named
    #[arg(long, value_enum, value_delimiter = ',')]
    part: Vec<Part>,
    /// A folder where the databases of `large` stay, to be measured again at once; PostgreSQL's
    /// user must get through to it
    #[arg(long)]
    keep: Option<std::path::PathBuf>,
    /// Only make the databases of `large`
    #[arg(long, requires = "keep")]
    make: bool,
    /// The Python that has MLflow, which `large` compares with
    #[arg(long, default_value = ".tools/mlflow/bin/python")]
    mlflow_python: std::path::PathBuf,
    /// The file with the table of `large`
    #[arg(long, default_value = ".data/bench/large.md")]
    table: std::path::PathBuf,
}

impl Args {
    fn large(&self) -> Plan {
        let parts = match self.part.as_slice() {
            [] => Part::value_variants(),
            some => some,
        };
        Plan {
            aegis: self.aegis.clone(),
            databases: self.database.clone(),
            scans: self.scans.clone(),
            parts: parts.to_vec(),
            keep: self.keep.clone(),
            only_make: self.make,
            python: self.mlflow_python.clone(),
            table: self.table.clone(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// From nothing to ready, and memory at rest
    Idle,
    /// From the order to the target's first call
    Start,
    /// 12 probes, a target that takes 50 ms
    Latency,
    /// 12 probes, a target that answers at once
    Instant,
    /// 72 probes, a target that takes 40 ms
    Many,
    /// 72 probes, a target that answers at once
    ManyInstant,
    /// From cancel to garak's end
    Cancel,
    /// From a runner's death until its probe runs again
    RunnerDeath,
    /// From the start of a service that died until it serves again
    ServiceDeath,
    /// One scan on 1, 2, 4 and 8 slots
    Scaling,
    /// 200,000 tasks that wait
    Queue,
    /// A thousand who watch
    Progress,
    /// The history of up to a million scans; an hour or two, and 40 GB
    Large,
}

const QUICK: [Measurement; 5] = [
    Measurement::Idle,
    Measurement::Start,
    Measurement::Latency,
    Measurement::Instant,
    Measurement::Cancel,
];

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let chosen = if args.what.is_empty() {
        QUICK.to_vec()
    } else {
        args.what.clone()
    };
    let mut table = Table::default();
    for what in chosen {
        measure(what, &args, &mut table).await?;
        println!("{table}");
    }
    Ok(())
}

async fn measure(what: Measurement, args: &Args, table: &mut Table) -> Result<()> {
    let aegis = args.aegis.as_path();
    let (name, probes, generations, latency_ms): (_, &[&str], _, _) = match what {
        Measurement::Idle => return idle(aegis, table).await,
        Measurement::Start => return start(aegis, table).await,
        Measurement::Cancel => return cancel(aegis, table).await,
        Measurement::RunnerDeath => return recovery::of_a_runner(table).await,
        Measurement::ServiceDeath => return recovery::of_a_service(table).await,
        Measurement::Scaling => return scaling::measure(aegis, table).await,
        Measurement::Queue => {
            for database in &args.database {
                queue::measure(table, *database).await?;
            }
            return Ok(());
        }
        Measurement::Progress => return progress::measure(table).await,
        Measurement::Large => return large::measure(&args.large()).await,
        Measurement::Latency => ("12 probes, 50 ms target", &probes::TWELVE, 5, 50),
        Measurement::Instant => ("12 probes, instant target", &probes::TWELVE, 5, 0),
        Measurement::Many => ("72 probes, 40 ms target", &probes::MANY, 1, 40),
        Measurement::ManyInstant => ("72 probes, instant target", &probes::MANY, 1, 0),
    };
    let load = Load {
        name,
        probes,
        generations,
        latency_ms,
    };
    scan(args, table, &load).await
}

/// What is scanned with what.
struct Load<'a> {
    name: &'a str,
    probes: &'a [&'a str],
    generations: u32,
    latency_ms: u64,
}

impl Load<'_> {
    fn behaviour(&self) -> String {
        format!("latency/{}", self.latency_ms)
    }
}

async fn idle(aegis: &std::path::Path, table: &mut Table) -> Result<()> {
    let mesh = ours::Mesh::start(aegis)?;
    table.fact(
        "ready after",
        format!("{:.0} ms", mesh.ready_after.as_secs_f64() * 1e3),
        "< 500 ms",
    );
    mesh.warm().await?;
    let resident = process::resident_mb(mesh.id())?;
    table.fact(
        "Rust process at rest",
        format!("{resident:.0} MB"),
        "< 60 MB",
    );
    mesh.stop()
}

async fn start(aegis: &std::path::Path, table: &mut Table) -> Result<()> {
    let probes = ["goodside.ThreatenJSON"];
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    let plain = plain::run(&target, "", &probes, 1, None)?;
    let first = target.first_call().context("plain garak made no call")?;
    let plain_start = first.duration_since(plain.began);

    let mesh = ours::Mesh::start(aegis)?;
    mesh.warm().await?;
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    let ours = mesh.scan(&target, "", &probes, 1, 8).await?;
    let first = target.first_call().context("the scan made no call")?;
    let our_start = first.duration_since(ours.began);
    let created = mesh.create_everything(&target).await?;
    table.fact(
        "CreateScan of all that garak has",
        format!("{:.0} ms", created.as_secs_f64() * 1e3),
        "< 1000 ms",
    );
    table.ratio(
        "to the target's first call",
        "wall",
        our_start,
        plain_start,
        0.1,
    );
    mesh.stop()
}

async fn scan(args: &Args, table: &mut Table, load: &Load<'_>) -> Result<()> {
    let best = plain_best(&args.plain, load).await?;
    let name = load.name;
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    let mesh = ours::Mesh::start(&args.aegis)?;
    mesh.warm().await?;
    // No more calls in flight than plain garak had at its best.
    let in_flight = u32::try_from(best.peak_in_flight)?.max(best.parallel.unwrap_or(1));
    let behaviour = load.behaviour();
    let ours = mesh
        .scan(
            &target,
            &behaviour,
            load.probes,
            load.generations,
            in_flight,
        )
        .await?;
    let peak = target.stats().peak_in_flight;
    println!(
        "{name}: plain best {:?} ({} calls, peak {}), ours {} calls, peak {peak}",
        best.parallel,
        best.calls,
        best.peak_in_flight,
        target.stats().calls,
    );
    let (wall_goal, cpu_goal) = match (load.latency_ms, load.probes.len()) {
        (0, _) => (0.7, 1.2),
        (_, 12) => (0.5, 0.8),
        _ => (0.35, f64::INFINITY),
    };
    table.ratio(name, "wall", ours.wall, best.wall, wall_goal);
    table.ratio(name, "CPU", ours.cpu, best.cpu, cpu_goal);
    mesh.stop()
}

async fn plain_best(settings: &[u32], load: &Load<'_>) -> Result<plain::Run> {
    let mut best: Option<plain::Run> = None;
    for setting in settings {
        let parallel = (*setting > 0).then_some(*setting);
        // Serial against a slow target takes minutes and was never the best: 10,000 calls of 40 ms.
        if parallel.is_none() && load.latency_ms > 0 && load.probes.len() > 12 {
            continue;
        }
        let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
        let run = plain::run(
            &target,
            &load.behaviour(),
            load.probes,
            load.generations,
            parallel,
        )?;
        let run = run.with(target.stats());
        println!(
            "{}: plain garak, parallel_attempts {parallel:?}: wall {:.1?}, CPU {:.1?}",
            load.name, run.wall, run.cpu
        );
        if best.as_ref().is_none_or(|best| run.wall < best.wall) {
            best = Some(run);
        }
    }
    best.context("no plain run")
}

async fn cancel(aegis: &std::path::Path, table: &mut Table) -> Result<()> {
    let mesh = ours::Mesh::start(aegis)?;
    mesh.warm().await?;
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    let (visible, gone) = mesh.cancel_hanging(&target).await?;
    table.fact(
        "cancel visible",
        format!("{:.0} ms", visible.as_secs_f64() * 1e3),
        "< 1000 ms",
    );
    table.fact(
        "garak's processes gone",
        format!("{:.0} ms", gone.as_secs_f64() * 1e3),
        "< 2000 ms",
    );
    mesh.stop()
}

/// Longest that any one step may take.
const LIMIT: Duration = Duration::from_secs(1200);
