//! What is remembered of scans: history, templates, statistics, comparisons.

use aegis_tests::mesh::Mesh;
use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{holds, spec, target, text, with};

crate::cases![
    a_scan_starts_from_a_template_and_says_so,
    presets_can_be_planned_with_real_garak,
    history_finds_a_scan_by_what_it_is,
    a_deleted_scan_comes_back,
    statistics_count_what_was_evaluated,
    two_scans_are_compared,
];

/// Something that no other case's scans have.
fn unique(word: &str) -> String {
    format!("{word}-{}", &uuid::Uuid::new_v4().to_string()[..8])
}

fn list(page: &Value, field: &str) -> Vec<Value> {
    page[field].as_array().cloned().unwrap_or_default()
}

fn number(value: &Value) -> i64 {
    value
        .as_str()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

async fn run(mesh: &Mesh, request: &Value) -> Result<Value> {
    let created = mesh.client().post("/v1/scans", request).await?.ok()?;
    mesh.client().ended(&text(&created["scan"]["scanId"])).await
}

async fn a_scan_starts_from_a_template_and_says_so(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let target = target().await?;
    let name = unique("nightly");
    let whole = spec(&target, "", &["probes.goodside.ThreatenJSON"]);
    let template = json!({"name": name, "description": "every night", "spec": whole});
    let made = client.post("/v1/templates", &template).await?.ok()?;
    let etag = text(&made["template"]["etag"]);
    let again = client.post("/v1/templates", &template).await?;
    ensure!(again.reason() == "TEMPLATE_EXISTS", "{again:?}");
    let patch = async |etag: &str| {
        let body = json!({"description": "every day", "etag": etag});
        let path = format!("/v1/templates/{name}");
        let request = client.request(Method::PATCH, &path).json(&body).send();
        anyhow::Ok(request.await?.status().as_u16())
    };
    ensure!(patch(&etag).await? == 200);
    ensure!(patch(&etag).await? == 409, "a lost update");
    let own = json!({"generations": 2});
    let scan = run(mesh, &json!({"template": name, "spec": own})).await?;
    holds(scan["state"] == "STATE_COMPLETED", "completed", &scan)?;
    holds(scan["template"] == json!(name), "template", &scan)?;
    holds(scan["templateVersion"] == 2, "version", &scan)?;
    holds(scan["spec"]["generations"] == 2, "its own field", &scan)?;
    ensure!(target.stats().calls == 2, "{:?}", target.stats());
    let path = format!("/v1/scans?filter.template={name}");
    let found = client.get(&path).await?.ok()?;
    ensure!(list(&found, "scans").len() == 1, "{found}");
    client
        .delete(&format!("/v1/templates/{name}"))
        .await?
        .ok()?;
    let old = client
        .get(&format!("/v1/templates/{name}?version=1"))
        .await?;
    ensure!(old.ok()?["template"]["description"] == "every night");
    Ok(())
}

async fn presets_can_be_planned_with_real_garak(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let whole = spec(&target, "", &[]);
    for preset in ["quick", "default", "full", "owasp"] {
        let request = json!({"template": preset, "spec": {"target": whole["target"]}});
        let plan = mesh.client().post("/v1/scans:plan", &request).await?;
        let plan = plan.ok()?;
        let evaluable = list(&plan, "probes");
        let evaluable = evaluable.iter().filter(|one| one["notEvaluated"].is_null());
        let least = if preset == "quick" { 8 } else { 20 };
        ensure!(evaluable.count() >= least, "{preset}: {plan:#}");
        ensure!(number(&plan["promptsTotal"]) > 100, "{preset}");
    }
    Ok(())
}

async fn history_finds_a_scan_by_what_it_is(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let team = unique("team");
    let probes = ["probes.grandma.Win10"];
    let mut ids = Vec::new();
    for name in ["first of all", "SECOND of all"] {
        let request = json!({
            "displayName": name,
            "labels": {"team": team},
            "spec": spec(&target, "", &probes),
        });
        ids.push(text(&run(mesh, &request).await?["scanId"]));
    }
    let found = async |more: &str| {
        let path = format!("/v1/scans?filter.labels.team={team}{more}");
        let page = mesh.client().get(&path).await?.ok()?;
        let ids = list(&page, "scans");
        anyhow::Ok(
            ids.iter()
                .map(|scan| text(&scan["scanId"]))
                .collect::<Vec<_>>(),
        )
    };
    let newest_first = [ids[1].clone(), ids[0].clone()];
    ensure!(found("").await? == newest_first);
    ensure!(found("&ascending=true").await? == ids);
    for order in [
        "SCAN_ORDER_END_TIME",
        "SCAN_ORDER_PASS_RATE",
        "SCAN_ORDER_DURATION",
    ] {
        ensure!(
            found(&format!("&orderBy={order}")).await?.len() == 2,
            "{order}"
        );
    }
    ensure!(found("&filter.text=second").await? == ids[1..]);
    ensure!(found("&filter.probe=grandma.Win10").await? == newest_first);
    ensure!(found("&filter.probe=dan.AntiDAN").await?.is_empty());
    // grandma.Win10 finds product keys: everything failed.
    ensure!(found("&filter.maxPassRate=0.1").await? == newest_first);
    ensure!(found("&filter.minPassRate=0.9").await?.is_empty());
    ensure!(found("&filter.states=STATE_FAILED").await?.is_empty());
    ensure!(
        found("&filter.createTime.end=2020-01-01T00:00:00Z")
            .await?
            .is_empty()
    );
    let path = format!("/v1/scans?filter.labels.team={team}&pageSize=1&includeTotalSize=true");
    let page = mesh.client().get(&path).await?.ok()?;
    ensure!(page["totalSize"] == "2", "{page}");
    let next = format!("{path}&pageToken={}", text(&page["nextPageToken"]));
    let page = mesh.client().get(&next).await?.ok()?;
    ensure!(list(&page, "scans")[0]["scanId"] == json!(ids[0]), "{page}");
    Ok(())
}

async fn a_deleted_scan_comes_back(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let target = target().await?;
    let spec = spec(&target, "", &["probes.goodside.ThreatenJSON"]);
    let id = text(&client.run(&spec).await?["scanId"]);
    let path = format!("/v1/scans/{id}");
    client.delete(&path).await?.ok()?;
    ensure!(client.get(&path).await?.status == 404);
    let restored = client.post(&format!("{path}:undelete"), &json!({})).await?;
    ensure!(restored.ok()?["scan"]["deleteTime"].is_null());
    let scan = client.scan(&id).await?;
    let named = json!({"displayName": "kept", "etag": scan["etag"]});
    let patched = client
        .request(Method::PATCH, &path)
        .json(&named)
        .send()
        .await?;
    ensure!(patched.status() == 200, "{patched:?}");
    ensure!(client.scan(&id).await?["displayName"] == "kept");
    let late = client
        .request(Method::PATCH, &path)
        .json(&named)
        .send()
        .await?;
    ensure!(late.status() == 409, "a lost update: {late:?}");
    Ok(())
}

async fn statistics_count_what_was_evaluated(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let target = target().await?;
    let model = unique("model");
    let mut whole = spec(
        &target,
        "",
        &["probes.grandma.Win10", "probes.malwaregen.TopLevel"],
    );
    whole["target"]["name"] = json!(model);
    let scan = client.run(&whole).await?;
    holds(scan["coverage"]["evaluated"] == 2, "evaluated", &scan)?;
    let of_target = format!("filter.targetType=openai.OpenAICompatible&filter.targetName={model}");
    let total = client.get(&format!("/v1/statistics?{of_target}")).await?;
    let total = total.ok()?["statistics"].take();
    ensure!(total["scansCompleted"] == "1", "{total}");
    ensure!(
        total["passed"] == scan["totals"]["passed"],
        "{total} {scan}"
    );
    ensure!(
        total["failed"] == scan["totals"]["failed"],
        "{total} {scan}"
    );
    let grades: i64 = list(&total, "defcon").iter().map(number).sum();
    ensure!(grades == number(&total["evaluations"]), "{total}");
    for (dimension, key) in [
        ("DIMENSION_PROBE", "grandma.Win10"),
        ("DIMENSION_MODULE", "malwaregen"),
        ("DIMENSION_DETECTOR", "productkey.Win5x5"),
    ] {
        let path = format!("/v1/statistics/{dimension}?{of_target}");
        let rows = client.get(&path).await?.ok()?;
        let keys = list(&rows, "rows");
        ensure!(
            keys.iter().any(|row| row["key"] == key),
            "{dimension}: {rows}"
        );
    }
    let tags = client
        .get(&format!("/v1/statistics/DIMENSION_TAG?{of_target}"))
        .await?;
    let tags = list(&tags.ok()?, "rows");
    let owasp = tags
        .iter()
        .find(|row| text(&row["key"]).starts_with("owasp:"));
    owasp.with_context(|| format!("garak's tags: {tags:?}"))?;
    Ok(())
}

async fn two_scans_are_compared(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let target = target().await?;
    let one = spec(&target, "", &["probes.grandma.Win10"]);
    let two = with(one.clone(), json!({"evalThreshold": 0.9}));
    let mut ids = Vec::new();
    for spec in [&one, &one, &two] {
        ids.push(text(&client.run(spec).await?["scanId"]));
    }
    let compare = async |other: &str| {
        let path = format!("/v1/scans:compare?scanIds={}&scanIds={other}", ids[0]);
        client.get(&path).await?.ok()
    };
    let same = compare(&ids[1]).await?;
    ensure!(list(&same, "differences").is_empty(), "{same}");
    let rows = list(&same, "rows").len();
    ensure!(rows > 0, "{same}");
    ensure!(same["summaries"][0]["unchangedCount"] == rows, "{same}");
    let other = compare(&ids[2]).await?;
    let differences = list(&other, "differences");
    let blocking = differences
        .iter()
        .find(|one| one["field"] == "eval_threshold");
    ensure!(
        blocking.is_some_and(|one| one["blocking"] == true),
        "{other}"
    );
    ensure!(
        other["summaries"][0]["notComparableCount"] == rows,
        "{other}"
    );
    Ok(())
}
