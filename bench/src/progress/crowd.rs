//! A thousand clients, each with a scan of its own.

use std::time::{Duration, Instant};

use aegis_tests::client::Client;
use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::{task::JoinSet, time::timeout};

use super::WATCHERS;
use crate::{services::Services, sse::Events};

const PATIENCE: Duration = Duration::from_secs(60);
/// How long nothing happens to any of them.
const REST: Duration = Duration::from_secs(20);

/// Each scan is paused by way of the first gateway; its watcher is at the second. How long that
/// took to show, and what it costs that they watch.
pub(super) async fn measure(services: &Services) -> Result<String> {
    let (here, there) = (services.gateway(1)?, services.gateway(2)?);
    let mut scans = Vec::with_capacity(WATCHERS);
    let mut open = Vec::with_capacity(WATCHERS);
    for _ in 0..WATCHERS {
        let scan = here.create(&super::spec()).await?;
        open.push(Events::open(&there, &scan, 0).await?);
        scans.push(scan);
    }
    let cpu = || services.cpu("catalog-2");
    let before = cpu()?;
    tokio::time::sleep(REST).await;
    let at_rest = cpu()?.saturating_sub(before).as_secs_f64() / REST.as_secs_f64();

    let mut watching = JoinSet::new();
    for (number, stream) in open.into_iter().enumerate() {
        watching.spawn(async move { anyhow::Ok((number, paused(stream).await?)) });
    }
    let mut sent = Vec::with_capacity(WATCHERS);
    for scan in &scans {
        sent.push(Instant::now());
        pause(&here, scan).await?;
    }
    let mut times = Vec::with_capacity(WATCHERS);
    while let Some(seen) = watching.join_next().await {
        let (number, at) = seen??;
        times.push(at.duration_since(sent[number]));
    }
    times.sort_unstable();
    let ms = |share: usize| times[(WATCHERS - 1) * share / 100].as_secs_f64() * 1e3;
    Ok(format!(
        "p50 {:.0} ms, p99 {:.0} ms; catalog-2 at rest {:.0} % of a core",
        ms(50),
        ms(99),
        at_rest * 100.0
    ))
}

async fn pause(client: &Client, scan: &str) -> Result<()> {
    let path = format!("/v1/scans/{scan}:pause");
    client.post(&path, &json!({})).await?.ok()?;
    Ok(())
}

/// When the stream says that its scan is paused.
async fn paused(mut stream: Events) -> Result<Instant> {
    let mut seen = None;
    while seen.is_none() {
        let look = |line: &[u8]| {
            let is_event = line.starts_with(b"data: {\"event\"");
            let says_so = line.windows(12).any(|part| part == b"STATE_PAUSED");
            if is_event && says_so {
                seen = Some(Instant::now());
            }
        };
        let open = timeout(PATIENCE, stream.next(look)).await??;
        ensure!(open || seen.is_some(), "a stream ended");
    }
    seen.context("an event")
}
