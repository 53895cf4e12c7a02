//! Logs of scans that ended long ago keep what their timeline shows.

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::Value;
use uuid::Uuid;

use super::{
    super::{Store, fault::Result, key, scans},
    done,
};
use crate::domain::{
    event::PASSING,
    keeping::{Step, Swept},
};

pub(super) const NEXT_SCAN: &str = "
    SELECT id, ended_at FROM scans
    WHERE project_id = $1 AND compacted_sequence < last_sequence AND ended_at IS NOT NULL
      AND ended_at < $2 AND (ended_at, id) > ($3, $4)
    ORDER BY ended_at, id LIMIT 1";

pub(super) const EVENTS: &str = "
    SELECT sequence FROM scan_events
    WHERE project_id = $1 AND scan_id = $2 AND kind IN ({kinds}) LIMIT $3";

const COMPACTED: &str = "
    UPDATE scans SET compacted_sequence = last_sequence WHERE project_id = $1 AND id = $2";

/// The kinds that go, quoted.
pub(super) fn events() -> String {
    let kinds: Vec<String> = PASSING.iter().map(|kind| format!("'{kind}'")).collect();
    EVENTS.replace("{kinds}", &kinds.join(", "))
}

impl Store {
    /// Of one scan a step.
    pub(super) async fn compact(
        &self,
        project: &ProjectId,
        min_age_ms: i64,
        step: &Step,
    ) -> Result<Swept> {
        self.require_index("scans_to_compact")?;
        let (ended_at, after) = step.position((i64::MIN, Uuid::nil()))?;
        let tx = self.step(step).await?;
        let before = tx.now().await?.saturating_sub(min_age_ms);
        let mut swept = Swept::default();
        let next: [Value; 4] = [
            project.as_str().into(),
            before.into(),
            ended_at.into(),
            after.into(),
        ];
        let Some(row) = tx.one(NEXT_SCAN, next).await? else {
            return Ok(swept);
        };
        let id: Uuid = row.try_get("", "id")?;
        let this: (i64, Uuid) = (row.try_get("", "ended_at")?, id);
        let of_scan = key(project, id).into_iter().chain([step.rows().into()]);
        let number = if step.dry_run {
            tx.all(&events(), of_scan).await?.len() as i64
        } else {
            let scan = scans::lock(&tx, project, ScanId(id)).await?;
            // It was retried meanwhile.
            if scan.is_none_or(|scan| scan.ended_at.is_none_or(|ended| ended >= before)) {
                swept.go_on(&this)?;
                return Ok(swept);
            }
            let delete = format!(
                "DELETE FROM scan_events WHERE project_id = $1 AND scan_id = $2
                 AND sequence IN ({})",
                events()
            );
            i64::try_from(tx.execute(&delete, of_scan).await?).unwrap_or(i64::MAX)
        };
        swept.count("events", number);
        let more = !step.dry_run && number == step.rows();
        swept.go_on(&if more { (ended_at, after) } else { this })?;
        if !step.dry_run && !more {
            tx.execute(COMPACTED, key(project, id)).await?;
            swept.count("scans", 1);
        }
        done(tx, step, swept).await
    }
}
