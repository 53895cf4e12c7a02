//! A PROBE task: garak for one probe, then its part of the report.

use std::path::Path;

use aegis_mesh::Error;
use serde_json::json;
use uuid::Uuid;

use super::{
    Interrupt, Runner, board::Entry, job::follow, keeper::Keeper, scratch::ScratchDir, sources,
    upload::upload,
};
use crate::{
    domain::{
        ending::Ending,
        garak_config::garak_config,
        outbox::RunEvent,
        plugin_name::PluginName,
        probe_work::{ProbeWork, Refusal},
        secret::{ChildEnv, Credential},
    },
    grpc::is_lease_lost,
    process::{
        JobEvent,
        protocol::{ChildEvent, JobKind, JobRequest, JobResult},
    },
};

/// What a generator that insists on a key gets when its target wants none.
const NO_KEY: &str = "none";
/// The generator for which that is common.
const KEYLESS: &str = "openai.OpenAICompatible";

/// Runs the probe and hands in what it found.
pub(crate) async fn run(
    runner: &Runner,
    keeper: &Keeper,
    entry: &Entry<'_>,
    scratch: &ScratchDir,
    work: &ProbeWork,
) -> Result<Ending, Interrupt> {
    let env = match permit(runner, work) {
        Ok(env) => env,
        Err(refusal) => return Ok(refusal.into()),
    };
    let folder = scratch.path().join("custom");
    if let Err(error) = std::fs::create_dir(&folder) {
        tracing::error!(%error, "cannot make a scratch directory");
        return Ok(Ending::out_of_space());
    }
    let modules = match sources::fetch_all(runner, keeper, work.modules(), &folder).await? {
        Ok(modules) => modules,
        Err(ending) => return Ok(ending),
    };
    let request = JobRequest {
        kind: JobKind::Probe,
        scratch: scratch.path().to_owned(),
        env,
        job: job(runner, work, &modules),
    };
    let interrupt = async {
        tokio::select! {
            interrupt = runner.interrupt(keeper) => interrupt,
            () = tokio::time::sleep(work.timeout) => Interrupt::TimedOut,
        }
    };
    aegis_mesh::failpoint!(TASK_TAKEN);
    let bounds = runner.config().bounds();
    let tell = |event: &JobEvent| tell(keeper, entry, event);
    let result = match follow(runner, request, bounds, interrupt, tell).await? {
        Ok(result) => result,
        Err(ending) => return Ok(ending),
    };
    aegis_mesh::failpoint!(GARAK_ENDED);
    tokio::select! {
        ending = hand_in(runner, keeper, scratch.path(), &result) => ending,
        interrupt = runner.interrupt(keeper) => Err(interrupt),
    }
}

/// Looks at the work once more: a specification is code unless it is looked at, and the lease
/// came over the network. Returns the child's environment.
fn permit(runner: &Runner, work: &ProbeWork) -> Result<ChildEnv, Refusal> {
    let Some(published) = runner.published() else {
        // Leases are only asked for with a published catalogue.
        return Err(Refusal::new(
            "NO_PLUGIN_CATALOGUE",
            "no catalogue is published",
        ));
    };
    runner.allowance().check(work, &published.catalogue)?;
    let generator = &work.target.generator;
    let Some(variable) = published.catalogue.key_variable(generator) else {
        return Ok(ChildEnv::new());
    };
    let value = match &work.target.secret {
        Some(name) => runner.secret(name).cloned().ok_or_else(|| {
            Refusal::new(
                "MISSING_CREDENTIAL",
                format!("{name} is not set in the runner's environment"),
            )
        })?,
        None if generator.to_string() == KEYLESS => Credential::new(NO_KEY),
        None => return Ok(ChildEnv::new()),
    };
    Ok(vec![(variable.to_owned(), value)])
}

fn job(runner: &Runner, work: &ProbeWork, modules: &serde_json::Value) -> serde_json::Value {
    let config = runner.config();
    let detectors: Vec<String> = work.detectors.iter().map(ToString::to_string).collect();
    json!({
        "probe": work.probe.to_string(),
        "detectors": (!detectors.is_empty()).then_some(detectors),
        "garak_config": garak_config(work),
        "generator": work.target.generator.to_string(),
        "run_id": Uuid::new_v4().to_string(),
        "seed": work.seed,
        "max_in_flight": work.max_in_flight,
        "target_patience_seconds": work.patience.as_secs_f64(),
        "request_timeout_seconds": config.request_timeout_seconds,
        "custom_probes": modules,
        "limits": config.limits.of_the_kernel(),
    })
}

fn tell(keeper: &Keeper, entry: &Entry<'_>, event: &JobEvent) {
    match event {
        JobEvent::Started(pid) => entry.child(*pid),
        JobEvent::Said(ChildEvent::Loaded { attempts_total }) => {
            keeper.progress(|p| p.attempts_total = (*attempts_total).max(p.attempts_total));
        }
        JobEvent::Said(ChildEvent::Progress {
            attempts_done,
            attempts_total,
        }) => keeper.progress(|p| {
            p.attempts_done = *attempts_done;
            p.attempts_total = *attempts_total;
        }),
        JobEvent::Said(ChildEvent::TargetRetried { .. }) => {
            keeper.progress(|p| p.target_retries += 1);
        }
        // A name and nothing else: what a child says may be other people's words.
        JobEvent::Said(ChildEvent::DetectorFinished { detector })
            if detector.parse::<PluginName>().is_ok() =>
        {
            keeper.event(RunEvent::DetectorFinished(detector.clone()));
        }
        JobEvent::Said(ChildEvent::Result(result)) => {
            if let Some(done) = result.attempts_done {
                keeper.progress(|p| p.attempts_done = done);
            }
        }
        _ => {}
    }
}

/// The report must be taken. A hitlog need not be: the artifact service makes a lost one again from
/// the report.
async fn hand_in(
    runner: &Runner,
    keeper: &Keeper,
    scratch: &Path,
    result: &JobResult,
) -> Result<Ending, Interrupt> {
    let Some(report) = &result.report else {
        return Ok(Ending::retryable("PROBE_CRASHED", "garak left no report"));
    };
    // A child runs other people's code: it may name no file but its own.
    let is_elsewhere = |path: &Path| path.parent() != Some(scratch) || path.is_symlink();
    if [Some(report), result.hitlog.as_ref()]
        .into_iter()
        .flatten()
        .any(|path| is_elsewhere(path))
    {
        return Ok(Ending::retryable(
            "PROBE_CRASHED",
            "garak's report is not where it belongs",
        ));
    }
    let patience = runner.config().upload_patience();
    let send = |path, name| upload(runner.artifacts(), keeper, path, name, patience);
    let mut artifacts = match send(report, "report.jsonl").await {
        Ok(artifact) => vec![artifact],
        Err(error) => return not_uploaded(&error),
    };
    if let Some(hitlog) = &result.hitlog {
        match send(hitlog, "hitlog.jsonl").await {
            Ok(artifact) => artifacts.push(artifact),
            Err(error) if is_lease_lost(&error) => return Err(Interrupt::LeaseLost),
            Err(error) => tracing::warn!(
                reason = error.reason(),
                "a hitlog was not taken; it is made again from its report"
            ),
        }
    }
    aegis_mesh::failpoint!(UPLOADED);
    Ok(Ending::done(artifacts))
}

fn not_uploaded(error: &Error) -> Result<Ending, Interrupt> {
    if is_lease_lost(error) {
        return Err(Interrupt::LeaseLost);
    }
    tracing::warn!(
        reason = error.reason(),
        "a part of the report was not taken"
    );
    Ok(Ending::retryable(
        "UPLOAD_FAILED",
        &format!("the probe's report could not be stored: {}", error.reason()),
    ))
}
