//! A mesh from its start to its death, and the next one on the same data.

use std::{
    os::unix::process::ExitStatusExt,
    process::Command,
    time::{Duration, Instant},
};

use aegis_demo_target::DemoTarget;
use aegis_mesh::failpoint::VARIABLE;
use aegis_tests::{
    client::{Client, is_ended},
    data::balanced,
    mesh::aegis_up,
    process::{Process, binary},
};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    books,
    stories::{Death, Story, Wish},
    support::{spec, target, text},
};

/// More than the two slots of the mesh.
const PROBES: [&str; 3] = [
    "probes.goodside.ThreatenJSON",
    "probes.grandma.Win10",
    "probes.web_injection.MarkdownXSS",
];
/// From the start of a mesh to its death, or to the scan's end; a busy machine warms garak up slowly.
const WITHIN: Duration = Duration::from_secs(180);

/// A scan, the mesh that it lives in, and its target, which outlives both.
struct Scene {
    data: tempfile::TempDir,
    target: DemoTarget,
    request: Value,
}

/// Lives through all deaths of a story, and ends well.
pub(crate) async fn live(story: &Story) -> Result<()> {
    let target = target().await?;
    let request = json!({
        "requestId": Uuid::new_v4(),
        "spec": spec(&target, story.target, &PROBES),
    });
    let scene = Scene {
        data: tempfile::tempdir()?,
        target,
        request,
    };
    for death in story.deaths {
        let died = scene.die(death).await;
        died.with_context(|| format!("at {}", death.point))?;
    }
    scene.end_well().await
}

impl Scene {
    async fn die(&self, death: &Death) -> Result<()> {
        let mut mesh = self.start(Some(death.point))?;
        let wished = match mesh.said("ready ") {
            Ok(base) => self.wish(&Client::new(&base)?, death.wish).await,
            Err(early) => Err(early),
        };
        // The one who wished may be cut off by the death.
        let status = mesh.ended(WITHIN).with_context(|| format!("{wished:?}"))?;
        let said = format!(
            "died at {}",
            death.point.split(':').next().unwrap_or_default()
        );
        ensure!(
            status.signal() == Some(Signal::SIGABRT as i32) && !mesh.lines_with(&said)?.is_empty(),
            "it ended with {status}: {}",
            mesh.log_end()?
        );
        books::check(self.data.path(), death.then).await?;
        books::end_leases(self.data.path()).await
    }

    /// With no further wish than its request, the scan completes; then the store is in order.
    async fn end_well(&self) -> Result<()> {
        let mut mesh = self.start(None)?;
        let base = mesh.said("ready ")?;
        let client = Client::new(&base)?;
        let id = self.create(&client).await?;
        let scan = client.until(&id, WITHIN, is_ended).await?;
        ensure!(
            scan["state"] == "STATE_COMPLETED" && scan["report"]["state"] == "STATE_READY",
            "{scan:#}"
        );
        ensure!(scan["coverage"]["evaluated"] == PROBES.len(), "{scan:#}");
        let report = format!("/v1/scans/{id}/artifacts/report.jsonl");
        let report = client.request(reqwest::Method::GET, &report).send().await?;
        ensure!(report.status().is_success(), "{report:?}");
        collect(&base)?;
        mesh.signal(Signal::SIGTERM)?;
        let status = mesh.ended(Duration::from_secs(40))?;
        ensure!(status.success(), "{}", mesh.log_end()?);
        let data = self.data.path();
        books::check(data, "(SELECT COUNT(*) FROM scans) = 1").await?;
        balanced(data).await?;
        Ok(())
    }

    fn start(&self, point: Option<&str>) -> Result<Process> {
        let data = self.data.path();
        let mut command = aegis_up(data, "127.0.0.1:0")?;
        for (name, value) in [
            // Its deaths are no failures of a probe.
            ("SCAN_ORCHESTRATOR__MAX_FAILURES", "100"),
            // Only when a story asks for it.
            ("SCAN_ORCHESTRATOR__JOBS__GRACE_SECONDS", "0"),
            ("SCAN_ORCHESTRATOR__JOBS__GC_PERIOD_SECONDS", "2678400"),
        ] {
            command.env(format!("AEGIS_UP__{name}"), value);
        }
        if let Some(point) = point {
            command.env(VARIABLE, point);
        }
        Process::start(point.unwrap_or("last"), &mut command, data)
    }

    async fn wish(&self, client: &Client, wish: Wish) -> Result<()> {
        match wish {
            Wish::Wait => Ok(()),
            Wish::Create => self.create(client).await.map(drop),
            Wish::Cancel => {
                let id = self.create(client).await?;
                let calls = |_: &Value| self.target.stats().calls > 0;
                client.until(&id, WITHIN, calls).await?;
                self.post(client, &id, "cancel").await
            }
            Wish::Retry => {
                let id = self.create(client).await?;
                client.until(&id, WITHIN, is_ended).await?;
                self.post(client, &id, "retry").await
            }
            Wish::Collect => {
                let id = self.create(client).await?;
                client.until(&id, WITHIN, is_ended).await?;
                collect(client.base())
            }
        }
    }

    /// The same request makes one scan, however often it is sent.
    async fn create(&self, client: &Client) -> Result<String> {
        let until = Instant::now() + WITHIN;
        loop {
            let created = client.post("/v1/scans", &self.request).await?;
            if created.reason() != "NO_PLUGIN_CATALOGUE" {
                return Ok(text(&created.ok()?["scan"]["scanId"]));
            }
            if Instant::now() > until {
                bail!("garak did not warm up: {created:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn post(&self, client: &Client, id: &str, verb: &str) -> Result<()> {
        let path = format!("/v1/scans/{id}:{verb}");
        client.post(&path, &json!({})).await?.ok().map(drop)
    }
}

/// Has garbage collected.
fn collect(base: &str) -> Result<()> {
    let mut command = Command::new(binary("aegis")?);
    let output = command
        .args(["--server", base, "--json", "admin", "gc"])
        .output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}
