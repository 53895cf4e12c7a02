//! Tasks under their scan's lock.

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, Set, Value};
use sha2::{Digest, Sha256};

use super::{
    entity::task,
    fault::{Fault, Result},
    fence, key, rows,
    tx::Tx,
};
use crate::domain::{
    refusal,
    scan::Scan,
    task::{LeaseProof, Task, TaskKind, TaskState},
};

/// The row of a task, if the fence lets through.
const FENCED: &str = "
    SELECT * FROM tasks WHERE project_id = $1 AND id = $2 AND scan_id = $3 AND {fence}
    {lock}";

/// The same, for a write beside the task (an artifact's row): the run must not end meanwhile.
const FENCED_SHARED: &str = "
    SELECT * FROM tasks WHERE project_id = $1 AND id = $2 AND scan_id = $3 AND {fence}
    {share}";

/// The row of the task whose lease this proves, locked; `None` when the lease is lost.
pub(crate) async fn fenced(
    tx: &Tx,
    project: &ProjectId,
    proof: &LeaseProof,
) -> Result<Option<task::Model>> {
    find(tx, FENCED, project, proof).await
}

/// The task whose lease this proves, kept as it is until the transaction ends.
pub(crate) async fn fenced_shared(
    tx: &Tx,
    project: &ProjectId,
    proof: &LeaseProof,
) -> Result<Task> {
    let row = find(tx, FENCED_SHARED, project, proof).await?;
    rows::task_of(row.ok_or_else(refusal::lease_lost)?)
}

async fn find(
    tx: &Tx,
    sql: &str,
    project: &ProjectId,
    proof: &LeaseProof,
) -> Result<Option<task::Model>> {
    let statement = tx.dialect().statement(
        sql,
        [
            project.as_str().into(),
            proof.task.0.into(),
            proof.scan.0.into(),
            proof.epoch.0.into(),
            token_hash(&proof.token).into(),
        ],
    );
    let found = task::Entity::find().from_raw_sql(statement);
    let mut found = found.one(tx.conn()).await?;
    if let Some(row) = found.as_mut().filter(|_| !fence::IS_UP) {
        row.epoch = proof.epoch.0;
    }
    Ok(found)
}

/// All probes that wait, in one statement; the scan is locked, so these are the ones that were
/// counted.
const END_QUEUED: &str = "
    UPDATE tasks SET
        state = $4, ended_at = $3, reason = $5, message = $6, attempts_total = 0
    WHERE project_id = $1 AND scan_id = $2 AND kind = 'PROBE' AND state = 'QUEUED'";

/// The probes of a locked scan that wait.
pub(crate) async fn queued(tx: &Tx, scan: &Scan) -> Result<Vec<Task>> {
    let queued = [TaskState::Queued];
    of_scan(tx, &scan.project, scan.id, TaskKind::Probe, &queued).await
}

/// Writes that all of them ended, in the same way as `one` of them.
pub(crate) async fn end_queued(tx: &Tx, scan: &Scan, one: Option<&Task>, now: i64) -> Result<()> {
    let Some(one) = one else {
        return Ok(());
    };
    let values: [Value; 4] = [
        now.into(),
        one.state.as_str().into(),
        one.reason.as_str().into(),
        one.message.as_str().into(),
    ];
    let values = key(&scan.project, scan.id.0).into_iter().chain(values);
    tx.execute(END_QUEUED, values).await?;
    Ok(())
}

/// What is stored of a lease's token.
pub(crate) fn token_hash(token: &[u8]) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}

/// Writes a locked task that was in state `from` and is queued or ended now, fenced by its epoch.
pub(crate) async fn save(
    tx: &Tx,
    project: &ProjectId,
    task: &Task,
    from: TaskState,
    now: i64,
) -> Result<()> {
    let changes = task::ActiveModel {
        state: Set(task.state.as_str().to_owned()),
        failures: Set(task.failures),
        not_before: Set(task.not_before),
        granted: Set(task.granted),
        lease_runner: Set(None),
        lease_request_id: Set(None),
        lease_token_hash: Set(None),
        lease_expires_at: Set(None),
        attempts_done: Set(task.progress.attempts_done),
        attempts_total: Set(task.progress.attempts_total),
        target_retries: Set(task.progress.target_retries),
        reason: Set(task.reason.clone()),
        message: Set(task.message.clone()),
        ended_at: Set((task.state != TaskState::Queued).then_some(now)),
        ..Default::default()
    };
    let of_run = task::Column::Epoch.eq(task.epoch.0);
    let written = task::Entity::update_many()
        .set(changes)
        .filter(task::Column::ProjectId.eq(project.as_str()))
        .filter(task::Column::Id.eq(task.id.0))
        .filter(Condition::all().add_option(fence::IS_UP.then_some(of_run)))
        .filter(task::Column::State.eq(from.as_str()))
        .exec(tx.conn())
        .await?;
    if written.rows_affected == 1 {
        return Ok(());
    }
    Err(Fault::Corrupt(format!(
        "task {} changed under its lock",
        task.id
    )))
}

/// Tasks of a scan in one of these states, in the scan's order. The scan is locked.
pub(crate) async fn of_scan(
    tx: &Tx,
    project: &ProjectId,
    scan: ScanId,
    kind: TaskKind,
    states: &[TaskState],
) -> Result<Vec<Task>> {
    let rows = task::Entity::find()
        .filter(task::Column::ProjectId.eq(project.as_str()))
        .filter(task::Column::ScanId.eq(scan.0))
        .filter(task::Column::Kind.eq(kind.as_str()))
        .filter(task::Column::State.is_in(states.iter().map(|state| state.as_str())))
        .order_by_asc(task::Column::Ordinal)
        .order_by_asc(task::Column::ShardIndex)
        .all(tx.conn())
        .await?;
    rows.into_iter().map(rows::task_of).collect()
}
