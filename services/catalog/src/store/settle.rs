//! What follows when a task ended: the report is queued, or the scan ends.

use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set, Value};

use super::{entity::task, fault::Result, rows, statistics, tasks, tx::Tx};
use crate::domain::{
    event::Log,
    ledger::{self, Settlement},
    scan::Scan,
    task::{TaskKind, TaskState},
};

/// Why probes were not evaluated: at most two rows tell "all for one reason" from "for several".
const REASONS: &str = "
    SELECT reason, MIN(message) AS message FROM tasks
    WHERE project_id = $1 AND scan_id = $2 AND kind = 'PROBE' AND state IN ('FAILED', 'CANCELLED')
    GROUP BY reason ORDER BY reason LIMIT 2";

/// Called in the transaction of whatever ended a task, with the scan locked.
pub(crate) async fn settle(
    tx: &Tx,
    scan: &mut Scan,
    after: TaskKind,
    now: i64,
    log: &mut Log,
) -> Result<()> {
    let was_ended = scan.state.is_terminal();
    match ledger::settle(scan, after, now, log) {
        Settlement::Nothing => {}
        Settlement::Report { revision } => queue_report(tx, scan, revision, now).await?,
        Settlement::Fail => {
            let mut reasons = Vec::new();
            for row in tx.all(REASONS, of_scan(scan)).await? {
                reasons.push((row.try_get("", "reason")?, row.try_get("", "message")?));
            }
            ledger::fail(scan, &reasons, now, log);
        }
    }
    if was_ended {
        return Ok(());
    }
    let end = statistics::of_end(scan).into_iter().collect();
    statistics::append(tx, scan, end).await
}

fn of_scan(scan: &Scan) -> [Value; 2] {
    [scan.project.as_str().into(), scan.id.0.into()]
}

/// Runs of a report that may fail before it is given up.
const REPORT_MAX_FAILURES: i32 = 3;

/// Queues the task that makes this revision: a new one, or the one that failed before.
pub(crate) async fn queue_report(tx: &Tx, scan: &mut Scan, revision: i32, now: i64) -> Result<()> {
    aegis_mesh::failpoint!(SETTLING);
    ledger::queue_report(scan, revision);
    let before = task::Entity::find()
        .filter(task::Column::ProjectId.eq(scan.project.as_str()))
        .filter(task::Column::ScanId.eq(scan.id.0))
        .filter(task::Column::Kind.eq(TaskKind::Report.as_str()))
        .filter(task::Column::Revision.eq(revision))
        .one(tx.conn())
        .await?;
    match before {
        Some(row) => {
            let mut task = rows::task_of(row)?;
            let from = task.state;
            ledger::requeue(scan, None, &mut task, now);
            tasks::save(tx, &scan.project, &task, from, now).await
        }
        None => {
            new_report_task(scan, revision, now)
                .insert(tx.conn())
                .await?;
            Ok(())
        }
    }
}

/// The task that makes a revision of a scan's report.
pub(crate) fn new_report_task(scan: &Scan, revision: i32, now: i64) -> task::ActiveModel {
    task::ActiveModel {
        project_id: Set(scan.project.to_string()),
        id: Set(aegis_proto::ids::TaskId::generate().0),
        scan_id: Set(scan.id.0),
        lane_id: Set(None),
        kind: Set(TaskKind::Report.as_str().to_owned()),
        probe: Set(String::new()),
        shard_index: Set(0),
        shard_count: Set(1),
        revision: Set(revision),
        ordinal: Set(0),
        planned_calls: Set(0),
        planned_attempts: Set(0),
        tags: Set(serde_json::json!([])),
        detectors: Set(serde_json::json!([])),
        planned_out: Set(false),
        state: Set(TaskState::Queued.as_str().to_owned()),
        epoch: Set(0),
        failures: Set(0),
        max_failures: Set(REPORT_MAX_FAILURES),
        not_before: Set(now),
        granted: Set(0),
        lease_runner: Set(None),
        lease_request_id: Set(None),
        lease_token_hash: Set(None),
        lease_expires_at: Set(None),
        attempts_done: Set(0),
        attempts_total: Set(0),
        target_retries: Set(0),
        last_source_sequence: Set(0),
        composed_revision: Set(0),
        reason: Set(String::new()),
        message: Set(String::new()),
        ended_at: Set(None),
    }
}
