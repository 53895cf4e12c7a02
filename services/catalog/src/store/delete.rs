//! A scan is hidden at once, can be restored for a while, and is purged later.

use aegis_proto::ids::{ProjectId, ScanId};

use super::{Store, fault::Result, scans};
use crate::domain::{
    event::Log,
    refusal,
    scan::{Scan, ScanView},
};

impl Store {
    /// Hides an ended scan. One that is deleted already is returned as it is.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND; FAILED_PRECONDITION / SCAN_NOT_TERMINAL while it runs.
    pub async fn delete(&self, project: &ProjectId, id: ScanId) -> aegis_mesh::Result<ScanView> {
        self.writing(|| self.try_delete(project, id)).await?;
        self.view(project, id).await
    }

    async fn try_delete(&self, project: &ProjectId, id: ScanId) -> Result<()> {
        let mut tx = self.write().await?;
        let scan = scans::lock(&tx, project, id).await?;
        let mut scan = scan.ok_or_else(|| refusal::scan_not_found(id))?;
        if scan.deleted_at.is_some() {
            return Ok(());
        }
        if !scan.state.is_terminal() {
            return Err(refusal::scan_not_terminal(id, scan.state).into());
        }
        let now = tx.now().await?;
        self.mark_deleted(&mut scan, now);
        scans::save(&mut tx, &mut scan, now, Log::default()).await?;
        tx.commit().await
    }

    /// Hides a scan that is locked; it is saved by the caller.
    pub(crate) fn mark_deleted(&self, scan: &mut Scan, now: i64) {
        let kept = self.inner.retention.deleted_scan.as_millis();
        scan.deleted_at = Some(now);
        scan.purge_at = Some(now.saturating_add(i64::try_from(kept).unwrap_or(i64::MAX)));
    }

    /// Brings a deleted scan back. One that is not deleted is returned as it is.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND, also from its purge time on.
    pub async fn undelete(&self, project: &ProjectId, id: ScanId) -> aegis_mesh::Result<ScanView> {
        self.writing(|| self.try_undelete(project, id)).await?;
        self.get(project, id).await
    }

    async fn try_undelete(&self, project: &ProjectId, id: ScanId) -> Result<()> {
        let mut tx = self.write().await?;
        let scan = scans::lock(&tx, project, id).await?;
        let mut scan = scan.ok_or_else(|| refusal::scan_not_found(id))?;
        let Some(purge_at) = scan.purge_at else {
            return Ok(());
        };
        let now = tx.now().await?;
        // From then on its files may be gone.
        if purge_at <= now {
            return Err(refusal::scan_not_found(id).into());
        }
        (scan.deleted_at, scan.purge_at) = (None, None);
        scans::save(&mut tx, &mut scan, now, Log::default()).await?;
        tx.commit().await
    }
}
