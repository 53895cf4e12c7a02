//! The `main` of a service.

use std::{fmt, future::Future, net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use serde::{Serialize, de::DeserializeOwned};
use tokio::net::TcpListener;

use crate::{
    ConfigError, Error, PlainVariable, Result, Shutdown, TelemetryConfig, config, probe, shutdown,
    spawn, telemetry,
};

/// The exit code of a bad configuration (EX_USAGE of sysexits.h).
pub const EXIT_CONFIG: u8 = 64;

/// A service's whole configuration. Needs `#[serde(default)]` on it and on the tables in it.
pub trait ServiceConfig: DeserializeOwned + Serialize + Default {
    /// What is logged and where traces go.
    fn telemetry(&self) -> &TelemetryConfig;

    /// Where it listens.
    fn listen(&self) -> SocketAddr;

    /// Variables that set keys of it besides the derived ones.
    fn plain_variables() -> &'static [PlainVariable] {
        &[]
    }

    /// Refuses values that do not go together, before anything is bound or opened; at the least
    /// [`crate::ServerConfig::validate`].
    fn validate(&self) -> Result<(), ConfigError>;
}

/// What every service's command line takes.
#[derive(Debug, Clone, Default, Args)]
pub struct ServiceArgs {
    /// A TOML file with the configuration.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Prints the effective configuration, with secrets masked, and exits.
    #[arg(long, global = true)]
    pub dump_config: bool,
    /// Asks the service that runs with this configuration whether it serves, and exits: 0 when it
    /// does, else 1.
    #[arg(long, global = true, conflicts_with = "dump_config")]
    pub health: bool,
}

#[derive(Parser)]
#[command(version, about, long_about = None)]
struct CommandLine {
    #[command(flatten)]
    args: ServiceArgs,
}

#[derive(Parser)]
#[command(version, about, long_about = None)]
struct CommandLineWithArgs<A: Args> {
    #[command(flatten)]
    args: ServiceArgs,
    #[command(flatten)]
    own: A,
}

#[derive(Parser)]
#[command(version, about, long_about = None)]
struct CommandLineWith<C: Subcommand> {
    #[command(flatten)]
    args: ServiceArgs,
    #[command(subcommand)]
    command: Option<C>,
}

/// As [`main_with`], of a program that can do something else than serve, too: `run` gets what was
/// asked for, `None` to serve.
pub fn main_with_commands<C, T, F, Fut, E>(service: &'static str, run: F) -> ExitCode
where
    C: Subcommand,
    T: ServiceConfig,
    F: FnOnce(Option<C>, T, Shutdown) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    let CommandLineWith { args, command } = CommandLineWith::<C>::parse();
    execute(service, &args, |config, shutdown| {
        run(command, config, shutdown)
    })
}

/// As [`main_with`], of a program with arguments of its own, which `run` gets.
pub fn main_with_args<A, T, F, Fut, E>(service: &'static str, run: F) -> ExitCode
where
    A: Args,
    T: ServiceConfig,
    F: FnOnce(A, T, Shutdown) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    let CommandLineWithArgs { args, own } = CommandLineWithArgs::<A>::parse();
    execute(service, &args, |config, shutdown| {
        run(own, config, shutdown)
    })
}

/// Runs a service: command line, configuration, telemetry, runtime, signals, then `run`. The first
/// SIGINT or SIGTERM triggers the shutdown, a second ends the process at once with 130.
///
/// Exits with 0 when `run` ends well, 1 when it fails, 64 when the configuration is no good (before
/// anything is bound), 2 on a bad command line.
pub fn main_with<T, F, Fut, E>(service: &'static str, run: F) -> ExitCode
where
    T: ServiceConfig,
    F: FnOnce(T, Shutdown) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    execute(service, &CommandLine::parse().args, run)
}

fn execute<T, F, Fut, E>(service: &'static str, args: &ServiceArgs, run: F) -> ExitCode
where
    T: ServiceConfig,
    F: FnOnce(T, Shutdown) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    match prepare::<T>(service, args) {
        Err(error) => complain(service, &error, EXIT_CONFIG),
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(config)) if args.health => ask_health(service, config.listen()),
        Ok(Some(config)) => start(service, config, run),
    }
}

fn ask_health(service: &str, listen: SocketAddr) -> ExitCode {
    // One call: no threads for it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let asked = runtime
        .map_err(Error::internal)
        .and_then(|runtime| runtime.block_on(probe::ask(listen)));
    match asked {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(service, &error, 1),
    }
}

/// Loads and checks; `None` if it was only to be shown.
fn prepare<T: ServiceConfig>(service: &str, args: &ServiceArgs) -> Result<Option<T>, ConfigError> {
    let (plain, file) = (T::plain_variables(), args.config.as_deref());
    let config: T = config::load_with(service, plain, file, environment())?;
    config.validate()?;
    if args.dump_config {
        print!("{}", config::dump(&config)?);
        return Ok(None);
    }
    Ok(Some(config))
}

/// The environment, without variables that are not UTF-8: none of ours are.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| {
        let name = name.into_string().ok()?;
        Some((name, value.into_string().ok()?))
    })
}

/// Binds an address; port 0 picks a free one.
///
/// # Errors
/// FAILED_PRECONDITION / LISTEN_FAILED.
pub async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let message = format!("cannot listen on {address}: {error}");
        Error::failed_precondition("LISTEN_FAILED", message)
            .with("address", address)
            .hint("stop what listens there, or listen on another port; port 0 picks a free one")
    })
}

fn start<T, F, Fut, E>(service: &'static str, config: T, run: F) -> ExitCode
where
    T: ServiceConfig,
    F: FnOnce(T, Shutdown) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: fmt::Display,
{
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return complain(service, &error, 1),
    };
    // Entered, because the trace exporter needs a runtime.
    let entered = runtime.enter();
    let guard = match telemetry::init(service, config.telemetry()) {
        Ok(guard) => guard,
        Err(error) => return complain(service, &error, EXIT_CONFIG),
    };
    crate::raise_open_files();
    let shutdown = Shutdown::new();
    let signals = match shutdown::signals(shutdown.clone()) {
        Ok(signals) => signals,
        Err(error) => return complain(service, &error, 1),
    };
    let ended = runtime.block_on(async {
        let _signals = spawn("signals", signals);
        run(config, shutdown).await
    });
    drop(guard);
    drop(entered);
    // Blocking work that hangs must not hold up the end of the process.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(service, &error, 1),
    }
}

fn complain(service: &str, error: &impl fmt::Display, code: u8) -> ExitCode {
    eprintln!("aegis-{service}: {error}");
    ExitCode::from(code)
}
