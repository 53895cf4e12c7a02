//! The statements of a lease and its end by themselves, as fast as PostgreSQL takes them: by
//! pgbench, which comes with it.

use std::{process::Command, time::Duration};

use aegis_testkit::Postgres;
use anyhow::{Context, Result, ensure};

const SCRIPT: &str = include_str!("bare.sql");

/// Pairs a second, of so many clients at once, for so long.
pub(super) fn pairs(
    postgres: &Postgres,
    catalogue: &str,
    clients: usize,
    time: Duration,
) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("bare.sql");
    std::fs::write(&script, SCRIPT)?;
    // The server is there, so pgbench is beside it.
    let pgbench = postgres.program("pgbench");
    let output = Command::new(pgbench)
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .arg(format!("--client={clients}"))
        .arg(format!("--time={}", time.as_secs()))
        .arg(format!("--define=catalogue={catalogue}"))
        .arg(format!("--file={}", script.display()))
        .arg(postgres.url())
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "pgbench: {said}{errors}");
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = rate
        .and_then(|rate| rate.split(' ').next())
        .context("tps")?;
    println!("pgbench: {rate} /s");
    Ok(rate.parse()?)
}
