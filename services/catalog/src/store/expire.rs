//! Leases that ran out are taken back. Any replica, any time.

use aegis_proto::ids::{ProjectId, ScanId, TaskId};
use sea_orm::EntityTrait;

use super::{Store, conclude::Ending, entity::task, fault::Result, key, rows, scans};
use crate::domain::{event::Log, policy::RetryPolicy, verdict::RunEnd};

/// Candidates only: each is looked at again under its locks. Oldest first.
const EXPIRED: &str = "
    SELECT id, scan_id FROM tasks
    WHERE project_id = $1 AND state = 'RUNNING' AND lease_expires_at < (SELECT {now})
    ORDER BY lease_expires_at LIMIT $2";

/// The decision. Only the database's clock is compared, and a report that came between holds.
const STILL_EXPIRED: &str = "
    SELECT * FROM tasks
    WHERE project_id = $1 AND id = $2 AND state = 'RUNNING' AND lease_expires_at < {now}
    {lock}";

impl Store {
    /// Ends up to `limit` leases that have run out; how many it ended.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn expire(
        &self,
        project: &ProjectId,
        policy: &RetryPolicy,
        limit: u32,
    ) -> aegis_mesh::Result<u32> {
        let mut expired = 0;
        for (scan, task) in self.expired(project, limit).await? {
            if self
                .writing(|| self.try_expire(project, scan, task, policy))
                .await?
            {
                expired += 1;
            }
        }
        let left = limit.saturating_sub(expired);
        Ok(expired + self.expire_checks(project, policy, left).await?)
    }

    async fn expired(&self, project: &ProjectId, limit: u32) -> Result<Vec<(ScanId, TaskId)>> {
        let tx = self.read().await?;
        let values = [project.as_str().into(), i64::from(limit).into()];
        let mut found = Vec::new();
        for row in tx.all(EXPIRED, values).await? {
            found.push((
                ScanId(row.try_get("", "scan_id")?),
                TaskId(row.try_get("", "id")?),
            ));
        }
        Ok(found)
    }

    async fn try_expire(
        &self,
        project: &ProjectId,
        scan: ScanId,
        task: TaskId,
        policy: &RetryPolicy,
    ) -> Result<bool> {
        let mut tx = self.write().await?;
        let Some(scan) = scans::lock(&tx, project, scan).await? else {
            return Ok(false);
        };
        let (lane, now) = scans::lock_lane_now(&tx, &scan).await?;
        let statement = tx.dialect().statement(STILL_EXPIRED, key(project, task.0));
        let row = task::Entity::find()
            .from_raw_sql(statement)
            .one(tx.conn())
            .await?;
        let Some(row) = row else { return Ok(false) };
        let mut ending = Ending {
            scan,
            lane,
            task: rows::task_of(row)?,
            log: Log::default(),
            now,
        };
        let verdict = ending.judge(RunEnd::Expired, policy);
        ending.conclude(&mut tx, verdict, None, None).await?;
        aegis_mesh::failpoint!(EXPIRY_WRITTEN);
        tx.commit().await?;
        aegis_mesh::failpoint!(EXPIRED);
        Ok(true)
    }
}
