//! What a history of years costs, through the gateway: lists, statistics, and single reports of a
//! gigabyte; and how it compares.

mod goals;
mod growth;
mod lists;
mod mlflow;
mod report;
mod reports;
mod rows;
mod statistics;
mod store;
mod sums;
mod upload;

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::ValueEnum;

use crate::cost;
use goals::Goals;
use growth::Growth;
use store::{Size, Store};

pub(crate) use store::Backend;

/// Scans in the databases.
pub(crate) const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];

/// A part of the measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Lists of scans
    History,
    /// Sums over scans
    Statistics,
    /// A report of a gigabyte is taken in
    Import,
    /// A page of its hits is read out of an S3 server
    DrillDown,
    /// A runner's report goes through artifact into an S3 server
    Upload,
    /// Against MLflow's tracking server
    Compare,
}

/// What is measured.
pub(crate) struct Plan {
    pub(crate) aegis: PathBuf,
    pub(crate) databases: Vec<Backend>,
    pub(crate) scans: Vec<u64>,
    pub(crate) parts: Vec<Part>,
    /// Where databases stay for the next time; a folder that is removed when there is none.
    pub(crate) keep: Option<PathBuf>,
    /// Databases are made and not measured.
    pub(crate) only_make: bool,
    /// The Python that has MLflow.
    pub(crate) python: PathBuf,
    /// The table is written to this file.
    pub(crate) table: PathBuf,
}

pub(crate) async fn measure(plan: &Plan) -> Result<()> {
    std::fs::create_dir_all(".data/bench")?;
    let removed;
    let keep = match &plan.keep {
        Some(keep) => keep.as_path(),
        None => {
            removed = tempfile::tempdir_in(".data/bench")?;
            reachable(removed.path())?;
            removed.path()
        }
    };
    let mut goals = Goals::default();
    databases(plan, keep, &mut goals).await?;
    if plan.only_make {
        return Ok(());
    }
    let asked = |part| plan.parts.contains(&part);
    if asked(Part::Compare) {
        mlflow::compare(plan, keep, &mut goals).await?;
    }
    if asked(Part::Import) {
        reports::import(plan, keep, &mut goals).await?;
    }
    if asked(Part::DrillDown) {
        reports::drill_down(plan, keep, &mut goals).await?;
    }
    if asked(Part::Upload) {
        upload::measure(plan, &mut goals)?;
    }
    std::fs::write(&plan.table, goals.to_string())?;
    println!("\n{goals}\nwritten to {}", plan.table.display());
    Ok(())
}

/// PostgreSQL's user must get through to its data.
fn reachable(folder: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let permissions = std::fs::Permissions::from_mode(0o755);
    Ok(std::fs::set_permissions(folder, permissions)?)
}

async fn databases(plan: &Plan, keep: &Path, goals: &mut Goals) -> Result<()> {
    let asked = |part| plan.parts.contains(&part);
    if !asked(Part::History) && !asked(Part::Statistics) {
        return Ok(());
    }
    let mut growth = Growth::default();
    for backend in &plan.databases {
        for scans in &plan.scans {
            let size = Size {
                backend: *backend,
                scans: *scans,
            };
            let store = Store::open(&plan.aegis, keep, size).await?;
            if plan.only_make {
                continue;
            }
            let mesh = store.start().await?;
            let server = store.server();
            if asked(Part::History) {
                lists::measure(&mesh, server, size, goals, &mut growth).await?;
            }
            if asked(Part::Statistics) {
                statistics::measure(&mesh, server, size, goals, &mut growth).await?;
            }
            mesh.stop()?;
        }
    }
    growth.judge(goals);
    Ok(())
}
