//! Rows that nobody asks for any more after a while.

use aegis_proto::ids::ProjectId;
use sea_orm::Value;

use super::{
    super::{Store, fault::Result},
    done,
};
use crate::domain::keeping::{Step, Swept};

/// A dry run counts no further.
const COUNTED: i64 = 100_000;
/// A trial's answer is kept for an hour, so that who lost the answer may ask again.
pub(super) const TRIAL_MS: i64 = 3_600_000;

/// Rows whose time, in `$2`, is over.
pub(super) struct Past {
    what: &'static str,
    table: &'static str,
    key: &'static str,
    condition: &'static str,
    order: &'static str,
    /// What it needs, when that is built late.
    index: Option<&'static str>,
}

pub(super) const REQUESTS: Past = Past {
    what: "requests",
    table: "idempotency",
    key: "method, request_id",
    condition: "expires_at < $2",
    order: "expires_at",
    index: None,
};

pub(super) const TRIALS: Past = Past {
    what: "trials",
    table: "checks",
    key: "id",
    condition: "version IS NULL AND give_up_at < $2 AND state <> 'RUNNING'",
    order: "give_up_at",
    index: None,
};

pub(super) const RUNS: Past = Past {
    what: "runs",
    table: "task_runs",
    key: "task_id, epoch",
    condition: "ended_at IS NOT NULL AND ended_at < $2",
    order: "ended_at",
    index: Some("task_runs_ended"),
};

impl Past {
    pub(super) fn select(&self) -> String {
        let Self {
            table,
            key,
            condition,
            order,
            ..
        } = self;
        format!(
            "SELECT {key} FROM {table} WHERE project_id = $1 AND {condition}
             ORDER BY {order} LIMIT $3"
        )
    }
}

impl Store {
    pub(super) async fn forget(
        &self,
        project: &ProjectId,
        past: &Past,
        min_age_ms: i64,
        step: &Step,
    ) -> Result<Swept> {
        if let Some(index) = past.index {
            self.require_index(index)?;
        }
        let tx = self.step(step).await?;
        let before = tx.now().await?.saturating_sub(min_age_ms);
        let limit = if step.dry_run { COUNTED } else { step.rows() };
        let values: [Value; 3] = [project.as_str().into(), before.into(), limit.into()];
        let (select, table) = (past.select(), past.table);
        let number = if step.dry_run {
            let count = format!("SELECT COUNT(*) AS number FROM ({select}) AS past");
            let row = tx.one(&count, values).await?;
            row.map_or(Ok(0), |row| row.try_get("", "number"))?
        } else {
            let key = past.key;
            let delete =
                format!("DELETE FROM {table} WHERE project_id = $1 AND ({key}) IN ({select})");
            i64::try_from(tx.execute(&delete, values).await?).unwrap_or(i64::MAX)
        };
        let mut swept = Swept::default();
        swept.count(past.what, number);
        if !step.dry_run && number == limit {
            swept.go_on(&true)?;
        }
        done(tx, step, swept).await
    }
}
