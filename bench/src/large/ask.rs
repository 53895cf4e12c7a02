//! The newest twenty, by every filter and order that an index serves.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::store::Mesh;
use crate::{process, table::Table};

/// Requests of each kind.
const REQUESTS: usize = 200;

/// What is asked for: see docs/history.md.
const LISTS: [&str; 24] = [
    "",
    "filter.createTime.start=2024-01-01T00:00:00Z",
    "filter.states=STATE_COMPLETED",
    "filter.states=STATE_FAILED&filter.states=STATE_CANCELLED",
    "filter.states=STATE_FAILED&filter.createTime.start=2024-01-01T00:00:00Z",
    "filter.targetType=openai.OpenAICompatible",
    "filter.targetName=model-7",
    "filter.targetType=openai.OpenAICompatible&filter.targetName=model-7",
    "filter.template=template-3",
    "filter.defcon=1",
    "filter.labels.team=team-3",
    "filter.labels.team=",
    "filter.probe=module3.Probe33",
    "orderBy=SCAN_ORDER_START_TIME",
    "orderBy=SCAN_ORDER_END_TIME",
    "orderBy=SCAN_ORDER_TARGET",
    "filter.targetType=openai.OpenAICompatible&orderBy=SCAN_ORDER_TARGET",
    "orderBy=SCAN_ORDER_PASS_RATE",
    "filter.minPassRate=0.2&filter.maxPassRate=0.8&orderBy=SCAN_ORDER_PASS_RATE",
    "orderBy=SCAN_ORDER_DURATION",
    "orderBy=SCAN_ORDER_STATE",
    "filter.states=STATE_COMPLETED&orderBy=SCAN_ORDER_STATE",
    "orderBy=SCAN_ORDER_PASS_RATE&ascending=true",
    "orderBy=SCAN_ORDER_DURATION&ascending=true",
];

/// What some requests cost.
struct Cost {
    p50: Duration,
    p99: Duration,
    /// Of the mesh, per request; PostgreSQL's own processes are not in it.
    cpu: Duration,
}

pub(super) async fn measure(mesh: &Mesh, label: &str, scans: u64, table: &mut Table) -> Result<()> {
    let mut worst: Option<(&str, Cost)> = None;
    for query in LISTS {
        let path = format!("/v1/scans?pageSize=20&{query}");
        let cost = cost(mesh, &path).await?;
        println!(
            "{label}: {} p50 {:.2} ms, p99 {:.2} ms, CPU {:.2} ms",
            if query.is_empty() { "newest" } else { query },
            ms(cost.p50),
            ms(cost.p99),
            ms(cost.cpu)
        );
        if worst.as_ref().is_none_or(|(_, worst)| worst.p99 < cost.p99) {
            worst = Some((query, cost));
        }
    }
    let (query, worst) = worst.context("something was asked")?;
    table.fact(
        &format!(
            "{label}: first page, slowest of {} lists ({query})",
            LISTS.len()
        ),
        said(&worst),
        "p99 < 10 ms, CPU < 2 ms",
    );
    let first = cost(mesh, "/v1/scans?pageSize=20").await?;
    let deep = cost(mesh, &deep_page(mesh, scans).await?).await?;
    table.fact(&format!("{label}: page 1"), said(&first), "");
    table.fact(
        &format!("{label}: deepest page up to 10,000"),
        said(&deep),
        "as page 1",
    );
    Ok(())
}

/// The page 10,000, or the last quarter's first one where there are not so many.
async fn deep_page(mesh: &Mesh, scans: u64) -> Result<String> {
    let steps = (scans * 3 / 4).min(200_000) / 1_000;
    let mut token = String::new();
    for _ in 0..steps {
        let path = format!("/v1/scans?pageSize=1000&pageToken={token}");
        let page = mesh.client().get(&path).await?.ok()?;
        token = page["nextPageToken"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
    }
    Ok(format!("/v1/scans?pageSize=20&pageToken={token}"))
}

async fn cost(mesh: &Mesh, path: &str) -> Result<Cost> {
    // Pages and plans are in memory for those that are asked again.
    for _ in 0..5 {
        full(mesh, path).await?;
    }
    let mut times = Vec::with_capacity(REQUESTS);
    let before = process::cpu_of_tree(mesh.id())?;
    for _ in 0..REQUESTS {
        let began = Instant::now();
        full(mesh, path).await?;
        times.push(began.elapsed());
    }
    let cpu = process::cpu_of_tree(mesh.id())?.saturating_sub(before);
    times.sort();
    Ok(Cost {
        p50: times[REQUESTS / 2],
        p99: times[REQUESTS * 99 / 100],
        cpu: cpu / REQUESTS as u32,
    })
}

/// A page that is not full measures nothing.
async fn full(mesh: &Mesh, path: &str) -> Result<()> {
    let page: Value = mesh.client().get(path).await?.ok()?;
    let rows = page["scans"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(rows == 20, "{path}: {rows} rows");
    Ok(())
}

fn said(cost: &Cost) -> String {
    format!(
        "p50 {:.2} ms, p99 {:.2} ms, CPU {:.2} ms",
        ms(cost.p50),
        ms(cost.p99),
        ms(cost.cpu)
    )
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
