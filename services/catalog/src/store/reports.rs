//! Committed files: parts to compose from, reports to read.

use std::{collections::HashMap, hash::Hash};

use aegis_proto::ids::{ProjectId, ScanId, TaskId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Order};

use super::{
    Store, artifacts,
    entity::{artifact, task},
    fault::{Fault, Result},
    key, results, rows, tasks,
    tx::Tx,
};
use crate::domain::{
    artifact::{Artifact, ArtifactName, ArtifactState, ReportPart},
    refusal,
    scan::Scan,
    task::{LeaseProof, TaskKind, TaskState},
};

/// Each committed file of a probe that is in no report yet, in the scan's order. A task is done by
/// one run: files of older epochs are nobody's.
const PARTS: &str = "
    SELECT a.* FROM tasks t
    JOIN artifacts a ON a.project_id = t.project_id AND a.task_id = t.id AND a.epoch = t.epoch
        AND a.state = 'COMMITTED'
    WHERE t.project_id = $1 AND t.scan_id = $2 AND t.kind = 'PROBE' AND t.state = 'DONE'
      AND t.composed_revision = 0
    ORDER BY t.ordinal, t.shard_index, a.name";

/// The revisions that the others are in: their parts may be gone.
const COMPOSED: &str = "
    SELECT a.* FROM artifacts a
    WHERE a.project_id = $1 AND a.scan_id = $2 AND a.state = 'COMMITTED' AND a.revision > 0
      AND a.name IN ('report.jsonl', 'hitlog.jsonl')
      AND a.revision IN (SELECT t.composed_revision FROM tasks t
        WHERE t.project_id = $1 AND t.scan_id = $2 AND t.kind = 'PROBE' AND t.state = 'DONE')";

/// What a report is composed from.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportParts {
    /// The scan.
    pub scan: ScanId,
    /// The revision that is being made.
    pub revision: i32,
    /// In the scan's order.
    pub parts: Vec<ReportPart>,
    /// The scan's specification as proto3 JSON.
    pub spec: serde_json::Value,
    /// The threshold that its scores are held against.
    pub eval_threshold: f64,
}

/// Where the attempts of a probe lie.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeReport {
    /// A report, or a part of one.
    pub artifact: Artifact,
    /// The threshold that its scores were held against.
    pub eval_threshold: f64,
}

impl Store {
    /// The committed parts of the scan whose report this lease makes.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST; INVALID_ARGUMENT for a lease of another kind.
    pub async fn report_parts(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
    ) -> aegis_mesh::Result<ReportParts> {
        Ok(self.read_parts(project, lease).await?)
    }

    async fn read_parts(&self, project: &ProjectId, lease: &LeaseProof) -> Result<ReportParts> {
        // A writer, for the fence is a lock; on SQLite a reader may not even ask for one.
        let tx = self.write().await?;
        let report = tasks::fenced_shared(&tx, project, lease).await?;
        artifacts::of_report(&report)?;
        let scan = results::visible(&tx, project, report.scan).await?;
        let own = files(&tx, PARTS, &scan).await?;
        let composed = files(&tx, COMPOSED, &scan).await?;
        Ok(ReportParts {
            scan: scan.id,
            revision: report.revision,
            parts: parts(&tx, project, scan.id, own, composed).await?,
            spec: scan.spec,
            eval_threshold: scan.effective_eval_threshold,
        })
    }

    /// Committed files of a revision of a scan's report; 0 means the newest.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND, NOT_FOUND / REPORT_NOT_FOUND.
    pub async fn report_artifacts(
        &self,
        project: &ProjectId,
        id: ScanId,
        revision: i32,
    ) -> aegis_mesh::Result<Vec<Artifact>> {
        Ok(self.read_artifacts(project, id, revision).await?)
    }

    async fn read_artifacts(
        &self,
        project: &ProjectId,
        id: ScanId,
        revision: i32,
    ) -> Result<Vec<Artifact>> {
        let tx = self.read().await?;
        let scan = results::visible(&tx, project, id).await?;
        let revision = if revision == 0 {
            scan.report.ready_revision
        } else {
            revision
        };
        let files = committed(&tx, project, id, revision).await?;
        if files.is_empty() {
            return Err(no_report(id, revision).into());
        }
        Ok(files)
    }

    /// Where the attempts of a probe lie: the newest composed report, or its part until then.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND, NOT_FOUND / PROBE_NOT_EVALUATED.
    pub async fn locate(
        &self,
        project: &ProjectId,
        id: ScanId,
        probe: &str,
    ) -> aegis_mesh::Result<ProbeReport> {
        Ok(self.read_location(project, id, probe).await?)
    }

    async fn read_location(
        &self,
        project: &ProjectId,
        id: ScanId,
        probe: &str,
    ) -> Result<ProbeReport> {
        let tx = self.read().await?;
        let scan = results::visible(&tx, project, id).await?;
        let done = task::Entity::find()
            .filter(task::Column::ProjectId.eq(project.as_str()))
            .filter(task::Column::ScanId.eq(id.0))
            .filter(task::Column::Kind.eq(TaskKind::Probe.as_str()))
            .filter(task::Column::Probe.eq(probe))
            .filter(task::Column::State.eq(TaskState::Done.as_str()))
            .order_by_asc(task::Column::ShardIndex)
            .limit(1)
            .one(tx.conn())
            .await?;
        let artifact = match &done {
            Some(done) if done.composed_revision == 0 => part(&tx, project, done).await?,
            None => None,
            Some(_) if scan.report.ready_revision == 0 => {
                // Of an import there may be counts alone.
                return Err(no_report(id, 0).into());
            }
            Some(_) => {
                let files = committed(&tx, project, id, scan.report.ready_revision).await?;
                let mut files = files.into_iter();
                files.find(|file| file.name == ArtifactName::Report)
            }
        };
        let missing = || match done {
            Some(done) => Fault::Corrupt(format!("task {} has no report", done.id)),
            None => refusal::probe_not_evaluated(probe).into(),
        };
        Ok(ProbeReport {
            artifact: artifact.ok_or_else(missing)?,
            eval_threshold: scan.effective_eval_threshold,
        })
    }
}

async fn part(tx: &Tx, project: &ProjectId, task: &task::Model) -> Result<Option<Artifact>> {
    artifact::Entity::find()
        .filter(artifact::Column::ProjectId.eq(project.as_str()))
        .filter(artifact::Column::TaskId.eq(task.id))
        .filter(artifact::Column::Epoch.eq(task.epoch))
        .filter(artifact::Column::Name.eq(ArtifactName::Report.as_str()))
        .filter(artifact::Column::State.eq(ArtifactState::Committed.as_str()))
        .one(tx.conn())
        .await?
        .map(rows::artifact_of)
        .transpose()
}

async fn committed(
    tx: &Tx,
    project: &ProjectId,
    scan: ScanId,
    revision: i32,
) -> Result<Vec<Artifact>> {
    // Parts have revision 0, which is no report's.
    if revision <= 0 {
        return Ok(Vec::new());
    }
    let rows = artifact::Entity::find()
        .filter(artifact::Column::ProjectId.eq(project.as_str()))
        .filter(artifact::Column::ScanId.eq(scan.0))
        .filter(artifact::Column::Revision.eq(revision))
        .filter(artifact::Column::State.eq(ArtifactState::Committed.as_str()))
        .order_by(artifact::Column::Name, Order::Asc)
        .all(tx.conn())
        .await?;
    rows.into_iter().map(rows::artifact_of).collect()
}

async fn files(tx: &Tx, sql: &str, scan: &Scan) -> Result<Vec<Artifact>> {
    let statement = tx.dialect().statement(sql, key(&scan.project, scan.id.0));
    let rows = artifact::Entity::find()
        .from_raw_sql(statement)
        .all(tx.conn())
        .await?;
    rows.into_iter().map(rows::artifact_of).collect()
}

/// Where each probe that is done is read from, in the scan's order: its own part, or the first
/// revision of the report that has it.
async fn parts(
    tx: &Tx,
    project: &ProjectId,
    scan: ScanId,
    own: Vec<Artifact>,
    composed: Vec<Artifact>,
) -> Result<Vec<ReportPart>> {
    let mut own = by_name(own, |file| file.task);
    let composed = by_name(composed, |file| file.revision);
    let mut parts = Vec::new();
    for task in done(tx, project, scan).await? {
        let files = match task.composed_revision {
            0 => own.remove(&TaskId(task.id)),
            revision => composed.get(&revision).cloned(),
        };
        let missing = || Fault::Corrupt(format!("task {} has no report", task.id));
        let (report, hitlog) = files.unwrap_or_default();
        parts.push(ReportPart {
            probe: task.probe,
            report: report.ok_or_else(missing)?,
            hitlog,
        });
    }
    Ok(parts)
}

type ReportAndHitlog = (Option<Artifact>, Option<Artifact>);

/// Report and hitlog of each of them.
fn by_name<K: Eq + Hash>(
    files: impl IntoIterator<Item = Artifact>,
    key: impl Fn(&Artifact) -> K,
) -> HashMap<K, ReportAndHitlog> {
    let mut found = HashMap::<K, ReportAndHitlog>::new();
    for file in files {
        let place = found.entry(key(&file)).or_default();
        match file.name {
            ArtifactName::Report => place.0 = Some(file),
            ArtifactName::Hitlog => place.1 = Some(file),
            ArtifactName::Html | ArtifactName::Digest => {}
        }
    }
    found
}

/// Probes that are done, in the scan's order.
async fn done(tx: &Tx, project: &ProjectId, scan: ScanId) -> Result<Vec<task::Model>> {
    let tasks = task::Entity::find()
        .filter(task::Column::ProjectId.eq(project.as_str()))
        .filter(task::Column::ScanId.eq(scan.0))
        .filter(task::Column::Kind.eq(TaskKind::Probe.as_str()))
        .filter(task::Column::State.eq(TaskState::Done.as_str()))
        .order_by_asc(task::Column::Ordinal)
        .order_by_asc(task::Column::ShardIndex)
        .all(tx.conn())
        .await?;
    Ok(tasks)
}

fn no_report(id: ScanId, revision: i32) -> aegis_mesh::Error {
    aegis_mesh::Error::new(
        aegis_mesh::Code::NotFound,
        "REPORT_NOT_FOUND",
        format!("scan {id} has no report of revision {revision}"),
    )
    .with("scan_id", id)
    .with("revision", revision)
    .hint("wait until the scan has ended, or look at `report.state`")
}
