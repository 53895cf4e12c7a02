//! How much there is to do: sums over what could run now and what runs, each from an index that has
//! nothing else.

use aegis_proto::ids::ProjectId;

use super::{Store, fault::Result};
use crate::domain::queue::QueueDepth;

/// Nobody starts so many runners: counting ends there.
const MOST: i32 = 10_000;

/// $2 is the slots of all runners, $3 where counting ends. A lease gets an even share of its scan's
/// calls over those slots (`domain::ledger::share`), so a scan has room for its free calls by that
/// share; and no lane lets more begin than it has calls, or than one when its target pushed back. Tasks
/// that wait out a backoff count, and scans that wait until fewer others run: how many may is the
/// caller's policy (`store::pick`).
const DEPTH: &str = "
    SELECT
        (SELECT CAST(COALESCE(SUM(CASE WHEN tasks < room THEN tasks ELSE room END), 0) AS BIGINT) FROM (
            SELECT CASE WHEN l.backpressure_since IS NULL THEN l.max_in_flight - l.in_flight ELSE 1 END AS room, (
                SELECT COALESCE(SUM(CASE WHEN queued < leases THEN queued ELSE leases END), 0) FROM (
                    SELECT c.queued AS queued,
                           (c.max_in_flight - c.in_flight + (c.max_in_flight + $2 - 1) / $2 - 1)
                               / ((c.max_in_flight + $2 - 1) / $2) AS leases
                    FROM scans c
                    WHERE c.project_id = l.project_id AND c.lane_id = l.id
                      AND c.queued > 0 AND c.in_flight < c.max_in_flight AND c.state <> 'PAUSED'
                    LIMIT $3) AS open_scans) AS tasks
            FROM lanes l
            WHERE l.project_id = $1 AND l.queued > 0 AND l.in_flight < l.max_in_flight
              AND (l.backpressure_since IS NULL OR l.in_flight = 0)
              AND l.paused_until <= (SELECT {now})
            LIMIT $3) AS open_lanes)
        + (SELECT COUNT(*) FROM (
            SELECT 1 FROM scans WHERE project_id = $1 AND report_queued LIMIT $3) AS reports)
        + (SELECT COUNT(*) FROM (
            SELECT 1 FROM checks WHERE project_id = $1 AND state = 'QUEUED' LIMIT $3) AS checks_queued)
            AS waiting,
        (SELECT COUNT(*) FROM (
            SELECT 1 FROM tasks WHERE project_id = $1 AND state = 'RUNNING' LIMIT $3) AS tasks_running)
        + (SELECT COUNT(*) FROM (
            SELECT 1 FROM checks WHERE project_id = $1 AND state = 'RUNNING' LIMIT $3) AS checks_running)
            AS running";

impl Store {
    /// How much there is to do for runners that together run `slots` tasks at once.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn queue_depth(
        &self,
        project: &ProjectId,
        slots: i32,
    ) -> aegis_mesh::Result<QueueDepth> {
        Ok(self.read_depth(project, slots.max(1)).await?)
    }

    async fn read_depth(&self, project: &ProjectId, slots: i32) -> Result<QueueDepth> {
        let values = [project.as_str().into(), slots.into(), MOST.into()];
        let Some(row) = self.query(DEPTH, values).await? else {
            return Ok(QueueDepth::default());
        };
        let number = |column| -> Result<i32> {
            let number: i64 = row.try_get("", column)?;
            // Between 0 and MOST it fits.
            Ok(i32::try_from(number.clamp(0, MOST.into())).unwrap_or(MOST))
        };
        Ok(QueueDepth {
            waiting: number("waiting")?,
            running: number("running")?,
        })
    }
}
