//! What catalog keeps of an import; this is the port to it.

use std::time::SystemTime;

use aegis_mesh::Result;
use aegis_proto::ids::{ArtifactId, ScanId, TaskId};
use aegis_report::RunInfo;
use async_trait::async_trait;

use crate::domain::checksum::Checksum;
use crate::domain::name::ArtifactName;
use crate::domain::registry::{ReportTally, StoredArtifact};

/// What an import must know of its header; the rest goes to catalog as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ImportHeader {
    /// `None`: the report's run id.
    pub scan: Option<ScanId>,
    /// The threshold that the scan's own options name.
    pub eval_threshold: Option<f64>,
    /// Checks everything, keeps nothing.
    pub dry_run: bool,
}

/// What a report says of itself.
#[derive(Debug, Clone)]
pub struct ImportedReport {
    /// The run.
    pub run: RunInfo,
    /// When it began, as far as it says.
    pub start_time: Option<SystemTime>,
    /// When it ended, as far as it says.
    pub end_time: Option<SystemTime>,
    /// What its attempts were indexed with.
    pub eval_threshold: f64,
    /// Whether anything says that threshold.
    pub eval_threshold_known: bool,
    /// Completed attempts by probe, in the report's order.
    pub probes: Vec<(String, u64)>,
    /// Its counts and grades.
    pub tally: ReportTally,
}

/// A file of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportedFile {
    /// Which one.
    pub name: ArtifactName,
    /// Its row; `None` in a dry run.
    pub artifact: Option<ArtifactId>,
    /// Its bytes.
    pub checksum: Checksum,
}

/// What there is of an import's scan.
#[derive(Debug)]
pub enum StagedImport<S> {
    /// It is there, with the same report.
    Existing(S),
    /// Rows for its files, in the order asked for, of a task of their own.
    Rows(TaskId, Vec<StoredArtifact>),
}

/// What is to become visible.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The scan.
    pub scan: ScanId,
    /// The task of its files; `None` in a dry run.
    pub task: Option<TaskId>,
    /// Its files.
    pub files: &'a [ImportedFile],
    /// `None`: it is lost.
    pub report: Option<&'a ImportedReport>,
}

/// What became of an import.
#[derive(Debug)]
pub struct Imported<S> {
    /// The scan, as catalog has it.
    pub scan: S,
    /// It was there already, with the same report.
    pub unchanged: bool,
    /// What was not taken over as it was.
    pub warnings: Vec<String>,
}

/// The rows of one import, whose header they know.
#[async_trait]
pub trait ImportRows: Send + Sync {
    /// A scan, as catalog has it.
    type Scan: Send;

    /// Looks the header over: INVALID_ARGUMENT / INVALID_FIELD, FAILED_PRECONDITION / SCAN_DELETED.
    async fn check(&self) -> Result<()>;

    /// Rows for files: ALREADY_EXISTS / SCAN_EXISTS.
    async fn stage(
        &self,
        scan: ScanId,
        report: Option<&Checksum>,
        names: &[ArtifactName],
    ) -> Result<StagedImport<Self::Scan>>;

    /// Makes the scan visible, or in a dry run only says what it would be.
    async fn commit(&self, commit: Commit<'_>) -> Result<Imported<Self::Scan>>;
}
