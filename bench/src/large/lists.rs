//! The newest twenty, by every filter and order that docs/history.md says an index answers.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    cost::{self, Cost, ms},
    goals::Goals,
    growth::Growth,
    store::{Mesh, Size},
};

/// What is asked for is what is documented.
const DOCUMENTED: &str = include_str!("../../../docs/history.md");
pub(super) const PAGE: usize = 20;
/// Requests of each page.
const REQUESTS: usize = 200;
/// Rows before the page 10,000.
const DEEP: usize = 10_000 * PAGE;
/// The most that a page may have.
const STEP: usize = 1_000;
const FROM_TO: &str = "filter.{}.start=2024-01-01T00:00:00Z&filter.{}.end=2026-10-01T00:00:00Z";

/// The costs of one list.
struct Measured {
    list: String,
    first: Cost,
    deep: Cost,
}

pub(super) async fn measure(
    mesh: &Mesh,
    database: Option<i32>,
    size: Size,
    goals: &mut Goals,
    growth: &mut Growth,
) -> Result<()> {
    let mut all = Vec::new();
    for list in lists()? {
        let ask = async |token: &str| {
            let path = format!("/v1/scans?pageSize={PAGE}&{list}&pageToken={token}");
            let ask = async || full(mesh, &path).await;
            cost::measure(REQUESTS, &[mesh.id()], database, ask).await
        };
        let first = ask("").await?;
        let (token, rows) = deep(mesh, &list).await?;
        let deep = ask(&token).await?;
        println!("{}: {list}", size.label());
        println!("    page 1: {}", first.said());
        println!("    after {rows} rows: {}", deep.said());
        growth.add("lists", size, &list, PAGE, first);
        all.push(Measured { list, first, deep });
    }
    let newest = all.first().context("the plain list is the first")?;
    goals.note(
        &format!("{}: newest {PAGE}", size.label()),
        &newest.first.said(),
    );
    judge(size, &all, goals)
}

/// The slowest of all, and what depth costs.
fn judge(size: Size, all: &[Measured], goals: &mut Goals) -> Result<()> {
    let pages = || {
        all.iter()
            .flat_map(|m| [(&m.list, m.first), (&m.list, m.deep)])
    };
    let (slowest, by_time) = pages().max_by_key(|page| page.1.p99).context("lists")?;
    let (dearest, by_cpu) = pages().max_by_key(|page| page.1.cpu).context("lists")?;
    let label = size.label();
    let count = all.len();
    goals.judge(
        &format!("{label}: slowest of {count} lists, page 1 and 10,000"),
        "p99 < 10 ms",
        &format!("{} ({slowest})", by_time.said()),
        ms(by_time.p99) < 10.0,
    );
    goals.judge(
        &format!("{label}: dearest of them"),
        "CPU < 2 ms",
        &format!("{} ({dearest})", by_cpu.said()),
        ms(by_cpu.cpu) < 2.0,
    );
    let sum = |cost: fn(&Measured) -> f64| all.iter().map(cost).sum::<f64>();
    let p50 = sum(|m| ms(m.deep.p50)) / sum(|m| ms(m.first.p50));
    let cpu = sum(|m| ms(m.deep.all_cpu())) / sum(|m| ms(m.first.all_cpu()));
    goals.judge(
        &format!("{label}: page 10,000 to page 1, all lists"),
        "as page 1",
        &format!("p50 {p50:.2}, CPU {cpu:.2} times"),
        p50.max(cpu) < 1.2,
    );
    Ok(())
}

/// The documented filters and orders, both ways, as queries. The plain list is the first.
fn lists() -> Result<Vec<String>> {
    let mut found = Vec::new();
    for line in DOCUMENTED
        .lines()
        .filter(|line| line.ends_with("_pkey |") || line.contains(" | scan"))
    {
        let cells: Vec<_> = line.trim_matches(['|', ' ']).split(" | ").collect();
        let [filters, order, _] = cells[..] else {
            bail!("{line:?} is no filter, order and index");
        };
        for ascending in [false, true] {
            let mut query = vec![format!("orderBy=SCAN_ORDER_{order}&ascending={ascending}")];
            for filter in filters.split(", ").filter(|filter| *filter != "none") {
                query.push(parameters(filter)?);
            }
            found.push(query.join("&"));
        }
    }
    Ok(found)
}

fn parameters(filter: &str) -> Result<String> {
    let text = match filter {
        "states" => "filter.states=STATE_FAILED&filter.states=STATE_CANCELLED",
        "target_type" => "filter.targetType=openai.OpenAICompatible",
        "target_name" => "filter.targetName=model-7",
        "template" => "filter.template=template-3",
        "defcon" => "filter.defcon=1&filter.defcon=2",
        "label" => "filter.labels.team=team-3",
        "label_key" => "filter.labels.team=",
        "probe" => "filter.probe=module43.Probe133",
        "pass_rate" => "filter.minPassRate=0.6&filter.maxPassRate=0.9",
        "create_time" => return Ok(FROM_TO.replace("{}", "createTime")),
        "start_time" => return Ok(FROM_TO.replace("{}", "startTime")),
        "end_time" => return Ok(FROM_TO.replace("{}", "endTime")),
        other => bail!("{other:?} is no filter that is known here"),
    };
    Ok(text.to_owned())
}

/// Where the page 10,000 begins, or the last quarter of a list that has not so many; and after
/// how many rows that is.
async fn deep(mesh: &Mesh, list: &str) -> Result<(String, usize)> {
    for step in [STEP, PAGE] {
        let mut tokens = Vec::new();
        let mut token = String::new();
        while tokens.len() * step < DEEP {
            let path = format!("/v1/scans?pageSize={step}&{list}&pageToken={token}");
            let page = mesh.client().get(&path).await?.ok()?;
            token = next(&page).to_owned();
            if token.is_empty() {
                break;
            }
            tokens.push(token.clone());
        }
        if tokens.len() * step >= DEEP {
            return Ok((token, tokens.len() * step));
        }
        if let Some(at) = (tokens.len() * 3 / 4).checked_sub(1) {
            return Ok((tokens[at].clone(), (at + 1) * step));
        }
    }
    bail!("{list} has no page but the first")
}

fn next(page: &Value) -> &str {
    page["nextPageToken"].as_str().unwrap_or_default()
}

/// A page that is not full measures nothing.
async fn full(mesh: &Mesh, path: &str) -> Result<()> {
    let page: Value = mesh.client().get(path).await?.ok()?;
    let rows = page["scans"].as_array().map_or(0, Vec::len);
    anyhow::ensure!(rows == PAGE, "{path}: {rows} rows");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_list_is_asked_for() {
        let lists = lists().unwrap();
        assert!(lists.len() >= 60, "{lists:?}");
        assert_eq!(lists[0], "orderBy=SCAN_ORDER_CREATE_TIME&ascending=false");
    }
}
