//! What detectors made of probes: sums that were made when tasks finished.

use std::collections::HashMap;

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, Set,
};
use serde::{Deserialize, Serialize};

use super::{
    Store,
    entity::{probe_result, scan},
    fault::Result,
    rows, statistics,
    tx::Tx,
};
use crate::domain::{
    refusal,
    scan::Scan,
    tally::{Grades, ProbeResult, Tally, TallyRow},
};

/// garak's grades, from the report that its own writer made.
const GRADE: &str = "
    UPDATE probe_results SET
        absolute_defcon = $5, relative_defcon = $6, detector_defcon = $7, relative_score = $8
    WHERE project_id = $1 AND scan_id = $2 AND probe = $3 AND detector = $4";

/// garak's grades, worst first.
const DEFCON: std::ops::RangeInclusive<i32> = 1..=5;

/// Where a page of results begins: after this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultCursor {
    /// Its place in "worst first".
    pub rank: i64,
    /// Its probe.
    pub probe: String,
    /// Its detector.
    pub detector: String,
}

/// A page of results, worst first.
#[derive(Debug, Clone)]
pub struct ResultPage {
    /// The results.
    pub results: Vec<ProbeResult>,
    /// Where the next page begins, when there is one.
    pub next: Option<ResultCursor>,
}

impl Store {
    /// A page of a scan's results: lowest pass rate first, then probe and detector by name.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND.
    pub async fn results(
        &self,
        project: &ProjectId,
        id: ScanId,
        after: Option<&ResultCursor>,
        limit: u64,
    ) -> aegis_mesh::Result<ResultPage> {
        Ok(self.read_results(project, id, after, limit).await?)
    }

    async fn read_results(
        &self,
        project: &ProjectId,
        id: ScanId,
        after: Option<&ResultCursor>,
        limit: u64,
    ) -> Result<ResultPage> {
        let tx = self.read().await?;
        visible(&tx, project, id).await?;
        let found = probe_result::Entity::find()
            .filter(condition(project, id, after))
            .order_by_asc(probe_result::Column::Rank)
            .order_by_asc(probe_result::Column::Probe)
            .order_by_asc(probe_result::Column::Detector)
            .limit(limit + 1)
            .all(tx.conn())
            .await?;
        let more = found.len() as u64 > limit;
        let page: Vec<_> = found.into_iter().take(limit as usize).collect();
        let last = page.last().map(|row| ResultCursor {
            rank: row.rank,
            probe: row.probe.clone(),
            detector: row.detector.clone(),
        });
        Ok(ResultPage {
            next: last.filter(|_| more),
            results: page.into_iter().map(rows::result_of).collect(),
        })
    }
}

/// Refuses a scan that is not there or deleted.
pub(crate) async fn visible(tx: &Tx, project: &ProjectId, id: ScanId) -> Result<Scan> {
    let row = scan::Entity::find_by_id((project.to_string(), id.0))
        .filter(scan::Column::DeletedAt.is_null())
        .one(tx.conn())
        .await?;
    rows::scan_of(row.ok_or_else(|| refusal::scan_not_found(id))?)
}

fn condition(project: &ProjectId, id: ScanId, after: Option<&ResultCursor>) -> Condition {
    let all = Condition::all()
        .add(probe_result::Column::ProjectId.eq(project.as_str()))
        .add(probe_result::Column::ScanId.eq(id.0));
    let Some(after) = after else { return all };
    let same_rank = Condition::all()
        .add(probe_result::Column::Rank.eq(after.rank))
        .add(probe_result::Column::Probe.gt(&after.probe));
    let same_probe = Condition::all()
        .add(probe_result::Column::Rank.eq(after.rank))
        .add(probe_result::Column::Probe.eq(&after.probe))
        .add(probe_result::Column::Detector.gt(&after.detector));
    // The first bound is where an index can begin.
    all.add(probe_result::Column::Rank.gte(after.rank)).add(
        Condition::any()
            .add(probe_result::Column::Rank.gt(after.rank))
            .add(same_rank)
            .add(same_probe),
    )
}

/// Adds the counts of a committed part. The scan is locked.
pub(crate) async fn add(
    tx: &Tx,
    scan: &Scan,
    tags: &[String],
    tally: &Tally,
    now: i64,
) -> Result<()> {
    let mut deltas = Vec::new();
    for row in &tally.rows {
        let id = (
            scan.project.to_string(),
            scan.id.0,
            row.probe.clone(),
            row.detector.clone(),
        );
        match probe_result::Entity::find_by_id(id).one(tx.conn()).await? {
            None => {
                let added = new_result(scan, row, now).insert(tx.conn()).await?;
                deltas.push(statistics::of_result(scan, &added, tags));
            }
            // Another shard of the same probe was first.
            Some(before) => {
                let sum = sum(&before, row);
                // It may be another day by now: all of it counts on the day of its last part.
                deltas.push(statistics::back(statistics::of_result(scan, &before, tags)));
                let mut changed = before.into_active_model();
                changed.passed = Set(sum.passed);
                changed.failed = Set(sum.failed);
                changed.nones = Set(sum.nones);
                changed.evaluated = Set(sum.evaluated);
                changed.rank = Set(sum.rank());
                changed.evaluated_at = Set(now);
                let sum = changed.update(tx.conn()).await?;
                deltas.push(statistics::of_result(scan, &sum, tags));
            }
        }
    }
    statistics::append(tx, scan, deltas).await
}

fn sum(before: &probe_result::Model, row: &TallyRow) -> TallyRow {
    TallyRow {
        passed: before.passed + row.passed,
        failed: before.failed + row.failed,
        nones: before.nones + row.nones,
        evaluated: before.evaluated + row.evaluated,
        ..row.clone()
    }
}

fn new_result(scan: &Scan, row: &TallyRow, now: i64) -> probe_result::ActiveModel {
    probe_result::ActiveModel {
        project_id: Set(scan.project.to_string()),
        scan_id: Set(scan.id.0),
        probe: Set(row.probe.clone()),
        detector: Set(row.detector.clone()),
        passed: Set(row.passed),
        failed: Set(row.failed),
        nones: Set(row.nones),
        evaluated: Set(row.evaluated),
        rank: Set(row.rank()),
        absolute_defcon: Set(None),
        relative_defcon: Set(None),
        detector_defcon: Set(None),
        relative_score: Set(None),
        evaluated_at: Set(now),
    }
}

/// Puts a composed report's grades on the results, in place of those of the revision before; the
/// counts stay those of the parts. The scan, which is locked, gets the worst grade.
pub(crate) async fn grade(tx: &Tx, scan: &mut Scan, tally: &Tally) -> Result<()> {
    let tags = statistics::tags(tx, scan).await?;
    let mut deltas = Vec::new();
    scan.defcon = None;
    let graded: HashMap<_, _> = tally
        .rows
        .iter()
        .map(|row| ((row.probe.as_str(), row.detector.as_str()), row.grades))
        .collect();
    for before in statistics::results_of(tx, scan).await? {
        let of = (before.probe.as_str(), before.detector.as_str());
        let grades = graded.get(&of).copied().flatten().unwrap_or_default();
        let defcon = grades
            .detector_defcon
            .filter(|grade| DEFCON.contains(grade));
        scan.defcon = scan.defcon.into_iter().chain(defcon).min();
        if grades == grades_of(&before) {
            continue;
        }
        save_grades(tx, scan, &before, grades).await?;
        let tags = tags.get(&before.probe).map_or(&[][..], Vec::as_slice);
        deltas.push(statistics::of_grade(scan, &before, tags, -1));
        let after = probe_result::Model {
            detector_defcon: grades.detector_defcon,
            ..before
        };
        deltas.push(statistics::of_grade(scan, &after, tags, 1));
    }
    statistics::append(tx, scan, deltas).await
}

fn grades_of(row: &probe_result::Model) -> Grades {
    Grades {
        absolute_defcon: row.absolute_defcon,
        relative_defcon: row.relative_defcon,
        detector_defcon: row.detector_defcon,
        relative_score: row.relative_score,
    }
}

async fn save_grades(
    tx: &Tx,
    scan: &Scan,
    row: &probe_result::Model,
    grades: Grades,
) -> Result<()> {
    let values = [
        scan.project.as_str().into(),
        scan.id.0.into(),
        row.probe.as_str().into(),
        row.detector.as_str().into(),
        grades.absolute_defcon.into(),
        grades.relative_defcon.into(),
        grades.detector_defcon.into(),
        grades.relative_score.into(),
    ];
    tx.execute(GRADE, values).await?;
    Ok(())
}
