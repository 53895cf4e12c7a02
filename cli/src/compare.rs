//! `aegis compare`: what changed between scans.

use std::process::ExitCode;

use aegis_mesh::Error;
use aegis_proto::scan::v1::{
    Change, CompareScansRequest, CompareScansResponse, ComparisonCell, ComparisonRow,
};
use clap::{Args, ValueEnum};
use comfy_table::Cell;

use crate::{
    client::Client,
    output::{
        print_json,
        table::{percent, right, table},
    },
};

/// Something got worse.
const WORSE: u8 = 1;

#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// The baseline, then one to nine others
    #[arg(required = true, num_args = 2..=10)]
    scan_ids: Vec<String>,
    /// Level of significance
    #[arg(long, default_value_t = 0.05)]
    significance: f64,
    /// Only these changes, repeatable
    #[arg(long = "change", value_enum)]
    changes: Vec<ChangeArg>,
    /// Exit 1 when a probe got significantly worse
    #[arg(long)]
    fail_on_worse: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ChangeArg {
    New,
    Gone,
    Fixed,
    Better,
    Worse,
    Unchanged,
    NotComparable,
}

/// Prints what differs between scans, and what changed.
pub(crate) async fn run(
    client: &Client,
    as_json: bool,
    args: CompareArgs,
) -> anyhow::Result<ExitCode> {
    let changes = args.changes.into_iter().map(|one| change(one).into());
    let mut request = CompareScansRequest {
        scan_ids: args.scan_ids,
        significance: args.significance,
        changes: changes.collect(),
        page_size: 1000,
        page_token: String::new(),
    };
    let mut whole = CompareScansResponse::default();
    loop {
        let page = client.comparisons().compare_scans(request.clone()).await;
        let mut page = page.map_err(Error::from)?.into_inner();
        request.page_token = std::mem::take(&mut page.next_page_token);
        let rows = std::mem::take(&mut whole.rows);
        page.rows.splice(0..0, rows);
        whole = page;
        if request.page_token.is_empty() {
            break;
        }
    }
    if as_json {
        print_json(&whole)?;
    } else {
        print(&whole);
    }
    let worse = whole.summaries.iter().any(|one| one.worse_count > 0);
    Ok(match args.fail_on_worse && worse {
        true => ExitCode::from(WORSE),
        false => ExitCode::SUCCESS,
    })
}

fn print(whole: &CompareScansResponse) {
    for difference in &whole.differences {
        let kind = if difference.blocking {
            "not comparable"
        } else {
            "differs"
        };
        println!(
            "{kind}: {} {}",
            difference.field,
            difference.values.join(" / ")
        );
        if !difference.message.is_empty() {
            println!("  {}", difference.message);
        }
    }
    let mut rows = table(&["probe", "detector", "baseline", "scan", "change", "q"]);
    for row in &whole.rows {
        add(&mut rows, row);
    }
    println!("{rows}");
    for one in &whole.summaries {
        println!(
            "{}: {} worse, {} better, {} fixed, {} new, {} gone, {} unchanged, {} not comparable",
            one.scan_id,
            one.worse_count,
            one.better_count,
            one.fixed_count,
            one.new_count,
            one.gone_count,
            one.unchanged_count,
            one.not_comparable_count
        );
    }
    println!("{}", whole.method);
}

/// One line for each scan but the baseline.
fn add(rows: &mut comfy_table::Table, row: &ComparisonRow) {
    let Some((baseline, others)) = row.cells.split_first() else {
        return;
    };
    for cell in others {
        let q = cell.q_value.map_or("-".to_owned(), |q| format!("{q:.4}"));
        rows.add_row([
            Cell::new(&row.probe),
            Cell::new(&row.detector),
            right(rate(baseline)),
            right(rate(cell)),
            Cell::new(word(cell.change())),
            right(q),
        ]);
    }
}

fn rate(cell: &ComparisonCell) -> String {
    percent(cell.result.as_ref().and_then(|result| result.pass_rate))
}

fn word(change: Change) -> String {
    let name = change.as_str_name().trim_start_matches("CHANGE_");
    name.to_lowercase().replace('_', " ")
}

fn change(change: ChangeArg) -> Change {
    match change {
        ChangeArg::New => Change::New,
        ChangeArg::Gone => Change::Gone,
        ChangeArg::Fixed => Change::Fixed,
        ChangeArg::Better => Change::Better,
        ChangeArg::Worse => Change::Worse,
        ChangeArg::Unchanged => Change::Unchanged,
        ChangeArg::NotComparable => Change::NotComparable,
    }
}
