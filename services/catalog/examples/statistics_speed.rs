//! How long statistics take to read and to fold, on SQLite and PostgreSQL, at 10 k and 1 M scans:
//! `cargo run --release -p aegis-catalog --example statistics_speed`.
//!
//! The sums are made in SQL, as they would be after 3 years of scans with 40 results each, of 100
//! targets, with 200 probes of 50 modules, 60 tags and 100 detectors.

use std::time::{Duration, Instant};

use aegis_catalog::{
    domain::statistics::{Day, Dimension, Grouping, Query, Scope, Target, Window},
    store::{DatabaseOptions, Location, Retention, Store},
};
use aegis_proto::ids::ProjectId;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection};

const TARGETS: u32 = 100;
const MONTHS: u32 = 36;
/// 2023-12 to 2026-11.
const FIRST_MONTH: u32 = 2_023 * 12 + 11;
const DIMENSIONS: [(&str, u32); 5] = [
    ("TOTAL", 1),
    ("PROBE", 200),
    ("MODULE", 50),
    ("TAG", 60),
    ("DETECTOR", 100),
];
const RUNS: usize = 15;
const WAITING: u32 = 2_000;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    for scans in [10_000, 1_000_000] {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("catalog.db");
        let url = format!("sqlite:{}", file.display());
        measure("SQLite", scans, Location::File(file), &url).await?;
        let database = aegis_testkit::Postgres::shared().create_database();
        let url = database.url();
        measure("PostgreSQL", scans, Location::Postgres(url.clone()), &url).await?;
    }
    Ok(())
}

async fn measure(name: &str, scans: u32, location: Location, url: &str) -> anyhow::Result<()> {
    let store = Store::open(&options(location), retention()).await?;
    let raw = Database::connect(url.to_owned()).await?;
    let begun = Instant::now();
    seed(&raw, scans).await?;
    println!("{name}, {scans} scans (made in {:.0?})", begun.elapsed());
    for (what, query, grouping) in questions() {
        let mut took = Vec::new();
        let mut rows = 0;
        for _ in 0..RUNS {
            let begun = Instant::now();
            rows = read(&store, &query, grouping).await?;
            took.push(begun.elapsed());
        }
        took.sort();
        let (median, most) = (took[RUNS / 2], took[RUNS - 1]);
        println!("  {what:<44} {rows:>5} lines  median {median:>8.1?}  most {most:>8.1?}");
    }
    fold(&store, &raw).await?;
    store.close().await?;
    Ok(())
}

async fn read(store: &Store, query: &Query, grouping: Grouping) -> anyhow::Result<usize> {
    let project = ProjectId::default_project();
    let scope = Scope::of(query, grouping).expect("a question that has an answer");
    Ok(store
        .statistics(&project, query, grouping, &scope)
        .await?
        .len())
}

fn questions() -> Vec<(&'static str, Query, Grouping)> {
    let window = |start: &str, end: &str| Window {
        start: Day::parse(start).expect("a day"),
        end: Day::parse(end).expect("a day"),
    };
    // Months and days at both ends.
    let odd = Query {
        window: window("2024-02-10", "2026-09-20"),
        ..Query::default()
    };
    let all = Query::default();
    let target = Some(Target {
        kind: "test.Repeat".to_owned(),
        name: "target-7".to_owned(),
    });
    let of_target = Query {
        target,
        ..odd.clone()
    };
    let by_tag = Query {
        by: Some((Dimension::Tag, "TAG-7".to_owned())),
        ..odd.clone()
    };
    let key = Grouping::Key;
    vec![
        ("everything", all.clone(), Grouping::None),
        ("everything by probe", all.clone(), key(Dimension::Probe)),
        ("everything by target", all.clone(), Grouping::Target),
        ("everything by day", all.clone(), Grouping::Day),
        ("everything by month", all, Grouping::Month),
        ("an odd window", odd.clone(), Grouping::None),
        ("an odd window by probe", odd.clone(), key(Dimension::Probe)),
        (
            "an odd window by detector",
            odd.clone(),
            key(Dimension::Detector),
        ),
        ("an odd window by tag", odd.clone(), key(Dimension::Tag)),
        ("an odd window by target", odd.clone(), Grouping::Target),
        ("an odd window by week", odd, Grouping::Week),
        (
            "an odd window of a target by day",
            of_target.clone(),
            Grouping::Day,
        ),
        (
            "an odd window of a target by probe",
            of_target,
            key(Dimension::Probe),
        ),
        (
            "an odd window of a tag by target",
            by_tag.clone(),
            Grouping::Target,
        ),
        ("an odd window of a tag by month", by_tag, Grouping::Month),
    ]
}

/// Sums of all targets are dense at any size, those of one target get denser with more scans.
async fn seed(raw: &DatabaseConnection, scans: u32) -> anyhow::Result<()> {
    let results = f64::from(scans) * 40.0 / 200.0 / f64::from(MONTHS);
    for (dimension, keys) in DIMENSIONS {
        let of_target = (results / f64::from(TARGETS) * 200.0 / f64::from(keys)).min(1e6);
        let present = |expected: f64| ((1.0 - (-expected).exp()) * 100.0).ceil();
        let days = |expected: f64| (30.0 * (1.0 - (-expected / 30.0).exp())).round().max(1.0);
        for (period, buckets, first) in [("MONTH", MONTHS, FIRST_MONTH), ("YEAR", 4, 2_023)] {
            for (targets, expected) in [(0, results), (TARGETS, of_target)] {
                let sql = format!(
                    "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 200)
                     INSERT INTO statistics_rollups
                     SELECT 'default', '{dimension}', {key},
                         CASE WHEN t.i = 0 THEN '' ELSE 'test.Repeat' END,
                         CASE WHEN t.i = 0 THEN '' ELSE 'target-' || t.i END,
                         '{period}', {first} + b.i, 4, 0, 1, 60, 4000, 500, 20, 3, 5, 7, 20, 25,
                         '{days}'
                     FROM n b, n t, n k
                     WHERE b.i < {buckets} AND t.i BETWEEN {least} AND {targets} AND k.i < {keys}
                       AND (k.i * 7919 + t.i * 104729 + b.i * 31) % 100 < {present}",
                    key = if keys == 1 {
                        "''".to_owned()
                    } else {
                        format!("'{dimension}-' || k.i")
                    },
                    days = if period == "YEAR" {
                        "{}".to_owned()
                    } else {
                        days_json(days(expected))
                    },
                    least = targets.min(1),
                    present = present(expected),
                );
                raw.execute_unprepared(&sql).await?;
            }
        }
    }
    raw.execute_unprepared("ANALYZE statistics_rollups").await?;
    Ok(())
}

fn days_json(days: f64) -> String {
    let days = (1..=days as u32).map(|day| format!(r#""{day}":[0,0,0,2,130,17,1,0,0,1,0,1]"#));
    format!("{{{}}}", days.collect::<Vec<_>>().join(","))
}

/// What waits costs, too; then it is folded.
async fn fold(store: &Store, raw: &DatabaseConnection) -> anyhow::Result<()> {
    let project = ProjectId::default_project();
    let id = match raw.get_database_backend() {
        sea_orm::DatabaseBackend::Sqlite => "randomblob(16)",
        _ => "gen_random_uuid()",
    };
    let sql = format!(
        "WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {WAITING} - 1)
         INSERT INTO statistics_deltas
         SELECT 'default', {id}, 'test.Repeat', 'target-' || (1 + i / 40 % 100), 20780,
             'PROBE-' || (i % 200) || '.X', 'DETECTOR-' || (i % 100),
             '[\"TAG-1\",\"TAG-2\",\"TAG-3\",\"TAG-4\",\"TAG-5\"]',
             0, 0, 0, 1, 5, 5, 0, 0, 1, 0, 0, 0
         FROM n"
    );
    let sql = match raw.get_database_backend() {
        sea_orm::DatabaseBackend::Sqlite => sql,
        _ => sql.replace("TAG-5\"]'", "TAG-5\"]'::jsonb"),
    };
    raw.execute_unprepared(&sql).await?;
    let begun = Instant::now();
    read(store, &Query::default(), Grouping::None).await?;
    let waiting = begun.elapsed();
    let begun = Instant::now();
    let mut longest = Duration::ZERO;
    loop {
        let one = Instant::now();
        let folded = store.fold_statistics(&project, 250).await?;
        longest = longest.max(one.elapsed());
        if !folded.more {
            break;
        }
    }
    let took = begun.elapsed();
    println!(
        "  {WAITING} changes wait: everything in {waiting:.1?}; folded in {took:.1?}, \
         250 in at most {longest:.1?}"
    );
    Ok(())
}

fn options(location: Location) -> DatabaseOptions {
    DatabaseOptions {
        max_connections: 4,
        timeout: Duration::from_secs(60),
        ..DatabaseOptions::at(location)
    }
}

fn retention() -> Retention {
    const DAY: Duration = Duration::from_secs(86_400);
    Retention {
        deleted_scan: DAY,
        request: DAY,
        upload: DAY,
    }
}
