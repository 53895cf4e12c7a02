//! Statistics: changes appended by whatever finishes, folded later, read as the sum of both.

mod fold;
mod read;
mod rows;

pub use fold::Folded;

use std::collections::HashMap;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    entity::{probe_result, statistics_delta},
    fault::Result,
    tx::Tx,
};
use crate::domain::{
    scan::{Scan, ScanState},
    statistics::{Day, Delta, Subject, Sums, Target},
};

/// A delta has 20 values; PostgreSQL takes 65,535 in a statement, SQLite 32,766.
const DELTAS_PER_INSERT: usize = 500;

/// Tags of a scan's probes, as they were planned.
const TAGS: &str = "
    SELECT DISTINCT probe, CAST(tags AS TEXT) AS tags FROM tasks
    WHERE project_id = $1 AND scan_id = $2 AND kind = 'PROBE'";

/// Tags by probe.
pub(crate) type Tags = HashMap<String, Vec<String>>;

pub(crate) async fn tags(tx: &Tx, scan: &Scan) -> Result<Tags> {
    let values = super::key(&scan.project, scan.id.0);
    let mut tags = Tags::new();
    for row in tx.all(TAGS, values).await? {
        let json: String = row.try_get("", "tags")?;
        tags.insert(row.try_get("", "probe")?, serde_json::from_str(&json)?);
    }
    Ok(tags)
}

/// Appends changes, in the transaction of what they count.
pub(crate) async fn append(tx: &Tx, scan: &Scan, deltas: Vec<Delta>) -> Result<()> {
    let counting = deltas.into_iter().filter(|delta| !delta.sums.is_zero());
    let mut models = Vec::new();
    for delta in counting {
        models.push(rows::new_delta(&scan.project, delta)?);
    }
    while !models.is_empty() {
        let rest = models.split_off(models.len().min(DELTAS_PER_INSERT));
        statistics_delta::Entity::insert_many(models)
            .exec_without_returning(tx.conn())
            .await?;
        models = rest;
    }
    Ok(())
}

/// A result as it stands: what it adds to statistics.
pub(crate) fn of_result(scan: &Scan, row: &probe_result::Model, tags: &[String]) -> Delta {
    let mut sums = Sums {
        evaluations: 1,
        passed: row.passed,
        failed: row.failed,
        nones: row.nones,
        ..Sums::default()
    };
    sums.grade(row.detector_defcon, 1);
    delta_of(scan, row, tags, sums)
}

/// A result's grade as it stands.
pub(crate) fn of_grade(
    scan: &Scan,
    row: &probe_result::Model,
    tags: &[String],
    count: i64,
) -> Delta {
    let mut sums = Sums::default();
    sums.grade(row.detector_defcon, count);
    delta_of(scan, row, tags, sums)
}

fn delta_of(scan: &Scan, row: &probe_result::Model, tags: &[String], sums: Sums) -> Delta {
    Delta {
        target: target(scan),
        day: Day::of_time(row.evaluated_at),
        subject: Subject::Result {
            probe: row.probe.clone(),
            detector: row.detector.clone(),
            tags: tags.to_vec(),
        },
        sums,
    }
}

/// The end of a scan, on its day; `None` while it has none.
pub(crate) fn of_end(scan: &Scan) -> Option<Delta> {
    let day = Day::of_time(scan.ended_at?);
    let mut sums = Sums::default();
    match scan.state {
        ScanState::Completed => sums.scans_completed = 1,
        ScanState::Failed => sums.scans_failed = 1,
        ScanState::Cancelled => sums.scans_cancelled = 1,
        ScanState::Pending | ScanState::Running | ScanState::Paused | ScanState::Cancelling => {
            return None;
        }
    }
    Some(Delta {
        target: target(scan),
        day,
        subject: Subject::Scan,
        sums,
    })
}

fn target(scan: &Scan) -> Target {
    Target {
        kind: scan.target_type.clone(),
        name: scan.target_name.clone(),
    }
}

/// A change that takes `delta` back.
pub(crate) fn back(delta: Delta) -> Delta {
    Delta {
        sums: -delta.sums,
        ..delta
    }
}

/// Counts a scan that has ended, with all its results: for one that did not run here. The scan
/// and its results are written, and counted once.
pub(crate) async fn count(tx: &Tx, scan: &Scan) -> Result<()> {
    let deltas = everything_of(tx, scan).await?;
    append(tx, scan, deltas).await
}

/// Takes back all that a scan counts, before its rows are purged in the same transaction.
/// The scan is locked.
pub(crate) async fn retract(tx: &Tx, scan: &Scan) -> Result<()> {
    let deltas = everything_of(tx, scan).await?;
    append(tx, scan, deltas.into_iter().map(back).collect()).await
}

async fn everything_of(tx: &Tx, scan: &Scan) -> Result<Vec<Delta>> {
    let tags = tags(tx, scan).await?;
    let mut deltas: Vec<Delta> = of_end(scan).into_iter().collect();
    for row in results_of(tx, scan).await? {
        let tags = tags.get(&row.probe).map_or(&[][..], Vec::as_slice);
        deltas.push(of_result(scan, &row, tags));
    }
    Ok(deltas)
}

/// A scan's results.
pub(crate) async fn results_of(tx: &Tx, scan: &Scan) -> Result<Vec<probe_result::Model>> {
    let found = probe_result::Entity::find()
        .filter(probe_result::Column::ProjectId.eq(scan.project.as_str()))
        .filter(probe_result::Column::ScanId.eq(scan.id.0))
        .all(tx.conn())
        .await?;
    Ok(found)
}
