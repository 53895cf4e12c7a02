//! Probes of one's own, from source to result.

use std::time::{Duration, Instant};

use aegis_tests::mesh::Mesh;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::support::{holds, spec, target, text};

crate::cases![
    a_starter_runs_in_a_scan,
    a_source_that_cannot_work_is_refused_with_its_place,
];

/// Longest wait for a runner's word.
const CHECKED_WITHIN: Duration = Duration::from_secs(60);

fn name(word: &str) -> String {
    format!("{word}_{}", &uuid::Uuid::new_v4().simple().to_string()[..8])
}

async fn checked(mesh: &Mesh, name: &str) -> Result<Value> {
    let until = Instant::now() + CHECKED_WITHIN;
    loop {
        let path = format!("/v1/custom-probes/{name}");
        let probe = mesh.client().get(&path).await?.ok()?["customProbe"].take();
        if probe["state"] != "STATE_CHECKING" {
            return Ok(probe);
        }
        if Instant::now() > until {
            bail!("not checked within {CHECKED_WITHIN:?}: {probe}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn a_starter_runs_in_a_scan(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let starters = client.get("/v1/custom-probes:starters").await?.ok()?;
    let starters = starters["starters"].as_array().cloned().unwrap_or_default();
    ensure!(starters.len() == 3, "{starters:?}");
    let advanced = starters.iter().find(|one| one["name"] == "advanced");
    let source = &advanced.context("advanced")?["source"];
    let name = name("acme");
    let new = json!({"name": name, "source": source});
    client.post("/v1/custom-probes", &new).await?.ok()?;
    let probe = checked(mesh, &name).await?;
    holds(probe["state"] == "STATE_VALID", "valid", &probe)?;
    let target = target().await?;
    let mut whole = spec(&target, "", &[&format!("probes.{name}")]);
    whole["customProbes"] = json!([name]);
    let scan = client.run(&whole).await?;
    holds(scan["state"] == "STATE_COMPLETED", "completed", &scan)?;
    holds(scan["customProbes"][0]["version"] == 1, "pinned", &scan)?;
    let results = client.results(&text(&scan["scanId"])).await?;
    let own = |field: &str| {
        let prefix = format!("{name}.");
        results
            .iter()
            .any(|row| text(&row[field]).starts_with(&prefix))
    };
    ensure!(own("probe") && own("detector"), "{results:?}");
    let listed = client.get("/v1/plugins/probes?pageSize=1000").await?.ok()?;
    ensure!(listed.to_string().contains(&name), "not listed");
    client
        .delete(&format!("/v1/custom-probes/{name}"))
        .await?
        .ok()?;
    Ok(())
}

async fn a_source_that_cannot_work_is_refused_with_its_place(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let bad = json!({"name": name("bad"), "source": "import garak\n\nclass X(:\n    pass\n"});
    let answer = client
        .post("/v1/custom-probes:validate", &bad)
        .await?
        .ok()?;
    let validation = &answer["validation"];
    ensure!(validation["valid"] == false, "{answer}");
    let problem = &validation["problems"][0];
    ensure!(problem["reason"] == "SYNTAX_ERROR", "{answer}");
    ensure!(problem["line"] == 3, "{answer}");
    let taken = json!({"name": "dan", "source": "x = 1\n"});
    let taken = client.post("/v1/custom-probes", &taken).await?;
    ensure!(taken.reason() == "CUSTOM_PROBE_EXISTS", "{taken:?}");
    Ok(())
}
