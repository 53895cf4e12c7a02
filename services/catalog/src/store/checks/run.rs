//! A run of a check: its heartbeats and its end.

use std::time::Duration;

use aegis_proto::ids::ProjectId;
use sea_orm::FromQueryResult;

use super::{
    super::{Store, fault::Result, hub::POLL, key, tasks, tx::Tx, watch},
    CheckRow, conclude, fence,
};
use crate::domain::{
    check::{CheckEnd, CheckLease, CheckOutcome, judge},
    policy::RetryPolicy,
    refusal,
    task::Directive,
};

const REPORT: &str = "
    UPDATE checks SET lease_expires_at = {now} + $5
    WHERE project_id = $1 AND id = $2 AND epoch = $3 AND lease_token_hash = $4 AND state = 'RUNNING'";

const HELD: &str = "
    SELECT sha256 FROM checks
    WHERE project_id = $1 AND id = $2 AND epoch = $3 AND lease_token_hash = $4 AND state = 'RUNNING'";

/// The fence. No clock is asked: an expired lease that nobody has reclaimed is still held.
const FENCED: &str = "
    SELECT id, name, version, failures FROM checks
    WHERE project_id = $1 AND id = $2 AND epoch = $3 AND lease_token_hash = $4 AND state = 'RUNNING'
    {lock}";

const SENT: &str = "
    SELECT sent FROM checks
    WHERE project_id = $1 AND id = $2 AND sent_epoch = $3 AND sent_token_hash = $4";

impl Store {
    /// Renews the lease of a check.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST.
    pub async fn report_check(
        &self,
        project: &ProjectId,
        lease: &CheckLease,
        ttl_ms: i64,
    ) -> aegis_mesh::Result<()> {
        self.writing(|| self.try_report_check(project, lease, ttl_ms))
            .await
    }

    async fn try_report_check(
        &self,
        project: &ProjectId,
        lease: &CheckLease,
        ttl_ms: i64,
    ) -> Result<()> {
        let tx = self.write().await?;
        let values = fence(project, lease).into_iter().chain([ttl_ms.into()]);
        if tx.execute(REPORT, values).await? != 1 {
            return Err(refusal::lease_lost().into());
        }
        tx.commit().await
    }

    /// What the runner of a check is to do: to go on, for up to `wait`. Nothing stops a check.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST, as soon as it is.
    pub async fn await_check_directive(
        &self,
        project: &ProjectId,
        lease: &CheckLease,
        wait: Duration,
    ) -> aegis_mesh::Result<Directive> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut ended = self.inner.hub.checks();
        loop {
            ended.mark_unchanged();
            self.leased_sha256(project, lease).await?;
            if !watch::wait(ended.changed(), POLL, deadline).await {
                return Ok(Directive::Continue);
            }
        }
    }

    /// The source that a lease is for.
    pub(crate) async fn leased_sha256(
        &self,
        project: &ProjectId,
        lease: &CheckLease,
    ) -> Result<String> {
        let row = self.query(HELD, fence(project, lease)).await?;
        let row = row.ok_or_else(refusal::lease_lost)?;
        Ok(row.try_get("", "sha256")?)
    }

    /// Ends a run of a check. The same end sent again is accepted again.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST when the run is not held, or ended otherwise;
    /// INVALID_ARGUMENT / INVALID_FIELD when it is done without a validation.
    pub async fn finish_check(
        &self,
        project: &ProjectId,
        lease: &CheckLease,
        sent: &CheckOutcome,
        policy: &RetryPolicy,
    ) -> aegis_mesh::Result<()> {
        self.writing(|| self.try_finish_check(project, lease, sent, policy))
            .await
    }

    async fn try_finish_check(
        &self,
        project: &ProjectId,
        lease: &CheckLease,
        sent: &CheckOutcome,
        policy: &RetryPolicy,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        let Some(row) = tx.one(FENCED, fence(project, lease)).await? else {
            return repeated(&tx, project, lease, sent).await;
        };
        let row = CheckRow::from_query_result(&row, "")?;
        let verdict = judge(
            CheckEnd::Finished(sent),
            row.failures,
            policy,
            rand::random(),
        )?;
        conclude(&mut tx, project, &row, verdict, Some(sent)).await?;
        tx.commit().await
    }
}

/// The fence did not hold. Only the repeat of what this very run said is accepted.
async fn repeated(
    tx: &Tx,
    project: &ProjectId,
    lease: &CheckLease,
    sent: &CheckOutcome,
) -> Result<()> {
    let run = [lease.epoch.0.into(), tasks::token_hash(&lease.token).into()];
    let of_check = key(project, lease.check.0).into_iter().chain(run);
    if let Some(row) = tx.one(SENT, of_check).await? {
        let before: serde_json::Value = row.try_get("", "sent")?;
        if serde_json::from_value::<CheckOutcome>(before)? == *sent {
            return Ok(());
        }
    }
    Err(refusal::lease_lost().into())
}
