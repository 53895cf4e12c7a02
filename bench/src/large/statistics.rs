//! Statistics over everything, and over windows of days.

use anyhow::{Context, Result};
use serde_json::Value;

use super::{
    cost::{self, Cost, ms},
    goals::Goals,
    growth::Growth,
    store::{Mesh, Size},
};

/// Requests of each question.
const REQUESTS: usize = 50;
const DIMENSIONS: [&str; 8] = [
    "DAY", "WEEK", "MONTH", "TARGET", "PROBE", "MODULE", "TAG", "DETECTOR",
];
/// Everything; and days at both ends of a window that has whole years, months and days in it.
const WINDOWS: [&str; 3] = [
    "",
    "window.startDate=2024-02-10&window.endDate=2026-09-20",
    "window.startDate=2026-09-01&window.endDate=2026-09-30",
];
const TARGET: &str = "filter.targetType=openai.OpenAICompatible&filter.targetName=model-7";
/// What a line can be narrowed to, and what then it can be by.
const NARROWED: [(&str, &str); 4] = [
    ("PROBE", "filter.probe=module43.Probe133"),
    ("MODULE", "filter.module=module43"),
    ("TAG", "filter.tag=owasp:llm13"),
    ("DETECTOR", "filter.detector=detectors18.D133"),
];

pub(super) async fn measure(
    mesh: &Mesh,
    database: Option<i32>,
    size: Size,
    goals: &mut Goals,
    growth: &mut Growth,
) -> Result<()> {
    let label = size.label();
    let mut all: Vec<(String, Cost)> = Vec::new();
    for path in questions() {
        let ask = async || answered(mesh, &path).await.map(drop);
        let cost = cost::measure(REQUESTS, &[mesh.id()], database, ask).await?;
        println!("{label}: {path} {}", cost.said());
        let rows = answered(mesh, &path).await?;
        growth.add("statistics", size, &path, rows, cost);
        all.push((path, cost));
    }
    let (_, totals) = all.first().context("totals come first")?;
    goals.note(&format!("{label}: totals"), &totals.said());
    let worst = all.iter().max_by_key(|(_, cost)| cost.p99);
    let (path, worst) = worst.context("something was asked")?;
    goals.judge(
        &format!("{label}: slowest of {} questions of statistics", all.len()),
        "p99 < 50 ms",
        &format!("{} ({path})", worst.said()),
        ms(worst.p99) < 50.0,
    );
    Ok(())
}

/// Each dimension in each window, of all targets and of one, and by what else it may be narrowed.
fn questions() -> Vec<String> {
    let mut found = Vec::new();
    for window in WINDOWS {
        found.push(format!("/v1/statistics?{window}"));
        for dimension in DIMENSIONS {
            let of = format!("/v1/statistics/DIMENSION_{dimension}?pageSize=1000");
            found.push(format!("{of}&{window}"));
            if dimension != "TARGET" {
                found.push(format!("{of}&{window}&{TARGET}"));
            }
        }
        for (dimension, filter) in NARROWED {
            for by in ["DAY", "WEEK", "MONTH", "TARGET", dimension] {
                found.push(format!(
                    "/v1/statistics/DIMENSION_{by}?pageSize=1000&{window}&{filter}"
                ));
            }
        }
        // Which fail most, which is worst.
        for (dimension, order) in [("PROBE", "FAILED"), ("TARGET", "PASS_RATE")] {
            found.push(format!(
                "/v1/statistics/DIMENSION_{dimension}?orderBy=STATISTICS_ORDER_{order}&{window}"
            ));
        }
    }
    found
}

/// How many rows the answer has. One without a number measures nothing.
async fn answered(mesh: &Mesh, path: &str) -> Result<usize> {
    let body: Value = mesh.client().get(path).await?.ok()?;
    let lines = match body["rows"].as_array() {
        Some(rows) => rows.len(),
        None => usize::from(body["statistics"]["evaluations"].is_string()),
    };
    anyhow::ensure!(lines > 0, "{path}: {body}");
    Ok(lines)
}
