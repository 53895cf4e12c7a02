//! Soak: two of each service and three runners with real garak, on PostgreSQL and an S3 server,
//! under constant load for minutes; memory, file descriptors, threads, processes, scratch and
//! connections to the database must not grow.
//!
//! `AEGIS_SOAK_MINUTES` says how long, as `make soak` does. Without it the judge alone is judged.

mod checks;
mod judge;
mod load;
mod measures;
mod run;
mod watch;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::runtime::Runtime;

fn main() -> Result<ExitCode> {
    let arguments = Arguments::from_args();
    let trials = match minutes()? {
        Some(minutes) => vec![trial("nothing_grows", move || {
            let time = Duration::from_secs(60 * minutes);
            Runtime::new()?.block_on(run::soak(time))
        })],
        None => vec![
            check("growth_is_seen", checks::growth_is_seen_and_nothing_else),
            check(
                "a_worse_judge_is_found_out",
                checks::a_worse_judge_is_found_out,
            ),
            check("few_samples_say_nothing", checks::few_samples_say_nothing),
            check("events_are_read", watch::events_are_read),
        ],
    };
    Ok(libtest_mimic::run(&arguments, trials).exit_code())
}

fn trial(name: &str, run: impl FnOnce() -> Result<()> + Send + 'static) -> Trial {
    Trial::test(name, || {
        run().map_err(|error| Failed::from(format!("{error:#}")))
    })
}

fn check(name: &str, holds: fn()) -> Trial {
    trial(name, move || {
        holds();
        Ok(())
    })
}

/// How long the environment wants it.
fn minutes() -> Result<Option<u64>> {
    const NAME: &str = "AEGIS_SOAK_MINUTES";
    match std::env::var(NAME) {
        Ok(text) if !text.is_empty() => {
            let minutes = text.parse().with_context(|| format!("{NAME}={text}"))?;
            ensure!((5..=1440).contains(&minutes), "{NAME}={text}: 5 to 1440");
            Ok(Some(minutes))
        }
        _ => Ok(None),
    }
}
