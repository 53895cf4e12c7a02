//! Which work a poll gets. Reads alone: a poll that finds nothing disturbs no writer.

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{EntityTrait, Value};

use super::{
    Store,
    checks::{self, FoundCheck},
    dialect::Dialect,
    entity::task,
    fault::Result,
    lease::LeaseCall,
    rows, runners,
    tx::Tx,
};
use crate::domain::{
    scan::Scan,
    task::{Task, TaskKind},
};

/// The repeat of a poll whose answer was lost gets the lease that it was granted.
const REPEATED: &str = "
    SELECT * FROM tasks
    WHERE project_id = $1 AND lease_runner = $2 AND lease_request_id = $3 AND state = 'RUNNING'";

/// Scans with probes that run: there are never many more than may run at once.
const RUNNING_SCANS: &str = "
    SELECT COUNT(*) AS running FROM scans WHERE project_id = $1 AND in_flight > 0";

/// All that wait may be waiting out a backoff. A condition, not a join: of a join the database may
/// begin with the tasks, all of them.
macro_rules! has_task_that_may_run {
    ($scan:literal, $kind:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM tasks t WHERE t.project_id = ",
            $scan,
            ".project_id AND t.scan_id = ",
            $scan,
            ".id AND t.kind = '",
            $kind,
            "' AND t.state = 'QUEUED' AND t.not_before <= (SELECT {now}))"
        )
    };
}

/// A lane whose target pushed back is tried by one run alone, until it answers.
macro_rules! lane_has_room {
    () => {
        "l.in_flight < l.max_in_flight AND (l.backpressure_since IS NULL OR l.in_flight = 0)
         AND l.paused_until <= (SELECT {now})"
    };
}

/// The best scan that has a probe task to lease. An empty poll costs the same whatever waits:
/// lanes without room or work are not in the index lanes_with_room, paused ones lie past the
/// end of its range, and of each lane that is left only the first row of scans_with_work is
/// looked at, which again has only scans with room and work that are not paused. Their priorities
/// are looked up one by one: for a join the database may read all scans there are.
macro_rules! any_scan {
    () => {
        concat!(
            "SELECT best.id FROM (
                SELECT (
                    SELECT c.id FROM scans c
                    WHERE c.project_id = l.project_id AND c.lane_id = l.id
                      AND c.plugin_catalogue = $2 AND c.queued > 0
                      AND c.in_flight < c.max_in_flight AND c.state <> 'PAUSED' AND ",
            has_task_that_may_run!("c", "PROBE"),
            "       ORDER BY c.priority DESC, c.id LIMIT 1) AS id
                FROM lanes l
                WHERE l.project_id = $1 AND l.queued > 0 AND ",
            lane_has_room!(),
            ") AS best
             WHERE best.id IS NOT NULL
             ORDER BY (SELECT s.priority FROM scans s WHERE s.project_id = $1 AND s.id = best.id) DESC,
                best.id
             LIMIT 1"
        )
    };
}

/// The same when as many scans run as may: only they get more. The index scans_in_flight has no
/// others, so what waits behind them costs nothing.
macro_rules! running_scan {
    () => {
        concat!(
            "SELECT s.id FROM scans s
             JOIN lanes l ON l.project_id = s.project_id AND l.id = s.lane_id
             WHERE s.project_id = $1 AND s.in_flight > 0 AND s.plugin_catalogue = $2
               AND s.queued > 0 AND s.in_flight < s.max_in_flight AND s.state <> 'PAUSED' AND ",
            lane_has_room!(),
            " AND ",
            has_task_that_may_run!("s", "PROBE"),
            " ORDER BY s.priority DESC, s.id LIMIT 1"
        )
    };
}

/// The best scan whose report is to be made: it needs no room in a lane.
macro_rules! report {
    () => {
        concat!(
            "SELECT s.id FROM scans s
             WHERE s.project_id = $1 AND s.plugin_catalogue = $2 AND s.report_queued AND ",
            has_task_that_may_run!("s", "REPORT"),
            " ORDER BY s.priority DESC, s.id LIMIT 1"
        )
    };
}

/// All that a poll asks for, but a check, at once: most polls find nothing. $3 is the runner, $4 for
/// how long one is there, $5 the request, $6 how many scans may run at once.
const FOUND: &str = concat!(
    "SELECT
        CASE WHEN EXISTS (SELECT 1 FROM tasks WHERE project_id = $1 AND lease_runner = $3
            AND lease_request_id = $5 AND state = 'RUNNING') THEN 1 ELSE 0 END AS is_repeat,
        (",
    report!(),
    ") AS report,
        CASE WHEN $6 = 0 OR (
            SELECT COUNT(*) FROM scans WHERE project_id = $1 AND in_flight > 0) < $6
        THEN (",
    any_scan!(),
    ") ELSE (",
    running_scan!(),
    ") END AS probe,
        (SELECT CAST(COALESCE(SUM(slots), 0) AS BIGINT) FROM runners
         WHERE project_id = $1 AND plugin_catalogue = $2 AND runner_id <> $3
           AND seen_at > (SELECT {now}) - $4) AS other_slots"
);

/// The longest task of the scan. Its scan is locked, so nobody else picks it. That lock is waited
/// for, not skipped: it is held for a millisecond, and a poll that skips the only scan there is
/// would come back a second later.
const TASK: &str = "
    SELECT * FROM tasks
    WHERE project_id = $1 AND scan_id = $2 AND kind = $3 AND state = 'QUEUED'
      AND not_before <= {now}
    ORDER BY planned_calls DESC, ordinal, shard_index LIMIT 1
    {lock}";

/// What there is to lease.
pub(super) enum Pick {
    Repeat,
    Check(FoundCheck),
    /// A probe of this scan. So many slots could work on it: those of the poll's runner, and of all
    /// others that were there of late.
    Probe {
        scan: ScanId,
        slots: i32,
    },
    Report(ScanId),
}

impl Store {
    pub(super) async fn pick(&self, project: &ProjectId, call: &LeaseCall) -> Result<Option<Pick>> {
        let Some(found) = self.query(FOUND, asked(project, call)).await? else {
            return Ok(None);
        };
        if found.try_get::<i32>("", "is_repeat")? == 1 {
            return Ok(Some(Pick::Repeat));
        }
        // Short, and somebody waits for it.
        if let Some(check) = self.pick_check(project, call).await? {
            return Ok(Some(Pick::Check(check)));
        }
        if let Some(scan) = found.try_get("", "report")? {
            return Ok(Some(Pick::Report(ScanId(scan))));
        }
        let Some(scan) = found.try_get("", "probe")? else {
            return Ok(None);
        };
        let others: i64 = found.try_get("", "other_slots")?;
        Ok(Some(Pick::Probe {
            scan: ScanId(scan),
            slots: i32::try_from(i64::from(call.slots) + others).unwrap_or(i32::MAX),
        }))
    }

    /// How the database looks for a probe or a check to lease, in its own words: for whoever wonders
    /// whether an empty poll stays cheap.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn poll_plan(
        &self,
        project: &ProjectId,
        call: &LeaseCall,
    ) -> aegis_mesh::Result<String> {
        Ok(self.read_plan(project, call).await?)
    }

    async fn read_plan(&self, project: &ProjectId, call: &LeaseCall) -> Result<String> {
        let tx = self.read().await?;
        let explain = match tx.dialect() {
            Dialect::Sqlite => "EXPLAIN QUERY PLAN",
            Dialect::Postgres => {
                // A table of few pages is read whole, whatever indexes it has.
                tx.execute("SET LOCAL enable_seqscan = off", []).await?;
                "EXPLAIN"
            }
        };
        let mut plan = String::new();
        for (sql, values) in [
            (FOUND, Vec::from(asked(project, call))),
            (checks::PICK, checks::pick_values(project, call).into()),
        ] {
            for row in tx.all(&format!("{explain} {sql}"), values).await? {
                let line: String = match tx.dialect() {
                    Dialect::Sqlite => row.try_get("", "detail")?,
                    Dialect::Postgres => row.try_get_by_index(0)?,
                };
                plan.push_str(&line);
                plan.push('\n');
            }
        }
        Ok(plan)
    }
}

/// Whether one more scan may begin to run. Who asks with its scan's lane locked and then leases
/// holds the others off until its transaction has ended: two could both find the last place.
pub(super) async fn may_start(tx: &Tx, project: &ProjectId, call: &LeaseCall) -> Result<bool> {
    if call.max_running_scans == 0 {
        return Ok(true);
    }
    let values: [Value; 1] = [project.as_str().into()];
    tx.one("SELECT {start_claim}", values.clone()).await?;
    let running = tx.one(RUNNING_SCANS, values).await?;
    let running = running.map_or(Ok(0), |row| row.try_get("", "running"))?;
    Ok(call.may_start(running))
}

pub(super) async fn repeated(
    tx: &Tx,
    project: &ProjectId,
    call: &LeaseCall,
) -> Result<Option<task::Model>> {
    let statement = tx.dialect().statement(REPEATED, poll(project, call));
    let row = task::Entity::find().from_raw_sql(statement);
    Ok(row.one(tx.conn()).await?)
}

pub(super) async fn pick_task(tx: &Tx, scan: &Scan, kind: TaskKind) -> Result<Option<Task>> {
    let values: [Value; 3] = [
        scan.project.as_str().into(),
        scan.id.0.into(),
        kind.as_str().into(),
    ];
    let statement = tx.dialect().statement(TASK, values);
    let row = task::Entity::find().from_raw_sql(statement);
    row.one(tx.conn()).await?.map(rows::task_of).transpose()
}

fn poll(project: &ProjectId, call: &LeaseCall) -> [Value; 3] {
    [
        project.as_str().into(),
        call.runner_id.as_str().into(),
        call.request_id.as_str().into(),
    ]
}

fn asked(project: &ProjectId, call: &LeaseCall) -> [Value; 6] {
    [
        project.as_str().into(),
        call.plugin_catalogue.as_str().into(),
        call.runner_id.as_str().into(),
        runners::PRESENT_FOR_MS.into(),
        call.request_id.as_str().into(),
        i64::from(call.max_running_scans).into(),
    ]
}
