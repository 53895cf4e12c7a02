//! The sources of custom probes on their way into a run's scratch directory.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use aegis_mesh::{Error, Result};
use serde_json::{Map, Value, json};

use super::{Interrupt, Runner, keeper::Keeper, upload::retrying};
use crate::{
    domain::{
        custom_probe::{CustomModule, SourceSha},
        ending::{Ending, OUT_OF_SPACE},
    },
    grpc::is_lease_lost,
};

/// Puts each module's source into `folder`; returns `{name: path}` as a job takes it, or how the
/// run ends without one.
pub(crate) async fn fetch_all(
    runner: &Runner,
    keeper: &Keeper,
    modules: &[CustomModule],
    folder: &Path,
) -> Result<Result<Value, Ending>, Interrupt> {
    let mut paths = Map::new();
    for module in modules {
        let path = folder.join(format!("{}.py", module.name()));
        if let Err(ending) = fetch(runner, keeper, &module.sha256, &path).await? {
            return Ok(Err(ending));
        }
        paths.insert(module.name().to_owned(), json!(path));
    }
    Ok(Ok(Value::Object(paths)))
}

/// Puts a source into a file, verified.
pub(crate) async fn fetch(
    runner: &Runner,
    keeper: &Keeper,
    sha256: &SourceSha,
    path: &PathBuf,
) -> Result<Result<(), Ending>, Interrupt> {
    let patience = runner.config().upload_patience();
    let (sources, lease) = (runner.sources(), keeper.lease());
    let got = async {
        let source = retrying(keeper, patience, || sources.read(lease, sha256)).await?;
        tokio::fs::write(path, source).await.map_err(not_written)
    };
    let got = tokio::select! {
        got = got => got,
        interrupt = runner.interrupt(keeper) => return Err(interrupt),
    };
    match got {
        Ok(()) => Ok(Ok(())),
        Err(error) if is_lease_lost(&error) => Err(Interrupt::LeaseLost),
        Err(error) => {
            tracing::warn!(
                reason = error.reason(),
                "a custom probe's source is not to be had"
            );
            let message = format!(
                "a custom probe's source is not to be had: {}",
                error.reason()
            );
            Ok(Err(Ending::retryable(error.reason(), &message)))
        }
    }
}

/// A full disk is not an error of ours.
fn not_written(error: io::Error) -> Error {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            Error::failed_precondition(OUT_OF_SPACE, "the runner's disk is full")
        }
        _ => Error::internal(error),
    }
}
