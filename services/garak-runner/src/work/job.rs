//! One child, from its start to its end, under everything that may end it early.

use std::pin::pin;

use super::{Interrupt, Runner};
use crate::{
    domain::{
        bounds::{Bounds, Excess},
        ending::{Ending, ending_of, ending_of_crash},
    },
    process::{
        JobEvent,
        protocol::{ChildEvent, JobRequest, JobResult},
    },
};

/// Runs a job in a child and follows it until it is gone; returns its result, or what its end
/// without one means. An interrupt, or a bound that it passes, kills it and its whole session first.
pub(crate) async fn follow(
    runner: &Runner,
    request: JobRequest,
    bounds: Bounds,
    interrupt: impl Future<Output = Interrupt>,
    mut on_event: impl FnMut(&JobEvent),
) -> Result<Result<JobResult, Ending>, Interrupt> {
    let kill_grace = runner.config().kill_grace();
    let scratch = request.scratch.clone();
    let mut job = runner.warm().run(request).await;
    let mut interrupt = pin!(interrupt);
    let (started, leader) = tokio::sync::oneshot::channel();
    let mut started = Some(started);
    let mut passed = pin!(async {
        match leader.await {
            Ok(leader) => runner.watcher().passed(leader, &scratch, bounds).await,
            // It did not start; the next event says so.
            Err(_) => std::future::pending::<Excess>().await,
        }
    });
    let mut result = None;
    loop {
        let event = tokio::select! {
            event = job.next() => event,
            interrupt = &mut interrupt => {
                job.kill(kill_grace).await;
                return Err(interrupt);
            }
            excess = &mut passed => {
                tracing::warn!(reason = excess.reason(), %excess, "a child is killed");
                job.kill(kill_grace).await;
                return Ok(Err(excess.into()));
            }
        };
        on_event(&event);
        match event {
            JobEvent::Started(pid) => {
                if let Some(started) = started.take() {
                    // Whom to tell lives as long as this function.
                    let _ = started.send(pid);
                }
            }
            JobEvent::Said(ChildEvent::Result(said)) => result = Some(said),
            JobEvent::Said(_) => {}
            JobEvent::Ended(ended) => {
                tracing::debug!(
                    cpu_seconds = ended.cpu_seconds,
                    max_rss_kb = ended.max_rss_kb,
                    "a child ended"
                );
                return Ok(match result {
                    Some(said) if said.is_good() => Ok(said),
                    Some(said) => Err(ending_of(&said.no_result())),
                    None => Err(ending_of_crash(ended.signal, ended.exit_code)),
                });
            }
            JobEvent::Refused { reason, message } => {
                return Ok(Err(Ending::retryable(&reason, &message)));
            }
            JobEvent::ProcessDied => {
                return Ok(Err(Ending::retryable(
                    "RUNNER_PROCESS_DIED",
                    "the runner's garak process ended while the task ran",
                )));
            }
        }
    }
}
