//! How soon, and how many, events of a scan come to a thousand who watch it.

mod crowd;
mod watchers;

use std::{sync::Arc, time::Duration};

use aegis_proto::internal::task::v1::Lease;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::watchers::{Sent, Watchers};
use crate::{
    catalogue::Catalogue,
    large::Backend,
    runner::Runner,
    services::{Layout, Services},
    table::Table,
};

const WATCHERS: usize = 1_000;
/// Events whose way is timed, one at a time.
const TIMED: usize = 200;
const EVERY: Duration = Duration::from_millis(100);
/// Of a flood: 60 events a second, each as long as this makes it, some 300 bytes to the browser.
const FLOOD: usize = 1_200;
const AT_ONCE: usize = 6;
const PAD: usize = 25;

const SETTINGS: [(&str, &str, &str); 1] = [("scan-orchestrator", "LEASE_SECONDS", "600")];

pub(crate) async fn measure(table: &mut Table) -> Result<()> {
    aegis_mesh::raise_open_files();
    let services = Services::start(&Layout {
        database: Backend::Postgres,
        replicas: 2,
        runners: 0,
        settings: &SETTINGS,
    })
    .await?;
    let catalogue = Catalogue::read()?;
    let orchestrator = services.endpoint("scan-orchestrator-1")?;
    let runner = Runner::new(&orchestrator, 1, &catalogue).await?;
    for (gateway, whose, goal) in [
        (2, "another replica than the runner's", "< 250 ms"),
        (1, "the runner's replica", "< 100 ms"),
    ] {
        let scan = Scan::begin(&services, &runner).await?;
        let sent = scan.timed(&services, gateway).await?;
        table.fact(
            &format!("an event to {WATCHERS} SSE clients of {whose}"),
            sent,
            &format!("p99 {goal}"),
        );
    }
    let scan = Scan::begin(&services, &runner).await?;
    table.fact(
        &format!("events to {WATCHERS} SSE clients at once"),
        scan.flood(&services, 2).await?,
        "≥ 50,000 /s",
    );
    table.fact(
        &format!("a pause to the watcher of its scan, {WATCHERS} scans with one each"),
        crowd::measure(&services).await?,
        "p99 < 250 ms",
    );
    services.stop()
}

/// One probe, of a target that is never called.
fn spec() -> Value {
    json!({
        "target": {
            "type": "openai.OpenAICompatible",
            "name": "bench",
            "options": {"uri": "http://127.0.0.1:9/v1"},
        },
        "include": ["probes.test.Blank"],
    })
}

/// One that runs, at a runner of ours.
struct Scan {
    id: String,
    runner: Runner,
    lease: Lease,
}

impl Scan {
    async fn begin(services: &Services, runner: &Runner) -> Result<Self> {
        let id = services.gateway(1)?.create(&spec()).await?;
        let lease = runner.lease().await?.context("nothing to lease")?;
        Ok(Self {
            id,
            runner: runner.clone(),
            lease,
        })
    }

    /// One event after the other; the time is from the moment before the runner sends it, so that
    /// of the commit is in it.
    async fn timed(self, services: &Services, gateway: usize) -> Result<String> {
        let sent = Arc::new(Sent::default());
        let watchers = self.watched(services, gateway, TIMED, &sent).await?;
        let mut ticks = ticks();
        for number in 0..TIMED {
            ticks.tick().await;
            sent.now();
            self.report(number, 1, 0).await?;
        }
        let mut times = watchers.all().await?.times;
        times.sort_unstable();
        let at = |share: usize| f64::from(times[(times.len() - 1) * share / 1_000]) / 1e3;
        self.runner.give_up(self.lease).await?;
        Ok(format!(
            "p50 {:.0} ms, p99 {:.0} ms, longest {:.0} ms",
            at(500),
            at(990),
            at(1_000)
        ))
    }

    async fn flood(self, services: &Services, gateway: usize) -> Result<String> {
        let sent = Arc::new(Sent::default());
        let watchers = self.watched(services, gateway, FLOOD, &sent).await?;
        let named = [
            format!("gateway-{gateway}"),
            format!("scan-orchestrator-{gateway}"),
            format!("catalog-{gateway}"),
        ];
        let cpu = || -> Result<Vec<Duration>> { named.iter().map(|n| services.cpu(n)).collect() };
        let before = cpu()?;
        let began = Instant::now();
        let mut ticks = ticks();
        for number in (0..FLOOD).step_by(AT_ONCE) {
            ticks.tick().await;
            (0..AT_ONCE).for_each(|_| sent.now());
            self.report(number, AT_ONCE, PAD).await?;
        }
        let offered = began.elapsed();
        let came = watchers.all().await?;
        let took = began.elapsed();
        let shares = cpu()?.into_iter().zip(before).map(|(after, before)| {
            let used = after.saturating_sub(before).as_secs_f64();
            format!("{:.0} %", used / took.as_secs_f64() * 100.0)
        });
        let cores = named
            .iter()
            .zip(shares)
            .map(|(n, share)| format!("{n} {share}"));
        let cores = cores.collect::<Vec<_>>().join(", ");
        self.runner.give_up(self.lease).await?;
        Ok(format!(
            "{:.0} /s of {} bytes, offered {:.0} /s; of a core: {cores}",
            came.times.len() as f64 / took.as_secs_f64(),
            came.bytes / came.times.len(),
            (FLOOD * WATCHERS) as f64 / offered.as_secs_f64(),
        ))
    }

    async fn watched(
        &self,
        services: &Services,
        gateway: usize,
        events: usize,
        sent: &Arc<Sent>,
    ) -> Result<Watchers> {
        let client = services.gateway(gateway)?;
        Watchers::open(&client, &self.id, WATCHERS, events, sent).await
    }

    /// Events from this number on.
    async fn report(&self, number: usize, events: usize, pad: usize) -> Result<()> {
        let names = (number..number + events).map(|n| watchers::name(n, pad));
        let first = i64::try_from(number)? + 1;
        self.runner
            .report(&self.lease, first, names.collect())
            .await
    }
}

/// A late one is made up for: the load is the same whatever comes of it.
fn ticks() -> tokio::time::Interval {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    ticks
}
