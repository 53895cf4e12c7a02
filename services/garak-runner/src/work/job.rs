//! One child, from its start to its end, under everything that may end it early.

use std::time::Duration;

use super::Interrupt;
use crate::{
    domain::ending::{Ending, ending_of, ending_of_crash},
    process::{
        Job, JobEvent,
        protocol::{ChildEvent, JobResult},
    },
};

/// Follows a child until it is gone and returns its result, or what its end without one means.
/// An interrupt kills it and its whole session first.
pub(crate) async fn follow(
    mut job: Job,
    kill_grace: Duration,
    interrupt: impl Future<Output = Interrupt>,
    mut on_event: impl FnMut(&JobEvent),
) -> Result<Result<JobResult, Ending>, Interrupt> {
    tokio::pin!(interrupt);
    let mut result = None;
    loop {
        let event = tokio::select! {
            event = job.next() => event,
            interrupt = &mut interrupt => {
                job.kill(kill_grace).await;
                return Err(interrupt);
            }
        };
        on_event(&event);
        match event {
            JobEvent::Started(_) => {}
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
