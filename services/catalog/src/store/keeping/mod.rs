//! The rows' share of the store's jobs, in bounded steps: what is garbage is marked first, its
//! object is deleted by others after a time of grace, and its row goes last.

mod compact;
mod forget;
mod garbage;
mod jobs;
mod parts;
mod plans;
mod purge;
mod retention;
mod scrub;
mod sources;
mod unfinished;

pub use garbage::{Garbage, GarbagePage};
pub use scrub::{Committed, CommittedPage, Orphan};

use aegis_proto::ids::ProjectId;
use sea_orm::Value;

use super::{Store, fault::Result, tx::Tx};
use crate::domain::{
    keeping::{Step, Sweep, Swept},
    refusal,
};

impl Store {
    /// Does a step of this work, or says what it would do.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / INVALID_FIELD for a position of other work; UNAVAILABLE / INDEX_BUILDING.
    pub async fn sweep(
        &self,
        project: &ProjectId,
        sweep: &Sweep,
        step: &Step,
    ) -> aegis_mesh::Result<Swept> {
        self.writing(|| self.try_sweep(project, sweep, step)).await
    }

    async fn try_sweep(&self, project: &ProjectId, sweep: &Sweep, step: &Step) -> Result<Swept> {
        match sweep {
            Sweep::Unfinished => self.mark_unfinished(project, step).await,
            Sweep::Parts => self.mark_parts(project, step).await,
            Sweep::Sources(age) => self.mark_sources(project, *age, step).await,
            Sweep::Purge => self.purge(project, step).await,
            Sweep::Age(age, keep) => self.hide_old(project, *age, keep, step).await,
            Sweep::Count(number, keep) => self.hide_more(project, *number, keep, step).await,
            Sweep::Requests => self.forget(project, &forget::REQUESTS, 0, step).await,
            Sweep::Trials => {
                self.forget(project, &forget::TRIALS, forget::TRIAL_MS, step)
                    .await
            }
            Sweep::Runs(age) => self.forget(project, &forget::RUNS, *age, step).await,
            Sweep::Events(age) => self.compact(project, *age, step).await,
        }
    }

    /// A transaction for a step: a dry one cannot write.
    async fn step(&self, step: &Step) -> Result<Tx> {
        if step.dry_run {
            self.read().await
        } else {
            self.write().await
        }
    }

    /// Refuses while an index is built that this work needs.
    fn require_index(&self, name: &'static str) -> Result<()> {
        if self.inner.database.late.has(name) {
            return Ok(());
        }
        Err(refusal::index_building(name).into())
    }
}

/// Adds values; their places in the statement, for an IN.
fn places(values: &mut Vec<Value>, more: impl IntoIterator<Item = Value>) -> String {
    let first = values.len() + 1;
    values.extend(more);
    let places: Vec<String> = (first..=values.len()).map(|n| format!("${n}")).collect();
    places.join(", ")
}

/// Commits what was written.
async fn done(tx: Tx, step: &Step, swept: Swept) -> Result<Swept> {
    if !step.dry_run {
        tx.commit().await?;
    }
    Ok(swept)
}
