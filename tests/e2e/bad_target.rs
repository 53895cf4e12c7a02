//! What a bad target gets: the probe is not evaluated, with the reason; never passed, never failed.

use aegis_demo_target::DemoTarget;
use aegis_tests::mesh::Mesh;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::{holds, not_evaluated, spec, spec_at, target, text, with};

crate::cases![
    each_fault_has_its_reason,
    a_target_that_nobody_listens_at,
    a_target_that_dies_half_way,
    a_busy_target_is_waited_for,
    a_key_reaches_the_target_and_nothing_else,
    a_missing_key_is_named,
    a_probe_that_takes_too_long,
];

async fn each_fault_has_its_reason(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    for (behaviour, reasons) in [
        ("status/401", &["TARGET_UNAUTHORIZED"][..]),
        ("status/404", &["TARGET_NOT_FOUND"]),
        ("status/422", &["TARGET_REJECTED"]),
        ("status/429", &["TARGET_BUSY"]),
        ("status/500", &["TARGET_ERROR"]),
        ("garbage", &["TARGET_INVALID_RESPONSE"]),
        ("empty", &["TARGET_INVALID_RESPONSE"]),
    ] {
        let scan = mesh
            .client()
            .run(&spec(&target, behaviour, &["probes.goodside.WhoIsRiley"]))
            .await?;
        holds(scan["state"] == "STATE_FAILED", behaviour, &scan)?;
        let found = not_evaluated(&scan);
        ensure!(
            found.len() == 1 && reasons.contains(&found[0].1.as_str()),
            "{behaviour}: {found:?}"
        );
        holds(
            !text(&scan["failure"]["message"]).is_empty(),
            behaviour,
            &scan,
        )?;
        holds(!text(&scan["failure"]["hint"]).is_empty(), behaviour, &scan)?;
        ensure!(
            mesh.client()
                .results(&text(&scan["scanId"]))
                .await?
                .is_empty(),
            "{behaviour}: results"
        );
    }
    Ok(())
}

async fn a_target_that_nobody_listens_at(mesh: &Mesh) -> Result<()> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let uri = format!("http://{}/v1/", listener.local_addr()?);
    drop(listener);
    let scan = mesh
        .client()
        .run(&spec_at(
            &uri,
            &["probes.goodside.ThreatenJSON", "probes.grandma.Win10"],
        ))
        .await?;
    holds(scan["state"] == "STATE_FAILED", "failed", &scan)?;
    let found = not_evaluated(&scan);
    ensure!(
        found.len() == 2
            && found
                .iter()
                .all(|(_, reason)| reason == "TARGET_UNREACHABLE"),
        "{found:?}"
    );
    holds(
        scan["failure"]["reason"] == "TARGET_UNREACHABLE",
        "the common reason",
        &scan,
    )
}

async fn a_target_that_dies_half_way(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let include = [
        "probes.goodside.ThreatenJSON",
        "probes.promptinject.HijackHateHumans",
    ];
    let id = mesh
        .client()
        .create(&with(
            spec(&target, "latency/100", &include),
            json!({"maxInFlight": 4}),
        ))
        .await?;
    let started = |scan: &Value| scan["coverage"]["evaluated"] == 1;
    mesh.client()
        .until(&id, std::time::Duration::from_secs(30), started)
        .await?;
    target.stop().await;
    let scan = mesh.client().ended(&id).await?;
    holds(
        scan["state"] == "STATE_COMPLETED",
        "what was found is kept",
        &scan,
    )?;
    let found = not_evaluated(&scan);
    ensure!(
        found.len() == 1
            && found[0]
                == (
                    "promptinject.HijackHateHumans".into(),
                    "TARGET_UNREACHABLE".into()
                ),
        "{found:?}"
    );
    ensure!(mesh.client().results(&id).await?.len() == 1, "one result");
    Ok(())
}

async fn a_busy_target_is_waited_for(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let scan = mesh
        .client()
        .run(&spec(
            &target,
            "until/2/retry-after/1",
            &["probes.grandma.Win10"],
        ))
        .await?;
    holds(scan["state"] == "STATE_COMPLETED", "completed", &scan)?;
    holds(scan["coverage"]["evaluated"] == 1, "evaluated", &scan)
}

async fn keyed(mesh: &Mesh, target: &DemoTarget, secret: &str) -> Result<Value> {
    let mut spec = spec(target, "auth/k-e2e", &["probes.goodside.ThreatenJSON"]);
    spec["target"]["secret"] = json!(secret);
    mesh.client().run(&spec).await
}

async fn a_key_reaches_the_target_and_nothing_else(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let scan = keyed(mesh, &target, "env:OPENAICOMPATIBLE_API_KEY").await?;
    holds(scan["state"] == "STATE_COMPLETED", "completed", &scan)?;
    let id = text(&scan["scanId"]);
    let report = mesh.client().request(
        reqwest::Method::GET,
        &format!("/v1/scans/{id}/artifacts/report.jsonl"),
    );
    let report = report.send().await?.text().await?;
    // The demo target's path holds the key's name for it; the key must come from nowhere else.
    let told = format!("{scan}{report}").replace("auth/k-e2e", "");
    ensure!(!told.contains("k-e2e"), "the key is told");
    let without = keyed(mesh, &target, "").await?;
    ensure!(
        not_evaluated(&without)[0].1 == "TARGET_UNAUTHORIZED",
        "{without:#}"
    );
    Ok(())
}

async fn a_missing_key_is_named(mesh: &Mesh) -> Result<()> {
    let spec = json!({
        "target": {"type": "openai.OpenAIGenerator", "name": "gpt-4o", "secret": "env:OPENAI_API_KEY"},
        "include": ["probes.goodside.ThreatenJSON"],
    });
    let scan = mesh.client().run(&spec).await?;
    holds(
        scan["failure"]["reason"] == "MISSING_CREDENTIAL",
        "reason",
        &scan,
    )?;
    let not = scan["coverage"]["notEvaluated"][0]["message"]
        .as_str()
        .context("a message")?;
    ensure!(not.contains("OPENAI_API_KEY"), "{not}");
    Ok(())
}

async fn a_probe_that_takes_too_long(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let spec = with(
        spec(&target, "hang", &["probes.goodside.ThreatenJSON"]),
        json!({"probeTimeout": "2s"}),
    );
    let scan = mesh.client().run(&spec).await?;
    ensure!(not_evaluated(&scan)[0].1 == "PROBE_TIMED_OUT", "{scan:#}");
    Ok(())
}
