//! Parts that a revision of the report has taken in. Their attempts are read there from then on,
//! and a later revision is composed from there, too.

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::Value;
use uuid::Uuid;

use super::{
    super::{Store, fault::Result, key, scans},
    done, places,
};
use crate::domain::keeping::{Step, Swept};

pub(super) const NEXT_SCAN: &str = "
    SELECT id FROM scans WHERE project_id = $1 AND parts_taken_in AND id > $2 ORDER BY id LIMIT 1";

/// Only what a committed report has. Whoever began to read before has the time of grace.
pub(super) const PARTS: &str = "
    SELECT a.id, a.size FROM artifacts a
    JOIN tasks t ON t.project_id = a.project_id AND t.id = a.task_id
    WHERE a.project_id = $1 AND a.scan_id = $2 AND a.revision = 0 AND a.state = 'COMMITTED'
      AND t.kind = 'PROBE' AND t.composed_revision > 0
      AND EXISTS (SELECT 1 FROM artifacts r
        WHERE r.project_id = a.project_id AND r.scan_id = a.scan_id
          AND r.revision = t.composed_revision AND r.name = 'report.jsonl'
          AND r.state = 'COMMITTED')
    LIMIT $3";

const MARK: &str = "
    UPDATE artifacts SET state = 'DELETING', marked_at = {now}
    WHERE project_id = $1 AND state = 'COMMITTED' AND id IN ({ids})";

const ALL_MARKED: &str = "
    UPDATE scans SET parts_taken_in = FALSE WHERE project_id = $1 AND id = $2";

impl Store {
    /// Of one scan a step.
    pub(super) async fn mark_parts(&self, project: &ProjectId, step: &Step) -> Result<Swept> {
        let after = step.position(Uuid::nil())?;
        let tx = self.step(step).await?;
        let mut swept = Swept::default();
        let next = [project.as_str().into(), after.into()];
        let Some(row) = tx.one(NEXT_SCAN, next).await? else {
            return Ok(swept);
        };
        let scan: Uuid = row.try_get("", "id")?;
        if !step.dry_run {
            scans::lock(&tx, project, ScanId(scan)).await?;
        }
        let of_scan = key(project, scan);
        // In a dry run all at once: nothing is kept of it but two numbers.
        let limit = if step.dry_run { i64::MAX } else { step.rows() };
        let found = of_scan.clone().into_iter().chain([limit.into()]);
        let rows = tx.all(PARTS, found).await?;
        let mut ids = Vec::new();
        for row in &rows {
            ids.push(Value::from(row.try_get::<Uuid>("", "id")?));
            swept.count(
                "bytes",
                row.try_get::<Option<i64>>("", "size")?.unwrap_or(0),
            );
        }
        swept.count("marked", ids.len() as i64);
        if !ids.is_empty() {
            let (parts, scan) = (ids.len(), ScanId(scan));
            let line = format!("mark {parts} parts of scan {scan}: its report has them");
            swept.details.push(line);
        }
        let all = (ids.len() as i64) < limit;
        swept.go_on(if all { &scan } else { &after })?;
        if !step.dry_run {
            if !ids.is_empty() {
                let mut values = vec![project.as_str().into()];
                let mark = MARK.replace("{ids}", &places(&mut values, ids));
                tx.execute(&mark, values).await?;
                aegis_mesh::failpoint!(MARK_WRITTEN);
            }
            if all {
                tx.execute(ALL_MARKED, of_scan).await?;
            }
        }
        done(tx, step, swept).await
    }
}
