//! Chaos: two of each service and three runners with real garak, on PostgreSQL and an S3 server;
//! processes are killed and frozen, connections cut and held, disks full; then what must hold is
//! read from the database and the store.
//!
//! A run is a seed. `AEGIS_CHAOS_SEED`, `AEGIS_CHAOS_SCANS` and `AEGIS_CHAOS_FAULTS` choose one,
//! as `make chaos` does, which makes a run without the fence, too; without them two short ones are
//! made.

mod checker;
mod load;
mod plan;
mod run;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use crate::{
    checker::{Violation, objects, sabotage},
    plan::{ALL, Plan, Size, ZOMBIES},
    run::Run,
};

/// A run that is always made.
const SEED: u64 = 1;
/// Of a short run.
const SHORT: Size = Size {
    scans: 8,
    faults: 12,
    mix: ALL,
};
/// Of a run without the fence.
const UNFENCED: Size = Size {
    scans: 12,
    faults: 9,
    mix: ZOMBIES,
};

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    // Each has a cluster, which has enough to do.
    arguments.test_threads = Some(1);
    let trials = match chosen()? {
        Some((seed, size)) => vec![
            trial("chosen", move || chaos(&[seed], size)),
            trial("without_the_fence_it_is_seen", unfenced),
        ],
        None => vec![
            trial("a_plan_is_drawn_from_its_seed", || {
                plan::is_drawn_from_its_seed();
                Ok(())
            }),
            trial("short_runs", || chaos(&[SEED, rand::random()], SHORT)),
        ],
    };
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn trial(name: &str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

/// The run that the environment names.
fn chosen() -> Result<Option<(u64, Size)>> {
    let number = |name: &str| -> Result<Option<u64>> {
        match std::env::var(name) {
            Ok(text) if !text.is_empty() => {
                let number = text.parse();
                Ok(Some(number.with_context(|| format!("{name}={text}"))?))
            }
            _ => Ok(None),
        }
    };
    let seed = number("AEGIS_CHAOS_SEED")?;
    let scans = number("AEGIS_CHAOS_SCANS")?;
    let faults = number("AEGIS_CHAOS_FAULTS")?;
    if seed.or(scans).or(faults).is_none() {
        return Ok(None);
    }
    let size = Size {
        scans: scans.map_or(Ok(SHORT.scans), usize::try_from)?,
        faults: faults.map_or(Ok(SHORT.faults), usize::try_from)?,
        mix: ALL,
    };
    Ok(Some((seed.unwrap_or_else(rand::random), size)))
}

/// All that must hold holds after anything: after these runs, one after the other. Then the
/// checker is tried out on what they left.
fn chaos(seeds: &[u64], size: Size) -> Result<()> {
    Runtime::new()?.block_on(async {
        let run = Run::start(&[]).await?;
        let mut said = String::new();
        for seed in seeds {
            let again = format!(
                "\nagain by: make chaos SEED={seed} SCANS={} FAULTS={}",
                size.scans, size.faults
            );
            eprintln!("seed {seed}{again}");
            said.push_str(&again);
            let plan = Plan::draw(*seed, size);
            for fault in &plan.faults {
                eprintln!("  {fault}");
            }
            let figures = run.happen(&plan).await;
            let figures =
                figures.with_context(|| format!("{again}\n{}", run.cluster.log_ends()))?;
            eprintln!("{figures}");
        }
        let violations = run.check().await.with_context(|| said.clone())?;
        ensure!(violations.is_empty(), "{violations:#?}{said}");
        let store = objects::store(&run.cluster)?;
        sabotage::is_seen(&run.database, &store, &run.ledger.accepted()).await
    })
}

/// Without the fence, runners that come back do harm, and the checker sees it.
fn unfenced() -> Result<()> {
    let plan = Plan::draw(1, UNFENCED);
    let binaries = [
        ("catalog", "aegis-catalog-unfenced"),
        ("garak-runner", "aegis-garak-runner-unfenced"),
    ];
    Runtime::new()?.block_on(async {
        let run = Run::start(&binaries).await?;
        eprintln!("{}", run.happen(&plan).await?);
        let violations = run.check().await?;
        for violation in &violations {
            eprintln!("  {violation}");
        }
        let is_stale = |one: &Violation| one.what.starts_with("STALE WRITE");
        let stale = violations.iter().filter(|one| is_stale(one)).count();
        eprintln!("{stale} stale writes, {} violations", violations.len());
        ensure!(stale > 0, "no stale write was seen: {violations:#?}");
        Ok(())
    })
}
