//! A scan is made: idempotency row, lane, scan, tasks and first events, or nothing of it.

use aegis_proto::ids::{Epoch, ProjectId, ScanId, TaskId};
use sea_orm::{ActiveModelTrait, EntityTrait, Set, Value};

use super::{
    Store, custom_probes,
    entity::{idempotency, task},
    fault::{Fault, Result},
    rows, scan_keys, scans, settle,
    tx::Tx,
};
use crate::domain::{
    event::{Event, Log},
    ledger, refusal,
    scan::{IdempotencyKey, NewScan, ReportStatus, Scan, ScanState, ScanView, Totals},
    task::{NewTask, Task, TaskKind, TaskProgress, TaskState},
};

/// A task has 32 values; PostgreSQL takes 65,535 in a statement, SQLite 32,766.
const TASKS_PER_INSERT: usize = 500;

/// A row past its time is as good as none.
const FORGET: &str = "
    DELETE FROM idempotency
    WHERE project_id = $1 AND method = $2 AND request_id = $3 AND expires_at <= {now}";

/// Of two requests at once one inserts; the other waits for its commit here and inserts nothing.
const CLAIM: &str = "
    INSERT INTO idempotency (project_id, method, request_id, request_sha256, scan_id, expires_at)
    VALUES ($1, $2, $3, $4, $5, {now} + $6)
    ON CONFLICT (project_id, method, request_id) DO NOTHING";

/// The lane of the target, shared by all its scans. The newest plan's limit holds.
const JOIN_LANE: &str = "
    INSERT INTO lanes (project_id, id, max_in_flight, queued) VALUES ($1, $2, $3, $4)
    ON CONFLICT (project_id, id) DO UPDATE SET
        max_in_flight = excluded.max_in_flight, queued = lanes.queued + excluded.queued";

impl Store {
    /// The scan that this request made before, if it did.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / REQUEST_ID_REUSED when it had other content.
    pub async fn find_by_request(
        &self,
        project: &ProjectId,
        key: &IdempotencyKey,
    ) -> aegis_mesh::Result<Option<ScanView>> {
        if key.request_id.is_empty() {
            return Ok(None);
        }
        let tx = self.read().await?;
        let row = idempotency::Entity::find_by_id((
            project.to_string(),
            key.method.clone(),
            key.request_id.clone(),
        ))
        .one(tx.conn())
        .await
        .map_err(Fault::from)?;
        let Some(row) = row else { return Ok(None) };
        if row.expires_at <= tx.now().await? {
            return Ok(None);
        }
        if row.request_sha256 != key.request_sha256 {
            return Err(refusal::request_id_reused(&key.request_id));
        }
        drop(tx);
        self.view(project, ScanId(row.scan_id)).await.map(Some)
    }

    /// Makes a scan. The same request made again gives the same scan.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / REQUEST_ID_REUSED when the request had other content before.
    pub async fn create(&self, project: &ProjectId, new: &NewScan) -> aegis_mesh::Result<ScanView> {
        if let Some(view) = self.find_by_request(project, &new.key).await? {
            return Ok(view);
        }
        let made = self.writing(|| self.try_create(project, new)).await?;
        match made {
            Some(id) => self.view(project, id).await,
            // Another request with this id came first, and is committed.
            None => match self.find_by_request(project, &new.key).await? {
                Some(view) => Ok(view),
                None => Err(aegis_mesh::Error::aborted(
                    "CONCURRENT_WRITE",
                    "another request with this request_id is under way; send it again",
                )),
            },
        }
    }

    async fn try_create(&self, project: &ProjectId, new: &NewScan) -> Result<Option<ScanId>> {
        let mut tx = self.write().await?;
        let id = ScanId::generate();
        if !self.claim(&tx, project, &new.key, id).await? {
            return Ok(None);
        }
        custom_probes::require_usable(&tx, project, &new.custom_probes).await?;
        let now = tx.now().await?;
        let mut scan = fresh_scan(project, id, new, now);
        let mut log = Log::default();
        log.of_scan(Event::StateChanged {
            from: None,
            to: ScanState::Pending,
            reason: String::new(),
        });
        let tasks = plan_tasks(&mut scan, new, now, &mut log);
        let join = [
            project.as_str().into(),
            new.lane.key.as_str().into(),
            new.lane.max_in_flight.into(),
            scan.queued.into(),
        ];
        tx.execute(JOIN_LANE, join).await?;
        rows::new_scan(&scan)?.insert(tx.conn()).await?;
        insert_tasks(&tx, tasks).await?;
        let probes = new.tasks.iter().map(|task| task.probe.as_str());
        scan_keys::add(&tx, &scan, probes).await?;
        settle::settle(&tx, &mut scan, TaskKind::Probe, now, &mut log).await?;
        scans::save(&mut tx, &mut scan, now, log).await?;
        tx.wake_queue();
        aegis_mesh::failpoint!(CREATE_WRITTEN);
        tx.commit().await?;
        aegis_mesh::failpoint!(CREATED);
        Ok(Some(id))
    }

    async fn claim(
        &self,
        tx: &Tx,
        project: &ProjectId,
        key: &IdempotencyKey,
        scan: ScanId,
    ) -> Result<bool> {
        if key.request_id.is_empty() {
            return Ok(true);
        }
        let name: [Value; 3] = [
            project.as_str().into(),
            key.method.as_str().into(),
            key.request_id.as_str().into(),
        ];
        tx.execute(FORGET, name.clone()).await?;
        let kept_ms =
            i64::try_from(self.inner.retention.request.as_millis()).unwrap_or(i64::MAX / 2);
        let rest: [Value; 3] = [
            key.request_sha256.as_str().into(),
            scan.0.into(),
            kept_ms.into(),
        ];
        let claimed = tx.execute(CLAIM, name.into_iter().chain(rest)).await?;
        Ok(claimed == 1)
    }
}

fn fresh_scan(project: &ProjectId, id: ScanId, new: &NewScan, now: i64) -> Scan {
    Scan {
        project: project.clone(),
        id,
        display_name: new.display_name.clone(),
        spec: new.spec.clone(),
        target_type: new.target_type.clone(),
        target_name: new.target_name.clone(),
        priority: new.priority,
        labels: new.labels.clone(),
        garak_version: new.garak_version.clone(),
        plugin_catalogue: new.plugin_catalogue.clone(),
        effective_seed: new.effective_seed,
        effective_eval_threshold: new.effective_eval_threshold,
        max_in_flight: new.max_in_flight,
        lane: new.lane.key.clone(),
        created_by: new.created_by.clone(),
        state: ScanState::Pending,
        cancel_requested_at: None,
        paused_at: None,
        in_flight: 0,
        queued: 0,
        running: 0,
        report_queued: false,
        waiting_noted: false,
        planned: i32::try_from(new.tasks.len()).unwrap_or(i32::MAX),
        evaluated: 0,
        not_evaluated: 0,
        totals: Totals::default(),
        attempts_done: 0,
        attempts_total: 0,
        report: ReportStatus::default(),
        failure: None,
        last_sequence: 0,
        created_at: now,
        started_at: None,
        ended_at: None,
        deleted_at: None,
        purge_at: None,
        template: new.template.clone(),
        template_version: new.template_version,
        defcon: None,
        custom_probes: new.custom_probes.clone(),
        imported: false,
        original: None,
    }
}

/// The scan's tasks. Those that are known not to be evaluable never run: they are in the
/// coverage from the start.
fn plan_tasks(scan: &mut Scan, new: &NewScan, now: i64, log: &mut Log) -> Vec<task::ActiveModel> {
    let mut tasks = Vec::with_capacity(new.tasks.len());
    for planned in &new.tasks {
        let mut task = fresh_task(scan, planned, new.max_failures, now);
        match &planned.not_evaluated {
            None => {
                scan.queued += 1;
                scan.attempts_total += task.planned_attempts;
            }
            Some((reason, message)) => ledger::end_without_results(
                scan,
                &mut task,
                TaskState::Failed,
                reason.clone(),
                message.clone(),
                log,
            ),
        }
        tasks.push(new_task(scan, planned, &task, now));
    }
    tasks
}

fn fresh_task(scan: &Scan, planned: &NewTask, max_failures: i32, now: i64) -> Task {
    let planned_out = planned.not_evaluated.is_some();
    let planned_attempts = if planned_out {
        0
    } else {
        planned.planned_attempts
    };
    Task {
        id: TaskId::generate(),
        scan: scan.id,
        kind: TaskKind::Probe,
        probe: planned.probe.clone(),
        shard_index: planned.shard_index,
        shard_count: planned.shard_count,
        detectors: planned.detectors.clone(),
        revision: 0,
        planned_attempts,
        planned_out,
        state: TaskState::Queued,
        epoch: Epoch(0),
        failures: 0,
        max_failures,
        not_before: now,
        granted: 0,
        progress: TaskProgress {
            attempts_total: planned_attempts,
            ..TaskProgress::default()
        },
        reason: String::new(),
        message: String::new(),
        tags: planned.tags.clone(),
    }
}

fn new_task(scan: &Scan, planned: &NewTask, task: &Task, now: i64) -> task::ActiveModel {
    task::ActiveModel {
        project_id: Set(scan.project.to_string()),
        id: Set(task.id.0),
        scan_id: Set(scan.id.0),
        lane_id: Set(Some(scan.lane.clone())),
        kind: Set(task.kind.as_str().to_owned()),
        probe: Set(task.probe.clone()),
        shard_index: Set(task.shard_index),
        shard_count: Set(task.shard_count),
        revision: Set(0),
        ordinal: Set(planned.ordinal),
        planned_calls: Set(planned.planned_calls),
        planned_attempts: Set(task.planned_attempts),
        detectors: Set(task.detectors.clone().into()),
        tags: Set(task.tags.clone().into()),
        planned_out: Set(task.planned_out),
        state: Set(task.state.as_str().to_owned()),
        epoch: Set(0),
        failures: Set(0),
        max_failures: Set(task.max_failures),
        not_before: Set(now),
        granted: Set(0),
        lease_runner: Set(None),
        lease_request_id: Set(None),
        lease_token_hash: Set(None),
        lease_expires_at: Set(None),
        attempts_done: Set(0),
        attempts_total: Set(task.progress.attempts_total),
        target_retries: Set(0),
        last_source_sequence: Set(0),
        composed_revision: Set(0),
        reason: Set(task.reason.clone()),
        message: Set(task.message.clone()),
        ended_at: Set((task.state != TaskState::Queued).then_some(now)),
    }
}

pub(crate) async fn insert_tasks(tx: &Tx, mut tasks: Vec<task::ActiveModel>) -> Result<()> {
    while !tasks.is_empty() {
        let rest = tasks.split_off(tasks.len().min(TASKS_PER_INSERT));
        task::Entity::insert_many(tasks)
            .exec_without_returning(tx.conn())
            .await?;
        tasks = rest;
    }
    Ok(())
}
