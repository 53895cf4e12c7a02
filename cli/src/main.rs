//! The `aegis` command: a client of the mesh, and the whole mesh in one process (`aegis up`).

mod admin;
mod args;
mod client;
mod compare;
mod demo;
mod import;
mod mesh;
mod output;
mod plugins;
mod probe;
mod scan;
mod statistics;
mod template;
mod up;

use std::process::ExitCode;

use args::{AskCommand, Cli, ClientArgs, Command};
use clap::Parser;
use client::Client;

/// A scan that did not complete, or whatever was refused.
const NOT_COMPLETED: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let as_json = cli.client.json;
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            output::error::print_error(&error, as_json);
            ExitCode::from(NOT_COMPLETED)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Up(args) => up::run(args),
        Command::Demo(args) => demo::run(args),
        Command::DemoTarget { listen } => demo::serve_target(listen),
        Command::Ask(command) => on_client(ask(cli.client, command)),
    }
}

async fn ask(args: ClientArgs, command: AskCommand) -> anyhow::Result<ExitCode> {
    let client = &Client::connect(&args)?;
    let json = args.json;
    match command {
        AskCommand::Scan(command) => scan::run(client, json, command).await,
        AskCommand::Plugins(kind) => plugins::run(client, json, kind).await,
        AskCommand::Template(command) => template::run(client, json, command).await,
        AskCommand::Probe(command) => probe::run(client, json, command).await,
        AskCommand::Stats(args) => statistics::run(client, json, args).await,
        AskCommand::Compare(args) => compare::run(client, json, args).await,
        AskCommand::Import(args) => import::run(client, json, args).await,
        AskCommand::Admin(command) => admin::run(client, json, command).await,
    }
}

fn on_client(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(client::in_context(work))
}
