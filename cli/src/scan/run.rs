//! `aegis scan run` and `aegis scan watch`: follow a scan, show what came of it.

use std::process::ExitCode;

use aegis_mesh::{Error, Result};
use aegis_proto::{
    json,
    scan::v1::{
        CancelScanRequest, CreateScanRequest, Scan, scan::State, watch_scan_response::Update,
    },
};

use crate::{
    args::{Gate, RunArgs, WatchArgs},
    client::{Client, once_warm},
    output::{print_json, progress::ProgressView, table, waiting::waiting},
    scan::{all_results, follow},
};

/// A gate was not met.
const GATE_NOT_MET: u8 = 1;
/// The scan did not complete.
const NOT_COMPLETED: u8 = 2;
/// Left by a second Ctrl-C, as a shell has it.
const INTERRUPTED: u8 = 130;

/// Starts a scan and follows it.
pub(crate) async fn run(client: &Client, as_json: bool, args: RunArgs) -> anyhow::Result<ExitCode> {
    let request = CreateScanRequest {
        display_name: args.name,
        template: args.plan.template,
        spec: Some(args.plan.spec.into_spec()?),
        labels: args.labels.into_iter().collect(),
        // A repeat after a lost answer finds the same scan.
        request_id: args
            .request_id
            .unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
    };
    let scan = start(client, request).await?;
    if args.detach {
        if as_json {
            print_json(&scan)?;
        } else {
            println!("{}", scan.scan_id);
        }
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("scan {}", scan.scan_id);
    to_the_end(client, as_json, &scan.scan_id, 0, args.gate).await
}

/// Creates a scan, waiting for garak to warm up.
pub(crate) async fn start(client: &Client, request: CreateScanRequest) -> Result<Scan> {
    once_warm(|| async {
        let response = client.scans().create_scan(request.clone()).await?;
        let scan = response.into_inner().scan;
        scan.ok_or_else(|| Error::internal("no scan in the answer"))
    })
    .await
}

/// Follows a scan that runs already.
pub(crate) async fn watch(
    client: &Client,
    as_json: bool,
    args: WatchArgs,
) -> anyhow::Result<ExitCode> {
    to_the_end(client, as_json, &args.scan.scan_id, args.after, args.gate).await
}

async fn to_the_end(
    client: &Client,
    as_json: bool,
    scan_id: &str,
    after: i64,
    gate: Gate,
) -> anyhow::Result<ExitCode> {
    let mut watcher: Box<dyn follow::Watcher> = if as_json {
        Box::new(JsonLines)
    } else {
        Box::new(ProgressView::new())
    };
    let followed = tokio::select! {
        followed = follow::follow(client, scan_id, after, watcher.as_mut()) => followed,
        code = cancelled_twice(client, scan_id) => return code,
    };
    drop(watcher);
    let scan = followed?;
    if as_json {
        print_json_line(&scan)?;
    } else {
        print_outcome(client, &scan).await?;
        print_report(client, &scan);
    }
    Ok(exit_code(&scan, gate))
}

/// The first Ctrl-C cancels the scan, which is then followed to its end; the second leaves.
async fn cancelled_twice(client: &Client, scan_id: &str) -> anyhow::Result<ExitCode> {
    tokio::signal::ctrl_c().await?;
    eprintln!("cancelling {scan_id}; Ctrl-C again leaves it to itself");
    let request = CancelScanRequest {
        scan_id: scan_id.to_owned(),
        reason: "Ctrl-C".to_owned(),
    };
    client
        .scans()
        .cancel_scan(request)
        .await
        .map_err(Error::from)?;
    tokio::signal::ctrl_c().await?;
    Ok(ExitCode::from(INTERRUPTED))
}

fn exit_code(scan: &Scan, gate: Gate) -> ExitCode {
    if scan.state() != State::Completed {
        return ExitCode::from(NOT_COMPLETED);
    }
    let rate = scan.totals.as_ref().and_then(|totals| totals.pass_rate);
    match (gate.fail_under, rate) {
        (Some(least), Some(rate)) if rate < least => {
            eprintln!(
                "pass rate {} is below {}",
                table::percent(Some(rate)),
                table::percent(Some(least))
            );
            ExitCode::from(GATE_NOT_MET)
        }
        (Some(_), None) => ExitCode::from(NOT_COMPLETED),
        _ => ExitCode::SUCCESS,
    }
}

/// The table and the coverage.
pub(crate) async fn print_outcome(client: &Client, scan: &Scan) -> anyhow::Result<()> {
    let results = all_results(client, &scan.scan_id).await?;
    if !results.is_empty() {
        println!("{}", table::results(&results));
    }
    print_summary(scan);
    Ok(())
}

/// Where the report lies.
fn print_report(client: &Client, scan: &Scan) {
    for name in scan.report.iter().flat_map(|report| &report.artifacts) {
        println!("{name}: {}", client.artifact_url(&scan.scan_id, name));
    }
}

/// State, coverage and totals.
pub(crate) fn print_summary(scan: &Scan) {
    let coverage = scan.coverage.clone().unwrap_or_default();
    let totals = scan.totals.unwrap_or_default();
    println!(
        "scan {} {}: {} of {} probes evaluated, {} passed, {} failed, pass rate {}",
        scan.scan_id,
        table::state(scan.state()),
        coverage.evaluated,
        coverage.planned,
        totals.passed,
        totals.failed,
        table::percent(totals.pass_rate),
    );
    for not in &coverage.not_evaluated {
        println!(
            "  not evaluated: {} {} {}",
            not.probe, not.reason, not.message
        );
    }
    if let Some(failure) = &scan.failure {
        println!("  failed: {} {}", failure.reason, failure.message);
        if !failure.hint.is_empty() {
            println!("  hint: {}", failure.hint);
        }
    }
    if let Some(waits) = scan.progress.as_ref().and_then(waiting) {
        println!("  waiting: {waits}");
    }
}

/// One JSON line for each update, as the HTTP API's NDJSON has it.
struct JsonLines;

impl follow::Watcher for JsonLines {
    fn update(&mut self, update: &Update) -> Result<()> {
        let message = aegis_proto::scan::v1::WatchScanResponse {
            update: Some(update.clone()),
        };
        let line = json::to_json(&message).map_err(Error::internal)?;
        println!("{line}");
        Ok(())
    }

    fn reconnecting(&mut self, error: &Error) {
        eprintln!("connection lost ({}), reconnecting", error.reason());
    }
}

fn print_json_line(scan: &Scan) -> anyhow::Result<()> {
    println!("{}", json::to_json(scan)?);
    Ok(())
}
