//! Sources of custom probes that no version and no scan uses any more.

use aegis_proto::ids::ProjectId;
use sea_orm::Value;

use super::{
    super::{Store, fault::Result},
    done,
};
use crate::domain::keeping::{Step, Swept};

pub(super) const NEXT_SOURCE: &str = "
    SELECT sha256, touched_at FROM sources
    WHERE project_id = $1 AND touched_at < $2 AND (touched_at, sha256) > ($3, $4)
    ORDER BY touched_at, sha256 LIMIT 1";

/// Whoever makes a version or a check of it waits for the row, and then does not find it.
const LOCKED: &str = "
    SELECT size, object_key FROM sources
    WHERE project_id = $1 AND sha256 = $2 AND touched_at < $3 {lock}";
const FOUND: &str = "
    SELECT size, object_key FROM sources
    WHERE project_id = $1 AND sha256 = $2 AND touched_at < $3";

/// A version of a probe that is there, a scan that is pinned to it, a check that is under way or
/// whose answer is still kept.
pub(super) const USED: &str = "
    SELECT 1 WHERE EXISTS (
            SELECT 1 FROM custom_probe_versions v
            JOIN custom_probes p ON p.project_id = v.project_id AND p.name = v.name
            WHERE v.project_id = $1 AND v.sha256 = $2 AND p.deleted_at IS NULL
              AND v.version >= p.first_version)
        OR EXISTS (SELECT 1 FROM scan_sources WHERE project_id = $1 AND sha256 = $2)
        OR EXISTS (
            SELECT 1 FROM checks WHERE project_id = $1 AND sha256 = $2
              AND (version IS NULL OR state IN ('QUEUED', 'RUNNING')))";

/// With it goes what is known of versions of probes that are deleted. Their names go on
/// counting.
const FORGET: [&str; 3] = [
    "DELETE FROM checks WHERE project_id = $1 AND sha256 = $2",
    "DELETE FROM custom_probe_versions WHERE project_id = $1 AND sha256 = $2",
    "DELETE FROM sources WHERE project_id = $1 AND sha256 = $2",
];

/// The same source may be stored again meanwhile, under another key.
const MARK: &str = "
    INSERT INTO garbage (project_id, object_key, size, marked_at) VALUES ($1, $2, $3, {now})";

impl Store {
    /// One a step.
    pub(super) async fn mark_sources(
        &self,
        project: &ProjectId,
        min_age_ms: i64,
        step: &Step,
    ) -> Result<Swept> {
        let (touched, after) = step.position((i64::MIN, String::new()))?;
        let tx = self.step(step).await?;
        let mut swept = Swept::default();
        let before = tx.now().await?.saturating_sub(min_age_ms);
        let next: [Value; 4] = [
            project.as_str().into(),
            before.into(),
            touched.into(),
            after.into(),
        ];
        let Some(row) = tx.one(NEXT_SOURCE, next).await? else {
            return Ok(swept);
        };
        let sha256: String = row.try_get("", "sha256")?;
        swept.go_on(&(row.try_get::<i64>("", "touched_at")?, &sha256))?;
        let look = if step.dry_run { FOUND } else { LOCKED };
        let of_source: [Value; 2] = [project.as_str().into(), sha256.as_str().into()];
        let still = of_source.clone().into_iter().chain([before.into()]);
        let Some(row) = tx.one(look, still).await? else {
            return Ok(swept);
        };
        if tx.one(USED, of_source.clone()).await?.is_some() {
            return Ok(swept);
        }
        let size: i64 = row.try_get("", "size")?;
        let object_key: String = row.try_get("", "object_key")?;
        swept.count("marked", 1);
        swept.count("bytes", size);
        let line = format!("mark {object_key}: no custom probe and no scan uses it");
        swept.details.push(line);
        if !step.dry_run {
            for statement in FORGET {
                tx.execute(statement, of_source.clone()).await?;
            }
            let object = [project.as_str().into(), object_key.into(), size.into()];
            tx.execute(MARK, object).await?;
        }
        done(tx, step, swept).await
    }
}
