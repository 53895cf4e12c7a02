//! What is wrong with bytes, as callers learn it. No error carries text of a report.

use std::io;
use std::time::Duration;

use aegis_mesh::Error;
use aegis_report::ReportError;

use super::registry::StoredArtifact;

/// Room is not made at once.
const RETRY_FULL: Duration = Duration::from_secs(10);
const RETRY_DOWN: Duration = Duration::from_secs(1);

/// A report or hitlog that garak cannot have written so.
pub fn malformed(error: &ReportError) -> Error {
    let (line, offset) = match *error {
        ReportError::Malformed { line, offset, .. }
        | ReportError::Truncated { line, offset }
        | ReportError::LineTooLong { line, offset, .. }
        | ReportError::TooMany { line, offset, .. } => (line, offset),
    };
    Error::invalid_argument("REPORT_MALFORMED", error.to_string())
        .with("line", line)
        .with("offset", offset)
        .hint(
            "the file was cut off or changed after garak wrote it: upload it again from the start",
        )
}

/// A stored artifact that is not what it was when it was uploaded.
pub fn corrupt(artifact: &StoredArtifact, what: &str) -> Error {
    let message = format!("{} of scan {}: {what}", artifact.name, artifact.scan);
    tracing::error!(artifact_id = %artifact.id, object_key = %artifact.key, what, "artifact corrupt");
    Error::data_loss("ARTIFACT_CORRUPT", message)
        .with("artifact_id", artifact.id)
        .with("name", artifact.name)
        .hint("the bytes in the object store were changed or lost: restore them, or retry the scan")
}

/// The folder in which uploads and compositions are written does not work.
pub fn scratch(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::unavailable(
            "STORAGE_FULL",
            "the upload folder has no room left",
            RETRY_FULL,
        )
        .hint(
            "free space where artifact's data directory lies, or raise max_scratch_bytes; uploads \
             go on by themselves",
        ),
        _ => {
            tracing::warn!(%error, "the upload folder does not work");
            Error::unavailable(
                "DEPENDENCY_DOWN",
                "the upload folder does not work",
                RETRY_DOWN,
            )
        }
    }
    .with("dependency", "upload folder")
}
