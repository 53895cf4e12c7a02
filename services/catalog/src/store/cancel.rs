//! A scan is cancelled: what waits ends at once, what runs is told to stop.

use aegis_proto::ids::{ProjectId, ScanId};

use super::{Store, fault::Result, scans, settle, tasks, tx::Tx};
use crate::domain::{
    event::Log,
    ledger,
    scan::{Scan, ScanState, ScanView},
    task::TaskKind,
};

impl Store {
    /// Cancels a scan. One that has ended, or is being cancelled, is returned unchanged.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND; FAILED_PRECONDITION / SCAN_IMPORTED.
    pub async fn cancel(
        &self,
        project: &ProjectId,
        id: ScanId,
        reason: &str,
    ) -> aegis_mesh::Result<ScanView> {
        self.writing(|| self.try_cancel(project, id, reason))
            .await?;
        self.get(project, id).await
    }

    async fn try_cancel(&self, project: &ProjectId, id: ScanId, reason: &str) -> Result<()> {
        let mut tx = self.write().await?;
        let mut scan = scans::lock_own(&tx, project, id).await?;
        if scan.state.is_terminal() || scan.is_cancel_requested() {
            return Ok(());
        }
        let now = tx.now().await?;
        let mut log = Log::default();
        let was_paused = scan.is_paused();
        scan.cancel_requested_at = Some(now);
        scan.move_to(ScanState::Cancelling, reason, now, &mut log);
        cancel_queued(&tx, &mut scan, was_paused, now, &mut log).await?;
        settle::settle(&tx, &mut scan, TaskKind::Probe, now, &mut log).await?;
        scans::save(&mut tx, &mut scan, now, log).await?;
        // A report may be waiting now, and the lane may have got room in its index.
        tx.wake_queue();
        aegis_mesh::failpoint!(CANCEL_WRITTEN);
        tx.commit().await?;
        aegis_mesh::failpoint!(CANCELLED);
        Ok(())
    }
}

async fn cancel_queued(
    tx: &Tx,
    scan: &mut Scan,
    was_paused: bool,
    now: i64,
    log: &mut Log,
) -> Result<()> {
    if scan.queued == 0 {
        return Ok(());
    }
    let project = scan.project.clone();
    let mut lane = scans::lock_lane(tx, scan).await?;
    if was_paused {
        ledger::unpause(scan, &mut lane);
    }
    // A report that waits is made: what was evaluated stays, and gets its report.
    let mut queued = tasks::queued(tx, scan).await?;
    for task in &mut queued {
        ledger::cancel_queued(scan, &mut lane, task, log);
    }
    tasks::end_queued(tx, scan, queued.last(), now).await?;
    scans::save_lane(tx, &project, &lane).await
}
