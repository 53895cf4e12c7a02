//! What `aegis-catalog` can do besides serving.

use std::time::Duration;

use aegis_mesh::{Error, Result, Shutdown};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Config, service, store};

/// `aegis-catalog migrate`, `aegis-catalog wait-for-db`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Brings the database's schema up to date, builds its large indexes, and ends.
    Migrate {
        /// Goes back to the schema of this migration ("000002") instead. Refused when anything
        /// that is stored would be lost.
        #[arg(long, value_name = "NUMBER")]
        down_to: Option<String>,
    },
    /// Waits until the database answers.
    WaitForDb {
        /// Longest wait.
        #[arg(long, value_name = "SECONDS", default_value_t = 60)]
        timeout: u64,
        /// Waits until its schema is this version's, too.
        #[arg(long)]
        migrated: bool,
    },
}

/// Runs a command, or serves when there is none.
///
/// # Errors
/// As [`crate::run`]; FAILED_PRECONDITION / DATABASE_NEWER, DOWNGRADE_LOSES_DATA.
pub async fn run(command: Option<Command>, config: Config, shutdown: Shutdown) -> Result<()> {
    let Some(command) = command else {
        return service::run(config, shutdown).await;
    };
    tokio::select! {
        ended = execute(command, config) => ended,
        () = shutdown.triggered() => Err(interrupted()),
    }
}

async fn execute(command: Command, config: Config) -> Result<()> {
    let database = config.database()?;
    match command {
        Command::Migrate { down_to: None } => {
            service::prepare_place(&database)?;
            let done = store::migrate(&database).await?;
            println!("{done}");
            Ok(())
        }
        Command::Migrate { down_to: Some(to) } => {
            let done = store::migrate_down(&database, &to).await?;
            println!("{done}");
            Ok(())
        }
        Command::WaitForDb { timeout, migrated } => {
            wait(&database, Duration::from_secs(timeout), migrated).await
        }
    }
}

async fn wait(database: &store::DatabaseOptions, longest: Duration, migrated: bool) -> Result<()> {
    const PAUSE: Duration = Duration::from_millis(250);
    let end = Instant::now() + longest;
    // Asked often, rather than long.
    let mut database = database.clone();
    database.timeout = database.timeout.min(Duration::from_secs(2));
    let mut last = None;
    while Instant::now() < end {
        match timeout_at(end, store::answers(&database, migrated)).await {
            Ok(Ok(())) => return Ok(()),
            // Waiting does not help against what is wrong with the database itself.
            Ok(Err(error)) if error.reason() == "DATABASE_NEWER" => return Err(error),
            Ok(Err(error)) => last = Some(error),
            Err(_) => break,
        }
        sleep(PAUSE).await;
    }
    Err(last.unwrap_or_else(|| {
        let message = format!("the database did not answer within {longest:?}");
        Error::unavailable("DATABASE_DOWN", message, PAUSE)
    }))
}

fn interrupted() -> Error {
    Error::aborted("INTERRUPTED", "stopped before it was done")
}
