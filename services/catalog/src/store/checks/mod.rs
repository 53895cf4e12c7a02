//! Checks of sources: leased through the same calls as tasks, kept apart from them. Their rows
//! have no scan and no lane; the fence is the same.

mod expire;
mod lease;
mod run;
mod trial;

use aegis_proto::ids::{CheckId, ProjectId};
use sea_orm::{FromQueryResult, Value};
use uuid::Uuid;

pub use lease::{CheckGrant, Leased};
pub(crate) use lease::{FoundCheck, PICK, pick_values};
pub use trial::CheckStatus;

use super::{fault::Result, key, tasks, tx::Tx};
use crate::domain::check::{CheckLease, CheckOutcome, CheckState, CheckVerdict};

/// A check as those need it who end its runs.
#[derive(Debug, FromQueryResult)]
pub(crate) struct CheckRow {
    id: Uuid,
    name: String,
    version: Option<i32>,
    failures: i32,
}

/// The fence of a check's lease, as values: project, id, epoch, hash of the token.
pub(crate) fn fence(project: &ProjectId, lease: &CheckLease) -> [Value; 4] {
    [
        project.as_str().into(),
        lease.check.0.into(),
        lease.epoch.0.into(),
        tasks::token_hash(&lease.token).into(),
    ]
}

/// A check of a version that was just made.
const OF_VERSION: &str = "
    INSERT INTO checks (project_id, id, name, version, sha256, state, epoch, failures, not_before, created_at)
    VALUES ($1, $2, $3, $4, $5, 'QUEUED', 0, 0, {now}, {now})";

/// Queues the check of a version.
pub(crate) async fn queue_of_version(
    tx: &mut Tx,
    project: &ProjectId,
    name: &str,
    version: i32,
    sha256: &str,
) -> Result<()> {
    let what = [name.into(), version.into(), sha256.into()];
    let id = key(project, CheckId::generate().0);
    tx.execute(OF_VERSION, id.into_iter().chain(what)).await?;
    tx.wake_queue();
    Ok(())
}

/// The lease is over, and what its runner sent is known.
const OVER: &str = "
    lease_runner = NULL, lease_request_id = NULL, lease_token_hash = NULL, lease_expires_at = NULL,
    sent_epoch = CASE WHEN $3 THEN epoch ELSE sent_epoch END,
    sent_token_hash = CASE WHEN $3 THEN lease_token_hash ELSE sent_token_hash END,
    sent = COALESCE($4, sent)";

const ENDED: &str = "state = $5, validation = $6, ended_at = {now}";

const REQUEUED: &str = "state = 'QUEUED', failures = $5, not_before = {now} + $6";

const THIS: &str = "WHERE project_id = $1 AND id = $2 AND state = 'RUNNING'";

/// Its version is what was found. One that was decided before stays so.
const DECIDED: &str = "
    UPDATE custom_probe_versions SET state = $4, validation = $5, checked_at = {now}
    WHERE project_id = $1 AND name = $2 AND version = $3 AND state = 'CHECKING'";

/// Writes what becomes of a locked check whose run ended; `sent` is what its runner said.
async fn conclude(
    tx: &mut Tx,
    project: &ProjectId,
    row: &CheckRow,
    verdict: CheckVerdict,
    sent: Option<&CheckOutcome>,
) -> Result<()> {
    let said = sent.map(serde_json::to_value).transpose()?;
    let over = [sent.is_some().into(), said.into()];
    let of_check = key(project, row.id).into_iter().chain(over);
    match verdict {
        CheckVerdict::Requeue { after_ms, failures } => {
            let values = of_check.chain([failures.into(), after_ms.into()]);
            let sql = format!("UPDATE checks SET {REQUEUED}, {OVER} {THIS}");
            tx.execute(&sql, values).await?;
            tx.wake_queue();
        }
        CheckVerdict::Ended(state, found) => {
            let json = serde_json::to_value(&found)?;
            let values = of_check.chain([state.as_str().into(), json.clone().into()]);
            let sql = format!("UPDATE checks SET {ENDED}, {OVER} {THIS}");
            tx.execute(&sql, values).await?;
            if let Some(version) = row.version {
                let decided: [Value; 5] = [
                    project.as_str().into(),
                    row.name.as_str().into(),
                    version.into(),
                    found.state().as_str().into(),
                    json.into(),
                ];
                tx.execute(DECIDED, decided).await?;
            }
        }
    }
    tx.wake_checks();
    Ok(())
}

impl CheckState {
    fn has_ended(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}
