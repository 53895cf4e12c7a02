//! Rows to the domain's types and back.

use aegis_proto::ids::ProjectId;
use sea_orm::{QueryResult, Set};

use super::super::{
    entity::{statistics_delta, statistics_rollup},
    fault::{Fault, Result},
};
use crate::domain::statistics::{
    Day, Days, Delta, Period, Rollup, RollupKey, Subject, Sums, Target,
};

/// The columns of [`Sums`], in its order.
pub(super) const COLUMNS: [&str; Sums::LEN] = [
    "scans_completed",
    "scans_failed",
    "scans_cancelled",
    "evaluations",
    "passed",
    "failed",
    "nones",
    "defcon_1",
    "defcon_2",
    "defcon_3",
    "defcon_4",
    "defcon_5",
];

pub(super) fn sums_of(row: &QueryResult) -> Result<Sums> {
    let mut numbers = [0; Sums::LEN];
    for (number, column) in numbers.iter_mut().zip(COLUMNS) {
        *number = row.try_get("", column)?;
    }
    Ok(Sums::from_array(numbers))
}

pub(super) fn days_of(json: &str) -> Result<Days> {
    Ok(serde_json::from_str(json)?)
}

/// Empty for all targets together.
pub(super) fn target_of(kind: String, name: String) -> Option<Target> {
    (!kind.is_empty()).then_some(Target { kind, name })
}

pub(super) fn new_delta(
    project: &ProjectId,
    delta: Delta,
) -> Result<statistics_delta::ActiveModel> {
    let (probe, detector, tags) = match delta.subject {
        Subject::Scan => (String::new(), String::new(), Vec::new()),
        Subject::Result {
            probe,
            detector,
            tags,
        } => (probe, detector, tags),
    };
    let [
        completed,
        scans_failed,
        cancelled,
        evaluations,
        passed,
        failed,
        nones,
        d1,
        d2,
        d3,
        d4,
        d5,
    ] = delta.sums.to_array();
    Ok(statistics_delta::ActiveModel {
        project_id: Set(project.to_string()),
        id: Set(uuid::Uuid::now_v7()),
        target_type: Set(delta.target.kind),
        target_name: Set(delta.target.name),
        day: Set(delta.day.0),
        probe: Set(probe),
        detector: Set(detector),
        tags: Set(serde_json::to_value(tags)?),
        scans_completed: Set(completed),
        scans_failed: Set(scans_failed),
        scans_cancelled: Set(cancelled),
        evaluations: Set(evaluations),
        passed: Set(passed),
        failed: Set(failed),
        nones: Set(nones),
        defcon_1: Set(d1),
        defcon_2: Set(d2),
        defcon_3: Set(d3),
        defcon_4: Set(d4),
        defcon_5: Set(d5),
    })
}

pub(super) fn delta_of(row: statistics_delta::Model) -> Result<Delta> {
    let sums = Sums::from_array([
        row.scans_completed,
        row.scans_failed,
        row.scans_cancelled,
        row.evaluations,
        row.passed,
        row.failed,
        row.nones,
        row.defcon_1,
        row.defcon_2,
        row.defcon_3,
        row.defcon_4,
        row.defcon_5,
    ]);
    let subject = if row.probe.is_empty() {
        Subject::Scan
    } else {
        Subject::Result {
            probe: row.probe,
            detector: row.detector,
            tags: serde_json::from_value(row.tags)?,
        }
    };
    Ok(Delta {
        target: Target {
            kind: row.target_type,
            name: row.target_name,
        },
        day: Day(row.day),
        subject,
        sums,
    })
}

/// A period as it is stored.
pub(super) fn period(period: Period) -> (&'static str, i32) {
    match period {
        Period::Year(year) => ("YEAR", year),
        Period::Month(month) => ("MONTH", month),
    }
}

pub(super) fn rollup_of(row: statistics_rollup::Model) -> Result<(RollupKey, Rollup)> {
    let period = match row.period.as_str() {
        "YEAR" => Period::Year(row.bucket),
        "MONTH" => Period::Month(row.bucket),
        other => return Err(Fault::Corrupt(format!("{other:?} is no period"))),
    };
    let key = RollupKey {
        dimension: row.dimension.parse()?,
        key: row.key,
        target: target_of(row.target_type, row.target_name),
        period,
    };
    let sums = Sums::from_array([
        row.scans_completed,
        row.scans_failed,
        row.scans_cancelled,
        row.evaluations,
        row.passed,
        row.failed,
        row.nones,
        row.defcon_1,
        row.defcon_2,
        row.defcon_3,
        row.defcon_4,
        row.defcon_5,
    ]);
    let days = days_of(&row.days)?;
    Ok((key, Rollup { sums, days }))
}

pub(super) fn new_rollup(
    project: &ProjectId,
    key: RollupKey,
    rollup: &Rollup,
) -> Result<statistics_rollup::ActiveModel> {
    let (period, bucket) = period(key.period);
    let target = key
        .target
        .map_or_else(Default::default, |target| (target.kind, target.name));
    let [
        completed,
        scans_failed,
        cancelled,
        evaluations,
        passed,
        failed,
        nones,
        d1,
        d2,
        d3,
        d4,
        d5,
    ] = rollup.sums.to_array();
    Ok(statistics_rollup::ActiveModel {
        project_id: Set(project.to_string()),
        dimension: Set(key.dimension.as_str().to_owned()),
        key: Set(key.key),
        target_type: Set(target.0),
        target_name: Set(target.1),
        period: Set(period.to_owned()),
        bucket: Set(bucket),
        scans_completed: Set(completed),
        scans_failed: Set(scans_failed),
        scans_cancelled: Set(cancelled),
        evaluations: Set(evaluations),
        passed: Set(passed),
        failed: Set(failed),
        nones: Set(nones),
        defcon_1: Set(d1),
        defcon_2: Set(d2),
        defcon_3: Set(d3),
        defcon_4: Set(d4),
        defcon_5: Set(d5),
        days: Set(serde_json::to_string(&rollup.days)?),
    })
}
