//! Scans whose tasks wait: made and blocked through the same calls that users and runners make.

use std::time::Duration;

use aegis_tests::client::Client;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{catalogue::Catalogue, runner::Runner};

/// Scans of one lane.
const SCANS: usize = 20;
/// Longest that a target may ask for.
const REST: Duration = Duration::from_secs(3_600);

/// Makes them, each lane a target of its own.
pub(super) struct Lanes<'a> {
    client: Client,
    catalogue: &'a Catalogue,
    runner: &'a Runner,
}

impl<'a> Lanes<'a> {
    pub(super) fn new(client: Client, catalogue: &'a Catalogue, runner: &'a Runner) -> Self {
        Self {
            client,
            catalogue,
            runner,
        }
    }

    /// So many tasks that can run, in lanes that have room.
    pub(super) async fn free(&self, name: &str, tasks: usize) -> Result<()> {
        self.scans(name, tasks).await?;
        Ok(())
    }

    /// So many tasks in lanes that are full.
    pub(super) async fn full(&self, name: &str, tasks: usize) -> Result<()> {
        self.scans(name, tasks).await?;
        while self.runner.lease().await?.is_some() {}
        Ok(())
    }

    /// So many tasks: a third in full lanes, a third of targets that asked for a rest, a third of
    /// paused scans.
    pub(super) async fn blocked(&self, tasks: usize) -> Result<()> {
        let third = tasks / 3;
        for scan in self.scans("paused", third).await? {
            let path = format!("/v1/scans/{scan}:pause");
            self.client.post(&path, &json!({})).await?.ok()?;
        }
        self.scans("resting", third).await?;
        while let Some(lease) = self.runner.lease().await? {
            self.runner.push_back(lease, REST).await?;
        }
        self.full("full", tasks - 2 * third).await
    }

    /// Cancels what is left.
    pub(super) async fn drain(&self, name: &str) -> Result<()> {
        let filter = "filter.states=STATE_RUNNING&filter.states=STATE_PENDING&pageSize=1000";
        let answer = self.client.get(&format!("/v1/scans?{filter}")).await?;
        let answer = answer.ok()?;
        let scans = answer["scans"].as_array().cloned().unwrap_or_default();
        for scan in &scans {
            let is_ours = scan["displayName"] == name;
            ensure!(is_ours, "not of {name}: {}", scan["displayName"]);
            let path = format!("/v1/scans/{}:cancel", text(&scan["scanId"]));
            self.client.post(&path, &json!({})).await?.ok()?;
        }
        // What is left are reports.
        while let Some(lease) = self.runner.lease().await? {
            self.runner.give_up(lease).await?;
        }
        Ok(())
    }

    /// Scans of all that garak has, and one of as many probes as are missing then.
    async fn scans(&self, name: &str, tasks: usize) -> Result<Vec<String>> {
        let mut made = 0;
        let mut scans = Vec::new();
        while made < tasks {
            let lane = format!("{name}-{}", scans.len() / SCANS);
            let few = self.catalogue.probes.get(..tasks - made);
            let include = match few {
                Some(few) => few.iter().map(|probe| format!("probes.{probe}")).collect(),
                None => vec!["all".to_owned()],
            };
            let (id, planned) = self.create(name, &lane, &include).await?;
            made += planned;
            scans.push(id);
        }
        Ok(scans)
    }

    /// Its id, and how many tasks it has.
    async fn create(&self, name: &str, lane: &str, include: &[String]) -> Result<(String, usize)> {
        let spec = json!({
            "target": {
                "type": "openai.OpenAICompatible",
                "name": lane,
                "options": {"uri": "http://127.0.0.1:9/v1"},
            },
            "include": include,
            "generations": 1,
            "maxInFlight": 64,
        });
        let body = json!({"displayName": name, "spec": spec});
        let created = self.client.post("/v1/scans", &body).await?.ok()?;
        let planned = created["scan"]["coverage"]["planned"].as_u64();
        let planned = planned.context("no number of planned probes")?;
        let id = text(&created["scan"]["scanId"]).to_owned();
        Ok((id, usize::try_from(planned)?))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
