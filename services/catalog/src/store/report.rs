//! Heartbeat, progress and log in one; and what the runner is to do.

use std::time::Duration;

use aegis_proto::ids::ProjectId;
use sea_orm::{QueryResult, Value};

use super::{Store, fault::Result, scans, tasks, tx::Tx};
use crate::domain::{
    event::{Event, Log, Source},
    refusal,
    task::{Directive, LeaseProof, TaskProgress},
    waiting::WaitingReason,
};

/// The heartbeat: one fenced statement, without the scan's lock. Progress is a last value; a
/// total that is not known keeps the planned one. An expired lease that nobody has reclaimed
/// is renewed: the fence decides, never the clock.
const REPORT: &str = "
    UPDATE tasks SET
        lease_expires_at = {now} + $6,
        attempts_done = COALESCE($7, attempts_done),
        attempts_total = CASE WHEN $8 > 0 THEN $8 ELSE attempts_total END,
        target_retries = COALESCE($9, target_retries),
        waits_for = COALESCE($11, waits_for),
        last_source_sequence = CASE WHEN $10 > last_source_sequence THEN $10 ELSE last_source_sequence END
    WHERE project_id = $1 AND id = $2 AND scan_id = $3 AND {fence}
    RETURNING kind, last_source_sequence, lease_runner,
        (SELECT s.cancel_requested_at FROM scans s
         WHERE s.project_id = tasks.project_id AND s.id = tasks.scan_id) AS cancel_requested_at,
        (SELECT CASE WHEN l.backpressure_since <= r.started_at AND attempts_done > 0
                THEN 1 ELSE 0 END
         FROM lanes l JOIN task_runs r ON r.project_id = tasks.project_id
            AND r.task_id = tasks.id AND r.epoch = tasks.epoch
         WHERE l.project_id = tasks.project_id AND l.id = tasks.lane_id) AS target_is_back";

/// The target answers a run that began after it had stopped to: all may run again.
const TARGET_IS_BACK: &str = "
    UPDATE lanes SET backpressure_since = NULL, paused_until = 0, has_answered = TRUE
    WHERE project_id = $1 AND backpressure_since IS NOT NULL
      AND id = (SELECT lane_id FROM tasks WHERE project_id = $1 AND id = $2)";

/// What the runner is to do, without renewing anything.
const DIRECTIVE: &str = "
    SELECT kind,
        (SELECT s.cancel_requested_at FROM scans s
         WHERE s.project_id = tasks.project_id AND s.id = tasks.scan_id) AS cancel_requested_at
    FROM tasks WHERE project_id = $1 AND id = $2 AND scan_id = $3 AND {fence}";

/// What a runner says while it works.
#[derive(Debug, Clone)]
pub struct ReportCall {
    /// The proof.
    pub lease: LeaseProof,
    /// Last values; `None` leaves them.
    pub progress: Option<TaskProgress>,
    /// What keeps the run from handing in what it has; taken with `progress`.
    pub waits_for: Option<WaitingReason>,
    /// Detectors that are through, each with the runner's own number of the event.
    pub detectors_finished: Vec<(i64, String)>,
    /// How long the lease holds from now.
    pub ttl_ms: i64,
}

/// What the runner is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// What to do.
    pub directive: Directive,
    /// Events up to here are durable.
    pub committed_source_sequence: i64,
}

impl Store {
    /// Renews the lease, keeps progress, appends events that are new.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST.
    pub async fn report(
        &self,
        project: &ProjectId,
        call: &ReportCall,
    ) -> aegis_mesh::Result<Reported> {
        self.writing(|| self.try_report(project, call)).await
    }

    async fn try_report(&self, project: &ProjectId, call: &ReportCall) -> Result<Reported> {
        let mut tx = self.write().await?;
        // The lock order: the scan first. Without events its lock is not needed.
        let logged = if call.detectors_finished.is_empty() {
            0
        } else {
            append(&mut tx, project, call).await?
        };
        let row = heartbeat(&tx, project, call, logged).await?;
        let row = row.ok_or_else(refusal::lease_lost)?;
        tx.wake_scan(call.lease.scan);
        let committed_source_sequence = row.try_get("", "last_source_sequence")?;
        let directive = directive_of(&row)?;
        let target_is_back: Option<i32> = row.try_get("", "target_is_back")?;
        let runner: String = row.try_get("", "lease_runner")?;
        aegis_mesh::failpoint!(REPORT_WRITTEN);
        tx.commit().await?;
        aegis_mesh::failpoint!(REPORTED);
        self.heard_of_runner(project, &runner).await?;
        if target_is_back == Some(1) {
            self.open_lane(project, &call.lease).await?;
        }
        Ok(Reported {
            directive,
            committed_source_sequence,
        })
    }

    /// In a transaction of its own: the lock order is lane before task. When it does not come to
    /// that, the next heartbeat sees it again.
    async fn open_lane(&self, project: &ProjectId, lease: &LeaseProof) -> Result<()> {
        let mut tx = self.write().await?;
        tx.execute(TARGET_IS_BACK, super::key(project, lease.task.0))
            .await?;
        tx.wake_queue();
        tx.wake_scan(lease.scan);
        tx.commit().await
    }

    /// What the runner is to do; waits up to `wait` until that is no longer to go on.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST.
    pub async fn await_directive(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
        wait: Duration,
    ) -> aegis_mesh::Result<Directive> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut listener = self.inner.hub.scan(lease.scan);
        loop {
            let directive = self.directive(project, lease).await?;
            if directive != Directive::Continue {
                return Ok(directive);
            }
            let poll = self.inner.hub.poll();
            if !super::watch::wait(listener.changed(), poll, deadline).await {
                return Ok(directive);
            }
        }
    }

    async fn directive(&self, project: &ProjectId, lease: &LeaseProof) -> Result<Directive> {
        let row = self.query(DIRECTIVE, fence(project, lease)).await?;
        match row {
            // Without the fence nobody is told that his run is another's.
            None if !super::fence::IS_UP => Ok(Directive::Continue),
            row => directive_of(&row.ok_or_else(refusal::lease_lost)?),
        }
    }
}

async fn heartbeat(
    tx: &Tx,
    project: &ProjectId,
    call: &ReportCall,
    logged: i64,
) -> Result<Option<QueryResult>> {
    let progress = call.progress;
    let waits_for = call.waits_for.map_or("", WaitingReason::as_str);
    let values: [Value; 6] = [
        call.ttl_ms.into(),
        progress.map(|progress| progress.attempts_done).into(),
        progress.map(|progress| progress.attempts_total).into(),
        progress.map(|progress| progress.target_retries).into(),
        logged.into(),
        progress.map(|_| waits_for).into(),
    ];
    let fence = fence(project, &call.lease).into_iter();
    tx.one(REPORT, fence.chain(values)).await
}

/// Appends the events that are new; the number of the last one.
async fn append(tx: &mut Tx, project: &ProjectId, call: &ReportCall) -> Result<i64> {
    let lease = &call.lease;
    let scan = scans::lock(tx, project, lease.scan).await?;
    let mut scan = scan.ok_or_else(refusal::lease_lost)?;
    let row = tasks::fenced(tx, project, lease).await?;
    let row = row.ok_or_else(refusal::lease_lost)?;
    let mut log = Log::default();
    let mut last = row.last_source_sequence;
    for (sequence, detector) in &call.detectors_finished {
        if *sequence <= last {
            continue;
        }
        last = *sequence;
        let source = Source {
            task: lease.task,
            epoch: lease.epoch,
            sequence: Some(last),
        };
        let finished = Event::DetectorFinished {
            probe: row.probe.clone(),
            detector: detector.clone(),
        };
        log.push(source, finished);
    }
    if !log.events().is_empty() {
        let now = tx.now().await?;
        scans::save(tx, &mut scan, now, log).await?;
    }
    Ok(last)
}

fn fence(project: &ProjectId, lease: &LeaseProof) -> [Value; 5] {
    [
        project.as_str().into(),
        lease.task.0.into(),
        lease.scan.0.into(),
        lease.epoch.0.into(),
        tasks::token_hash(&lease.token).into(),
    ]
}

fn directive_of(row: &QueryResult) -> Result<Directive> {
    let kind: String = row.try_get("", "kind")?;
    let cancel: Option<i64> = row.try_get("", "cancel_requested_at")?;
    Ok(Directive::of(kind.parse()?, cancel.is_some()))
}
