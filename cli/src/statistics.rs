//! `aegis stats`: sums over everything that was evaluated.

use std::process::ExitCode;

use aegis_mesh::Error;
use aegis_proto::statistics::v1::{
    Dimension, GetStatisticsRequest, ListStatisticsRequest, Statistics, StatisticsFilter,
    StatisticsOrder, Window,
};
use clap::{Args, ValueEnum};
use comfy_table::Cell;

use crate::{
    client::Client,
    output::{
        print_json,
        table::{number, percent, right, table},
    },
};

#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// One row for each of these instead of the totals
    #[arg(long, value_enum)]
    by: Option<By>,
    /// First day, such as 2026-11-01 (UTC)
    #[arg(long, default_value = "", hide_default_value = true)]
    from: String,
    /// Last day
    #[arg(long, default_value = "", hide_default_value = true)]
    to: String,
    /// Only this target; needs --target-name
    #[arg(long, default_value = "", hide_default_value = true)]
    target_type: String,
    /// Only this target; needs --target-type
    #[arg(long, default_value = "", hide_default_value = true)]
    target_name: String,
    /// Only this probe
    #[arg(long, default_value = "", hide_default_value = true)]
    probe: String,
    /// Only this module of probes
    #[arg(long, default_value = "", hide_default_value = true)]
    module: String,
    /// Only probes with this tag, such as owasp:llm01
    #[arg(long, default_value = "", hide_default_value = true)]
    tag: String,
    /// Only this detector
    #[arg(long, default_value = "", hide_default_value = true)]
    detector: String,
    /// Order of the rows
    #[arg(long, value_enum, default_value_t = Order::Key)]
    order: Order,
    /// Rows, at most 1,000
    #[arg(long, default_value_t = 50)]
    limit: i32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Day,
    Week,
    Month,
    Target,
    Probe,
    Module,
    Tag,
    Detector,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Key,
    /// Most failed outputs first
    Failed,
    /// Lowest pass rate first
    PassRate,
    /// Most evaluated outputs first
    Evaluated,
}

/// Prints totals, or a row for each key of a dimension.
pub(crate) async fn run(
    client: &Client,
    as_json: bool,
    args: StatsArgs,
) -> anyhow::Result<ExitCode> {
    let window = Some(Window {
        start_date: args.from,
        end_date: args.to,
    });
    let narrowed = [&args.probe, &args.module, &args.tag, &args.detector]
        .iter()
        .any(|value| !value.is_empty());
    let filter = Some(StatisticsFilter {
        target_type: args.target_type,
        target_name: args.target_name,
        probe: args.probe,
        module: args.module,
        tag: args.tag,
        detector: args.detector,
    });
    let Some(by) = args.by else {
        let request = GetStatisticsRequest { window, filter };
        let answer = client.statistics().get_statistics(request).await;
        let answer = answer.map_err(Error::from)?.into_inner();
        if as_json {
            print_json(&answer)?;
        } else {
            print_totals(&answer.statistics.unwrap_or_default());
        }
        return Ok(ExitCode::SUCCESS);
    };
    let counts_scans = has_scans(by) && !narrowed;
    let request = ListStatisticsRequest {
        dimension: dimension(by).into(),
        window,
        filter,
        order_by: order(args.order).into(),
        page_size: args.limit,
        page_token: String::new(),
    };
    let answer = client.statistics().list_statistics(request).await;
    let answer = answer.map_err(Error::from)?.into_inner();
    if as_json {
        print_json(&answer)?;
        return Ok(ExitCode::SUCCESS);
    }
    let key = format!("{by:?}").to_lowercase();
    let mut heading = vec![key.as_str(), "passed", "failed", "nones", "pass rate"];
    if counts_scans {
        heading.push("scans");
    }
    let mut rows = table(&heading);
    for row in &answer.rows {
        let statistics = row.statistics.clone().unwrap_or_default();
        let mut cells = vec![
            Cell::new(&row.key),
            number(statistics.passed),
            number(statistics.failed),
            number(statistics.nones),
            right(percent(statistics.pass_rate)),
        ];
        if counts_scans {
            cells.push(number(scans(&statistics)));
        }
        rows.add_row(cells);
    }
    println!("{rows}");
    if !answer.next_page_token.is_empty() {
        println!("there are more; --limit shows up to 1,000");
    }
    Ok(ExitCode::SUCCESS)
}

/// Scans are counted by when and of what; no part of a scan is a scan.
fn has_scans(by: By) -> bool {
    matches!(by, By::Day | By::Week | By::Month | By::Target)
}

fn scans(statistics: &Statistics) -> i64 {
    statistics.scans_completed + statistics.scans_failed + statistics.scans_cancelled
}

fn print_totals(statistics: &Statistics) {
    println!(
        "{} scans completed, {} failed, {} cancelled",
        statistics.scans_completed, statistics.scans_failed, statistics.scans_cancelled
    );
    println!(
        "{} evaluations: {} outputs passed, {} failed, {} could not be scored, pass rate {}",
        statistics.evaluations,
        statistics.passed,
        statistics.failed,
        statistics.nones,
        percent(statistics.pass_rate)
    );
    let grades = statistics.defcon.iter().zip(1..);
    let grades: Vec<String> = grades
        .map(|(count, grade)| format!("DC-{grade} {count}"))
        .collect();
    if !grades.is_empty() {
        println!("grades: {}", grades.join(", "));
    }
}

fn dimension(by: By) -> Dimension {
    match by {
        By::Day => Dimension::Day,
        By::Week => Dimension::Week,
        By::Month => Dimension::Month,
        By::Target => Dimension::Target,
        By::Probe => Dimension::Probe,
        By::Module => Dimension::Module,
        By::Tag => Dimension::Tag,
        By::Detector => Dimension::Detector,
    }
}

fn order(order: Order) -> StatisticsOrder {
    match order {
        Order::Key => StatisticsOrder::Key,
        Order::Failed => StatisticsOrder::Failed,
        Order::PassRate => StatisticsOrder::PassRate,
        Order::Evaluated => StatisticsOrder::Evaluated,
    }
}
