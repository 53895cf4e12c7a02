//! A report of a gigabyte: how fast it is taken in, and how fast a page of its hits is read out of
//! an S3 server.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use aegis_testkit::S3Server;
use anyhow::{Context, Result, bail};

use super::{
    Plan,
    cost::{self, ms},
    goals::Goals,
    report,
    store::Mesh,
};
use crate::process;

/// Hits of a page.
const PAGE: usize = 50;
const REQUESTS: usize = 100;

/// The report, made when it is not there.
fn written(keep: &Path) -> Result<PathBuf> {
    let path = keep.join("report.jsonl");
    let complete = keep.join("report.complete");
    if !complete.try_exists()? {
        report::write(&path)?;
        std::fs::write(complete, "")?;
    }
    Ok(path)
}

/// By `aegis import` into a directory.
pub(super) async fn import(plan: &Plan, keep: &Path, goals: &mut Goals) -> Result<()> {
    let report = written(keep)?;
    let data = tempfile::tempdir_in(".data/bench")?;
    let mesh = Mesh::empty(&plan.aegis, data.path(), None).await?;
    let before = process::cpu_of_tree(mesh.id())?;
    let seconds = take_in(&plan.aegis, &mesh, &report)?;
    let cpu = process::cpu_of_tree(mesh.id())?.saturating_sub(before);
    let speed = megabytes(&report)? / seconds;
    goals.judge(
        "aegis import of a report of 1 GB, directory",
        "≥ 100 MB/s",
        &format!(
            "{speed:.0} MB/s ({seconds:.1} s, CPU of the mesh {:.1} s)",
            cpu.as_secs_f64()
        ),
        speed >= 100.0,
    );
    mesh.stop()
}

/// Through the gateway, by a mesh that has just been started, after `aegis import` into S3.
pub(super) async fn drill_down(plan: &Plan, keep: &Path, goals: &mut Goals) -> Result<()> {
    let report = written(keep)?;
    for (name, s3) in [
        ("SeaweedFS", S3Server::seaweedfs()),
        ("JuiceFS's gateway", S3Server::juicefs()),
    ] {
        from(plan, &report, name, s3, goals).await?;
    }
    Ok(())
}

async fn from(
    plan: &Plan,
    report: &Path,
    name: &str,
    s3: &S3Server,
    goals: &mut Goals,
) -> Result<()> {
    let data = tempfile::tempdir_in(".data/bench")?;
    let mesh = Mesh::empty(&plan.aegis, data.path(), Some(s3)).await?;
    take_in(&plan.aegis, &mesh, report)?;
    mesh.stop()?;

    let mesh = Mesh::empty(&plan.aegis, data.path(), Some(s3)).await?;
    let rest = process::resident_mb(mesh.id())?;
    process::forget_peak(mesh.id())?;
    for (probe, hit_every) in report::PROBES {
        let path = format!(
            "/v1/scans/{}/attempts?probe={probe}&outcome=OUTCOME_HIT&pageSize={PAGE}",
            report::RUN
        );
        let began = Instant::now();
        full(&mesh, &path).await?;
        let first = began.elapsed();
        let ask = async || full(&mesh, &path).await;
        let cost = cost::measure(REQUESTS, &[mesh.id()], Some(s3.id()), ask).await?;
        goals.judge(
            &format!("first {PAGE} hits, one in {hit_every}, in a report of 1 GB, from {name}"),
            "p99 < 50 ms",
            &format!("{}; the very first {:.1} ms", cost.said(), ms(first)),
            ms(cost.p99) < 50.0,
        );
    }
    let more = process::peak_mb(mesh.id())? - rest;
    goals.judge(
        "memory for it, beside that at rest",
        "< 64 MB",
        &format!("{more:.0} MB beside {rest:.0} MB"),
        more < 64.0,
    );
    mesh.stop()
}

fn take_in(aegis: &Path, mesh: &Mesh, report: &Path) -> Result<f64> {
    let began = Instant::now();
    let output = Command::new(aegis)
        .args(["--server", mesh.client().base(), "import"])
        .arg(report)
        .output()
        .context("aegis import")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("aegis import: {}: {said}", output.status);
    }
    Ok(began.elapsed().as_secs_f64())
}

fn megabytes(report: &Path) -> Result<f64> {
    Ok(std::fs::metadata(report)?.len() as f64 / 1e6)
}

async fn full(mesh: &Mesh, path: &str) -> Result<()> {
    let page = mesh.client().get(path).await?.ok()?;
    let rows = page["attempts"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(rows == PAGE, "{path}: {rows} attempts");
    Ok(())
}
