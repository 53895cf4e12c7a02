//! The reaper: ends leases that ran out, by the database's clock. Any number of replicas may do so
//! at once; each lease ends once.

use std::time::Duration;

use aegis_mesh::{CallContext, MeshChannel, Result, Shutdown, TaskHandle, spawn, with_context};
use aegis_proto::internal::catalog::v1::{
    ExpireLeasesRequest, task_queue_service_client::TaskQueueServiceClient,
};
use tokio::time::sleep;

use crate::grpc::TaskPolicy;

const NAME: &str = "reaper";
/// Leases ended by one call.
const LIMIT: i32 = 500;
/// Longest one call.
const BUDGET: Duration = Duration::from_secs(30);
/// Replicas that started together part by up to this share of the period.
const JITTER: f64 = 0.2;

/// Runs every `period` until `shutdown`.
pub(crate) fn reaper(
    queue: TaskQueueServiceClient<MeshChannel>,
    policy: TaskPolicy,
    period: Duration,
    shutdown: Shutdown,
) -> TaskHandle<()> {
    spawn(NAME, async move {
        tracing::info!(
            job = NAME,
            period_seconds = period.as_secs_f64(),
            "job started"
        );
        let mut failing = false;
        while shutdown.until(sleep(jittered(period))).await.is_some() {
            let run = with_context(CallContext::for_job(NAME, BUDGET), expire(&queue, &policy));
            let Some(result) = shutdown.until(run).await else {
                break;
            };
            failing = tell(&result, failing);
        }
    })
}

/// Ends leases until none that ran out is left; a full batch says that there may be more.
async fn expire(queue: &TaskQueueServiceClient<MeshChannel>, policy: &TaskPolicy) -> Result<i64> {
    let mut total = 0;
    loop {
        let request = ExpireLeasesRequest {
            policy: Some(policy.retry),
            limit: LIMIT,
        };
        let answer = queue.clone().expire_leases(request).await?.into_inner();
        total += i64::from(answer.expired);
        if answer.expired < LIMIT {
            return Ok(total);
        }
    }
}

/// Logs what changed: leases that ended, the first failure of a row, and its end.
fn tell(result: &Result<i64>, was_failing: bool) -> bool {
    match result {
        Ok(expired) => {
            if *expired > 0 || was_failing {
                tracing::info!(job = NAME, expired, "job ran");
            }
            false
        }
        Err(error) => {
            if !was_failing {
                tracing::warn!(job = NAME, reason = error.reason(), %error, "job failed");
            }
            true
        }
    }
}

fn jittered(period: Duration) -> Duration {
    let share: f64 = rand::random();
    period.mul_f64(1.0 - JITTER * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_within_its_share() {
        let period = Duration::from_secs(10);
        for _ in 0..1000 {
            let next = jittered(period);
            assert!(next <= period && next >= Duration::from_secs(8), "{next:?}");
        }
    }
}
