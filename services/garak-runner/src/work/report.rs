//! A REPORT task: garak's own writer makes digest and HTML from the skeleton of a scan's report.

use aegis_mesh::Error;
use serde_json::{Value, json};

use super::{
    Interrupt, Runner,
    board::Entry,
    job::follow,
    keeper::Keeper,
    scratch::ScratchDir,
    sources,
    upload::{retrying, upload},
};
use crate::{
    domain::{custom_probe::CustomModule, ending::Ending, secret::ChildEnv},
    grpc::is_lease_lost,
    process::{
        JobEvent,
        protocol::{JobKind, JobRequest},
    },
};

/// Why the report was not made.
enum NotMade {
    Interrupted(Interrupt),
    Because(String),
}

impl From<Error> for NotMade {
    fn from(error: Error) -> Self {
        if is_lease_lost(&error) {
            return Self::Interrupted(Interrupt::LeaseLost);
        }
        Self::Because(error.reason().to_owned())
    }
}

/// Makes the report. Its failure leaves the scan's results as they are.
pub(crate) async fn run(
    runner: &Runner,
    keeper: &Keeper,
    entry: &Entry<'_>,
    scratch: &ScratchDir,
    modules: &[CustomModule],
) -> Result<Ending, Interrupt> {
    match make(runner, keeper, entry, scratch, modules).await {
        Ok(artifacts) => Ok(Ending::done(artifacts)),
        Err(NotMade::Interrupted(interrupt)) => Err(interrupt),
        Err(NotMade::Because(reason)) => Ok(Ending::retryable(
            "REPORT_NOT_MADE",
            &format!("the report could not be made: {reason}"),
        )),
    }
}

/// Runs `work` unless the run is interrupted first.
async fn unless_interrupted<T>(
    runner: &Runner,
    keeper: &Keeper,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, NotMade> {
    tokio::select! {
        done = work => Ok(done?),
        interrupt = runner.interrupt(keeper) => Err(NotMade::Interrupted(interrupt)),
    }
}

async fn make(
    runner: &Runner,
    keeper: &Keeper,
    entry: &Entry<'_>,
    scratch: &ScratchDir,
    modules: &[CustomModule],
) -> Result<Vec<String>, NotMade> {
    let file = |name: &str| scratch.path().join(name);
    let skeleton = file("skeleton.jsonl");
    let (html, digest) = (file("report.html"), file("digest.json"));
    let patience = runner.config().upload_patience();
    let (artifacts, lease) = (runner.artifacts(), keeper.lease());
    let read = retrying(keeper, patience, || {
        artifacts.read_skeleton(lease, &skeleton)
    });
    unless_interrupted(runner, keeper, read).await?;
    // Only for what the report says about them: garak's writer has words of its own for the rest.
    let modules = match sources::fetch_all(runner, keeper, modules, scratch.path()).await {
        Ok(modules) => modules.unwrap_or_default(),
        Err(interrupt) => return Err(NotMade::Interrupted(interrupt)),
    };
    let job = json!({
        "skeleton": skeleton,
        "report_html": html,
        "digest": digest,
        "reportfile_name": format!("garak.{}.report.jsonl", lease.scan_id()),
        "custom_probes": modules,
        "limits": runner.config().limits.of_the_kernel(),
    });
    write(runner, keeper, entry, scratch, job).await?;
    let hand_in = async {
        let digest = upload(artifacts, keeper, &digest, "digest.json", patience).await?;
        let html = upload(artifacts, keeper, &html, "report.html", patience).await?;
        let mut made = retrying(keeper, patience, || {
            artifacts.compose(lease, digest.clone())
        })
        .await?;
        made.push(html);
        Ok(made)
    };
    unless_interrupted(runner, keeper, hand_in).await
}

/// Has garak's writer write.
async fn write(
    runner: &Runner,
    keeper: &Keeper,
    entry: &Entry<'_>,
    scratch: &ScratchDir,
    job: Value,
) -> Result<(), NotMade> {
    let request = JobRequest {
        kind: JobKind::Report,
        scratch: scratch.path().to_owned(),
        env: ChildEnv::new(),
        job,
    };
    let interrupt = async {
        tokio::select! {
            interrupt = runner.interrupt(keeper) => interrupt,
            () = tokio::time::sleep(runner.config().report_timeout()) => Interrupt::TimedOut,
        }
    };
    let tell = |event: &JobEvent| {
        if let JobEvent::Started(pid) = event {
            entry.child(*pid);
        }
    };
    match follow(runner, request, runner.config().bounds(), interrupt, tell).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(ending)) => Err(NotMade::Because(ending.reason)),
        Err(Interrupt::TimedOut) => Err(NotMade::Because("TIMED_OUT".to_owned())),
        Err(interrupt) => Err(NotMade::Interrupted(interrupt)),
    }
}
