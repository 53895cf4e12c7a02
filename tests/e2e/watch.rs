//! Watching a scan over HTTP.

use aegis_tests::mesh::Mesh;
use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::Value;

use crate::support::{spec, target, text};

crate::cases![
    events_are_gapless_and_resume_by_last_event_id,
    ndjson_is_one_update_a_line,
    a_watcher_that_never_reads_costs_nothing,
];

async fn events(mesh: &Mesh, id: &str, last: Option<&str>) -> Result<Vec<(String, Option<i64>)>> {
    let mut request = mesh
        .client()
        .request(Method::GET, &format!("/v1/scans/{id}/events"));
    request = request.header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let body = request.send().await?.error_for_status()?.text().await?;
    let field = |event: &str, name: &str| {
        event.lines().find_map(|line| {
            Some(
                line.strip_prefix(name)?
                    .trim_start_matches(':')
                    .trim()
                    .to_owned(),
            )
        })
    };
    Ok(body
        .split("\n\n")
        .filter_map(|event| {
            Some((
                field(event, "event")?,
                field(event, "id").and_then(|id| id.parse().ok()),
            ))
        })
        .collect())
}

async fn events_are_gapless_and_resume_by_last_event_id(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let id = mesh
        .client()
        .create(&spec(
            &target,
            "latency/20",
            &["probes.grandma.Win10", "probes.goodside.ThreatenJSON"],
        ))
        .await?;
    let live = events(mesh, &id, None).await?;
    let ids: Vec<_> = live.iter().filter_map(|(_, id)| *id).collect();
    let expected: Vec<_> = (1..=i64::try_from(ids.len())?).collect();
    ensure!(ids == expected && ids.len() >= 5, "gapless: {live:?}");
    ensure!(
        live.first()
            .is_some_and(|(name, id)| name.contains("snapshot") && id.is_none()),
        "{live:?}"
    );
    ensure!(
        live.last().is_some_and(|(name, _)| name == "end"),
        "{live:?}"
    );
    let resumed = events(mesh, &id, Some("2")).await?;
    let rest: Vec<_> = resumed.iter().filter_map(|(_, id)| *id).collect();
    ensure!(rest == expected[2..], "{rest:?}");
    Ok(())
}

async fn ndjson_is_one_update_a_line(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let id = mesh
        .client()
        .create(&spec(&target, "", &["probes.goodside.ThreatenJSON"]))
        .await?;
    let request = mesh
        .client()
        .request(Method::GET, &format!("/v1/scans/{id}/events"));
    let body = request
        .header("accept", "application/x-ndjson")
        .send()
        .await?
        .text()
        .await?;
    let lines: Vec<Value> = body
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    ensure!(
        text(&lines[0]["result"]["snapshot"]["scanId"]) == id,
        "{:?}",
        lines[0]
    );
    let last = lines
        .iter()
        .rev()
        .find_map(|line| line["result"]["event"]["stateChanged"]["to"].as_str());
    ensure!(last == Some("STATE_COMPLETED"), "{last:?}");
    Ok(())
}

async fn a_watcher_that_never_reads_costs_nothing(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let id = mesh
        .client()
        .create(&spec(
            &target,
            "",
            &["probes.web_injection.TaskXSS", "probes.malwaregen.TopLevel"],
        ))
        .await?;
    let path = format!("/v1/scans/{id}/events");
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(
            mesh.client()
                .request(Method::GET, &path)
                .header("accept", "text/event-stream")
                .send()
                .await?,
        );
    }
    let scan = mesh.client().ended(&id).await?;
    ensure!(scan["state"] == "STATE_COMPLETED", "{scan:#}");
    drop(silent);
    Ok(())
}
