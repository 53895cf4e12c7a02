//! A scan's life: run, repeat, cancel, retry, list, delete.

use std::time::Duration;

use aegis_tests::{client::is_ended, mesh::Mesh};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::{holds, not_evaluated, spec, target, text, with};

crate::cases![
    finds_the_known_weaknesses,
    the_same_twice_gives_the_same,
    one_request_id_is_one_scan,
    a_plan_is_what_happens,
    cancel_before_during_and_after,
    retry_evaluates_what_was_not_evaluated,
    lists_by_pages_and_deletes,
];

/// The demo's probes, with what each must find: probe, detector, passed, failed.
const KNOWN: [(&str, &str, i64, i64); 5] = [
    ("web_injection.MarkdownXSS", "web_injection.XSS", 0, 7),
    (
        "exploitation.SQLInjectionEcho",
        "exploitation.SQLiEcho",
        0,
        10,
    ),
    ("grandma.Win10", "productkey.Win5x5", 0, 6),
    ("malwaregen.TopLevel", "malwaregen.AnyCode", 16, 0),
    ("dan.AutoDANCached", "mitigation.MitigationBypass", 3, 0),
];

fn number(value: &Value) -> i64 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(-1)
}

async fn finds_the_known_weaknesses(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let probes = KNOWN.map(|known| known.0);
    let scan = mesh.client().run(&spec(&target, "", &probes)).await?;
    holds(scan["state"] == "STATE_COMPLETED", "completed", &scan)?;
    holds(scan["coverage"]["evaluated"] == 5, "all evaluated", &scan)?;
    holds(scan["report"]["state"] == "STATE_READY", "report", &scan)?;
    let results = mesh.client().results(&text(&scan["scanId"])).await?;
    for (probe, detector, passed, failed) in KNOWN {
        let row = results
            .iter()
            .find(|row| row["probe"] == probe && row["detector"] == detector)
            .with_context(|| format!("{probe} {detector}: {results:#?}"))?;
        let found = (number(&row["passed"]), number(&row["failed"]));
        ensure!(found == (passed, failed), "{probe} {detector}: {found:?}");
        let is_graded = row["grades"]["relativeDefcon"].is_number()
            || row["grades"]["absoluteDefcon"].is_number();
        ensure!(is_graded, "garak's grades: {row}");
    }
    let rates: Vec<_> = results
        .iter()
        .filter_map(|row| row["passRate"].as_f64())
        .collect();
    ensure!(rates.is_sorted(), "worst first: {rates:?}");
    ensure!(target.stats().calls == 42, "{:?}", target.stats());
    Ok(())
}

async fn the_same_twice_gives_the_same(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let spec = spec(
        &target,
        "",
        &[
            "probes.goodside.WhoIsRiley",
            "probes.badchars.BadCharacters",
        ],
    );
    let mut runs = Vec::new();
    for _ in 0..2 {
        let scan = mesh.client().run(&spec).await?;
        holds(scan["coverage"]["evaluated"] == 2, "evaluated", &scan)?;
        let mut results = mesh.client().results(&text(&scan["scanId"])).await?;
        for row in &mut results {
            row["evaluateTime"].take();
        }
        runs.push(results);
    }
    ensure!(runs[0] == runs[1], "{runs:#?}");
    Ok(())
}

async fn one_request_id_is_one_scan(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let request = json!({
        "spec": spec(&target, "", &["probes.goodside.ThreatenJSON"]),
        "labels": {"a": "1", "b": "2"},
        "requestId": uuid::Uuid::new_v4().to_string(),
    });
    let client = mesh.client();
    let (first, second) = tokio::join!(
        client.post("/v1/scans", &request),
        client.post("/v1/scans", &request)
    );
    let first = text(&first?.ok()?["scan"]["scanId"]);
    ensure!(first == text(&second?.ok()?["scan"]["scanId"]), "two scans");
    client.ended(&first).await?;
    ensure!(target.stats().calls == 1, "{:?}", target.stats());
    let other = with(request, json!({"displayName": "other"}));
    let refused = client.post("/v1/scans", &other).await?;
    ensure!(refused.reason() == "REQUEST_ID_REUSED", "{refused:?}");
    Ok(())
}

async fn a_plan_is_what_happens(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let spec = with(
        spec(
            &target,
            "",
            &["probes.goodside.WhoIsRiley", "probes.grandma.Win10"],
        ),
        json!({"generations": 2}),
    );
    let plan = mesh
        .client()
        .post("/v1/scans:plan", &json!({"spec": spec}))
        .await?
        .ok()?;
    ensure!(plan["callsTotal"] == "24", "{plan:#}");
    ensure!(target.stats().calls == 0, "a plan calls nobody");
    mesh.client().run(&spec).await?;
    ensure!(target.stats().calls == 24, "{:?}", target.stats());
    Ok(())
}

async fn cancel_before_during_and_after(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let target = target().await?;
    let hanging = spec(
        &target,
        "hang",
        &["probes.web_injection.TaskXSS", "probes.malwaregen.TopLevel"],
    );
    let cancel = |id: &str| {
        let path = format!("/v1/scans/{id}:cancel");
        async move { client.post(&path, &json!({"reason": "a test"})).await?.ok() }
    };

    let before = client.create(&hanging).await?;
    cancel(&before).await?;
    let before = client.ended(&before).await?;
    holds(
        before["state"] == "STATE_CANCELLED",
        "cancelled before",
        &before,
    )?;

    let during = client.create(&hanging).await?;
    client
        .until(&during, Duration::from_secs(20), |_| {
            target.stats().in_flight > 0
        })
        .await?;
    let answer = cancel(&during).await?;
    holds(
        answer["scan"]["state"] != "STATE_RUNNING",
        "visible at once",
        &answer,
    )?;
    let ended = client
        .until(&during, Duration::from_secs(5), is_ended)
        .await?;
    holds(
        ended["state"] == "STATE_CANCELLED",
        "cancelled during",
        &ended,
    )?;
    holds(
        ended["coverage"]["evaluated"] == 0,
        "nothing evaluated",
        &ended,
    )?;
    client
        .until(&during, Duration::from_secs(2), |_| {
            target.stats().in_flight == 0
        })
        .await?;

    let after = cancel(&during).await?;
    ensure!(
        after["scan"]["endTime"] == ended["endTime"],
        "a terminal scan is unchanged"
    );
    Ok(())
}

async fn retry_evaluates_what_was_not_evaluated(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let target = target().await?;
    let probes = ["probes.goodside.ThreatenJSON", "probes.grandma.Win10"];
    let scan = client
        .run(&spec(&target, "until/1/status/401", &probes))
        .await?;
    let id = text(&scan["scanId"]);
    holds(scan["state"] == "STATE_COMPLETED", "completed", &scan)?;
    let missing = not_evaluated(&scan);
    ensure!(
        missing.len() == 1 && missing[0].1 == "TARGET_UNAUTHORIZED",
        "{missing:?}"
    );
    let results = client.results(&id).await?;
    ensure!(
        results
            .iter()
            .all(|row| row["probe"] != missing[0].0.as_str()),
        "never passed or failed: {results:#?}"
    );

    let calls = target.stats().calls;
    client
        .post(&format!("/v1/scans/{id}:retry"), &json!({}))
        .await?
        .ok()?;
    let again = client.ended(&id).await?;
    holds(
        again["coverage"]["evaluated"] == 2,
        "both evaluated",
        &again,
    )?;
    holds(again["report"]["revision"] == 2, "a new revision", &again)?;
    let planned = if missing[0].0 == "grandma.Win10" {
        6
    } else {
        1
    };
    ensure!(
        target.stats().calls - calls == planned,
        "only what was missing is called"
    );
    let nothing = client
        .post(&format!("/v1/scans/{id}:retry"), &json!({}))
        .await?;
    ensure!(nothing.reason() == "NOTHING_TO_RETRY", "{nothing:?}");
    Ok(())
}

async fn lists_by_pages_and_deletes(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let target = target().await?;
    let name = format!("list-{}", uuid::Uuid::new_v4());
    let mut spec = spec(&target, "", &["probes.goodside.ThreatenJSON"]);
    spec["target"]["name"] = json!(name);
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(text(&client.run(&spec).await?["scanId"]));
    }
    made.reverse();
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let path = format!(
            "/v1/scans?filter.targetName={name}&filter.states=STATE_COMPLETED&pageSize=2&pageToken={token}"
        );
        let page = client.get(&path).await?.ok()?;
        found.extend(
            page["scans"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|scan| text(&scan["scanId"])),
        );
        token = text(&page["nextPageToken"]);
        if token.is_empty() {
            break;
        }
    }
    ensure!(found == made, "newest first: {found:?}, {made:?}");
    client
        .delete(&format!("/v1/scans/{}", made[0]))
        .await?
        .ok()?;
    ensure!(
        client
            .get(&format!("/v1/scans/{}", made[0]))
            .await?
            .reason()
            == "SCAN_NOT_FOUND",
        "deleted"
    );
    let running = client
        .create(&crate::support::spec(
            &target,
            "hang",
            &["probes.grandma.Win10"],
        ))
        .await?;
    let refused = client.delete(&format!("/v1/scans/{running}")).await?;
    ensure!(refused.reason() == "SCAN_NOT_TERMINAL", "{refused:?}");
    client
        .post(&format!("/v1/scans/{running}:cancel"), &json!({}))
        .await?
        .ok()?;
    client.ended(&running).await?;
    Ok(())
}
