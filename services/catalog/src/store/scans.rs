//! Scans and lanes under their locks: loaded, changed by the domain, written back.
//!
//! One lock order everywhere: the scan's row, then its lane's, then the task's.

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect, Set, sea_query::LockType,
};

use super::{
    entity::{lane, scan, scan_event},
    fault::{Fault, Result},
    rows,
    tx::Tx,
};
use crate::domain::{event::Log, lane::Lane, refusal, scan::Scan};

/// Rows of one INSERT: PostgreSQL takes 65,535 values in a statement, SQLite 32,766.
const EVENTS_PER_INSERT: usize = 1_000;

/// Locks the scan's row, deleted or not.
pub(crate) async fn lock(tx: &Tx, project: &ProjectId, id: ScanId) -> Result<Option<Scan>> {
    let row = scan::Entity::find_by_id((project.to_string(), id.0))
        // A row that refers to the scan may be inserted meanwhile without a deadlock.
        .lock(LockType::NoKeyUpdate)
        .one(tx.conn())
        .await?;
    row.map(rows::scan_of).transpose()
}

/// Locks the row of a scan whose run its user may steer.
///
/// # Errors
/// NOT_FOUND / SCAN_NOT_FOUND, also when it is deleted; FAILED_PRECONDITION / SCAN_IMPORTED.
pub(crate) async fn lock_own(tx: &Tx, project: &ProjectId, id: ScanId) -> Result<Scan> {
    let scan = lock(tx, project, id)
        .await?
        .filter(|scan| scan.deleted_at.is_none())
        .ok_or_else(|| refusal::scan_not_found(id))?;
    if scan.imported {
        return Err(refusal::scan_imported(id).into());
    }
    Ok(scan)
}

/// Locks the scan's lane. The scan is locked already.
pub(crate) async fn lock_lane(tx: &Tx, scan: &Scan) -> Result<Lane> {
    let row = lane::Entity::find_by_id((scan.project.to_string(), scan.lane.clone()))
        .lock(LockType::NoKeyUpdate)
        .one(tx.conn())
        .await?;
    row.map(rows::lane_of).ok_or_else(|| no_lane(scan))
}

/// The same with the database's clock, in unix milliseconds: read under the scan's lock, so that
/// its log's times do not go back.
const LANE_NOW: &str = "
    SELECT lanes.*, {now} AS now FROM lanes WHERE project_id = $1 AND id = $2 {lock}";

/// [`lock_lane`], and what time it is.
pub(crate) async fn lock_lane_now(tx: &Tx, scan: &Scan) -> Result<(Lane, i64)> {
    let values = [scan.project.as_str().into(), scan.lane.as_str().into()];
    let row = tx.one(LANE_NOW, values).await?;
    let row = row.ok_or_else(|| no_lane(scan))?;
    let lane = lane::Model::from_query_result(&row, "")?;
    Ok((rows::lane_of(lane), row.try_get("", "now")?))
}

fn no_lane(scan: &Scan) -> Fault {
    Fault::Corrupt(format!("scan {} has no lane", scan.id))
}

/// Writes a lane that is locked.
pub(crate) async fn save_lane(tx: &Tx, project: &ProjectId, lane: &Lane) -> Result<()> {
    let changes = lane::ActiveModel {
        in_flight: Set(lane.in_flight),
        queued: Set(lane.queued),
        paused_until: Set(lane.paused_until),
        backpressure_since: Set(lane.backpressure_since),
        has_answered: Set(lane.has_answered),
        ..Default::default()
    };
    lane::Entity::update_many()
        .set(changes)
        .filter(lane::Column::ProjectId.eq(project.as_str()))
        .filter(lane::Column::Id.eq(&lane.key))
        .exec(tx.conn())
        .await?;
    Ok(())
}

/// Writes a scan that is locked, and appends the events: they get their numbers here, inside
/// the lock. A number from anywhere else could be committed after a higher one, and a watcher
/// that is past it would never see it.
pub(crate) async fn save(tx: &mut Tx, scan: &mut Scan, now: i64, log: Log) -> Result<()> {
    append(tx, scan, now, log).await?;
    scan::Entity::update_many()
        .set(rows::scan_changes(scan))
        .filter(scan::Column::ProjectId.eq(scan.project.as_str()))
        .filter(scan::Column::Id.eq(scan.id.0))
        .exec(tx.conn())
        .await?;
    tx.wake_scan(scan.id);
    Ok(())
}

/// Appends events; the scan is written by the caller.
pub(crate) async fn append(tx: &Tx, scan: &mut Scan, now: i64, log: Log) -> Result<()> {
    let mut events = Vec::new();
    for event in log.into_events() {
        scan.last_sequence += 1;
        let row = rows::new_event(&scan.project, scan.id, scan.last_sequence, now, event)?;
        events.push(row);
    }
    while !events.is_empty() {
        let rest = events.split_off(events.len().min(EVENTS_PER_INSERT));
        scan_event::Entity::insert_many(events)
            .exec_without_returning(tx.conn())
            .await?;
        events = rest;
    }
    Ok(())
}
