//! What the rows of artifacts say. They are catalog's; this is the port to it.

use std::fmt;
use std::time::SystemTime;

use aegis_mesh::Result;
use aegis_proto::ids::{ArtifactId, Epoch, ProjectId, ScanId, TaskId};
use aegis_report::{Grades, Tally};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::checksum::Checksum;
use super::key::ObjectKey;
use super::name::ArtifactName;

/// Proof that the caller holds one run of one task.
#[derive(Clone, PartialEq, Eq)]
pub struct Lease {
    /// The task's scan.
    pub scan: ScanId,
    /// The task.
    pub task: TaskId,
    /// The fencing token.
    pub epoch: Epoch,
    /// Opaque secret; never shown.
    pub token: Vec<u8>,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Lease({} of scan {}, epoch {})",
            self.task, self.scan, self.epoch
        )
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredArtifact {
    /// Names the row.
    pub id: ArtifactId,
    /// The scan it belongs to.
    pub scan: ScanId,
    /// Which file it is.
    pub name: ArtifactName,
    /// Where its bytes lie.
    pub key: ObjectKey,
    /// What its bytes are; known once they are uploaded.
    pub checksum: Option<Checksum>,
    /// When the row was made, by the database's clock.
    pub create_time: Option<SystemTime>,
    /// Of the report it belongs to; 0 for a part.
    pub revision: i32,
}

/// The row of a file of one run.
#[derive(Debug, Clone)]
pub struct Staged {
    /// The row.
    pub artifact: StoredArtifact,
    /// Whether its bytes are already there.
    pub complete: bool,
    /// When the row may be collected.
    pub upload_deadline: Option<SystemTime>,
    /// The scan's effective threshold.
    pub eval_threshold: f64,
}

/// What a composed report is made of.
#[derive(Debug, Clone)]
pub struct ReportParts {
    /// The scan.
    pub scan: ScanId,
    /// In the scan's order.
    pub parts: Vec<ReportPart>,
    /// The spec's own words, for the setup line.
    pub include: Vec<String>,
    /// The spec's own words, for the setup line.
    pub exclude: Vec<String>,
    /// The scan's effective threshold.
    pub eval_threshold: f64,
}

/// One probe's share of a report.
#[derive(Debug, Clone)]
pub struct ReportPart {
    /// `module.Class`.
    pub probe: String,
    /// The report that has it: its own, or the composed one of an older revision.
    pub report: StoredArtifact,
    /// `None` when nothing was hit.
    pub hitlog: Option<StoredArtifact>,
}

/// Where attempts lie.
#[derive(Debug, Clone)]
pub struct Source {
    /// The report.
    pub report: StoredArtifact,
    /// Which of its probes is meant; `None` is all of them.
    pub probe: Option<String>,
    /// From this score on an output counts as hit.
    pub eval_threshold: f64,
}

/// A scan's place in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanPosition {
    /// Unix milliseconds.
    pub created_at: i64,
    /// The scan.
    pub scan: ScanId,
}

/// Scans of a target in which a probe hit something.
#[derive(Debug, Clone)]
pub struct FindingReportQuery {
    /// The target's type.
    pub target_type: String,
    /// The target's name.
    pub target_name: String,
    /// `module.Class`.
    pub probe: String,
    /// `None` is any.
    pub detector: Option<String>,
    /// Only scans older than this one.
    pub after: Option<ScanPosition>,
    /// Scans at most.
    pub limit: usize,
}

/// One of them.
#[derive(Debug, Clone)]
pub struct FindingReport {
    /// Where the probe's attempts lie.
    pub source: Source,
    /// The scan.
    pub position: ScanPosition,
    /// `None` while it goes on.
    pub scan_end_time: Option<SystemTime>,
}

/// Something that happened in a scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When.
    pub time: Option<SystemTime>,
    /// Empty for what is about the scan.
    pub probe: String,
    /// UPPER_SNAKE, as the catalog has it.
    pub kind: String,
}

/// What a report says, for its row.
#[derive(Debug, Clone)]
pub struct ReportTally {
    /// Counts by probe and detector.
    pub counts: Tally,
    /// garak's grades; only of a composed report.
    pub grades: Option<Grades>,
}

/// The rows of artifacts. Writes are fenced by the lease: ABORTED / LEASE_LOST.
///
/// Every row that comes back has been found to belong to `project`.
#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// The STAGED row of one run's file; the same lease and name give the same row.
    async fn stage(&self, project: &ProjectId, lease: &Lease, name: ArtifactName)
    -> Result<Staged>;

    /// STAGED to UPLOADED. Repeatable with the same checksum.
    async fn complete(
        &self,
        lease: &Lease,
        artifact: ArtifactId,
        checksum: &Checksum,
        tally: Option<&ReportTally>,
    ) -> Result<()>;

    /// What the REPORT task of `lease` composes from.
    async fn report_parts(&self, project: &ProjectId, lease: &Lease) -> Result<ReportParts>;

    /// The committed files of a scan's report; revision 0 is the newest.
    async fn report_artifacts(
        &self,
        project: &ProjectId,
        scan: ScanId,
        revision: i32,
    ) -> Result<Vec<StoredArtifact>>;

    /// Where a probe's attempts lie: NOT_FOUND / PROBE_NOT_EVALUATED when nowhere.
    async fn locate(&self, project: &ProjectId, scan: ScanId, probe: &str) -> Result<Source>;

    /// Where all attempts of a scan lie, in the scan's order.
    async fn locate_all(&self, project: &ProjectId, scan: ScanId) -> Result<Vec<Source>>;

    /// Scans with findings, newest first, and where to go on when there may be more.
    async fn finding_reports(
        &self,
        project: &ProjectId,
        query: &FindingReportQuery,
    ) -> Result<(Vec<FindingReport>, Option<ScanPosition>)>;

    /// What happened in a scan, in time's order; 1,000 moments at most.
    async fn moments(&self, project: &ProjectId, scan: ScanId) -> Result<Vec<Moment>>;
}
