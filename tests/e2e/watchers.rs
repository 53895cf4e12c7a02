//! A thousand watchers of one scan, and hundreds of others: each sees all of its own, and all are
//! told to come back when the mesh stops.

use std::time::Duration;

use aegis_tests::{client::Client, mesh::aegis_up, process::Process};
use anyhow::{Context, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;
use reqwest::{Method, Response};
use serde_json::json;

use crate::{
    support::{spec, target},
    up::create_once_warm,
};

/// Of one scan.
const WATCHERS: usize = 1_000;
/// With a watcher each.
const OTHER_SCANS: usize = 300;

/// This has a mesh of its own.
pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::test("watchers::a_thousand_of_one_scan", || {
        watched().map_err(|error| Failed::from(format!("{error:#}")))
    })]
}

fn watched() -> Result<()> {
    aegis_mesh::raise_open_files();
    tokio::runtime::Runtime::new()?.block_on(async {
        let data = tempfile::tempdir()?;
        let mut process = Process::start(
            "aegis",
            &mut aegis_up(data.path(), "127.0.0.1:0")?,
            data.path(),
        )?;
        let client = Client::new(&process.said("ready ")?)?;
        let target = target().await?;
        let slow = spec(
            &target,
            "latency/300",
            &["probes.grandma.Win10", "probes.goodside.ThreatenJSON"],
        );
        let id = create_once_warm(&client, &slow).await?;
        let watching = try_join_all((0..WATCHERS).map(|_| watch(&client, &id))).await?;
        // These stay as they are.
        let hung = spec(&target, "hang", &["probes.goodside.ThreatenJSON"]);
        let mut others = Vec::new();
        for _ in 0..OTHER_SCANS {
            let id = client.create(&hung).await?;
            client
                .post(&format!("/v1/scans/{id}:pause"), &json!({}))
                .await?
                .ok()?;
            others.push(id);
        }
        let open = try_join_all(others.iter().map(|id| watch(&client, id))).await?;
        let logs = join_all(watching.into_iter().map(Response::text)).await;
        let first = logs[0]
            .as_ref()
            .map_err(|error| anyhow::anyhow!("{error}"))?;
        let last = ids(first).last().copied().context("events")?;
        let scan = client.scan(&id).await?;
        ensure!(scan["state"] == "STATE_COMPLETED", "{scan:#}");
        for log in &logs {
            let log = log.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
            ensure!(ids(log) == (1..=last).collect::<Vec<_>>(), "gapless: {log}");
            ensure!(
                log.contains("event: end\ndata: {\"reason\":\"ENDED\"}"),
                "{log}"
            );
        }
        process.signal(Signal::SIGTERM)?;
        for log in join_all(open.into_iter().map(Response::text)).await {
            let log = log?;
            ensure!(log.contains("{\"reason\":\"DRAINING\"}"), "{log}");
            ensure!(log.contains("\nretry: "), "{log}");
        }
        let status = process.ended(Duration::from_secs(40))?;
        ensure!(status.success(), "{status}: {}", process.log_end()?);
        Ok(())
    })
}

async fn watch(client: &Client, id: &str) -> Result<Response> {
    let request = client.request(Method::GET, &format!("/v1/scans/{id}/events"));
    let response = request.header("accept", "text/event-stream").send().await?;
    Ok(response.error_for_status()?)
}

/// Sequence numbers of the events in a stream.
fn ids(log: &str) -> Vec<i64> {
    log.lines()
        .filter_map(|line| line.strip_prefix("id: ")?.parse().ok())
        .collect()
}
