//! Uploads into S3 servers: artifact's own example measures, beside the bare client.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::{Plan, goals::Goals};

/// Of the report, and how often each way is taken.
const MEGABYTES: &str = "300";
const ROUNDS: &str = "5";

/// Runs the example that was built beside the aegis binary, and takes over its rows.
pub(super) fn measure(plan: &Plan, goals: &mut Goals) -> Result<()> {
    let folder = plan.aegis.parent().context("the binary is in a folder")?;
    let example = folder.join("examples/upload_s3");
    let output = Command::new(&example)
        .args([MEGABYTES, ROUNDS])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("{}: `make bench-large` builds it", example.display()))?;
    if !output.status.success() {
        bail!("{}: {}", example.display(), output.status);
    }
    let said = String::from_utf8(output.stdout)?;
    for line in said.lines() {
        match line.starts_with("| ") {
            true => goals.take(line),
            false => println!("{line}"),
        }
    }
    Ok(())
}
