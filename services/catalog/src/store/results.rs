//! What detectors made of probes: sums that were made when tasks finished.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter,
    QueryOrder, QuerySelect, Value, sea_query::OnConflict,
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
pub(crate) async fn add(
    tx: &Tx,
    scan: &Scan,
    tags: &[String],
    tally: &Tally,
    now: i64,
) -> Result<()> {
    let probes: BTreeSet<&str> = tally.rows.iter().map(|row| row.probe.as_str()).collect();
    // Of another shard of the same probe that was first.
    let before = probe_result::Entity::find()
        .filter(probe_result::Column::ProjectId.eq(scan.project.as_str()))
        .filter(probe_result::Column::ScanId.eq(scan.id.0))
        .filter(probe_result::Column::Probe.is_in(probes))
        .all(tx.conn())
        .await?;
    let key = |row: &probe_result::Model| (row.probe.clone(), row.detector.clone());
    let before: BTreeMap<_, _> = before.into_iter().map(|row| (key(&row), row)).collect();
    let mut after = BTreeMap::new();
    for row in &tally.rows {
        let key = (row.probe.clone(), row.detector.clone());
        let fresh = || {
            before
                .get(&key)
                .cloned()
                .unwrap_or_else(|| empty(scan, row))
        };
        add_row(after.entry(key.clone()).or_insert_with(fresh), row, now);
    }
    let mut deltas = Vec::new();
    for (key, row) in &after {
        // It may be another day by now: all of it counts on the day of its last part.
        let back = before
            .get(key)
            .map(|row| statistics::of_result(scan, row, tags));
        deltas.extend(back.map(statistics::back));
        deltas.push(statistics::of_result(scan, row, tags));
    }
    insert(tx, after.into_values()).await?;
    statistics::append(tx, scan, deltas).await
}

/// Inserts the results of a scan that did not run here; it has none yet. Its statistics are
/// counted apart.
pub(crate) async fn add_all(tx: &Tx, scan: &Scan, results: &[TallyRow], now: i64) -> Result<()> {
    let rows = results.iter().map(|row| {
        let mut sum = empty(scan, row);
        add_row(&mut sum, row, now);
        let grades = row.grades.unwrap_or_default();
        probe_result::Model {
            absolute_defcon: grades.absolute_defcon,
            relative_defcon: grades.relative_defcon,
            detector_defcon: grades.detector_defcon,
            relative_score: grades.relative_score,
            ..sum
        }
    });
    insert(tx, rows).await
}

async fn insert(tx: &Tx, rows: impl Iterator<Item = probe_result::Model>) -> Result<()> {
    let mut rows: Vec<_> = rows.map(all_set).collect();
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

fn add_row(sum: &mut probe_result::Model, row: &TallyRow, now: i64) {
    sum.passed += row.passed;
    sum.failed += row.failed;
    sum.nones += row.nones;
    sum.evaluated += row.evaluated;
    sum.rank = rows::result_of(sum.clone()).row.rank();
    sum.evaluated_at = now;
}

/// A result that counts nothing yet.
fn empty(scan: &Scan, row: &TallyRow) -> probe_result::Model {
    probe_result::Model {
        project_id: scan.project.to_string(),
        scan_id: scan.id.0,
        probe: row.probe.clone(),
        detector: row.detector.clone(),
        passed: 0,
        failed: 0,
        nones: 0,
        evaluated: 0,
        rank: 0,
        absolute_defcon: None,
        relative_defcon: None,
        detector_defcon: None,
        relative_score: None,
        evaluated_at: 0,
    }
}

/// Every column, to be inserted as it is.
fn all_set(row: probe_result::Model) -> probe_result::ActiveModel {
    row.into_active_model().reset_all()
}

/// Puts a composed report's grades on the results, in place of those of the revision before; the
/// counts stay those of the parts. The scan, which is locked, gets the worst grade.
pub(crate) async fn grade(tx: &Tx, scan: &mut Scan, tally: &Tally) -> Result<()> {
    let tags = statistics::tags(tx, scan).await?;
    let mut deltas = Vec::new();
    let mut changed = Vec::new();
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
            .filter(|grade| Grades::DEFCON.contains(grade));
        scan.defcon = scan.defcon.into_iter().chain(defcon).min();
        if grades == grades_of(&before) {
            continue;
        }
        changed.push((before.probe.clone(), before.detector.clone(), grades));
        let tags = tags.get(&before.probe).map_or(&[][..], Vec::as_slice);
        deltas.push(statistics::of_grade(scan, &before, tags, -1));
        let after = probe_result::Model {
            detector_defcon: grades.detector_defcon,
            ..before
        };
        deltas.push(statistics::of_grade(scan, &after, tags, 1));
    }
    save_grades(tx, scan, &changed).await?;
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

/// A few statements, however many results there are.
async fn save_grades(tx: &Tx, scan: &Scan, graded: &[(String, String, Grades)]) -> Result<()> {
    for rows in graded.chunks(ROWS) {
        let mut values: Vec<Value> = vec![scan.project.as_str().into(), scan.id.0.into()];
        let mut places = Vec::new();
        for (probe, detector, grades) in rows {
            let first = values.len() + 1;
            let of_row: Vec<String> = (first..first + 6).map(|at| format!("${at}")).collect();
            places.push(format!("({})", of_row.join(", ")));
            values.extend([
                probe.as_str().into(),
                detector.as_str().into(),
                grades.absolute_defcon.into(),
                grades.relative_defcon.into(),
                grades.detector_defcon.into(),
                grades.relative_score.into(),
            ]);
        }
        let sql = GRADE.replace("{rows}", &places.join(", "));
        tx.execute(&sql, values).await?;
    }
    Ok(())
}
