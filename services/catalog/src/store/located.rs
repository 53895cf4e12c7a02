//! Where attempts lie, of one scan or of many, and what happened in a scan.

use std::collections::HashMap;

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Order,
};
use uuid::Uuid;

use super::{
    Store,
    entity::{artifact, scan_event},
    fault::{Fault, Result},
    key, results, rows,
    tx::Tx,
};
use crate::domain::{
    artifact::{Artifact, ArtifactName, ArtifactState},
    event::LoggedEvent,
};

/// Scans of a target that one call looks at.
pub const WALKED_SCANS: u64 = 500;
/// Events of a timeline at most.
const MAX_MOMENTS: u64 = 1_000;
/// Of all kinds, those that a timeline shows.
const MOMENTS: [&str; 7] = [
    "STATE_CHANGED",
    "PROBE_STARTED",
    "PROBE_EVALUATED",
    "PROBE_NOT_EVALUATED",
    "TASK_RETRIED",
    "REPORT_READY",
    "REPORT_FAILED",
];

/// Reports of probes that are done and in no composed report, in the scan's order.
const UNCOMPOSED: &str = "
    SELECT t.probe, a.id FROM tasks t
    JOIN artifacts a ON a.project_id = t.project_id AND a.task_id = t.id AND a.epoch = t.epoch
        AND a.state = 'COMMITTED' AND a.name = 'report.jsonl'
    WHERE t.project_id = $1 AND t.scan_id = $2 AND t.kind = 'PROBE' AND t.state = 'DONE'
        AND t.composed_revision = 0
    ORDER BY t.ordinal, t.shard_index";

/// A bounded walk over a target's scans, newest first, by the index that the history has for it; each
/// is looked up among the results by their key.
const WITH_HITS: &str = "
    SELECT s.id, s.created_at, s.ended_at, s.report_ready_revision, s.effective_eval_threshold,
        EXISTS (SELECT 1 FROM probe_results r
            WHERE r.project_id = s.project_id AND r.scan_id = s.id AND r.probe = $4
                AND (r.detector = $5 OR $5 = '') AND r.failed > 0)
        -- Of an import there may be counts alone.
        AND NOT (s.imported AND s.report_ready_revision = 0) AS has_hits
    FROM (
        SELECT * FROM scans
        WHERE project_id = $1 AND target_type = $2 AND target_name = $3 AND deleted_at IS NULL
            AND (created_at, id) < ($6, $7)
        ORDER BY created_at DESC, id DESC
        LIMIT $8
    ) s
    ORDER BY s.created_at DESC, s.id DESC";

/// A report, or a part of one.
#[derive(Debug, Clone, PartialEq)]
pub struct LocatedReport {
    /// Its row.
    pub artifact: Artifact,
    /// The probe that it is the part of; empty for a composed report.
    pub probe: String,
}

/// A scan's place in the order of creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanPosition {
    /// Unix milliseconds.
    pub created_at: i64,
    /// The scan.
    pub id: ScanId,
}

/// Which findings.
#[derive(Debug, Clone)]
pub struct FindingQuery {
    /// The target's type.
    pub target_type: String,
    /// The target's name.
    pub target_name: String,
    /// The probe.
    pub probe: String,
    /// Empty is any.
    pub detector: String,
    /// Older than this one.
    pub after: Option<ScanPosition>,
    /// Scans at most.
    pub limit: usize,
}

/// A scan in which the probe hit something.
#[derive(Debug, Clone, PartialEq)]
pub struct FindingReport {
    /// Where its attempts lie.
    pub artifact: Artifact,
    /// The threshold that its scores were held against.
    pub eval_threshold: f64,
    /// The scan.
    pub position: ScanPosition,
    /// Unix milliseconds; `None` while it goes on.
    pub ended_at: Option<i64>,
}

#[derive(FromQueryResult)]
struct Walked {
    id: Uuid,
    created_at: i64,
    ended_at: Option<i64>,
    report_ready_revision: i32,
    effective_eval_threshold: f64,
    has_hits: bool,
}

impl Store {
    /// The composed report of a scan, then the parts that are not in it, and the threshold.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND.
    pub async fn locate_all(
        &self,
        project: &ProjectId,
        id: ScanId,
    ) -> aegis_mesh::Result<(Vec<LocatedReport>, f64)> {
        Ok(self.read_all_locations(project, id).await?)
    }

    async fn read_all_locations(
        &self,
        project: &ProjectId,
        id: ScanId,
    ) -> Result<(Vec<LocatedReport>, f64)> {
        let tx = self.read().await?;
        let scan = results::visible(&tx, project, id).await?;
        let revision = scan.report.ready_revision;
        let composed = composed(&tx, project, &[(id.0, revision)]).await?;
        let composed = composed.into_values().map(|artifact| LocatedReport {
            artifact,
            probe: String::new(),
        });
        let mut located: Vec<_> = composed.collect();
        let parts = tx.all(UNCOMPOSED, key(project, id.0)).await?;
        let probes = parts
            .iter()
            .map(|row| Ok((row.try_get("", "id")?, row.try_get("", "probe")?)))
            .collect::<Result<Vec<(Uuid, String)>>>()?;
        let mut rows = by_id(&tx, project, probes.iter().map(|(id, _)| *id)).await?;
        let parts = probes.into_iter().filter_map(|(id, probe)| {
            let artifact = rows.remove(&id)?;
            Some(LocatedReport { artifact, probe })
        });
        located.extend(parts);
        Ok((located, scan.effective_eval_threshold))
    }

    /// Scans of a target in which a probe hit something, newest first, and where to go on when
    /// there may be more. Looks at [`WALKED_SCANS`] scans at most.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn finding_reports(
        &self,
        project: &ProjectId,
        query: &FindingQuery,
    ) -> aegis_mesh::Result<(Vec<FindingReport>, Option<ScanPosition>)> {
        Ok(self.read_finding_reports(project, query).await?)
    }

    async fn read_finding_reports(
        &self,
        project: &ProjectId,
        query: &FindingQuery,
    ) -> Result<(Vec<FindingReport>, Option<ScanPosition>)> {
        let tx = self.read().await?;
        let after = query.after.unwrap_or(ScanPosition {
            created_at: i64::MAX,
            id: ScanId(Uuid::max()),
        });
        let values = [
            project.as_str().into(),
            query.target_type.as_str().into(),
            query.target_name.as_str().into(),
            query.probe.as_str().into(),
            query.detector.as_str().into(),
            after.created_at.into(),
            after.id.0.into(),
            (WALKED_SCANS as i64).into(),
        ];
        let walked = tx.all(WITH_HITS, values).await?;
        let walked = walked.iter().map(|row| Walked::from_query_result(row, ""));
        let walked = walked.collect::<Result<Vec<_>, _>>()?;
        let hits = walked.iter().enumerate().filter(|(_, scan)| scan.has_hits);
        let chosen: Vec<_> = hits.take(query.limit).collect();
        // Where the walk ended, or where the page was full.
        let last = match chosen.last() {
            Some((place, _)) if chosen.len() == query.limit => *place,
            _ => walked.len().saturating_sub(1),
        };
        let is_end = last + 1 >= walked.len() && (walked.len() as u64) < WALKED_SCANS;
        let next = walked.get(last).filter(|_| !is_end).map(Walked::position);
        let scans: Vec<&Walked> = chosen.into_iter().map(|(_, scan)| scan).collect();
        Ok((self.with_reports(&tx, project, query, &scans).await?, next))
    }

    /// A part is newer than a report that it is not in.
    async fn with_reports(
        &self,
        tx: &Tx,
        project: &ProjectId,
        query: &FindingQuery,
        scans: &[&Walked],
    ) -> Result<Vec<FindingReport>> {
        let mut parts = parts(tx, project, &query.probe, scans.iter().map(|scan| scan.id)).await?;
        let revisions: Vec<_> = scans
            .iter()
            .map(|scan| (scan.id, scan.report_ready_revision))
            .collect();
        let mut composed = composed(tx, project, &revisions).await?;
        let found = scans.iter().map(|scan| {
            let artifact = parts.remove(&scan.id).or_else(|| composed.remove(&scan.id));
            let missing = || Fault::Corrupt(format!("scan {} has hits and no report", scan.id));
            Ok(FindingReport {
                artifact: artifact.ok_or_else(missing)?,
                eval_threshold: scan.effective_eval_threshold,
                position: scan.position(),
                ended_at: scan.ended_at,
            })
        });
        found.collect()
    }

    /// What happened in a scan, in its order: the first 1,000 events that matter.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND.
    pub async fn moments(
        &self,
        project: &ProjectId,
        id: ScanId,
    ) -> aegis_mesh::Result<Vec<LoggedEvent>> {
        Ok(self.read_moments(project, id).await?)
    }

    async fn read_moments(&self, project: &ProjectId, id: ScanId) -> Result<Vec<LoggedEvent>> {
        let tx = self.read().await?;
        results::visible(&tx, project, id).await?;
        let events = scan_event::Entity::find()
            .filter(scan_event::Column::ProjectId.eq(project.as_str()))
            .filter(scan_event::Column::ScanId.eq(id.0))
            .filter(scan_event::Column::Kind.is_in(MOMENTS))
            .order_by(scan_event::Column::Sequence, Order::Asc)
            .limit(MAX_MOMENTS)
            .all(tx.conn())
            .await?;
        events.into_iter().map(rows::event_of).collect()
    }
}

impl Walked {
    fn position(&self) -> ScanPosition {
        ScanPosition {
            created_at: self.created_at,
            id: ScanId(self.id),
        }
    }
}

/// The report of each scan in the revision given, by scan.
async fn composed(
    tx: &Tx,
    project: &ProjectId,
    revisions: &[(Uuid, i32)],
) -> Result<HashMap<Uuid, Artifact>> {
    let ready: HashMap<Uuid, i32> = revisions.iter().copied().filter(|of| of.1 > 0).collect();
    if ready.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = artifact::Entity::find()
        .filter(artifact::Column::ProjectId.eq(project.as_str()))
        .filter(artifact::Column::ScanId.is_in(ready.keys().copied()))
        .filter(artifact::Column::Revision.gt(0))
        .filter(artifact::Column::Name.eq(ArtifactName::Report.as_str()))
        .filter(artifact::Column::State.eq(ArtifactState::Committed.as_str()))
        .all(tx.conn())
        .await?;
    let newest = rows
        .into_iter()
        .filter(|row| ready.get(&row.scan_id) == Some(&row.revision));
    newest
        .map(|row| Ok((row.scan_id, rows::artifact_of(row)?)))
        .collect()
}

/// The part of a probe of each scan that has one which is in no composed report, by scan.
async fn parts(
    tx: &Tx,
    project: &ProjectId,
    probe: &str,
    scans: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Artifact>> {
    use super::entity::task;
    use crate::domain::task::{TaskKind, TaskState};
    let tasks = task::Entity::find()
        .filter(task::Column::ProjectId.eq(project.as_str()))
        .filter(task::Column::ScanId.is_in(scans))
        .filter(task::Column::Kind.eq(TaskKind::Probe.as_str()))
        .filter(task::Column::Probe.eq(probe))
        .filter(task::Column::State.eq(TaskState::Done.as_str()))
        .filter(task::Column::ComposedRevision.eq(0))
        .order_by_desc(task::Column::ShardIndex)
        .all(tx.conn())
        .await?;
    let epochs: HashMap<Uuid, i64> = tasks.iter().map(|task| (task.id, task.epoch)).collect();
    if epochs.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = artifact::Entity::find()
        .filter(artifact::Column::ProjectId.eq(project.as_str()))
        .filter(artifact::Column::TaskId.is_in(epochs.keys().copied()))
        .filter(artifact::Column::Name.eq(ArtifactName::Report.as_str()))
        .filter(artifact::Column::State.eq(ArtifactState::Committed.as_str()))
        .all(tx.conn())
        .await?;
    let of_done = rows.into_iter().map(rows::artifact_of);
    let mut parts = HashMap::new();
    for part in of_done {
        let part = part?;
        if epochs.get(&part.task.0) == Some(&part.epoch.0) {
            parts.insert(part.scan.0, part);
        }
    }
    Ok(parts)
}

async fn by_id(
    tx: &Tx,
    project: &ProjectId,
    ids: impl Iterator<Item = Uuid>,
) -> Result<HashMap<Uuid, Artifact>> {
    let rows = artifact::Entity::find()
        .filter(artifact::Column::ProjectId.eq(project.as_str()))
        .filter(artifact::Column::Id.is_in(ids))
        .all(tx.conn())
        .await?;
    rows.into_iter()
        .map(|row| Ok((row.id, rows::artifact_of(row)?)))
        .collect()
}
