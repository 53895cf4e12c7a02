//! Which replica runs which job, and how the last run went.

use aegis_proto::ids::ProjectId;
use sea_orm::{QueryResult, Value};

use super::super::{Store, fault::Result, tx::Tx};
use crate::domain::keeping::{Claimed, JobClaim, JobEnd, JobState, job_lost};

/// A job that was never there runs after this share of its period.
const FIRST: i64 = 10;

const STATE: &str = "
    SELECT name, period_ms, next_at - {now} AS wait, next_at, last_run,
        COALESCE(held_until > {now}, FALSE) AS running
    FROM jobs WHERE project_id = $1";

/// A period that became shorter holds from now on.
const ENSURE: &str = "
    INSERT INTO jobs (project_id, name, period_ms, next_at) VALUES ($1, $2, $3, {now} + $4)
    ON CONFLICT (project_id, name) DO UPDATE SET
        period_ms = excluded.period_ms,
        next_at = CASE WHEN jobs.next_at < {now} + excluded.period_ms
            THEN jobs.next_at ELSE {now} + excluded.period_ms END
    WHERE jobs.period_ms <> excluded.period_ms";

/// The repeat of a claim whose answer was lost is granted again.
const CLAIM: &str = "
    UPDATE jobs SET holder = $3, held_until = {now} + $4
    WHERE project_id = $1 AND name = $2
      AND (holder IS NULL OR holder = $3 OR held_until <= {now}) AND (next_at <= {now} OR NOT $5)
    RETURNING position";

const RENEW: &str = "
    UPDATE jobs SET held_until = {now} + $4 WHERE project_id = $1 AND name = $2 AND holder = $3";

const RELEASE: &str = "
    UPDATE jobs SET holder = NULL, held_until = NULL
    WHERE project_id = $1 AND name = $2 AND holder = $3";

const END: &str = "
    UPDATE jobs SET holder = NULL, held_until = NULL, last_run = $4, position = $5,
        next_at = {now} + $6
    WHERE project_id = $1 AND name = $2 AND holder = $3";

impl Store {
    /// Jobs that were ever due, by name.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn job_states(&self, project: &ProjectId) -> aegis_mesh::Result<Vec<JobState>> {
        let read = async || -> Result<_> {
            let sql = format!("{STATE} ORDER BY name");
            let rows = self
                .read()
                .await?
                .all(&sql, [project.as_str().into()])
                .await?;
            rows.iter().map(state_of).collect()
        };
        Ok(read().await?)
    }

    /// Takes a job's lease.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn claim_job(
        &self,
        project: &ProjectId,
        claim: &JobClaim,
    ) -> aegis_mesh::Result<Claimed> {
        // Most looks find that nothing is due: they write nothing.
        if claim.when_due
            && let Some(not_now) = self.not_now(project, claim).await?
        {
            return Ok(not_now);
        }
        self.writing(|| self.try_claim_job(project, claim)).await
    }

    async fn not_now(&self, project: &ProjectId, claim: &JobClaim) -> Result<Option<Claimed>> {
        let row = self
            .query(&format!("{STATE} AND name = $2"), of(project, claim))
            .await?;
        let Some(row) = row else { return Ok(None) };
        if row.try_get::<i64>("", "period_ms")? != claim.period_ms {
            return Ok(None);
        }
        refused(&row)
    }

    async fn try_claim_job(&self, project: &ProjectId, claim: &JobClaim) -> Result<Claimed> {
        let tx = self.write().await?;
        let ensure = [claim.period_ms.into(), (claim.period_ms / FIRST).into()];
        tx.execute(ENSURE, of(project, claim).into_iter().chain(ensure))
            .await?;
        let ours: [Value; 3] = [
            claim.holder.as_str().into(),
            claim.ttl_ms.into(),
            claim.when_due.into(),
        ];
        let claimed = tx
            .one(CLAIM, of(project, claim).into_iter().chain(ours))
            .await?;
        let claimed = match claimed {
            Some(row) => Claimed::Ours(row.try_get("", "position")?),
            None => not_claimed(&tx, project, claim).await?,
        };
        tx.commit().await?;
        Ok(claimed)
    }

    /// Holds a job's lease for longer.
    ///
    /// # Errors
    /// ABORTED / JOB_LOST.
    pub async fn renew_job(
        &self,
        project: &ProjectId,
        name: &str,
        holder: &str,
        ttl_ms: i64,
    ) -> aegis_mesh::Result<()> {
        let renew = async || {
            let tx = self.write().await?;
            let values = held(project, name, holder)
                .into_iter()
                .chain([ttl_ms.into()]);
            if tx.execute(RENEW, values).await? == 0 {
                return Err(job_lost(name).into());
            }
            tx.commit().await
        };
        self.writing(renew).await
    }

    /// Gives a job's lease back.
    ///
    /// # Errors
    /// ABORTED / JOB_LOST when another replica has it.
    pub async fn end_job(
        &self,
        project: &ProjectId,
        name: &str,
        holder: &str,
        end: &JobEnd,
    ) -> aegis_mesh::Result<()> {
        let give_back = async || {
            let tx = self.write().await?;
            let held = held(project, name, holder);
            let ended = match &end.run {
                None => tx.execute(RELEASE, held).await?,
                Some(run) => {
                    let values: [Value; 3] = [
                        run.clone().into(),
                        end.position.as_str().into(),
                        end.wait_ms.into(),
                    ];
                    tx.execute(END, held.into_iter().chain(values)).await?
                }
            };
            if ended == 0 {
                return Err(job_lost(name).into());
            }
            tx.commit().await
        };
        self.writing(give_back).await
    }
}

fn of(project: &ProjectId, claim: &JobClaim) -> [Value; 2] {
    [project.as_str().into(), claim.name.as_str().into()]
}

fn held(project: &ProjectId, name: &str, holder: &str) -> [Value; 3] {
    [project.as_str().into(), name.into(), holder.into()]
}

async fn not_claimed(tx: &Tx, project: &ProjectId, claim: &JobClaim) -> Result<Claimed> {
    let row = tx
        .one(&format!("{STATE} AND name = $2"), of(project, claim))
        .await?;
    let why = row.as_ref().map(refused).transpose()?.flatten();
    // It ended just now: the next look finds it.
    Ok(why.unwrap_or(Claimed::NotDue(0)))
}

/// Why it cannot be claimed when it is due; `None` when it can.
fn refused(row: &QueryResult) -> Result<Option<Claimed>> {
    if flag(row, "running")? {
        return Ok(Some(Claimed::Running));
    }
    let wait: i64 = row.try_get("", "wait")?;
    Ok((wait > 0).then_some(Claimed::NotDue(wait)))
}

fn state_of(row: &QueryResult) -> Result<JobState> {
    Ok(JobState {
        name: row.try_get("", "name")?,
        next_at: row.try_get("", "next_at")?,
        running: flag(row, "running")?,
        last_run: row.try_get("", "last_run")?,
    })
}

/// A truth that was computed: SQLite has numbers for it.
fn flag(row: &QueryResult, column: &str) -> Result<bool> {
    Ok(row
        .try_get::<bool>("", column)
        .or_else(|_| row.try_get::<i64>("", column).map(|number| number != 0))?)
}
