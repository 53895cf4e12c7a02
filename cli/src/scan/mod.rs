//! `aegis scan …`

pub(crate) mod attempts;
pub(crate) mod follow;
pub(crate) mod history;
mod read;
mod report;
pub(crate) mod run;
pub(crate) mod spec;

use std::process::ExitCode;

use aegis_mesh::Error;
use aegis_proto::scan::v1::{
    CancelScanRequest, DeleteScanRequest, PauseScanRequest, PlanScanRequest, PlanScanResponse,
    ResumeScanRequest, RetryScanRequest, Scan, UndeleteScanRequest,
};
use comfy_table::Cell;

use crate::{
    args::{PlanArgs, ScanCommand},
    client::{Client, once_warm},
    output::{print_json, table},
};

pub(crate) use read::all_results;
pub(crate) use report::download;

/// Runs one `aegis scan` command.
pub(crate) async fn run(
    client: &Client,
    as_json: bool,
    command: ScanCommand,
) -> anyhow::Result<ExitCode> {
    match command {
        ScanCommand::Run(args) => return run::run(client, as_json, *args).await,
        ScanCommand::Watch(args) => return run::watch(client, as_json, args).await,
        ScanCommand::Plan(args) => plan(client, as_json, *args).await?,
        ScanCommand::List(args) => history::list(client, as_json, *args).await?,
        ScanCommand::Attempts(args) => attempts::list(client, as_json, args).await?,
        ScanCommand::Attempt(args) => attempts::show(client, args).await?,
        ScanCommand::Workflow(args) => attempts::workflow(client, as_json, args).await?,
        ScanCommand::Edit(args) => {
            print_scan(history::edit(client, args).await?, as_json)?;
        }
        ScanCommand::Restore(args) => {
            let request = UndeleteScanRequest {
                scan_id: args.scan_id,
            };
            let response = client.history().undelete_scan(request).await;
            print_scan(response.map_err(Error::from)?.into_inner().scan, as_json)?;
        }
        ScanCommand::Show(args) => read::show(client, as_json, &args.scan_id).await?,
        ScanCommand::Results(args) => read::results(client, as_json, &args.scan_id).await?,
        ScanCommand::Report(args) => report::run(client, as_json, args).await?,
        ScanCommand::Cancel { scan, reason } => {
            let request = CancelScanRequest {
                scan_id: scan.scan_id,
                reason,
            };
            let response = client.scans().cancel_scan(request).await;
            print_scan(response.map_err(Error::from)?.into_inner().scan, as_json)?;
        }
        ScanCommand::Pause { scan, reason } => {
            let request = PauseScanRequest {
                scan_id: scan.scan_id,
                reason,
            };
            let response = client.scans().pause_scan(request).await;
            print_scan(response.map_err(Error::from)?.into_inner().scan, as_json)?;
        }
        ScanCommand::Resume(args) => {
            let request = ResumeScanRequest {
                scan_id: args.scan_id,
            };
            let response = client.scans().resume_scan(request).await;
            print_scan(response.map_err(Error::from)?.into_inner().scan, as_json)?;
        }
        ScanCommand::Retry(args) => {
            let request = RetryScanRequest {
                scan_id: args.scan_id,
            };
            let response = client.scans().retry_scan(request).await;
            print_scan(response.map_err(Error::from)?.into_inner().scan, as_json)?;
        }
        ScanCommand::Delete(args) => {
            let request = DeleteScanRequest {
                scan_id: args.scan_id,
            };
            let response = client.history().delete_scan(request).await;
            print_scan(response.map_err(Error::from)?.into_inner().scan, as_json)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print_scan(scan: Option<Scan>, as_json: bool) -> anyhow::Result<()> {
    let scan = scan.ok_or_else(|| Error::internal("no scan in the answer"))?;
    if as_json {
        return print_json(&scan);
    }
    println!("{} is {}", scan.scan_id, table::state(scan.state()));
    Ok(())
}

async fn plan(client: &Client, as_json: bool, args: PlanArgs) -> anyhow::Result<()> {
    let request = PlanScanRequest {
        spec: Some(args.spec.into_spec()?),
        template: args.template,
    };
    let plan = once_warm(|| async {
        let response = client.scans().plan_scan(request.clone()).await;
        Ok(response?.into_inner())
    })
    .await?;
    if as_json {
        return print_json(&plan);
    }
    print_plan(&plan);
    Ok(())
}

fn print_plan(plan: &PlanScanResponse) {
    let mut rows = table::table(&["probe", "detectors", "prompts", "calls", "not evaluated"]);
    for probe in &plan.probes {
        let reason = probe.not_evaluated.as_ref().map_or("", |not| &not.reason);
        rows.add_row([
            Cell::new(&probe.probe),
            Cell::new(probe.detectors.join(", ")),
            table::number(probe.prompts),
            table::number(probe.calls),
            Cell::new(reason),
        ]);
    }
    println!("{rows}");
    println!(
        "{} probes, {} prompts, {} calls to the target, garak {}",
        plan.probes.len(),
        plan.prompts_total,
        plan.calls_total,
        plan.garak_version
    );
}
