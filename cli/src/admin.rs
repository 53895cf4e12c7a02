//! `aegis admin …`: the jobs that keep the store in order.

use std::process::ExitCode;

use aegis_mesh::Error;
use aegis_proto::{
    admin::v1::{JobRun, ListJobsRequest, RunJobRequest},
    json,
};
use clap::{Args, Subcommand};
use comfy_table::Cell;

use crate::{
    client::Client,
    output::{print_json, table::table},
};

/// The job failed.
const FAILED: u8 = 1;

#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// The jobs, when they run, and what they did last
    Jobs,
    /// Run a job now
    Run {
        /// The job's name
        job: String,
        #[command(flatten)]
        how: HowArgs,
    },
    /// Collect files that nothing refers to (the job gc)
    Gc(HowArgs),
    /// Hold rows against files (the job scrub)
    Scrub(HowArgs),
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct HowArgs {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
}

/// Runs one of the commands.
pub(crate) async fn run(
    client: &Client,
    as_json: bool,
    command: AdminCommand,
) -> anyhow::Result<ExitCode> {
    match command {
        AdminCommand::Jobs => jobs(client, as_json).await,
        AdminCommand::Run { job, how } => job_run(client, as_json, &job, how).await,
        AdminCommand::Gc(how) => job_run(client, as_json, "gc", how).await,
        AdminCommand::Scrub(how) => job_run(client, as_json, "scrub", how).await,
    }
}

async fn jobs(client: &Client, as_json: bool) -> anyhow::Result<ExitCode> {
    let answer = client.jobs().list_jobs(ListJobsRequest {}).await;
    let list = answer.map_err(Error::from)?.into_inner();
    if as_json {
        print_json(&list)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = table(&["job", "every", "last run", "did", "what it does"]);
    for job in &list.jobs {
        let period = job.period.map_or(0, |period| period.seconds);
        let last = match (&job.last_run, job.running) {
            (_, true) => "running".to_owned(),
            (None, _) => "never".to_owned(),
            (Some(run), _) => outcome(run),
        };
        let did = job.last_run.as_ref().map_or(Ok(String::new()), result)?;
        rows.add_row([
            Cell::new(&job.name),
            Cell::new(format!("{period} s")),
            Cell::new(last),
            Cell::new(did),
            Cell::new(&job.description),
        ]);
    }
    println!("{rows}");
    Ok(ExitCode::SUCCESS)
}

async fn job_run(
    client: &Client,
    as_json: bool,
    job: &str,
    how: HowArgs,
) -> anyhow::Result<ExitCode> {
    let request = RunJobRequest {
        name: job.to_owned(),
        dry_run: how.dry_run,
    };
    let answer = client.jobs().run_job(request).await;
    let run = answer.map_err(Error::from)?.into_inner().run;
    let run = run.ok_or_else(|| Error::internal("no run in the answer"))?;
    if as_json {
        print_json(&run)?;
    } else {
        for line in &run.details {
            println!("{line}");
        }
        println!("{job}: {} {}", outcome(&run), result(&run)?);
    }
    Ok(match run.succeeded {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

fn outcome(run: &JobRun) -> String {
    match (run.succeeded, run.dry_run) {
        (true, false) => "done".to_owned(),
        (true, true) => "would have done".to_owned(),
        (false, _) => format!("failed: {}", run.reason),
    }
}

/// Its counts: "deleted 3, bytes 1024".
fn result(run: &JobRun) -> anyhow::Result<String> {
    let json = json::to_json(run)?;
    let counts = json["result"].as_object().into_iter().flatten();
    let counts: Vec<String> = counts
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    Ok(counts.join(", "))
}
