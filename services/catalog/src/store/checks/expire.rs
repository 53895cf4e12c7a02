//! Leases of checks that ran out are taken back. Any replica, any time.

use aegis_proto::ids::ProjectId;
use sea_orm::FromQueryResult;
use uuid::Uuid;

use super::{
    super::{Store, fault::Result, key},
    CheckRow, conclude,
};
use crate::domain::{
    check::{CheckEnd, judge},
    policy::RetryPolicy,
};

/// Candidates only: each is looked at again under its lock. Oldest first.
const EXPIRED: &str = "
    SELECT id FROM checks
    WHERE project_id = $1 AND state = 'RUNNING' AND lease_expires_at < (SELECT {now})
    ORDER BY lease_expires_at LIMIT $2";

/// The decision. Only the database's clock is compared, and a report that came between holds.
const STILL_EXPIRED: &str = "
    SELECT id, name, version, failures FROM checks
    WHERE project_id = $1 AND id = $2 AND state = 'RUNNING' AND lease_expires_at < {now}
    {lock}";

impl Store {
    /// Ends up to `limit` leases of checks that have run out; how many it ended.
    pub(crate) async fn expire_checks(
        &self,
        project: &ProjectId,
        policy: &RetryPolicy,
        limit: u32,
    ) -> aegis_mesh::Result<u32> {
        let mut expired = 0;
        for id in self.expired_checks(project, limit).await? {
            if self
                .writing(|| self.try_expire_check(project, id, policy))
                .await?
            {
                expired += 1;
            }
        }
        Ok(expired)
    }

    async fn expired_checks(&self, project: &ProjectId, limit: u32) -> Result<Vec<Uuid>> {
        let tx = self.read().await?;
        let values = [project.as_str().into(), i64::from(limit).into()];
        let rows = tx.all(EXPIRED, values).await?;
        let ids = rows.iter().map(|row| row.try_get("", "id"));
        Ok(ids.collect::<Result<_, _>>()?)
    }

    async fn try_expire_check(
        &self,
        project: &ProjectId,
        id: Uuid,
        policy: &RetryPolicy,
    ) -> Result<bool> {
        let mut tx = self.write().await?;
        let Some(row) = tx.one(STILL_EXPIRED, key(project, id)).await? else {
            return Ok(false);
        };
        let row = CheckRow::from_query_result(&row, "")?;
        let verdict = judge(CheckEnd::Expired, row.failures, policy, rand::random())?;
        conclude(&mut tx, project, &row, verdict, None).await?;
        tx.commit().await?;
        Ok(true)
    }
}
