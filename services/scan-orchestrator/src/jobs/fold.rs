//! The fold: changes to statistics become part of the sums that are kept, so that reading stays
//! cheap. Any number of replicas may do so at once; the catalog lets one do it.

use std::time::Duration;

use aegis_mesh::{CallContext, MeshChannel, Result, Shutdown, TaskHandle, spawn, with_context};
use aegis_proto::internal::catalog::v1::{
    FoldStatisticsRequest, statistics_fold_service_client::StatisticsFoldServiceClient,
};
use tokio::time::sleep;

const NAME: &str = "fold";
/// Between two looks; what waits is read as well, at some cost.
const PERIOD: Duration = Duration::from_secs(2);
/// Longest run; what is left then waits for the next.
const BUDGET: Duration = Duration::from_secs(30);

/// Runs until `shutdown`.
pub(crate) fn fold(
    catalog: StatisticsFoldServiceClient<MeshChannel>,
    shutdown: Shutdown,
) -> TaskHandle<()> {
    spawn(NAME, async move {
        let mut failing = false;
        while shutdown.until(sleep(PERIOD)).await.is_some() {
            let run = with_context(CallContext::for_job(NAME, BUDGET), fold_all(&catalog));
            let Some(result) = shutdown.until(run).await else {
                break;
            };
            match &result {
                Err(error) if !failing => {
                    tracing::warn!(job = NAME, reason = error.reason(), %error, "job failed");
                }
                Ok(()) if failing => tracing::info!(job = NAME, "job ran"),
                _ => {}
            }
            failing = result.is_err();
        }
    })
}

async fn fold_all(catalog: &StatisticsFoldServiceClient<MeshChannel>) -> Result<()> {
    loop {
        let request = FoldStatisticsRequest::default();
        let answer = catalog.clone().fold_statistics(request).await?.into_inner();
        if !answer.more {
            return Ok(());
        }
    }
}
