//! `aegis admin …`: the jobs that keep the store in order.

use std::{process::ExitCode, time::SystemTime};

use aegis_mesh::Error;
use aegis_proto::{
    admin::v1::{JobRun, ListJobsRequest, RunJobRequest},
    json,
};
use clap::{Args, Subcommand};
use comfy_table::Cell;
use prost_types::Timestamp;

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
    let now = SystemTime::now();
    let mut rows = table(&["job", "every", "last run", "did", "next", "what it does"]);
    for job in &list.jobs {
        let period = job.period.map_or(0, |period| period.seconds);
        let last = match (&job.last_run, job.running) {
            (_, true) => "running".to_owned(),
            (None, _) => "never".to_owned(),
            (Some(run), _) => format!("{} {}", outcome(run), ago(now, run.end_time)),
        };
        let did = job.last_run.as_ref().map_or(Ok(String::new()), result)?;
        rows.add_row([
            Cell::new(&job.name),
            Cell::new(span(period.unsigned_abs())),
            Cell::new(last),
            Cell::new(did),
            Cell::new(until(now, job.next_time)),
            Cell::new(&job.description),
        ]);
    }
    println!("{rows}");
    // An alarm is told again until a run finds it no more.
    let runs = list.jobs.iter().filter_map(|job| job.last_run.as_ref());
    for line in runs.flat_map(|run| &run.details) {
        if line.starts_with("ALARM ") {
            println!("{line}");
        }
    }
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
        println!("{job}: {}: {}", outcome(&run), result(&run)?);
    }
    Ok(match run.succeeded {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(FAILED),
    })
}

fn outcome(run: &JobRun) -> String {
    match (run.succeeded, run.dry_run) {
        (true, false) => "done".to_owned(),
        (true, true) => "would do".to_owned(),
        (false, _) => format!("failed: {}", run.reason),
    }
}

/// "90 s", "10 min", "24 h".
fn span(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

fn ago(now: SystemTime, time: Option<Timestamp>) -> String {
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    let past = time.map(|time| now.duration_since(time).unwrap_or_default());
    past.map_or_else(String::new, |past| format!("{} ago", span(past.as_secs())))
}

fn until(now: SystemTime, time: Option<Timestamp>) -> String {
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    let left = time.map(|time| time.duration_since(now).unwrap_or_default());
    match left {
        None => String::new(),
        Some(left) if left.is_zero() => "due".to_owned(),
        Some(left) => format!("in {}", span(left.as_secs())),
    }
}

/// Its counts: "bytes 1024, deleted 3". Numbers of a Struct are floating; counts are whole.
fn result(run: &JobRun) -> anyhow::Result<String> {
    let json = json::to_json(run)?;
    let counts = json["result"].as_object().into_iter().flatten();
    let counts: Vec<String> = counts
        .map(|(name, count)| match count.as_f64() {
            Some(count) => format!("{name} {count}"),
            None => format!("{name} {count}"),
        })
        .collect();
    if counts.is_empty() {
        return Ok("nothing".to_owned());
    }
    Ok(counts.join(", "))
}
