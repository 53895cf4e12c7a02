//! The statistics of the scans, made by the database out of their rows, as the fold would have
//! made them. A test looks that they are the same.

use anyhow::{Context, Result};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use time::{Date, Month, OffsetDateTime};

use super::rows::{FIRST_MS, SPAN_MS, run};

/// The columns of a line's numbers, in the order in which a day's list has them.
const NUMBERS: [&str; 12] = [
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
const DAY_MS: i64 = 86_400_000;
/// A scan's last day is at most so much after its creation.
const LONGEST_MS: i64 = 2 * 3_600_000;

/// The keys of a result: a probe's name is "module12.Probe117", and its tags follow from its number.
const KEYS: [(&str, &str); 6] = [
    ("PROBE", "probe"),
    ("MODULE", "substr(probe, 1, 8)"),
    ("DETECTOR", "detector"),
    ("TAG", "'owasp:llm' || (10 + {number} % 10)"),
    ("TAG", "'avid-effect:security:S04' || (10 + {number} % 20)"),
    ("TAG", "'quality:Behavioral:Q' || (10 + {number} % 30)"),
];
const NUMBER: &str = "CAST(substr(probe, 15) AS INTEGER)";

/// Fills `statistics_rollups` from `scans` and `probe_results`; goes on where it was interrupted.
pub(super) async fn fill(database: &DatabaseConnection) -> Result<()> {
    let made = last_month(database).await?;
    let day_of = |ms: u64| -> Result<Date> {
        let seconds = i64::try_from(ms / 1_000)?;
        Ok(OffsetDateTime::from_unix_timestamp(seconds)?.date())
    };
    let last = day_of(FIRST_MS + SPAN_MS + 2 * 86_400_000)?;
    let mut month = day_of(FIRST_MS)?.replace_day(1)?;
    while month <= last {
        let next = following(month)?;
        if bucket(month) > made {
            run(database, &of_month(month, next)).await?;
        }
        eprint!("\rstatistics until {next} ");
        month = next;
    }
    eprintln!();
    run(
        database,
        "DELETE FROM statistics_rollups WHERE period = 'YEAR'",
    )
    .await?;
    run(database, &of_years()).await
}

/// The last that has rows; a month's are made at once.
async fn last_month(database: &DatabaseConnection) -> Result<i32> {
    let last = "SELECT MAX(bucket) AS last FROM statistics_rollups WHERE period = 'MONTH'";
    let last = Statement::from_string(database.get_database_backend(), last);
    let row = database.query_one_raw(last).await?;
    let last: Option<i32> = row.map_or(Ok(None), |row| row.try_get("", "last"))?;
    Ok(last.unwrap_or(0))
}

/// Months since the year 0.
fn bucket(month: Date) -> i32 {
    month.year() * 12 + i32::from(u8::from(month.month())) - 1
}

fn following(month: Date) -> Result<Date> {
    let (year, next) = match month.month() {
        Month::December => (month.year() + 1, Month::January),
        other => (month.year(), other.next()),
    };
    Date::from_calendar_date(year, next, 1).context("a month")
}

fn day_number(date: Date) -> i64 {
    (date.midnight().assume_utc().unix_timestamp() * 1_000).div_euclid(DAY_MS)
}

/// Each of the numbers, as this says it, with commas between.
fn numbers(each: impl Fn(usize, &str) -> String) -> String {
    let all = NUMBERS.iter().enumerate();
    let all: Vec<_> = all.map(|(at, name)| each(at, name)).collect();
    all.join(", ")
}

fn summed() -> String {
    numbers(|_, name| format!("CAST(SUM({name}) AS BIGINT) AS {name}"))
}

/// A day's list, without the zeros at its end.
fn list() -> String {
    let until = |last: usize| NUMBERS[..=last].join(" || ',' || ");
    let cases = (0..NUMBERS.len()).rev().map(|last| {
        format!(
            "WHEN {} <> 0 THEN '[' || {} || ']'",
            NUMBERS[last],
            until(last)
        )
    });
    let cases: Vec<_> = cases.collect();
    format!("CASE {} ELSE '[]' END", cases.join(" "))
}

/// What was evaluated and what ended on the days from `first` to before `next`: a row for each.
fn changes(first: i64, next: i64) -> String {
    let (from, to) = (first * DAY_MS, next * DAY_MS);
    let grades = (1..=5).map(|grade| {
        format!("CASE WHEN r.detector_defcon = {grade} THEN 1 ELSE 0 END AS defcon_{grade}")
    });
    let grades: Vec<_> = grades.collect();
    let states = ["COMPLETED", "FAILED", "CANCELLED"];
    let states = states.map(|state| {
        let column = state.to_lowercase();
        format!("CASE WHEN s.state = '{state}' THEN 1 ELSE 0 END AS scans_{column}")
    });
    format!(
        "SELECT s.target_type, s.target_name, r.evaluated_at / {DAY_MS} AS day, r.probe, r.detector,
             0 AS scans_completed, 0 AS scans_failed, 0 AS scans_cancelled,
             1 AS evaluations, r.passed, r.failed, r.nones, {grades}
         FROM scans s JOIN probe_results r ON r.project_id = s.project_id AND r.scan_id = s.id
         WHERE s.project_id = 'default' AND s.deleted_at IS NULL
             AND s.created_at >= {from} - {LONGEST_MS} AND s.created_at < {to}
             AND r.evaluated_at >= {from} AND r.evaluated_at < {to}
         UNION ALL
         SELECT s.target_type, s.target_name, s.ended_at / {DAY_MS}, '', '',
             {states}, 0, 0, 0, 0, 0, 0, 0, 0, 0
         FROM scans s
         WHERE s.project_id = 'default' AND s.deleted_at IS NULL
             AND s.ended_at >= {from} AND s.ended_at < {to}",
        grades = grades.join(", "),
        states = states.join(", "),
    )
}

/// A month's rows. From one step to the next there are fewer: a target's probes by day, then those
/// in each of their lines, then each line also for all targets, then its month.
fn of_month(month: Date, next: Date) -> String {
    let (first, next) = (day_number(month), day_number(next));
    let bucket = bucket(month);
    let lines = KEYS.map(|(dimension, key)| {
        let key = key.replace("{number}", NUMBER);
        format!(
            "SELECT '{dimension}' AS dimension, {key} AS key, target_type, target_name, day, {}
             FROM probes WHERE probe <> ''",
            NUMBERS.join(", ")
        )
    });
    format!(
        "INSERT INTO statistics_rollups (project_id, dimension, key, target_type, target_name,
             period, bucket, {names}, days)
         WITH changes AS ({changes}),
         probes AS (
             SELECT target_type, target_name, day, probe, detector, {summed}
             FROM changes GROUP BY target_type, target_name, day, probe, detector),
         lines AS (
             SELECT 'TOTAL' AS dimension, '' AS key, target_type, target_name, day, {names}
             FROM probes
             UNION ALL {lines}),
         of_target AS (
             SELECT dimension, key, target_type, target_name, day, {summed}
             FROM lines GROUP BY dimension, key, target_type, target_name, day),
         daily AS (
             SELECT dimension, key, target_type, target_name, day, {names} FROM of_target
             UNION ALL
             SELECT dimension, key, '', '', day, {summed} FROM of_target GROUP BY dimension, key, day)
         SELECT 'default', dimension, key, target_type, target_name, 'MONTH', {bucket}, {summed},
             '{{' || string_agg('\"' || (day - {first} + 1) || '\":' || {list}, ',' ORDER BY day) || '}}'
         FROM daily GROUP BY dimension, key, target_type, target_name",
        names = NUMBERS.join(", "),
        changes = changes(first, next),
        summed = summed(),
        lines = lines.join(" UNION ALL "),
        list = list(),
    )
}

fn of_years() -> String {
    format!(
        "INSERT INTO statistics_rollups (project_id, dimension, key, target_type, target_name,
             period, bucket, {names}, days)
         SELECT project_id, dimension, key, target_type, target_name, 'YEAR', bucket / 12, {summed},
             '{{}}'
         FROM statistics_rollups WHERE period = 'MONTH'
         GROUP BY project_id, dimension, key, target_type, target_name, bucket / 12",
        names = NUMBERS.join(", "),
        summed = summed(),
    )
}

#[cfg(test)]
#[path = "sums_test.rs"]
mod tests;
