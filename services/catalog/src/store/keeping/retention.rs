//! Rules by which ended scans are deleted: as a user would, so they can be restored for a while.

use std::collections::BTreeMap;

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{QueryResult, Value};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::super::{Store, fault::Result, scans};
use crate::domain::{
    event::Log,
    keeping::{KeepLabels, Step, Swept},
    scan::Scan,
};

const DAY_MS: i64 = 86_400_000;

pub(super) const ENDED: &str = "
    SELECT id, ended_at, labels FROM scans
    WHERE project_id = $1 AND deleted_at IS NULL AND ended_at IS NOT NULL AND ended_at < $2
      AND (ended_at, id) > ($3, $4)
    ORDER BY ended_at, id LIMIT $5";

/// Jumps from target to target.
pub(super) const NEXT_TARGET: &str = "
    SELECT target_type, target_name FROM scans
    WHERE project_id = $1 AND deleted_at IS NULL AND (target_type, target_name) > ($2, $3)
    ORDER BY target_type, target_name LIMIT 1";

/// Newest first.
pub(super) const OF_TARGET: &str = "
    SELECT id, created_at, ended_at, labels FROM scans
    WHERE project_id = $1 AND target_type = $2 AND target_name = $3 AND deleted_at IS NULL
      AND (created_at, id) < ($4, $5)
    ORDER BY created_at DESC, id DESC LIMIT $6";

/// How far a walk over targets has come.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Walk {
    target: (String, String),
    /// In this target; `None` before the first.
    scan: Option<(i64, Uuid)>,
    /// Ended scans of it that are kept so far.
    kept: i64,
}

impl Store {
    pub(super) async fn hide_old(
        &self,
        project: &ProjectId,
        min_age_ms: i64,
        keep: &KeepLabels,
        step: &Step,
    ) -> Result<Swept> {
        self.require_index("scans_by_end")?;
        let (ended_at, id) = step.position((i64::MIN, Uuid::nil()))?;
        let tx = self.read().await?;
        let now = tx.now().await?;
        let before = now.saturating_sub(min_age_ms);
        let page: [Value; 5] = [
            project.as_str().into(),
            before.into(),
            ended_at.into(),
            id.into(),
            step.rows().into(),
        ];
        let rows = tx.all(ENDED, page).await?;
        drop(tx);
        let mut swept = Swept::default();
        if let Some(last) = rows.last().filter(|_| rows.len() as i64 == step.rows()) {
            let position: (i64, Uuid) = (last.try_get("", "ended_at")?, last.try_get("", "id")?);
            swept.go_on(&position)?;
        }
        for row in &rows {
            let id = ScanId(row.try_get("", "id")?);
            if keep.keep(&labels_of(row)?) {
                swept.count("kept_by_label", 1);
                continue;
            }
            let days = now.saturating_sub(row.try_get("", "ended_at")?) / DAY_MS;
            let old = |scan: &Scan| {
                scan.ended_at.is_some_and(|ended| ended < before) && !keep.keep(&scan.labels)
            };
            if step.dry_run || self.hide(project, id, old).await? {
                swept.count("deleted", 1);
                let line = format!("delete scan {id}: it ended {days} days ago");
                swept.details.push(line);
            }
        }
        Ok(swept)
    }

    /// Of one target a step, a page of its scans.
    pub(super) async fn hide_more(
        &self,
        project: &ProjectId,
        number: i64,
        keep: &KeepLabels,
        step: &Step,
    ) -> Result<Swept> {
        self.require_index("scans_by_target_time")?;
        let mut walk = step.position(Walk::default())?;
        let mut swept = Swept::default();
        if walk.scan.is_none() && !self.next_target(project, &mut walk).await? {
            return Ok(swept);
        }
        let rows = self.page_of_target(project, &walk, step).await?;
        for row in &rows {
            let id = ScanId(row.try_get("", "id")?);
            walk.scan = Some((row.try_get("", "created_at")?, id.0));
            if row.try_get::<Option<i64>>("", "ended_at")?.is_none() {
                continue;
            }
            if keep.keep(&labels_of(row)?) {
                swept.count("kept_by_label", 1);
                continue;
            }
            if walk.kept < number {
                walk.kept += 1;
                continue;
            }
            let ended = |scan: &Scan| scan.state.is_terminal() && !keep.keep(&scan.labels);
            if step.dry_run || self.hide(project, id, ended).await? {
                swept.count("deleted", 1);
                let line = format!("delete scan {id}: its target has {number} newer ones");
                swept.details.push(line);
            }
        }
        if (rows.len() as i64) < step.rows() {
            (walk.scan, walk.kept) = (None, 0);
        }
        swept.go_on(&walk)?;
        Ok(swept)
    }

    async fn next_target(&self, project: &ProjectId, walk: &mut Walk) -> Result<bool> {
        let (kind, name) = &walk.target;
        let after: [Value; 3] = [
            project.as_str().into(),
            kind.as_str().into(),
            name.as_str().into(),
        ];
        let Some(row) = self.query(NEXT_TARGET, after).await? else {
            return Ok(false);
        };
        walk.target = (
            row.try_get("", "target_type")?,
            row.try_get("", "target_name")?,
        );
        Ok(true)
    }

    async fn page_of_target(
        &self,
        project: &ProjectId,
        walk: &Walk,
        step: &Step,
    ) -> Result<Vec<QueryResult>> {
        let (created, id) = walk.scan.unwrap_or((i64::MAX, Uuid::max()));
        let page: [Value; 6] = [
            project.as_str().into(),
            walk.target.0.as_str().into(),
            walk.target.1.as_str().into(),
            created.into(),
            id.into(),
            step.rows().into(),
        ];
        self.read().await?.all(OF_TARGET, page).await
    }

    /// Deletes a scan if that still holds of it under its lock.
    async fn hide(
        &self,
        project: &ProjectId,
        id: ScanId,
        still: impl Fn(&Scan) -> bool,
    ) -> Result<bool> {
        let mut tx = self.write().await?;
        let scan = scans::lock(&tx, project, id).await?;
        let Some(mut scan) = scan.filter(|scan| scan.deleted_at.is_none() && still(scan)) else {
            return Ok(false);
        };
        let now = tx.now().await?;
        self.mark_deleted(&mut scan, now);
        scans::save(&mut tx, &mut scan, now, Log::default()).await?;
        tx.commit().await?;
        Ok(true)
    }
}

fn labels_of(row: &QueryResult) -> Result<BTreeMap<String, String>> {
    let labels: serde_json::Value = row.try_get("", "labels")?;
    Ok(serde_json::from_value(labels)?)
}
