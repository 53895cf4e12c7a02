//! What detectors made of probes: sums that were made when tasks finished.

use std::collections::{BTreeMap, BTreeSet};

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set, Value,
    sea_query::OnConflict,
};
use serde::{Deserialize, Serialize};

use super::{
    Store,
    entity::{probe_result, scan},
    fault::Result,
    rows,
    tx::Tx,
};
use crate::domain::{
    refusal,
    scan::Scan,
    tally::{ProbeResult, Tally, TallyRow},
};

/// Rows of one statement; each has up to 14 values, and SQLite takes 32,766.
const ROWS: usize = 1_000;

/// garak's grades, from the report that its own writer made.
const GRADE: &str = "
    UPDATE probe_results SET absolute_defcon = v.column3, relative_defcon = v.column4,
        detector_defcon = v.column5, relative_score = v.column6
    FROM (VALUES {rows}) v
    WHERE project_id = $1 AND scan_id = $2 AND probe = v.column1 AND detector = v.column2";

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

/// Adds the counts of a committed part, in as many statements whatever is in it. The scan is
/// locked.
pub(crate) async fn add(tx: &Tx, scan: &Scan, tally: &Tally, now: i64) -> Result<()> {
    type Key<'a> = (&'a str, &'a str);
    let probes: BTreeSet<&str> = tally.rows.iter().map(|row| row.probe.as_str()).collect();
    // Of another shard of the same probe that was first.
    let before = probe_result::Entity::find()
        .filter(probe_result::Column::ProjectId.eq(scan.project.as_str()))
        .filter(probe_result::Column::ScanId.eq(scan.id.0))
        .filter(probe_result::Column::Probe.is_in(probes))
        .all(tx.conn())
        .await?;
    let before = before.into_iter().map(|row| rows::result_of(row).row);
    let before: Vec<TallyRow> = before.collect();
    let mut sums: BTreeMap<Key<'_>, TallyRow> = BTreeMap::new();
    let mut touched = BTreeSet::new();
    for row in before.iter().chain(&tally.rows) {
        let key = (row.probe.as_str(), row.detector.as_str());
        match sums.get_mut(&key) {
            Some(sum) => add_row(sum, row),
            None => drop(sums.insert(key, row.clone())),
        }
    }
    for row in &tally.rows {
        touched.insert((row.probe.as_str(), row.detector.as_str()));
    }
    sums.retain(|key, _| touched.contains(key));
    let mut rows: Vec<_> = sums
        .values()
        .map(|row| new_result(scan, row, now))
        .collect();
    while !rows.is_empty() {
        let rest = rows.split_off(rows.len().min(ROWS));
        probe_result::Entity::insert_many(rows)
            .on_conflict(sums_replace())
            .exec_without_returning(tx.conn())
            .await?;
        rows = rest;
    }
    Ok(())
}

/// A row that is there takes the sums; its grades stay.
fn sums_replace() -> OnConflict {
    use probe_result::Column;
    OnConflict::columns([
        Column::ProjectId,
        Column::ScanId,
        Column::Probe,
        Column::Detector,
    ])
    .update_columns([
        Column::Passed,
        Column::Failed,
        Column::Nones,
        Column::Evaluated,
        Column::Rank,
        Column::EvaluatedAt,
    ])
    .to_owned()
}

fn add_row(sum: &mut TallyRow, row: &TallyRow) {
    sum.passed += row.passed;
    sum.failed += row.failed;
    sum.nones += row.nones;
    sum.evaluated += row.evaluated;
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

/// Puts a composed report's grades on the results. The counts stay those of the parts.
pub(crate) async fn grade(tx: &Tx, scan: &Scan, tally: &Tally) -> Result<()> {
    let graded: Vec<_> = tally
        .rows
        .iter()
        .filter(|row| row.grades.is_some())
        .collect();
    for rows in graded.chunks(ROWS) {
        let mut values: Vec<Value> = vec![scan.project.as_str().into(), scan.id.0.into()];
        let mut places = Vec::new();
        for row in rows {
            let first = values.len() + 1;
            let of_row: Vec<String> = (first..first + 6).map(|at| format!("${at}")).collect();
            places.push(format!("({})", of_row.join(", ")));
            let grades = row.grades.unwrap_or_default();
            values.extend([
                row.probe.as_str().into(),
                row.detector.as_str().into(),
                grades.absolute_defcon.into(),
                grades.relative_defcon.into(),
                grades.detector_defcon.into(),
                grades.relative_score.into(),
            ]);
        }
        tx.execute(&GRADE.replace("{rows}", &places.join(", ")), values)
            .await?;
    }
    Ok(())
}
