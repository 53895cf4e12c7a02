//! Chaos: two of each service and three runners with real garak, on PostgreSQL and an S3 server;
//! processes are killed and frozen, connections cut and held, disks full; then what must hold is
//! read from the database and the store.
//!
//! A run is a seed. `AEGIS_CHAOS_SEED`, `AEGIS_CHAOS_SCANS` and `AEGIS_CHAOS_FAULTS` choose one
//! run; without them a few short ones are made.

mod checker;
mod load;
mod plan;
mod run;

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

use crate::{
    checker::{objects, sabotage},
    plan::{ALL, Plan, Size, ZOMBIES},
    run::Run,
};

/// Runs that are always made.
const SEEDS: [u64; 1] = [1];
/// Of a short run.
const SHORT: Size = Size {
    scans: 12,
    faults: 18,
    mix: ALL,
};
/// Of a run without the fence.
const UNFENCED: Size = Size {
    scans: 8,
    faults: 9,
    mix: ZOMBIES,
};

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::from_args();
    // Each has a cluster, which has enough to do.
    arguments.test_threads = Some(1);
    let trials = match chosen()? {
        Some((seed, size)) => vec![trial("chosen", move || chaos(seed, size))],
        None => all(),
    };
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn all() -> Vec<Trial> {
    let mut trials = vec![
        trial("a_plan_is_drawn_from_its_seed", || {
            plan::is_drawn_from_its_seed();
            Ok(())
        }),
        trial("what_is_broken_by_hand_is_seen", calm),
    ];
    for seed in SEEDS {
        trials.push(trial(&format!("seed_{seed}"), move || chaos(seed, SHORT)));
    }
    trials.push(trial("any_seed", || chaos(rand::random(), SHORT)));
    trials.push(trial("without_the_fence_it_is_seen", unfenced));
    trials
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

/// All that must hold holds after anything.
fn chaos(seed: u64, size: Size) -> Result<()> {
    let plan = Plan::draw(seed, size);
    eprintln!("seed {seed}");
    for fault in &plan.faults {
        eprintln!("  {fault}");
    }
    let again = format!(
        "again by: make chaos SEED={seed} SCANS={} FAULTS={}",
        size.scans, size.faults
    );
    let outcome = Runtime::new()?.block_on(run::run(&plan, &[]));
    let outcome = outcome.with_context(|| again.clone())?;
    eprintln!("{outcome}");
    ensure!(outcome.violations.is_empty(), "{again}\n{outcome}");
    Ok(())
}

/// Nothing happens to a cluster but scans: all holds. Then the checker is tried out on it.
fn calm() -> Result<()> {
    let size = Size { faults: 1, ..SHORT };
    let mut plan = Plan::draw(1, size);
    plan.faults.clear();
    Runtime::new()?.block_on(async {
        let run = Run::start(&[]).await?;
        let figures = run.happen(&plan).await?;
        eprintln!("{figures}");
        let violations = run.check().await?;
        ensure!(violations.is_empty(), "{violations:#?}");
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
    let outcome = Runtime::new()?.block_on(run::run(&plan, &binaries))?;
    eprintln!("{outcome}");
    let stale = outcome.violations.iter();
    let stale = stale.filter(|one| one.what.starts_with("STALE WRITE"));
    ensure!(stale.count() > 0, "no stale write was seen: {outcome}");
    Ok(())
}
