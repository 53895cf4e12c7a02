//! Files of a run on their way to the artifact service.

use std::{path::Path, time::Duration};

use aegis_mesh::{Code, Error, Result, clock};
use backon::{ExponentialBuilder, Retryable};

use super::keeper::Keeper;
use crate::{
    domain::outbox::WaitsFor,
    grpc::{ArtifactClient, LocalFile, is_lease_lost},
};

/// How long errors are put up with that are not the storage's: they hardly pass.
const OTHERWISE: Duration = Duration::from_secs(120);

/// Uploads a file, resuming after what broke it off, for at most `patience`.
///
/// # Errors
/// The last error, when patience is over or another try cannot help.
pub(crate) async fn upload(
    artifacts: &ArtifactClient,
    keeper: &Keeper,
    path: &Path,
    name: &'static str,
    patience: Duration,
) -> Result<String> {
    let file = LocalFile::measure(path, name).await?;
    let lease = keeper.lease();
    retrying(keeper, patience, || artifacts.upload(lease, &file)).await
}

/// Repeats a call that is safe to repeat, with jittered backoff, for at most `patience`. What the run
/// has is not lost while the storage is: its heartbeats go on, and say what it waits for.
pub(crate) async fn retrying<T, F: Future<Output = Result<T>>>(
    keeper: &Keeper,
    patience: Duration,
    call: impl FnMut() -> F,
) -> Result<T> {
    let began = clock::now();
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_total_delay(Some(patience))
        .with_jitter();
    let ended = call
        .retry(backoff)
        .when(|error| {
            may_help(error) && (waits_for(error).is_some() || clock::now() - began < OTHERWISE)
        })
        .notify(|error, pause| {
            keeper.waits_for(waits_for(error));
            tracing::warn!(
                reason = error.reason(),
                ?pause,
                "a call failed and is repeated"
            );
        })
        .await;
    keeper.waits_for(None);
    ended
}

/// What an error of the artifact service says is missing.
fn waits_for(error: &Error) -> Option<WaitsFor> {
    match (error.code(), error.reason()) {
        (Code::Unavailable, "STORAGE_FULL") => Some(WaitsFor::StorageFull),
        (Code::Unavailable, "STORAGE_REFUSED") => Some(WaitsFor::StorageRefused),
        (Code::Unavailable, _) => Some(WaitsFor::StorageDown),
        _ => None,
    }
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
