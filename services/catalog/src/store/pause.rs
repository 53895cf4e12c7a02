//! A scan is paused: nothing new of it is leased, and what runs goes on. And resumed.

use aegis_proto::ids::{ProjectId, ScanId};

use super::{Store, fault::Result, scans};
use crate::domain::{
    event::Log,
    ledger,
    scan::{ScanState, ScanView},
};

impl Store {
    /// Pauses a scan. One that has ended, is paused or being cancelled, or has no probe left that
    /// waits or runs, is returned unchanged.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND; FAILED_PRECONDITION / SCAN_IMPORTED.
    pub async fn pause(
        &self,
        project: &ProjectId,
        id: ScanId,
        reason: &str,
    ) -> aegis_mesh::Result<ScanView> {
        self.writing(|| self.try_pause(project, id, reason)).await?;
        self.get(project, id).await
    }

    /// Resumes a paused scan. Any other is returned unchanged.
    ///
    /// # Errors
    /// As [`Store::pause`].
    pub async fn resume(&self, project: &ProjectId, id: ScanId) -> aegis_mesh::Result<ScanView> {
        self.writing(|| self.try_resume(project, id)).await?;
        self.get(project, id).await
    }

    async fn try_pause(&self, project: &ProjectId, id: ScanId, reason: &str) -> Result<()> {
        let mut tx = self.write().await?;
        let mut scan = scans::lock_own(&tx, project, id).await?;
        let goes_on = matches!(scan.state, ScanState::Pending | ScanState::Running);
        if !goes_on || !scan.has_open_probes() {
            return Ok(());
        }
        let now = tx.now().await?;
        let mut log = Log::default();
        let mut lane = scans::lock_lane(&tx, &scan).await?;
        ledger::pause(&mut scan, &mut lane, reason, now, &mut log);
        scans::save_lane(&tx, project, &lane).await?;
        scans::save(&mut tx, &mut scan, now, log).await?;
        tx.commit().await
    }

    async fn try_resume(&self, project: &ProjectId, id: ScanId) -> Result<()> {
        let mut tx = self.write().await?;
        let mut scan = scans::lock_own(&tx, project, id).await?;
        if !scan.is_paused() {
            return Ok(());
        }
        let now = tx.now().await?;
        let mut log = Log::default();
        let mut lane = scans::lock_lane(&tx, &scan).await?;
        ledger::resume(&mut scan, &mut lane, now, &mut log);
        scans::save_lane(&tx, project, &lane).await?;
        scans::save(&mut tx, &mut scan, now, log).await?;
        tx.wake_queue();
        tx.commit().await
    }
}
