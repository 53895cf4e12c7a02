//! A check is leased: the branch of a poll that finds no repeat of a task's lease.

use aegis_proto::ids::{CheckId, Epoch, ProjectId, TaskId};
use sea_orm::Value;

use super::super::{
    Store,
    fault::Result,
    key,
    lease::{Granted, LeaseCall},
    tasks,
};
use crate::domain::check::CheckLease;

/// The repeat's check, or else the oldest that waits. One look at two indexes: trials that
/// nobody waits for any more are passed over until they are forgotten. A runner whose catalogue
/// nobody has published has no garak to try them with.
pub(crate) const PICK: &str = "
    SELECT id, epoch, leased FROM (
        SELECT id, epoch, 1 AS leased FROM checks
        WHERE project_id = $1 AND lease_runner = $2 AND lease_request_id = $3 AND state = 'RUNNING'
        UNION ALL
        SELECT id, epoch, leased FROM (
            SELECT id, epoch, 0 AS leased FROM checks
            WHERE project_id = $1 AND state = 'QUEUED' AND not_before <= (SELECT {now})
              AND (give_up_at IS NULL OR give_up_at > (SELECT {now}))
              AND EXISTS (SELECT 1 FROM plugin_catalogues WHERE project_id = $1 AND sha256 = $4)
            ORDER BY id LIMIT 1) AS waiting
    ) AS found
    ORDER BY leased DESC LIMIT 1";

/// The grant. The old epoch in the condition is the fence against a lease that came between.
const LEASE: &str = "
    UPDATE checks SET
        state = 'RUNNING', epoch = epoch + 1,
        lease_runner = $4, lease_request_id = $5, lease_token_hash = $6,
        lease_expires_at = {now} + $7
    WHERE project_id = $1 AND id = $2 AND epoch = $3 AND state = 'QUEUED'
    RETURNING name, sha256";

/// A repeated answer is a fresh one: its time counts from its arrival.
const RENEW: &str = "
    UPDATE checks SET lease_expires_at = {now} + $6
    WHERE project_id = $1 AND id = $2 AND epoch = $3 AND lease_runner = $4 AND lease_request_id = $5
      AND state = 'RUNNING'
    RETURNING name, sha256";

/// What a poll was granted.
#[derive(Debug, Clone, PartialEq)]
pub enum Leased {
    /// A task of a scan.
    Task(Granted),
    /// A source to try out.
    Check(CheckGrant),
}

impl Leased {
    /// The task, when it is one.
    pub fn task(self) -> Option<Granted> {
        match self {
            Self::Task(granted) => Some(granted),
            Self::Check(_) => None,
        }
    }

    /// The check, when it is one.
    pub fn check(self) -> Option<CheckGrant> {
        match self {
            Self::Task(_) => None,
            Self::Check(grant) => Some(grant),
        }
    }
}

/// A source to try out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckGrant {
    /// The proof.
    pub lease: CheckLease,
    /// garak's module name.
    pub name: String,
    /// Of the source.
    pub sha256: String,
}

/// A check that a poll found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundCheck {
    id: CheckId,
    epoch: Epoch,
    is_repeat: bool,
}

/// The values of [`PICK`].
pub(crate) fn pick_values(project: &ProjectId, call: &LeaseCall) -> [Value; 4] {
    [
        project.as_str().into(),
        call.runner_id.as_str().into(),
        call.request_id.as_str().into(),
        call.plugin_catalogue.as_str().into(),
    ]
}

impl Store {
    /// The check for this poll, if there is one.
    pub(crate) async fn pick_check(
        &self,
        project: &ProjectId,
        call: &LeaseCall,
    ) -> Result<Option<FoundCheck>> {
        let Some(row) = self.query(PICK, pick_values(project, call)).await? else {
            return Ok(None);
        };
        let leased: i32 = row.try_get("", "leased")?;
        Ok(Some(FoundCheck {
            id: CheckId(row.try_get("", "id")?),
            epoch: Epoch(row.try_get("", "epoch")?),
            is_repeat: leased == 1,
        }))
    }

    /// Leases the check that was found; `None` when somebody else was faster.
    pub(crate) async fn lease_check(
        &self,
        project: &ProjectId,
        call: &LeaseCall,
        found: FoundCheck,
    ) -> Result<Option<CheckGrant>> {
        let tx = self.write().await?;
        let epoch = Epoch(found.epoch.0 + i64::from(!found.is_repeat));
        let request = format!("{}|{}", call.runner_id, call.request_id);
        let secrets = &self.inner.secrets;
        let token = secrets.lease_token(project, TaskId(found.id.0), epoch, &request);
        let fence: [Value; 3] = [
            found.epoch.0.into(),
            call.runner_id.as_str().into(),
            call.request_id.as_str().into(),
        ];
        let of_check = key(project, found.id.0).into_iter().chain(fence);
        let row = if found.is_repeat {
            tx.one(RENEW, of_check.chain([call.ttl_ms.into()])).await?
        } else {
            let hash = tasks::token_hash(&token).into();
            tx.one(LEASE, of_check.chain([hash, call.ttl_ms.into()]))
                .await?
        };
        let Some(row) = row else { return Ok(None) };
        tx.commit().await?;
        Ok(Some(CheckGrant {
            lease: CheckLease {
                check: found.id,
                epoch,
                token,
            },
            name: row.try_get("", "name")?,
            sha256: row.try_get("", "sha256")?,
        }))
    }
}
