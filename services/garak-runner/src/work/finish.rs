//! The last word of a run.

use tokio::time::timeout_at;

use super::{keeper::Keeper, upload::retrying};
use crate::{
    domain::ending::Ending,
    grpc::{TaskClient, is_lease_lost},
};

/// Tells how the run ended, again and again until it is answered or the fence closes. Repeating is
/// safe: the same end of the same epoch is stored once.
pub(crate) async fn finish(tasks: &TaskClient, mut keeper: Keeper, ending: &Ending) {
    let fence = keeper.last_words().await;
    let progress = keeper.last_progress();
    let patience = fence.saturating_duration_since(aegis_mesh::clock::now());
    let told = retrying(&keeper, patience, || {
        tasks.finish(keeper.lease(), ending, progress)
    });
    match timeout_at(fence.into(), told).await {
        Ok(Ok(())) => {
            tracing::info!(outcome = ?ending.outcome, reason = %ending.reason, "a run is over")
        }
        Ok(Err(error)) if is_lease_lost(&error) => {
            tracing::info!("a run was over after its lease");
        }
        Ok(Err(error)) => tracing::error!(
            reason = error.reason(),
            "the end of a run was not taken; its lease expires"
        ),
        Err(_) => tracing::warn!("the end of a run was not answered in time; its lease expires"),
    }
}
