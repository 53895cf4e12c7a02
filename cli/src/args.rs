//! What the command line takes.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    admin::AdminCommand,
    compare::CompareArgs,
    import::ImportArgs,
    probe::ProbeCommand,
    scan::{
        attempts::{AttemptArgs, AttemptsArgs, WorkflowArgs},
        history::{EditArgs, ListArgs},
        spec::SpecArgs,
    },
    statistics::StatsArgs,
    template::TemplateCommand,
};

/// Find out how a language model breaks: garak's probes as a service.
#[derive(Debug, Parser)]
#[command(name = "aegis", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) client: ClientArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to reach a mesh, and how to print what it answers.
#[derive(Debug, Clone, Args)]
pub(crate) struct ClientArgs {
    /// The gateway's address
    #[arg(
        long,
        global = true,
        env = "AEGIS_SERVER",
        default_value = "http://127.0.0.1:8080"
    )]
    pub(crate) server: String,
    /// File that holds the gateway's API token (or set AEGIS_TOKEN)
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Print JSON, as the HTTP API would answer
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole mesh in this process, until Ctrl-C
    Up(UpArgs),
    #[command(flatten)]
    Ask(AskCommand),
    /// Scan a small chat server with known weaknesses
    Demo(DemoArgs),
    /// Serve the chat server with known weaknesses, to try scans on
    DemoTarget {
        /// Address to listen on; port 0 picks a free one
        #[arg(long, default_value = "127.0.0.1:8089")]
        listen: SocketAddr,
    },
}

/// A command that asks a mesh.
#[derive(Debug, Subcommand)]
pub(crate) enum AskCommand {
    /// Start, follow and read scans
    #[command(subcommand)]
    Scan(ScanCommand),
    /// List what garak has here
    #[command(subcommand)]
    Plugins(PluginKind),
    /// Keep specifications to start scans from
    #[command(subcommand)]
    Template(TemplateCommand),
    /// Write probes of your own
    #[command(subcommand)]
    Probe(ProbeCommand),
    /// Sums over everything that was evaluated
    Stats(StatsArgs),
    /// What changed between scans
    Compare(CompareArgs),
    /// Take in what garak, or the Aegis of files and flags, left
    Import(ImportArgs),
    /// The jobs that keep the store in order
    #[command(subcommand)]
    Admin(AdminCommand),
}

#[derive(Debug, Clone, Args)]
pub(crate) struct UpArgs {
    /// Folder for database, reports and garak's scratch files [default: .data/aegis]
    #[arg(long, env = "AEGIS_DATA_DIR", value_name = "FOLDER")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address of the gateway; port 0 picks a free one [default: 127.0.0.1:8080]
    #[arg(long, env = "AEGIS_LISTEN", value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    /// Python interpreter that has garak
    #[arg(long, env = "AEGIS_GARAK_PYTHON", value_name = "FILE")]
    pub(crate) garak_python: Option<PathBuf>,
    /// Probes that run at once [default: one a core]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) slots: Option<u16>,
    /// TOML file with a table per service: [gateway], [scan_orchestrator], [garak_runner], [catalog], [artifact]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Take in once what garak, or the Aegis of files and flags, left in this folder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) import: Option<PathBuf>,
    /// Print the configuration, secrets masked, and leave
    #[arg(long)]
    pub(crate) dump_config: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the demo's data; what an earlier demo left there is removed
    #[arg(long, default_value = ".data/demo")]
    pub(crate) data_dir: PathBuf,
    /// Python interpreter that has garak
    #[arg(long, env = "AEGIS_GARAK_PYTHON", value_name = "FILE")]
    pub(crate) garak_python: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScanCommand {
    /// Start a scan and follow it to its end
    Run(Box<RunArgs>),
    /// What a scan would do, without doing it
    Plan(Box<PlanArgs>),
    /// Scans by state, target, label, time, result; newest first
    List(Box<ListArgs>),
    /// One scan: state, coverage, totals
    Show(ScanArgs),
    /// Follow a scan to its end
    Watch(WatchArgs),
    /// What the detectors found, worst first
    Results(ScanArgs),
    /// Stop a scan; what was evaluated stays
    Cancel {
        #[command(flatten)]
        scan: ScanArgs,
        /// Kept in the scan's log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Start nothing more of a scan until it is resumed; what runs goes on to its end
    Pause {
        #[command(flatten)]
        scan: ScanArgs,
        /// Kept in the scan's log
        #[arg(long, default_value = "", hide_default_value = true)]
        reason: String,
    },
    /// Go on with a paused scan
    Resume(ScanArgs),
    /// Evaluate again what was not evaluated
    Retry(ScanArgs),
    /// Download a scan's report: HTML, JSONL and hitlog
    Report(ReportArgs),
    /// Prompts and outputs of a scan, by probe, detector and outcome
    Attempts(AttemptsArgs),
    /// One attempt whole, as JSON
    Attempt(AttemptArgs),
    /// What a scan did, as a Mermaid flowchart
    Workflow(WorkflowArgs),
    /// Change a scan's name and labels
    Edit(EditArgs),
    /// Delete an ended scan
    Delete(ScanArgs),
    /// Bring a deleted scan back
    Restore(ScanArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// The scan's id
    pub(crate) scan_id: String,
}

/// A specification, and the template under it.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// Start from this template, such as quick or nightly@3; other options win over it
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) template: String,
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) plan: PlanArgs,
    /// A name to find the scan by
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) name: String,
    /// KEY=VALUE, repeatable
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = key_value)]
    pub(crate) labels: Vec<(String, String)>,
    /// UUID that makes the call safe to repeat [default: a new one]
    #[arg(long)]
    pub(crate) request_id: Option<String>,
    /// Do not follow: print the scan's id and leave
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) gate: Gate,
}

/// What a scan must reach for exit code 0.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Gate {
    /// Exit 1 when the pass rate is below this, 0 to 1
    #[arg(long, value_name = "RATE", value_parser = rate)]
    pub(crate) fail_under: Option<f64>,
}

#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    #[command(flatten)]
    pub(crate) scan: ScanArgs,
    /// Replay events after this sequence number
    #[arg(long, default_value_t = 0)]
    pub(crate) after: i64,
    #[command(flatten)]
    pub(crate) gate: Gate,
}

#[derive(Debug, Args)]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    pub(crate) scan: ScanArgs,
    /// Folder to write to
    #[arg(long, short, default_value = ".")]
    pub(crate) output: PathBuf,
    /// Which revision; 0 is the newest
    #[arg(long, default_value_t = 0)]
    pub(crate) revision: i32,
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum PluginKind {
    /// What can be probed
    Probes,
    /// What judges outputs
    Detectors,
    /// What can be a target
    Generators,
    /// What changes prompts
    Buffs,
}

pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not KEY=VALUE")),
    }
}

pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.0..=1.0).contains(&rate) => Ok(rate),
        _ => Err(format!("{text:?} is not a rate from 0 to 1")),
    }
}
