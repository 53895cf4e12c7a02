//! Ends leases that have run out, so that another runner takes the task.

use std::time::Duration;

use aegis_mesh::{CallContext, Error, MeshChannel, Result, Shutdown, with_context};
use aegis_proto::internal::catalog::v1::{
    ExpireLeasesRequest, task_queue_service_client::TaskQueueServiceClient,
};

use crate::config::Config;

const NAME: &str = "reaper";
/// Longest one run may take.
const BUDGET: Duration = Duration::from_secs(30);
/// Leases ended in one call.
const BATCH: i32 = 200;

/// Runs until shutdown, once every period with some jitter, so that replicas do not march in step.
pub(crate) async fn reap(
    config: Config,
    queue: TaskQueueServiceClient<MeshChannel>,
    shutdown: Shutdown,
) {
    loop {
        let jitter = rand::random_range(0.8..1.2);
        let pause = tokio::time::sleep(config.reaper_period().mul_f64(jitter));
        if shutdown.until(pause).await.is_none() {
            return;
        }
        let run = with_context(CallContext::for_job(NAME, BUDGET), expire(&config, queue.clone()));
        match run.await {
            Ok(0) => {}
            Ok(expired) => tracing::info!(job = NAME, expired, "ended leases that had run out"),
            Err(error) => tracing::warn!(job = NAME, reason = error.reason(), %error, "failed"),
        }
    }
}

async fn expire(config: &Config, mut queue: TaskQueueServiceClient<MeshChannel>) -> Result<i32> {
    let mut total = 0;
    loop {
        let request = ExpireLeasesRequest {
            policy: Some(config.retry_policy()),
            limit: BATCH,
        };
        let answer = queue.expire_leases(request).await.map_err(Error::from)?;
        let expired = answer.into_inner().expired;
        total += expired;
        if expired < BATCH {
            return Ok(total);
        }
    }
}
