//! Plain garak, as its user runs it: the command line with a configuration file.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use aegis_demo_target::{DemoTarget, Stats};
use anyhow::{Result, bail};
use serde_json::json;

use crate::process;

/// One run that is over.
pub(crate) struct Run {
    pub(crate) began: Instant,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
    pub(crate) parallel: Option<u32>,
    pub(crate) calls: u64,
    pub(crate) peak_in_flight: u64,
}

impl Run {
    pub(crate) fn with(self, stats: Stats) -> Self {
        Self {
            calls: stats.calls,
            peak_in_flight: stats.peak_in_flight,
            ..self
        }
    }
}

/// Runs it to its end.
pub(crate) fn run(
    target: &DemoTarget,
    behaviour: &str,
    probes: &[&str],
    generations: u32,
    parallel: Option<u32>,
) -> Result<Run> {
    let folder = tempfile::tempdir()?;
    let include: Vec<_> = probes
        .iter()
        .map(|probe| format!("probes.{probe}"))
        .collect();
    let parallel_attempts = parallel.map_or(json!(false), |n| json!(n));
    let config = json!({
        "system": {"parallel_attempts": parallel_attempts, "lite": true},
        "run": {"generations": generations, "seed": 7, "spec": {"include": include}},
        "plugins": {
            "target_type": "openai.OpenAICompatible",
            "target_name": "demo",
            "generators": {"openai": {"OpenAICompatible": {"uri": target.uri(behaviour)}}},
        },
        "reporting": {"report_dir": folder.path(), "report_prefix": "plain"},
    });
    let file = folder.path().join("config.json");
    std::fs::write(&file, serde_json::to_vec(&config)?)?;
    let before = process::cpu_of_children()?;
    let began = Instant::now();
    let status = Command::new(aegis_tests::process::garak_python()?)
        .args(["-m", "garak", "--config"])
        .arg(&file)
        .env("OPENAICOMPATIBLE_API_KEY", "none")
        .env("PYTHONHASHSEED", "0")
        .env("HF_HUB_OFFLINE", "1")
        .env("XDG_DATA_HOME", folder.path())
        .env("XDG_CONFIG_HOME", folder.path())
        .env("XDG_CACHE_HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let wall = began.elapsed();
    let cpu = process::cpu_of_children()?.saturating_sub(before);
    if !status.success() || !folder.path().join("plain.report.html").try_exists()? {
        bail!("plain garak made no report: {status}");
    }
    Ok(Run {
        began,
        wall,
        cpu,
        parallel,
        calls: 0,
        peak_in_flight: 0,
    })
}
