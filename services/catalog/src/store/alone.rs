//! A catalog that has its database to itself begins: who held a lease before is dead.

use super::{Store, fault::Result};

/// Leases of any project run out, those of jobs too; nobody is there. What becomes of the tasks is
/// the reaper's to say, as of any lease that runs out. The indexes of what runs lead to them.
const BEFORE_US: [&str; 4] = [
    "UPDATE tasks SET lease_expires_at = {now} - 1
     WHERE state = 'RUNNING' AND lease_expires_at >= {now}",
    "UPDATE checks SET lease_expires_at = {now} - 1
     WHERE state = 'RUNNING' AND lease_expires_at >= {now}",
    "UPDATE jobs SET held_until = {now} - 1 WHERE held_until >= {now}",
    "DELETE FROM runners",
];

impl Store {
    /// Lets all leases run out that there are, and forgets all runners. Only for one who knows that
    /// nobody else uses the database, and before anybody is served: it would take work from the
    /// living. The epochs stay as they are, so one who lives after all is fenced, not believed.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_leases(&self) -> aegis_mesh::Result<()> {
        self.writing(|| self.try_end_leases()).await
    }

    async fn try_end_leases(&self) -> Result<()> {
        let tx = self.write().await?;
        for statement in BEFORE_US {
            tx.execute(statement, []).await?;
        }
        tx.commit().await
    }
}
