//! What an upload is called, and how far it is.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use aegis_mesh::{Error, Result};
use aegis_proto::ids::ArtifactId;

use super::session::Session;
use crate::domain::checksum::Checksum;
use crate::domain::name::ArtifactName;
use crate::domain::registry::StoredArtifact;

/// Names an upload: `{artifact}.{name}`. Opaque to clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UploadId {
    /// What it becomes.
    pub artifact: ArtifactId,
    /// Which file that is.
    pub name: ArtifactName,
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.artifact, self.name)
    }
}

impl FromStr for UploadId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (artifact, name) = text.split_once('.')?;
            Some(Self {
                artifact: artifact.parse().ok()?,
                name: name.parse().ok()?,
            })
        };
        parse().ok_or_else(|| {
            let message = "not an upload's id, as StartUpload gives it";
            Error::invalid_argument("INVALID_FIELD", message).field("upload_id", message)
        })
    }
}

/// How far an upload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadStatus {
    /// Names it.
    pub id: UploadId,
    /// Names what it becomes.
    pub artifact: ArtifactId,
    /// Bytes that need not be sent again.
    pub persisted: u64,
    /// Whether it is an artifact now.
    pub complete: bool,
    /// When it is removed if it is not complete by then.
    pub expire_time: Option<SystemTime>,
}

impl UploadStatus {
    /// Bytes come, or are on their way into the store.
    pub(super) fn under_way(session: &Session, persisted: u64) -> Self {
        let expire_time = Some(session.expires);
        Self {
            persisted,
            expire_time,
            ..Self::of(&session.artifact)
        }
    }

    /// The artifact is there.
    pub(super) fn complete(artifact: &StoredArtifact, checksum: &Checksum) -> Self {
        Self {
            persisted: checksum.size,
            complete: true,
            ..Self::of(artifact)
        }
    }

    fn of(artifact: &StoredArtifact) -> Self {
        let id = UploadId {
            artifact: artifact.id,
            name: artifact.name,
        };
        Self {
            id,
            artifact: artifact.id,
            persisted: 0,
            complete: false,
            expire_time: None,
        }
    }
}
