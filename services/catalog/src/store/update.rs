//! What a user may edit of a scan: its name and its labels.

use std::collections::BTreeMap;

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, Set};

use super::{Store, entity::scan, fault::Result, scan_keys, scans};
use crate::domain::{
    refusal,
    scan::{Scan, ScanView},
};

/// A change; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct ScanEdit {
    /// The new name.
    pub display_name: Option<String>,
    /// In place of all labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// The etag of the scan as it was read; empty: any.
    pub etag: String,
}

impl Store {
    /// Changes what a user may edit.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND, also for one that is deleted; ABORTED / SCAN_CHANGED when it
    /// is not as it was read.
    pub async fn update(
        &self,
        project: &ProjectId,
        id: ScanId,
        edit: &ScanEdit,
    ) -> aegis_mesh::Result<ScanView> {
        self.writing(|| self.try_update(project, id, edit)).await?;
        self.get(project, id).await
    }

    async fn try_update(&self, project: &ProjectId, id: ScanId, edit: &ScanEdit) -> Result<()> {
        let tx = self.write().await?;
        let mut scan: Scan = scans::lock(&tx, project, id)
            .await?
            .filter(|scan| scan.deleted_at.is_none())
            .ok_or_else(|| refusal::scan_not_found(id))?;
        if !edit.etag.is_empty() && edit.etag != scan.etag() {
            return Err(refusal::scan_changed(id).into());
        }
        if let Some(name) = &edit.display_name {
            scan.display_name.clone_from(name);
        }
        if let Some(labels) = &edit.labels {
            scan.labels.clone_from(labels);
            scan_keys::replace_labels(&tx, &scan).await?;
        }
        let changes = scan::ActiveModel {
            display_name: Set(scan.display_name.clone()),
            labels: Set(serde_json::to_value(&scan.labels)?),
            search_text: Set(scan.search_text()),
            ..Default::default()
        };
        scan::Entity::update_many()
            .set(changes)
            .filter(scan::Column::ProjectId.eq(project.as_str()))
            .filter(scan::Column::Id.eq(id.0))
            .exec(tx.conn())
            .await?;
        tx.commit().await
    }
}
