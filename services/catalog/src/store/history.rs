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
    scan::{NotEvaluated, ProbeProgress, Scan, ScanView},
    task::{Task, TaskKind, TaskState},
    waiting::{FAR, Waiting, WaitingReason},
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

const WAITS_FOR: &str = "
    SELECT waits_for FROM tasks
    WHERE project_id = $1 AND scan_id = $2 AND state = 'RUNNING' AND waits_for <> '' LIMIT 1";

/// Scans before this one in the order of the queue, counted up to a bound.
const AHEAD: &str = "
    SELECT (SELECT COUNT(*) FROM (
            SELECT 1 AS one FROM scans
            WHERE project_id = $1 AND queued > 0 AND in_flight = 0 AND state <> 'PAUSED'
              AND priority > $2 LIMIT $4) AS better)
        + (SELECT COUNT(*) FROM (
            SELECT 1 AS one FROM scans
            WHERE project_id = $1 AND queued > 0 AND in_flight = 0 AND state <> 'PAUSED'
              AND priority = $2 AND id < $3 LIMIT $4) AS older) AS ahead";

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
        self.wait_closer(&tx, &mut view).await?;
        Ok(view)
    }
}

impl Store {
    /// What a scan waits for, as its own page tells it.
    async fn wait_closer(&self, tx: &Tx, view: &mut ScanView) -> Result<()> {
        if view.scan.state.is_terminal() || view.scan.is_paused() {
            return Ok(());
        }
        if let Some(ill) = self.inner.hub.ill() {
            view.waiting = Some(ill.into());
            return Ok(());
        }
        if let Some(reason) = run_waits_for(tx, &view.scan).await? {
            view.waiting = Some(reason.into());
        }
        if let Some(waiting) = &mut view.waiting
            && waiting.reason == WaitingReason::Queued
        {
            waiting.place = place(tx, &view.scan).await?;
        }
        Ok(())
    }
}

/// What one of its runs waits for.
async fn run_waits_for(tx: &Tx, scan: &Scan) -> Result<Option<WaitingReason>> {
    if scan.running == 0 {
        return Ok(None);
    }
    let values = super::key(&scan.project, scan.id.0);
    let row = tx.one(WAITS_FOR, values).await?;
    let word: Option<String> = row.map(|row| row.try_get("", "waits_for")).transpose()?;
    Ok(word.as_deref().and_then(WaitingReason::of_run))
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
    let (silent, present) = circumstances(tx, project, &open).await?;
    let views = scans.into_iter().map(|scan| {
        let (done, beyond_plan) = attempts.get(&scan.id).copied().unwrap_or_default();
        let waiting = Waiting::of(
            &scan,
            silent.get(&scan.lane).copied(),
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

/// Lanes whose target does not answer, since when, and catalogues that a runner has.
async fn circumstances(
    tx: &Tx,
    project: &ProjectId,
    open: &[&Scan],
) -> Result<(HashMap<String, i64>, HashSet<String>)> {
    if open.is_empty() {
        return Ok((HashMap::new(), HashSet::new()));
    }
    let lanes: HashSet<&String> = open.iter().map(|scan| &scan.lane).collect();
    let silent = lane::Entity::find()
        .filter(lane::Column::ProjectId.eq(project.as_str()))
        .filter(lane::Column::Id.is_in(lanes))
        .filter(lane::Column::BackpressureSince.is_not_null())
        .all(tx.conn())
        .await?;
    let mut present = HashSet::new();
    let values = [project.as_str().into(), runners::PRESENT_FOR_MS.into()];
    for row in tx.all(CATALOGUES_PRESENT, values).await? {
        present.insert(row.try_get("", "plugin_catalogue")?);
    }
    let silent = silent
        .into_iter()
        .filter_map(|lane| Some((lane.id, lane.backpressure_since?)));
    Ok((silent.collect(), present))
}

/// Where the scan stands in the queue; `None` when only its report waits.
async fn place(tx: &Tx, scan: &Scan) -> Result<Option<i32>> {
    if scan.queued == 0 {
        return Ok(None);
    }
    let values: [Value; 4] = [
        scan.project.as_str().into(),
        scan.priority.into(),
        scan.id.0.into(),
        (FAR - 1).into(),
    ];
    let row = tx.one(AHEAD, values).await?;
    let ahead: i64 = row.map_or(Ok(0), |row| row.try_get("", "ahead"))?;
    Ok(Some(i32::try_from(ahead + 1).unwrap_or(FAR).min(FAR)))
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
