//! A trial: the check of a source that is of no version, for somebody who waits for it.

use std::time::Duration;

use aegis_proto::ids::{CheckId, ProjectId};
use sea_orm::Value;

use super::super::{Store, custom_probes, fault::Result, hub::POLL, key, watch};
use crate::domain::{
    check::{self, CheckState, MAX_QUEUED},
    custom_probe::Validation,
};

/// One at a time of each source: who asks meanwhile waits for the same.
const QUEUE: &str = "
    INSERT INTO checks
        (project_id, id, name, sha256, state, epoch, failures, not_before, give_up_at, created_at)
    VALUES ($1, $2, $3, $4, 'QUEUED', 0, 0, {now}, {now} + $5, {now})
    ON CONFLICT (project_id, name, sha256) WHERE version IS NULL AND state IN ('QUEUED', 'RUNNING')
    DO UPDATE SET give_up_at = excluded.give_up_at
    RETURNING id";

const WAITING: &str = "
    SELECT COUNT(*) AS waiting FROM (
        SELECT 1 FROM checks WHERE project_id = $1 AND state = 'QUEUED' LIMIT $2) AS queue";

const STATUS: &str = "SELECT state, validation FROM checks WHERE project_id = $1 AND id = $2";

/// How a check stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckStatus {
    /// Where it stands.
    pub state: CheckState,
    /// Once it has ended.
    pub validation: Option<Validation>,
}

impl Store {
    /// Queues a trial of a committed source, or finds the one under way. No runner takes it
    /// after `give_up_after`.
    ///
    /// # Errors
    /// NOT_FOUND / SOURCE_NOT_FOUND; RESOURCE_EXHAUSTED / TOO_MANY_CHECKS.
    pub async fn queue_check(
        &self,
        project: &ProjectId,
        name: &str,
        sha256: &str,
        give_up_after: Duration,
    ) -> aegis_mesh::Result<CheckId> {
        self.writing(|| self.try_queue_check(project, name, sha256, give_up_after))
            .await
    }

    async fn try_queue_check(
        &self,
        project: &ProjectId,
        name: &str,
        sha256: &str,
        give_up_after: Duration,
    ) -> Result<CheckId> {
        let mut tx = self.write().await?;
        custom_probes::require_source(&tx, project, sha256).await?;
        let limit = [project.as_str().into(), MAX_QUEUED.into()];
        let waiting = tx.one(WAITING, limit).await?;
        let waiting = waiting.map_or(Ok(0), |row| row.try_get::<i64>("", "waiting"))?;
        if waiting >= MAX_QUEUED {
            return Err(check::too_many().into());
        }
        let give_up_ms = i64::try_from(give_up_after.as_millis()).unwrap_or(i64::MAX / 2);
        let what: [Value; 3] = [name.into(), sha256.into(), give_up_ms.into()];
        let id = key(project, CheckId::generate().0);
        let row = tx.one(QUEUE, id.into_iter().chain(what)).await?;
        let row = row.ok_or_else(|| sea_orm::DbErr::RecordNotInserted)?;
        let id = CheckId(row.try_get("", "id")?);
        tx.wake_queue();
        tx.commit().await?;
        Ok(id)
    }

    /// How a check stands; waits up to `wait` for its end.
    ///
    /// # Errors
    /// NOT_FOUND / CHECK_NOT_FOUND.
    pub async fn await_check(
        &self,
        project: &ProjectId,
        id: CheckId,
        wait: Duration,
    ) -> aegis_mesh::Result<CheckStatus> {
        let deadline = tokio::time::Instant::now() + wait;
        let mut changed = self.inner.hub.checks();
        loop {
            changed.mark_unchanged();
            let status = self.check_status(project, id).await?;
            if status.state.has_ended() || !watch::wait(changed.changed(), POLL, deadline).await {
                return Ok(status);
            }
        }
    }

    async fn check_status(&self, project: &ProjectId, id: CheckId) -> Result<CheckStatus> {
        let row = self.query(STATUS, key(project, id.0)).await?;
        let row = row.ok_or_else(|| check::not_found(id))?;
        let state: String = row.try_get("", "state")?;
        let found: Option<serde_json::Value> = row.try_get("", "validation")?;
        Ok(CheckStatus {
            state: state.parse()?,
            validation: found.map(serde_json::from_value).transpose()?,
        })
    }
}
