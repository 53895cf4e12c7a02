//! Scans as their users see them, with what is computed on reading.

use std::collections::{HashMap, HashSet};

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Value};

use super::{
    Store,
    entity::{lane, scan},
    fault::Result,
    rows, runners,
    tx::Tx,
};
use crate::domain::{
    refusal,
    scan::{NotEvaluated, ProbeProgress, Scan, ScanView, WaitingReason},
    task::{Task, TaskKind, TaskState},
};

/// Probes that a scan's progress names, at most.
const MAX_PROBES: usize = 500;

/// What runs of a scan now, beside what its row says of ended tasks.
const RUNNING_ATTEMPTS: &str = "
    SELECT scan_id,
        CAST(SUM(attempts_done) AS BIGINT) AS done,
        CAST(SUM(attempts_total - planned_attempts) AS BIGINT) AS beyond_plan
    FROM tasks
    WHERE project_id = $1 AND state = 'RUNNING' AND kind = 'PROBE' AND scan_id IN ({ids})
    GROUP BY scan_id";

/// Catalogues that some runner has.
const CATALOGUES_PRESENT: &str = "
    SELECT DISTINCT plugin_catalogue FROM runners
    WHERE project_id = $1 AND seen_at > {now} - $2";

impl Store {
    /// One scan with its probes and what was not evaluated.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND, also for one that is deleted.
    pub async fn get(&self, project: &ProjectId, id: ScanId) -> aegis_mesh::Result<ScanView> {
        let view = self.view(project, id).await?;
        if view.scan.deleted_at.is_some() {
            return Err(refusal::scan_not_found(id));
        }
        Ok(view)
    }

    /// One scan, deleted or not.
    pub(crate) async fn view(
        &self,
        project: &ProjectId,
        id: ScanId,
    ) -> aegis_mesh::Result<ScanView> {
        Ok(self.read_view(project, id).await?)
    }

    async fn read_view(&self, project: &ProjectId, id: ScanId) -> Result<ScanView> {
        let tx = self.read().await?;
        let row = scan::Entity::find_by_id((project.to_string(), id.0))
            .one(tx.conn())
            .await?
            .ok_or_else(|| refusal::scan_not_found(id))?;
        let views = with_computed(&tx, project, vec![rows::scan_of(row)?]).await?;
        let mut view = views
            .into_iter()
            .next()
            .ok_or_else(|| refusal::scan_not_found(id))?;
        let begun = [
            TaskState::Running,
            TaskState::Done,
            TaskState::Failed,
            TaskState::Cancelled,
        ];
        let tasks = super::tasks::of_scan(&tx, project, id, TaskKind::Probe, &begun).await?;
        view.not_evaluated = tasks.iter().filter_map(not_evaluated).collect();
        view.probes = tasks.into_iter().take(MAX_PROBES).map(progress).collect();
        Ok(view)
    }
}

/// Adds what is computed on reading, in a number of statements that does not depend on how
/// many scans there are.
pub(super) async fn with_computed(
    tx: &Tx,
    project: &ProjectId,
    scans: Vec<Scan>,
) -> Result<Vec<ScanView>> {
    let open: Vec<&Scan> = scans
        .iter()
        .filter(|scan| !scan.state.is_terminal())
        .collect();
    let attempts = running_attempts(tx, project, &open).await?;
    let (paused, present) = circumstances(tx, project, &open).await?;
    let views = scans.into_iter().map(|scan| {
        let (done, beyond_plan) = attempts.get(&scan.id).copied().unwrap_or_default();
        let waiting = WaitingReason::of(
            &scan,
            paused.contains(&scan.lane),
            present.contains(&scan.plugin_catalogue),
        );
        ScanView {
            waiting,
            attempts_done: scan.attempts_done + done,
            attempts_total: scan.attempts_total + beyond_plan,
            probes: Vec::new(),
            not_evaluated: Vec::new(),
            scan,
        }
    });
    Ok(views.collect())
}

async fn running_attempts(
    tx: &Tx,
    project: &ProjectId,
    open: &[&Scan],
) -> Result<HashMap<ScanId, (i64, i64)>> {
    let running: Vec<Value> = open
        .iter()
        .filter(|scan| scan.running > 0)
        .map(|scan| scan.id.0.into())
        .collect();
    let mut attempts = HashMap::new();
    if running.is_empty() {
        return Ok(attempts);
    }
    let ids: Vec<String> = (2..running.len() + 2).map(|n| format!("${n}")).collect();
    let sql = RUNNING_ATTEMPTS.replace("{ids}", &ids.join(", "));
    let values = std::iter::once(project.as_str().into()).chain(running);
    for row in tx.all(&sql, values).await? {
        let done = (row.try_get("", "done")?, row.try_get("", "beyond_plan")?);
        attempts.insert(ScanId(row.try_get("", "scan_id")?), done);
    }
    Ok(attempts)
}

/// Lanes that are paused, and catalogues that a runner has.
async fn circumstances(
    tx: &Tx,
    project: &ProjectId,
    open: &[&Scan],
) -> Result<(HashSet<String>, HashSet<String>)> {
    if !open.iter().any(|scan| scan.running == 0) {
        return Ok((HashSet::new(), HashSet::new()));
    }
    let now = tx.now().await?;
    let lanes: HashSet<&String> = open.iter().map(|scan| &scan.lane).collect();
    let paused = lane::Entity::find()
        .filter(lane::Column::ProjectId.eq(project.as_str()))
        .filter(lane::Column::Id.is_in(lanes))
        .filter(lane::Column::PausedUntil.gt(now))
        .all(tx.conn())
        .await?;
    let mut present = HashSet::new();
    let values = [project.as_str().into(), runners::PRESENT_FOR_MS.into()];
    for row in tx.all(CATALOGUES_PRESENT, values).await? {
        present.insert(row.try_get("", "plugin_catalogue")?);
    }
    Ok((paused.into_iter().map(|lane| lane.id).collect(), present))
}

fn not_evaluated(task: &Task) -> Option<NotEvaluated> {
    matches!(task.state, TaskState::Failed | TaskState::Cancelled).then(|| NotEvaluated {
        probe: task.probe.clone(),
        reason: task.reason.clone(),
        message: task.message.clone(),
    })
}

fn progress(task: Task) -> ProbeProgress {
    ProbeProgress {
        probe: task.probe,
        state: task.state.into(),
        attempts_done: task.progress.attempts_done,
        attempts_total: task.progress.attempts_total,
        target_retries: task.progress.target_retries,
    }
}
