//! Rows of artifacts; the bytes are elsewhere.

use aegis_proto::ids::{ArtifactId, Epoch, ProjectId, ScanId, TaskId};

use super::{tally::Tally, word::words};

words! {
    /// Where an artifact stands. Readers outside its run see committed ones only.
    ArtifactState {
        /// Announced; its bytes are on the way.
        Staged = "STAGED",
        /// Its bytes are stored and verified.
        Uploaded = "UPLOADED",
        /// Part of its scan.
        Committed = "COMMITTED",
        /// Nobody's any more: its object is deleted, then its row.
        Deleting = "DELETING",
    }
}

words! {
    /// Files that a run may upload.
    ArtifactName {
        /// garak's report.
        Report = "report.jsonl",
        /// garak's list of hits.
        Hitlog = "hitlog.jsonl",
        /// garak's report for people.
        Html = "report.html",
        /// The digest line alone; never shown to users.
        Digest = "digest.json",
    }
}

impl ArtifactName {
    /// Whether users may see it.
    pub const fn is_public(self) -> bool {
        !matches!(self, Self::Digest)
    }
}

/// What bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// Lower-case hexadecimal SHA-256.
    pub sha256: String,
    /// Size in bytes.
    pub size: i64,
}

/// An artifact's row.
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Its id.
    pub id: ArtifactId,
    /// Its scan.
    pub scan: ScanId,
    /// The task whose run made it.
    pub task: TaskId,
    /// That run.
    pub epoch: Epoch,
    /// Its name.
    pub name: ArtifactName,
    /// Where its bytes are.
    pub object_key: String,
    /// Where it stands.
    pub state: ArtifactState,
    /// Set once it is uploaded.
    pub checksum: Option<Checksum>,
    /// Of a report, once it is uploaded.
    pub tally: Option<Tally>,
    /// Of the report it belongs to; 0 for a part.
    pub revision: i32,
    /// When it was staged.
    pub created_at: i64,
    /// Until when it must be uploaded and committed.
    pub upload_deadline: i64,
}

/// Where a run's file lies. The epoch is in it: a zombie can overwrite nothing that anyone reads.
pub fn object_key(
    project: &ProjectId,
    scan: ScanId,
    task: TaskId,
    epoch: Epoch,
    name: ArtifactName,
) -> String {
    format!("{project}/scans/{scan}/{task}/{epoch}/{name}")
}

/// A committed part of a scan, to compose from.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportPart {
    /// The probe.
    pub probe: String,
    /// Its report.
    pub report: Artifact,
    /// Its hits, when it had any.
    pub hitlog: Option<Artifact>,
}
