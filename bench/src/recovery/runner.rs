//! A runner dies in the middle of a probe.

use std::time::{Duration, Instant};

use aegis_demo_target::DemoTarget;
use aegis_mesh::{CallContext, ClientConfig, MeshChannel, Principal, with_context};
use aegis_proto::internal::runner::v1::{
    GetStatusRequest, get_status_response::State, runner_service_client::RunnerServiceClient,
};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    LIMIT,
    large::Backend,
    ours::spec,
    services::{Layout, Services},
    sse::Events,
    table::Table,
};

const RUNNERS: usize = 2;
const DEATHS: usize = 5;
/// Shorter than the default, which is 60 s: the rest is what is measured.
const LEASE: u64 = 6;
const REAPER: u64 = 2;
const SETTINGS: [(&str, &str, &str); 2] = [
    ("scan-orchestrator", "LEASE_SECONDS", "6"),
    ("scan-orchestrator", "REAPER_PERIOD_SECONDS", "2"),
];
/// 256 prompts of 200 ms: it runs when its runner dies.
const LONG: [&str; 1] = ["promptinject.HijackHateHumans"];

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    let mut services = Services::start(&Layout {
        database: Backend::Postgres,
        replicas: 1,
        runners: RUNNERS,
        settings: &SETTINGS,
    })
    .await?;
    let target = DemoTarget::start(([127, 0, 0, 1], 0).into()).await?;
    let mut longest = Duration::ZERO;
    for _ in 0..DEATHS {
        for runner in 1..=RUNNERS {
            ready(&services.endpoint(&format!("garak-runner-{runner}"))?).await?;
        }
        longest = longest.max(death(&mut services, &target).await?);
    }
    let goal = LEASE + REAPER + 1;
    table.fact(
        &format!("kill -9 of a runner, lease {LEASE} s, reaper {REAPER} s: its probe runs again"),
        format!("{:.1} s, longest of {DEATHS}", longest.as_secs_f64()),
        &format!("≤ {goal} s"),
    );
    services.stop()
}

/// From the death of the runner that has a probe until another has it.
async fn death(services: &mut Services, target: &DemoTarget) -> Result<Duration> {
    let client = services.gateway(1)?;
    let scan = client
        .create(&spec(target, "latency/200", &LONG, 1, 1))
        .await?;
    let mut events = Events::open(&client, &scan, 0).await?;
    let runner = started(&mut events).await?;
    // In the midst of its calls.
    let calls = target.stats().calls + 5;
    let until = Instant::now() + LIMIT;
    while target.stats().calls < calls {
        ensure!(Instant::now() < until, "the target is not called");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    services.kill(&runner)?;
    let died = Instant::now();
    let other = started(&mut events).await?;
    let took = died.elapsed();
    println!("{runner} died, {other} went on after {took:.1?}");
    services.start_again(&runner)?;
    let cancel = format!("/v1/scans/{scan}:cancel");
    client.post(&cancel, &json!({})).await?.ok()?;
    client
        .until(&scan, LIMIT, aegis_tests::client::is_ended)
        .await?;
    Ok(took)
}

/// The runner that the next probe that begins runs at.
async fn started(events: &mut Events) -> Result<String> {
    let mut runner = None;
    while runner.is_none() {
        let line = |line: &[u8]| {
            let data = line.strip_prefix(b"data: ").unwrap_or_default();
            let event: Value = serde_json::from_slice(data).unwrap_or_default();
            let name = event["event"]["probeStarted"]["runner"].as_str();
            runner = name.map(str::to_owned).or(runner.take());
        };
        ensure!(events.next(line).await?, "the stream ended");
    }
    runner.context("a runner")
}

/// Waits until garak is warm.
async fn ready(endpoint: &str) -> Result<()> {
    let channel = MeshChannel::connect(&ClientConfig::at(endpoint))?;
    let mut client = RunnerServiceClient::new(channel);
    let until = Instant::now() + LIMIT;
    loop {
        let status = client.get_status(GetStatusRequest {});
        let context = CallContext::new(Principal::local());
        let status = with_context(context, status).await;
        if status.is_ok_and(|status| status.get_ref().state() == State::Ready) {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{endpoint} does not warm up");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
