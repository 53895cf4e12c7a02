//! Each other service dies, the only one of its kind, while a scan runs and is watched.

use std::time::{Duration, Instant};

use aegis_demo_target::DemoTarget;
use aegis_tests::client::{Client, is_ended};
use anyhow::{Result, ensure};
use futures_util::future::{join_all, try_join_all};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::{
    LIMIT,
    large::Backend,
    ours::spec,
    probes::TWELVE,
    services::{Layout, Services},
    sse::{self, Events},
    table::Table,
};

const WATCHERS: usize = 50;
const DOWN: Duration = Duration::from_secs(2);
/// A request that hangs is given up, and made again.
const PATIENCE: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(20);
const DYING: [&str; 4] = ["gateway", "scan-orchestrator", "catalog", "artifact"];

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let mut services = Services::start(&Layout {
        database: Backend::Postgres,
        replicas: 1,
        runners: 1,
        settings: &[],
    })
    .await?;
    let client = services.gateway(1)?;
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    // Has a report, which artifact is asked for.
    let quick = spec(&target, "", &TWELVE[..1], 1, 1);
    let reported = client.run(&quick).await?["scanId"].clone();
    let report = format!(
        "/v1/scans/{}/artifacts/report.jsonl",
        reported.as_str().unwrap_or_default()
    );
    ensure!(is_served(&client, "artifact", &report).await, "no report");

    let scan = client
        .create(&spec(&target, "latency/100", &TWELVE, 2, 1))
        .await?;
    let watching = try_join_all((0..WATCHERS).map(|_| Events::open(&client, &scan, 0))).await?;
    let watching = watching.into_iter().map(|open| watch(&client, &scan, open));
    let deaths = async {
        let mut longest = Duration::ZERO;
        for service in DYING {
            let took = death(&mut services, &client, service, &report).await?;
            println!("{service} served again {took:.2?} after it was started");
            longest = longest.max(took);
        }
        anyhow::Ok(longest)
    };
    let (longest, seen) = tokio::join!(deaths, join_all(watching));
    let longest = longest?;
    let ended = client.until(&scan, LIMIT, is_ended).await?;
    ensure!(
        ended["coverage"]["evaluated"] == json!(TWELVE.len()),
        "{ended:#}"
    );
    let mut events = 0;
    for seen in seen {
        let seen = seen?;
        events = seen.len();
        let last = i64::try_from(events)?;
        ensure!(seen == (1..=last).collect::<Vec<_>>(), "a gap: {seen:?}");
    }
    table.fact(
        "kill -9 of the only gateway, orchestrator, catalog, artifact: new requests served again",
        format!(
            "{:.2} s after the start, longest of 4",
            longest.as_secs_f64()
        ),
        "< 2 s",
    );
    table.fact(
        "the same: events missing or doubled",
        format!("0 of {events}, to each of {WATCHERS} watchers"),
        "0",
    );
    services.stop()
}

/// From the start of the service, after a death, until a request is served that needs it.
async fn death(
    services: &mut Services,
    client: &Client,
    service: &str,
    report: &str,
) -> Result<Duration> {
    let name = format!("{service}-1");
    services.kill(&name)?;
    sleep(DOWN).await;
    ensure!(
        !is_served(client, service, report).await,
        "{service} is not needed"
    );
    services.start_again(&name)?;
    let began = Instant::now();
    while !is_served(client, service, report).await {
        ensure!(began.elapsed() < LIMIT, "{service} does not come back");
        sleep(PAUSE).await;
    }
    let took = began.elapsed();
    // For watchers to come back and events to flow before the next.
    client.get("/v1/scans").await?.ok()?;
    Ok(took)
}

/// Whether a new request is: a report's, of artifact; the creation of a scan, of the others.
async fn is_served(client: &Client, service: &str, report: &str) -> bool {
    let served = async {
        if service == "artifact" {
            return Ok(client.get(report).await?.status.is_success());
        }
        let spec = json!({
            "target": {
                "type": "openai.OpenAICompatible",
                "name": "nobody",
                "options": {"uri": "http://127.0.0.1:9/v1"},
            },
            "include": ["probes.test.Blank"],
        });
        let id = client.create(&spec).await?;
        let cancel = format!("/v1/scans/{id}:cancel");
        anyhow::Ok(client.post(&cancel, &json!({})).await?.status.is_success())
    };
    matches!(timeout(PATIENCE, served).await, Ok(Ok(true)))
}

/// The numbers of all events, by a client that reconnects as a browser does.
async fn watch(client: &Client, scan: &str, open: Events) -> Result<Vec<i64>> {
    let mut seen = Vec::new();
    let mut open = Some(open);
    // An event counts once its empty line has come (WHATWG HTML, "dispatch the event").
    let mut coming = None;
    let until = Instant::now() + LIMIT;
    loop {
        ensure!(Instant::now() < until, "the scan does not end");
        let mut ended = false;
        if let Some(events) = &mut open {
            let line = |line: &[u8]| {
                match line {
                    [] => seen.extend(coming.take()),
                    line => coming = sse::id(line).or(coming),
                }
                ended |= line == br#"data: {"reason":"ENDED"}"#;
            };
            if matches!(events.next(line).await, Ok(true)) && !ended {
                continue;
            }
        }
        if ended {
            return Ok(seen);
        }
        sleep(PAUSE).await;
        coming = None;
        let after = seen.last().copied().unwrap_or_default();
        open = Events::open(client, scan, after).await.ok();
    }
}
