//! The store kept in order: what a deleted scan leaves, seen in the database and among the files.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use aegis_tests::{
    client::Client,
    data::{balanced, objects},
    mesh::{aegis_up, warm},
    process::{Process, binary},
};
use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{spec, target, text};

/// These have a mesh of their own.
pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test(
        "keeping::a_purged_scan_leaves_neither_rows_nor_files",
        || purged().map_err(|error| Failed::from(format!("{error:#}"))),
    )]
}

fn admin(base: &str, args: &[&str]) -> Result<Value> {
    let output = aegis(base, &[&["--json", "admin"], args].concat())?;
    let (out, error) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(output.status.success(), "{args:?}: {out}{error}");
    serde_json::from_str(&out).with_context(|| out.into_owned())
}

fn aegis(base: &str, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("aegis")?);
    Ok(command.arg("--server").arg(base).args(args).output()?)
}

fn details(run: &Value) -> Vec<String> {
    let lines = run["details"].as_array().into_iter().flatten();
    lines.map(text).collect()
}

fn purged() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut command = aegis_up(data.path(), "127.0.0.1:0")?;
    for (name, value) in [
        ("CATALOG__DELETED_SCAN_DAYS", "0"),
        ("SCAN_ORCHESTRATOR__JOBS__GRACE_SECONDS", "0"),
        // Only when this test asks for it.
        ("SCAN_ORCHESTRATOR__JOBS__GC_PERIOD_SECONDS", "2678400"),
        ("SCAN_ORCHESTRATOR__JOBS__PURGE_PERIOD_SECONDS", "2678400"),
    ] {
        command.env(format!("AEGIS_UP__{name}"), value);
    }
    let mut process = Process::start("aegis-up", &mut command, data.path())?;
    let base = process.said("ready ")?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(collected(&base, data.path()))?;
    process.signal(Signal::SIGTERM)?;
    let status = process.ended(Duration::from_secs(40))?;
    ensure!(status.success(), "{}", process.log_end()?);
    Ok(())
}

async fn collected(base: &str, data: &Path) -> Result<()> {
    let client = Client::new(base)?;
    warm(&client).await?;
    let target = target().await?;
    let spec = spec(&target, "", &["probes.goodside.ThreatenJSON"]);
    let [kept, gone] = [(), ()].map(|()| client.run(&spec));
    let (kept, gone) = (text(&kept.await?["scanId"]), text(&gone.await?["scanId"]));
    client.delete(&format!("/v1/scans/{gone}")).await?.ok()?;
    let dry = admin(base, &["gc", "--dry-run"])?;
    let purge = format!("purge scan {gone}: its time to be restored is over");
    ensure!(details(&dry).contains(&purge), "{dry:#}");
    let before = objects(&data.join("data/artifact/objects"))?;
    ensure!(before.iter().any(|key| key.contains(&gone)), "{before:?}");
    let run = admin(base, &["gc"])?;
    ensure!(run["result"]["purged"] == 1.0, "{run:#}");
    ensure!(run["result"]["scans"] == 1.0, "{run:#}");
    let rows = balanced(data).await?;
    ensure!(rows.iter().all(|key| key.contains(&kept)), "{rows:?}");
    // The other one is whole: its report is read, and counted alone.
    let results = client.get(&format!("/v1/scans/{kept}/results")).await?;
    ensure!(results.status.is_success(), "{results:?}");
    let statistics = client.get("/v1/statistics").await?.ok()?;
    ensure!(
        statistics["statistics"]["scansCompleted"] == "1",
        "{statistics}"
    );
    let scrub = admin(base, &["scrub"])?;
    ensure!(scrub["result"]["read"] == rows.len() as f64, "{scrub:#}");
    ensure!(details(&scrub).is_empty(), "{scrub:#}");
    alarmed(base, data, &kept)?;
    let unknown = aegis(base, &["admin", "run", "nothing"])?;
    let error = String::from_utf8_lossy(&unknown.stderr);
    ensure!(error.contains("JOB_NOT_FOUND"), "{error}");
    let table = aegis(base, &["admin", "jobs"])?;
    let table = String::from_utf8_lossy(&table.stdout);
    for part in ["gc", "purged 1", "ALARM", " days", "Shortens"] {
        ensure!(table.contains(part), "{part}: {table}");
    }
    Ok(())
}

/// A file that is changed behind everybody's back, and one that is lost, are told; nothing is
/// deleted.
fn alarmed(base: &str, data: &Path, scan: &str) -> Result<()> {
    let root = data.join("data/artifact/objects");
    let html = objects(&root)?;
    let html = html
        .iter()
        .find(|key| key.ends_with("report.html"))
        .context("a report")?;
    let path = root.join(html);
    let mut bytes = std::fs::read(&path)?;
    bytes[0] ^= 1;
    std::fs::write(&path, &bytes)?;
    let run = admin(base, &["scrub"])?;
    ensure!(run["result"]["corrupt"] == 1.0, "{run:#}");
    let alarm =
        format!("ALARM report.html of scan {scan} ({html}): its bytes are not what was stored");
    ensure!(details(&run) == [alarm], "{run:#}");
    std::fs::remove_file(&path)?;
    let run = admin(base, &["scrub"])?;
    ensure!(run["result"]["missing"] == 1.0, "{run:#}");
    let alarm = format!("ALARM report.html of scan {scan} ({html}): it is not there");
    ensure!(details(&run) == [alarm], "{run:#}");
    Ok(())
}
