//! The `aegis` command: a client of the mesh, and the whole mesh in one process (`aegis up`).

mod args;
mod client;
mod demo;
mod mesh;
mod output;
mod plugins;
mod scan;
mod up;

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;

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
        Command::Scan(command) => on_client(async {
            scan::run(
                &client::Client::connect(&cli.client)?,
                cli.client.json,
                command,
            )
            .await
        }),
        Command::Plugins(kind) => on_client(async {
            plugins::run(
                &client::Client::connect(&cli.client)?,
                cli.client.json,
                kind,
            )
            .await
        }),
    }
}

fn on_client(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(client::in_context(work))
}
