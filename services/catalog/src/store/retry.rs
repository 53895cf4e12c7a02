//! What was not evaluated is queued again, or the report alone.

use aegis_proto::ids::{ProjectId, ScanId};

use super::{Store, fault::Result, key, scans, settle, statistics, tasks, tx::Tx};
use crate::domain::{
    event::Log,
    ledger, refusal,
    scan::{ReportState, Scan, ScanState, ScanView},
    task::{TaskKind, TaskState},
};

/// All probes that could be evaluated and were not; what the plan knew to be hopeless stays.
const REQUEUE: &str = "
    UPDATE tasks SET
        state = 'QUEUED', failures = 0, not_before = $3, ended_at = NULL, reason = '', message = '',
        attempts_done = 0, attempts_total = planned_attempts, target_retries = 0
    WHERE project_id = $1 AND scan_id = $2 AND kind = 'PROBE'
      AND state IN ('FAILED', 'CANCELLED') AND NOT planned_out";

impl Store {
    /// Queues again what was not evaluated, or the report alone when only that is missing.
    /// Results and report that are there stay valid and visible meanwhile.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND; FAILED_PRECONDITION / SCAN_NOT_TERMINAL, NOTHING_TO_RETRY
    /// or SCAN_IMPORTED.
    pub async fn retry(&self, project: &ProjectId, id: ScanId) -> aegis_mesh::Result<ScanView> {
        self.writing(|| self.try_retry(project, id)).await?;
        self.get(project, id).await
    }

    async fn try_retry(&self, project: &ProjectId, id: ScanId) -> Result<()> {
        let mut tx = self.write().await?;
        let mut scan = scans::lock_own(&tx, project, id).await?;
        if !scan.state.is_terminal() {
            return Err(refusal::scan_not_terminal(id, scan.state).into());
        }
        let now = tx.now().await?;
        let mut log = Log::default();
        if !requeue(&tx, &mut scan, now).await? {
            if scan.evaluated == 0 || scan.report.state == ReportState::Ready {
                return Err(refusal::nothing_to_retry(id).into());
            }
            let revision = scan.report.ready_revision + 1;
            settle::queue_report(&tx, &mut scan, revision, now).await?;
        }
        let end = statistics::of_end(&scan).map(statistics::back);
        statistics::append(&tx, &scan, end.into_iter().collect()).await?;
        scan.failure = None;
        scan.cancel_requested_at = None;
        scan.waiting_noted = false;
        scan.move_to(ScanState::Pending, "RETRY", now, &mut log);
        scans::save(&mut tx, &mut scan, now, log).await?;
        tx.wake_queue();
        aegis_mesh::failpoint!(RETRY_WRITTEN);
        tx.commit().await?;
        aegis_mesh::failpoint!(RETRIED);
        Ok(())
    }
}

/// Whether there was anything to queue.
async fn requeue(tx: &Tx, scan: &mut Scan, now: i64) -> Result<bool> {
    let project = scan.project.clone();
    let ended = [TaskState::Failed, TaskState::Cancelled];
    let mut again = tasks::of_scan(tx, &project, scan.id, TaskKind::Probe, &ended).await?;
    again.retain(|task| !task.planned_out);
    if again.is_empty() {
        return Ok(false);
    }
    let mut lane = scans::lock_lane(tx, scan).await?;
    for task in &mut again {
        ledger::requeue(scan, Some(&mut lane), task, now);
    }
    let of_scan = key(&project, scan.id.0).into_iter();
    tx.execute(REQUEUE, of_scan.chain([now.into()])).await?;
    scans::save_lane(tx, &project, &lane).await?;
    Ok(true)
}
