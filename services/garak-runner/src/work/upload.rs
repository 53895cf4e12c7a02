//! Files of a run on their way to the artifact service.

use std::{path::Path, time::Duration};

use aegis_mesh::{Code, Error, Result};
use backon::{ExponentialBuilder, Retryable};

use crate::grpc::{ArtifactClient, Lease, LocalFile, is_lease_lost};

/// Uploads a file, resuming after what broke it off, for at most `patience`.
///
/// # Errors
/// The last error, when patience is over or another try cannot help.
pub(crate) async fn upload(
    artifacts: &ArtifactClient,
    lease: &Lease,
    path: &Path,
    name: &'static str,
    patience: Duration,
) -> Result<String> {
    let file = LocalFile::measure(path, name).await?;
    retrying(patience, || artifacts.upload(lease, &file)).await
}

/// Repeats a call that is safe to repeat, with jittered backoff, for at most `patience`.
pub(crate) async fn retrying<T, F: Future<Output = Result<T>>>(
    patience: Duration,
    call: impl FnMut() -> F,
) -> Result<T> {
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_total_delay(Some(patience))
        .with_jitter();
    call.retry(backoff)
        .when(may_help)
        .notify(|error, pause| {
            tracing::warn!(
                reason = error.reason(),
                ?pause,
                "a call failed and is repeated"
            );
        })
        .await
}

/// Whether the same call may succeed later. A wrong offset does: the next try asks where to resume.
fn may_help(error: &Error) -> bool {
    let code = matches!(
        error.code(),
        Code::Unavailable
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::OutOfRange
            | Code::Cancelled
            | Code::Internal
            | Code::Aborted
    );
    code && !is_lease_lost(error)
}
