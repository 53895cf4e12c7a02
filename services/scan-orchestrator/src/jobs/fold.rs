//! The fold: changes to statistics become part of the sums that are kept, so that reading stays
//! cheap. Any number of replicas may do so at once; the catalog lets one do it.
//!
//! It runs too often for a lease: by itself it takes none, and notes now and then what it did.

use std::time::{Duration, Instant};

use aegis_mesh::{CallContext, Result, Shutdown, TaskHandle, spawn, with_context};
use aegis_proto::internal::catalog::v1::FoldStatisticsRequest;
use tokio::time::sleep;

use super::{
    Job,
    run::{Clients, Run},
    schedule::Scheduler,
};

const NAME: &str = "fold";
/// Between two looks; what waits is read as well, at some cost.
pub(super) const PERIOD: Duration = Duration::from_secs(2);
/// Longest run; what is left then waits for the next.
const BUDGET: Duration = Duration::from_secs(30);
/// Between two notes of what was done.
const NOTED: Duration = Duration::from_secs(60);

/// Runs until `shutdown`.
pub(crate) fn fold(scheduler: Scheduler, shutdown: Shutdown) -> TaskHandle<()> {
    spawn(NAME, async move {
        let mut failing = false;
        let mut folded = 0;
        let mut noted = None::<Instant>;
        while shutdown.until(sleep(PERIOD)).await.is_some() {
            let clients = scheduler.clients();
            let run = with_context(CallContext::for_job(NAME, BUDGET), fold_waiting(clients));
            let Some(result) = shutdown.until(run).await else {
                break;
            };
            match &result {
                Err(error) if !failing => {
                    tracing::warn!(job = NAME, reason = error.reason(), %error, "job failed");
                }
                Ok(_) if failing => tracing::info!(job = NAME, "job ran"),
                _ => {}
            }
            failing = result.is_err();
            folded += result.unwrap_or_default();
            if folded > 0 && noted.is_none_or(|noted| noted.elapsed() >= NOTED) {
                scheduler.note(Job::Fold, "folded", folded).await;
                (folded, noted) = (0, Some(Instant::now()));
            }
        }
    })
}

async fn fold_waiting(clients: &Clients) -> Result<i64> {
    let mut folded = 0;
    loop {
        let request = FoldStatisticsRequest::default();
        let answer = clients.fold.clone().fold_statistics(request).await?;
        let answer = answer.into_inner();
        folded += i64::from(answer.folded);
        if !answer.more {
            return Ok(folded);
        }
    }
}

/// For somebody who asks for it. What it would do it cannot say: it does it all the time.
pub(super) async fn fold_all(run: &mut Run<'_>) -> Result<()> {
    while !run.dry_run {
        let mut client = run.clients.fold.clone();
        let request = FoldStatisticsRequest::default();
        let answer =
            run.step(async move { Ok(client.fold_statistics(request).await?.into_inner()) });
        let answer = answer.await?;
        run.count("folded", i64::from(answer.folded));
        if !answer.more {
            break;
        }
    }
    Ok(())
}
