//! What this installation has: found out once, kept beside the data, published before any lease.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rand::random_range;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::{Runner, job::follow};
use crate::{
    domain::{catalogue::Catalogue, ending::Ending, secret::ChildEnv},
    process::{
        JobEvent,
        protocol::{ChildEvent, JobKind, JobRequest, JobResult},
    },
};

/// Pause after a survey that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(15);
/// The contract's bound.
const MAX_CATALOGUE: usize = 8 * 1024 * 1024;

/// A catalogue as it is published.
pub(crate) struct Published {
    pub(crate) catalogue: Catalogue,
    /// Of the bytes, lower-case hexadecimal.
    pub(crate) sha256: String,
    json: Vec<u8>,
}

impl Published {
    fn parse(json: Vec<u8>) -> Result<Self, String> {
        if json.len() > MAX_CATALOGUE {
            return Err(format!("the catalogue has {} bytes", json.len()));
        }
        Ok(Self {
            catalogue: Catalogue::parse(&json).map_err(|error| error.to_string())?,
            sha256: hex::encode(Sha256::digest(&json)),
            json,
        })
    }

    /// "0.17.1"
    pub(crate) fn garak_version(&self) -> &str {
        &self.catalogue.garak_version
    }
}

/// Gets the catalogue and publishes it; repeated until it is done, or dropped.
pub(crate) async fn prepare(runner: &Runner) {
    loop {
        let _ = runner.warm().ready().await;
        match find(runner).await {
            Ok(found) => {
                runner.set_found(Arc::new(found));
                break;
            }
            Err(why) => {
                tracing::error!(%why, "the plugin catalogue could not be made");
                runner.wait_for(format!("the plugin catalogue could not be made: {why}"));
                sleep(AFTER_FAILURE).await;
            }
        }
    }
    runner.wait_for("the plugin catalogue is being published");
    publish(runner).await;
}

/// Publishes the catalogue that was found; repeated until it is accepted.
pub(crate) async fn publish(runner: &Runner) {
    let Some(found) = runner.found() else {
        return;
    };
    let mut pause = FIRST_PAUSE;
    while let Err(error) = runner
        .tasks()
        .publish(
            found.garak_version(),
            &found.json,
            &found.sha256,
            runner.allowance(),
        )
        .await
    {
        tracing::warn!(
            reason = error.reason(),
            "the plugin catalogue was not accepted"
        );
        runner.wait_for(format!(
            "the plugin catalogue was not accepted: {}",
            error.reason()
        ));
        sleep(pause.mul_f64(random_range(0.5..=1.0))).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
    tracing::info!(plugin_catalogue = %found.sha256, "the plugin catalogue is published");
    runner.set_published();
}

async fn find(runner: &Runner) -> Result<Published, String> {
    runner.wait_for("garak's installation is being looked at");
    let named = run(runner, JobKind::Fingerprint, |_| json!({})).await?;
    let fingerprint = named.0.fingerprint.unwrap_or_default();
    if fingerprint.is_empty() || !fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err("the installation has no fingerprint".to_owned());
    }
    let kept = runner
        .config()
        .catalogue_dir()
        .join(format!("catalogue-{fingerprint}.json"));
    match read(&kept) {
        Ok(Some(found)) => return Ok(found),
        Ok(None) => {}
        Err(why) => tracing::warn!(%why, "the kept catalogue cannot be used"),
    }
    let json = survey(runner).await?;
    let found = Published::parse(json)?;
    if let Err(error) = keep(&kept, &found.json) {
        tracing::warn!(%error, "the catalogue cannot be kept; the next start makes it again");
    }
    Ok(found)
}

async fn survey(runner: &Runner) -> Result<Vec<u8>, String> {
    tracing::info!("garak's plugins are tried out once; this takes about a minute");
    let config = runner.config();
    let (_, json) = run(runner, JobKind::Survey, |scratch| {
        json!({
            "output": scratch.join("catalogue.json"),
            "timeout_per_probe_seconds": config.survey_probe_seconds,
            "jobs": config.survey_jobs(),
            "probes": config.survey_probes,
            "limits": config.limits.of_the_kernel(),
        })
    })
    .await?;
    json.ok_or_else(|| "the survey left no catalogue".to_owned())
}

/// Runs a job in a scratch of its own; returns its result and the `catalogue.json` it left.
async fn run(
    runner: &Runner,
    kind: JobKind,
    job: impl FnOnce(&Path) -> serde_json::Value,
) -> Result<(JobResult, Option<Vec<u8>>), String> {
    let scratch = runner
        .scratch()
        .directory(&format!("{kind:?}").to_lowercase())
        .map_err(|error| error.to_string())?;
    let request = JobRequest {
        kind,
        scratch: scratch.path().to_owned(),
        env: ChildEnv::new(),
        job: job(scratch.path()),
    };
    let bounds = runner.config().survey_bounds();
    let never = std::future::pending();
    match follow(runner, request, bounds, never, |event| show(runner, event)).await {
        Ok(Ok(result)) => {
            let json = fs::read(scratch.path().join("catalogue.json")).ok();
            Ok((result, json))
        }
        Ok(Err(Ending {
            reason, message, ..
        })) => Err(format!("{reason}: {message}")),
        Err(interrupt) => Err(format!("{interrupt:?}")),
    }
}

fn show(runner: &Runner, event: &JobEvent) {
    if let JobEvent::Said(ChildEvent::Progress {
        attempts_done,
        attempts_total,
    }) = event
    {
        tracing::debug!(
            done = attempts_done,
            total = attempts_total,
            "probes tried out"
        );
        runner.wait_for(format!(
            "garak's plugins are being tried out: {attempts_done} of {attempts_total} probes"
        ));
    }
}

fn read(path: &PathBuf) -> Result<Option<Published>, String> {
    match fs::read(path) {
        Ok(json) => Published::parse(json).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Writes the file whole or not at all.
fn keep(path: &Path, json: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let unfinished = path.with_extension(format!("{}.partial", uuid::Uuid::new_v4()));
    let mut file = File::create(&unfinished)?;
    file.write_all(json)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
