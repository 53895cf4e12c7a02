//! Files that were announced or uploaded, and that no run will commit.

use aegis_proto::ids::{Epoch, ProjectId};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::{
    super::{Store, fault::Result},
    done, places,
};
use crate::domain::keeping::{Step, Swept, why_unfinished};

pub(super) const CANDIDATES: &str = "
    SELECT a.id, a.object_key, a.state, a.epoch, a.upload_deadline, COALESCE(a.size, 0) AS size,
        t.state AS task_state, t.epoch AS task_epoch
    FROM artifacts a LEFT JOIN tasks t ON t.project_id = a.project_id AND t.id = a.task_id
    WHERE a.project_id = $1 AND a.state IN ('STAGED', 'UPLOADED')
      AND (a.upload_deadline, a.id) > ($2, $3)
    ORDER BY a.upload_deadline, a.id LIMIT $4";

/// Looked at again under the row's lock: what was committed meanwhile stays, and so does what is
/// of a run that holds its task.
const MARK: &str = "
    UPDATE artifacts SET state = 'DELETING', marked_at = {now}
    WHERE project_id = $1 AND state IN ('STAGED', 'UPLOADED') AND id IN ({ids})
      AND NOT EXISTS (SELECT 1 FROM tasks t
        WHERE t.project_id = artifacts.project_id AND t.id = artifacts.task_id
          AND t.state = 'RUNNING' AND t.epoch = artifacts.epoch)";

impl Store {
    pub(super) async fn mark_unfinished(&self, project: &ProjectId, step: &Step) -> Result<Swept> {
        let (deadline, id) = step.position((i64::MIN, Uuid::nil()))?;
        let tx = self.step(step).await?;
        let now = tx.now().await?;
        let page: [Value; 4] = [
            project.as_str().into(),
            deadline.into(),
            id.into(),
            step.rows().into(),
        ];
        let rows = tx.all(CANDIDATES, page).await?;
        let mut swept = Swept::default();
        let mut garbage = Vec::new();
        for row in &rows {
            let Some(why) = why(row, now)? else { continue };
            garbage.push(Value::from(row.try_get::<Uuid>("", "id")?));
            swept.count("bytes", row.try_get("", "size")?);
            let key: String = row.try_get("", "object_key")?;
            swept.details.push(format!("mark {key}: {why}"));
        }
        if let Some(last) = rows.last().filter(|_| rows.len() as i64 == step.rows()) {
            let position: (i64, Uuid) = (
                last.try_get("", "upload_deadline")?,
                last.try_get("", "id")?,
            );
            swept.go_on(&position)?;
        }
        swept.count("marked", garbage.len() as i64);
        if !step.dry_run && !garbage.is_empty() {
            let mut values = vec![project.as_str().into()];
            let mark = MARK.replace("{ids}", &places(&mut values, garbage));
            let marked = tx.execute(&mark, values).await?;
            swept
                .counts
                .insert("marked", i64::try_from(marked).unwrap_or(i64::MAX));
        }
        done(tx, step, swept).await
    }
}

fn why(row: &QueryResult, now: i64) -> Result<Option<&'static str>> {
    let state: Option<String> = row.try_get("", "task_state")?;
    let epoch: Option<i64> = row.try_get("", "task_epoch")?;
    let task = match (state, epoch) {
        (Some(state), Some(epoch)) => Some((state.parse()?, Epoch(epoch))),
        _ => None,
    };
    let (own, deadline) = (
        row.try_get("", "epoch")?,
        row.try_get("", "upload_deadline")?,
    );
    Ok(why_unfinished(task, Epoch(own), deadline, now))
}
