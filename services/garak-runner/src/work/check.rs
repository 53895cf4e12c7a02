//! A CHECK task: try out a custom probe's source. Whatever the source does is the answer; the task
//! fails only when the runner could not try.

use std::{path::Path, time::Duration};

use serde_json::json;

use super::{
    Interrupt, Runner, board::Entry, job::follow, keeper::Keeper, scratch::ScratchDir, sources,
};
use crate::{
    domain::{
        custom_probe::{CheckWork, Validation},
        ending::{CRASHED, Ending},
        secret::ChildEnv,
    },
    process::{
        JobEvent,
        protocol::{JobKind, JobRequest},
    },
};

/// What the child, which keeps the time itself, gets beyond it.
const GRACE: Duration = Duration::from_secs(15);
/// Limits that the source, and not the runner, is the reason for.
const LIMITS: [&str; 4] = [
    "OUT_OF_MEMORY",
    "CPU_TIME_EXCEEDED",
    "OUTPUT_TOO_LARGE",
    "TOO_MANY_PROCESSES",
];
/// Longest validation in bytes; twice what a check may say.
const MAX_VALIDATION: u64 = 2 * 1024 * 1024;

/// Tries the source out and says what was found.
pub(crate) async fn run(
    runner: &Runner,
    keeper: &Keeper,
    entry: &Entry<'_>,
    scratch: &ScratchDir,
    work: &CheckWork,
) -> Result<Ending, Interrupt> {
    let source = scratch.path().join("source.py");
    if let Err(ending) = sources::fetch(runner, keeper, &work.sha256, &source).await? {
        return Ok(ending);
    }
    let output = scratch.path().join("validation.json");
    let request = JobRequest {
        kind: JobKind::Check,
        scratch: scratch.path().to_owned(),
        env: ChildEnv::new(),
        job: json!({
            "name": work.name,
            "source": source,
            "output": output,
            "timeout_seconds": work.timeout.as_secs_f64(),
            "memory_bytes": runner.config().check_memory_bytes,
            "limits": runner.config().limits.of_the_kernel(),
        }),
    };
    let interrupt = async {
        tokio::select! {
            interrupt = runner.interrupt(keeper) => interrupt,
            () = tokio::time::sleep(work.timeout + GRACE) => Interrupt::TimedOut,
        }
    };
    let tell = |event: &JobEvent| {
        if let JobEvent::Started(pid) = event {
            entry.child(*pid);
        }
    };
    let failed = |reason: &str, message: &str| {
        let version = runner.published().map(|p| p.garak_version().to_owned());
        let found = Validation::failed(reason, message, &version.unwrap_or_default());
        Ok(Ending::checked(found))
    };
    match follow(runner, request, runner.config().bounds(), interrupt, tell).await {
        Ok(Ok(_)) => Ok(read(&output).await),
        Ok(Err(ending)) if LIMITS.contains(&ending.reason.as_str()) => {
            failed(&ending.reason, &ending.message)
        }
        Ok(Err(ending)) if ending.reason == CRASHED => failed("CHECK_CRASHED", &ending.message),
        Ok(Err(ending)) => Ok(Ending::retryable(&ending.reason, &ending.message)),
        Err(Interrupt::TimedOut) => failed("CHECK_TIMED_OUT", "the check did not come to its end"),
        Err(interrupt) => Err(interrupt),
    }
}

async fn read(path: &Path) -> Ending {
    match found(path).await {
        Ok(found) => Ending::checked(found),
        Err(error) => {
            tracing::warn!(%error, "a check's findings cannot be read");
            Ending::retryable("CHECK_FAILED", "the check's findings cannot be read")
        }
    }
}

async fn found(path: &Path) -> std::io::Result<Validation> {
    let metadata = tokio::fs::symlink_metadata(path).await?;
    if !metadata.is_file() || metadata.len() > MAX_VALIDATION {
        return Err(std::io::Error::other("not a file of the size that it has"));
    }
    Ok(Validation::parse(&tokio::fs::read(path).await?)?)
}
