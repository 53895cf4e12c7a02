//! Scans by what they are and what came of them.

use aegis_mesh::Error;
use aegis_proto::scan::v1::{
    ListScansRequest, Scan, ScanFilter, ScanLabels, ScanOrder, TimeRange, UpdateScanRequest,
    scan::State,
};
use anyhow::Context;
use clap::{Args, ValueEnum};

use crate::{
    args::{key_value, rate},
    client::Client,
    output::{print_json, table},
};

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Only scans in this state, repeatable
    #[arg(long = "state", value_enum)]
    states: Vec<StateArg>,
    /// Only scans of this target type
    #[arg(long, default_value = "", hide_default_value = true)]
    target_type: String,
    /// Only scans of this target name
    #[arg(long, default_value = "", hide_default_value = true)]
    target_name: String,
    /// Only scans made from this template
    #[arg(long, default_value = "", hide_default_value = true)]
    template: String,
    /// Only scans that ran this probe
    #[arg(long, default_value = "", hide_default_value = true)]
    probe: String,
    /// Only scans with this label, repeatable; KEY= takes any value
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// Only scans made since then: 2026-11-24, or 2026-11-24T08:00:00Z
    #[arg(long, value_parser = time)]
    since: Option<prost_types::Timestamp>,
    /// Only scans made before then
    #[arg(long, value_parser = time)]
    until: Option<prost_types::Timestamp>,
    /// Lowest pass rate, 0 to 1
    #[arg(long, value_parser = rate)]
    min_pass_rate: Option<f64>,
    /// Highest pass rate, 0 to 1
    #[arg(long, value_parser = rate)]
    max_pass_rate: Option<f64>,
    /// Only scans whose worst grade is this, 1 to 5, repeatable
    #[arg(long)]
    defcon: Vec<i32>,
    /// Occurs in name, target or error
    #[arg(long, default_value = "", hide_default_value = true)]
    text: String,
    /// What comes first
    #[arg(long, value_enum, default_value_t = Order::Created)]
    order: Order,
    /// Lowest, oldest first
    #[arg(long)]
    ascending: bool,
    /// Deleted scans that can be restored
    #[arg(long)]
    deleted: bool,
    /// Say how many there are
    #[arg(long)]
    count: bool,
    /// Scans on a page
    #[arg(long, default_value_t = 20)]
    page_size: i32,
    /// The token that the page before ended with
    #[arg(long, default_value = "", hide_default_value = true)]
    page_token: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum StateArg {
    Pending,
    Running,
    Cancelling,
    Completed,
    Failed,
    Cancelled,
    Paused,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Order {
    Created,
    Started,
    Ended,
    Target,
    PassRate,
    Duration,
    State,
}

#[derive(Debug, Args)]
pub(crate) struct EditArgs {
    /// The scan's id
    scan_id: String,
    /// Its new name
    #[arg(long)]
    name: Option<String>,
    /// KEY=VALUE, repeatable: the labels it is to have, instead of those it has
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    labels: Vec<(String, String)>,
    /// Take all labels away
    #[arg(long, conflicts_with = "labels")]
    no_labels: bool,
}

/// Prints a page of scans.
pub(super) async fn list(client: &Client, as_json: bool, args: ListArgs) -> anyhow::Result<()> {
    let created = TimeRange {
        start: args.since,
        end: args.until,
    };
    let request = ListScansRequest {
        filter: Some(ScanFilter {
            states: args.states.into_iter().map(|s| state(s).into()).collect(),
            target_type: args.target_type,
            target_name: args.target_name,
            template: args.template,
            probe: args.probe,
            labels: args.labels.into_iter().collect(),
            create_time: Some(created).filter(|range| *range != TimeRange::default()),
            min_pass_rate: args.min_pass_rate,
            max_pass_rate: args.max_pass_rate,
            defcon: args.defcon,
            text: args.text,
            ..ScanFilter::default()
        }),
        page_size: args.page_size,
        page_token: args.page_token,
        order_by: order(args.order).into(),
        ascending: args.ascending,
        include_total_size: args.count,
        deleted: args.deleted,
    };
    let response = client.history().list_scans(request).await;
    let page = response.map_err(Error::from)?.into_inner();
    if as_json {
        return print_json(&page);
    }
    println!("{}", table::scans(&page.scans));
    if let Some(total) = page.total_size {
        let more = if page.total_size_capped {
            "more than "
        } else {
            ""
        };
        println!("{more}{total} scans");
    }
    if !page.next_page_token.is_empty() {
        println!("more: --page-token {}", page.next_page_token);
    }
    Ok(())
}

/// Changes name and labels, unless somebody else did meanwhile.
pub(super) async fn edit(client: &Client, args: EditArgs) -> anyhow::Result<Option<Scan>> {
    let read = client.get_scan(&args.scan_id).await?;
    let labels = (args.no_labels || !args.labels.is_empty()).then(|| ScanLabels {
        labels: args.labels.into_iter().collect(),
    });
    let request = UpdateScanRequest {
        scan_id: args.scan_id,
        display_name: args.name,
        labels,
        etag: read.etag,
    };
    let answer = client.history().update_scan(request).await;
    Ok(answer.map_err(Error::from)?.into_inner().scan)
}

/// A day, or a moment, in UTC.
fn time(text: &str) -> anyhow::Result<prost_types::Timestamp> {
    let moment = match text.contains('T') {
        true => text.to_owned(),
        false => format!("{text}T00:00:00Z"),
    };
    moment.parse().with_context(|| {
        format!("{text:?} is no day like 2026-11-24 and no time like 2026-11-24T08:00:00Z")
    })
}

fn state(state: StateArg) -> State {
    match state {
        StateArg::Pending => State::Pending,
        StateArg::Running => State::Running,
        StateArg::Cancelling => State::Cancelling,
        StateArg::Completed => State::Completed,
        StateArg::Failed => State::Failed,
        StateArg::Cancelled => State::Cancelled,
        StateArg::Paused => State::Paused,
    }
}

fn order(order: Order) -> ScanOrder {
    match order {
        Order::Created => ScanOrder::CreateTime,
        Order::Started => ScanOrder::StartTime,
        Order::Ended => ScanOrder::EndTime,
        Order::Target => ScanOrder::Target,
        Order::PassRate => ScanOrder::PassRate,
        Order::Duration => ScanOrder::Duration,
        Order::State => ScanOrder::State,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_in_utc() -> anyhow::Result<()> {
        assert_eq!(time("1970-01-02")?.seconds, 86_400);
        assert_eq!(time("1970-01-01T01:00:00Z")?.seconds, 3_600);
        assert!(time("yesterday").is_err());
        Ok(())
    }
}
