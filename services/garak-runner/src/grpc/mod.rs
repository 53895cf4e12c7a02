//! What the runner says and hears over gRPC, in the words of `domain`.

mod artifacts;
mod convert;
mod runner_service;
mod sources;
mod tasks;

pub(crate) use artifacts::{ArtifactClient, LocalFile};
pub(crate) use runner_service::RunnerApi;
pub(crate) use sources::SourceClient;
pub(crate) use tasks::{Directive, EVENTS_PER_REPORT, HOLD, Lease, Leased, Poll, TaskClient, Work};

use std::time::Duration;

use aegis_mesh::{
    Code, Error, Result,
    context::{CallContext, with_context},
};

/// A call of the runner's own accord: as itself, and never longer than `limit`.
async fn call<T>(
    job: &'static str,
    limit: Duration,
    rpc: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    let call = with_context(CallContext::for_job(job, limit), rpc);
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(Error::from(status)),
        Err(_) => Err(Error::unavailable(
            "NO_ANSWER",
            format!("{job} was not answered in time"),
            Duration::from_secs(1),
        )),
    }
}

/// Whether this answer means that the lease is another run's by now, or its task is no more.
pub(crate) fn is_lease_lost(error: &Error) -> bool {
    matches!(
        (error.code(), error.reason()),
        (Code::Aborted, "LEASE_LOST") | (Code::NotFound, "TASK_NOT_FOUND")
    )
}
