//! Aegis, as its user runs it: `aegis up` and HTTP.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use aegis_demo_target::DemoTarget;
use aegis_tests::{
    client::{Client, is_ended},
    process::{Process, garak_python},
};
use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{LIMIT, process};

/// A mesh in one process.
pub(crate) struct Mesh {
    process: Process,
    client: Client,
    pub(crate) ready_after: Duration,
    _data: TempDir,
}

/// One scan that is over.
pub(crate) struct Run {
    pub(crate) began: Instant,
    pub(crate) wall: Duration,
    pub(crate) cpu: Duration,
}

impl Mesh {
    pub(crate) fn start(aegis: &Path) -> Result<Self> {
        Self::start_with(aegis, 2)
    }

    pub(crate) fn start_with(aegis: &Path, slots: u32) -> Result<Self> {
        let data = tempfile::tempdir()?;
        let mut command = Command::new(aegis);
        command
            .args([
                "up",
                "--listen",
                "127.0.0.1:0",
                "--slots",
                &slots.to_string(),
                "--data-dir",
            ])
            .arg(data.path().join("data"))
            .arg("--garak-python")
            .arg(garak_python()?);
        let began = Instant::now();
        let mut process = Process::start("aegis", &mut command, data.path())?;
        let base = process.said("ready ")?;
        let ready_after = began.elapsed();
        let client = Client::new(&base)?;
        Ok(Self {
            process,
            client,
            ready_after,
            _data: data,
        })
    }

    pub(crate) fn id(&self) -> i32 {
        self.process.id()
    }

    /// Waits until garak has warmed up and its catalogue is published.
    pub(crate) async fn warm(&self) -> Result<()> {
        let until = Instant::now() + LIMIT;
        while !self
            .client
            .get("/v1/plugins/buffs")
            .await?
            .status
            .is_success()
        {
            if Instant::now() > until {
                bail!("garak did not warm up");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Runs a scan to its end.
    pub(crate) async fn scan(
        &self,
        target: &DemoTarget,
        behaviour: &str,
        probes: &[&str],
        generations: u32,
        in_flight: u32,
    ) -> Result<Run> {
        let before = process::cpu_of_tree(self.id())?;
        let began = Instant::now();
        let id = self
            .client
            .create(&spec(target, behaviour, probes, generations, in_flight))
            .await?;
        let scan = self.client.until(&id, LIMIT, is_ended).await?;
        let wall = began.elapsed();
        let cpu = process::cpu_of_tree(self.id())?.saturating_sub(before);
        if scan["coverage"]["evaluated"] != json!(probes.len()) {
            bail!("not everything was evaluated: {:#}", scan["coverage"]);
        }
        Ok(Run { began, wall, cpu })
    }

    /// Cancels a scan whose calls hang: time until it shows, and until garak is gone.
    pub(crate) async fn cancel_hanging(&self, target: &DemoTarget) -> Result<(Duration, Duration)> {
        let at_rest = process::descendants(self.id())?.len();
        let probes = ["web_injection.TaskXSS", "malwaregen.TopLevel"];
        let id = self
            .client
            .create(&spec(target, "hang", &probes, 1, 8))
            .await?;
        self.wait(|| Ok(target.stats().in_flight > 0)).await?;
        let began = Instant::now();
        self.client
            .post(&format!("/v1/scans/{id}:cancel"), &json!({}))
            .await?
            .ok()?;
        self.client
            .until(&id, LIMIT, |scan| scan["state"] != "STATE_RUNNING")
            .await?;
        let visible = began.elapsed();
        self.wait(|| Ok(process::descendants(self.id())?.len() <= at_rest))
            .await?;
        Ok((visible, began.elapsed()))
    }

    /// Creates a scan of every active probe, and cancels it: how long the creation takes.
    pub(crate) async fn create_everything(&self, target: &DemoTarget) -> Result<Duration> {
        let mut wanted = spec(target, "hang", &[], 1, 8);
        wanted["include"] = json!(["all"]);
        let began = Instant::now();
        let id = self.client.create(&wanted).await?;
        let took = began.elapsed();
        self.client
            .post(&format!("/v1/scans/{id}:cancel"), &json!({}))
            .await?
            .ok()?;
        self.client.until(&id, LIMIT, is_ended).await?;
        Ok(took)
    }

    async fn wait(&self, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        while !holds()? {
            if Instant::now() > until {
                bail!("waited a minute for nothing:\n{}", self.process.log_end()?);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.ended(Duration::from_secs(30))?;
        if !status.success() {
            bail!("aegis up ended with {status}");
        }
        Ok(())
    }
}

/// What a scan of the target is created with.
pub(crate) fn spec(
    target: &DemoTarget,
    behaviour: &str,
    probes: &[&str],
    generations: u32,
    in_flight: u32,
) -> Value {
    let include: Vec<_> = probes
        .iter()
        .map(|probe| format!("probes.{probe}"))
        .collect();
    json!({
        "target": {
            "type": "openai.OpenAICompatible",
            "name": "demo",
            "options": {"uri": target.uri(behaviour)},
        },
        "include": include,
        "generations": generations,
        "seed": "7",
        "maxInFlight": in_flight,
    })
}
