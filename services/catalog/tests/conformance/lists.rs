//! What the documentation says an index answers, an index answers: by the databases' own plans.

use aegis_catalog::domain::{
    history::{Period, ScanFilter, ScanOrder, ScanQuery, Share},
    scan::ScanState,
};
use sea_orm::DatabaseBackend;

use crate::{many, on_both_without_books, world::World};

on_both_without_books!(each_line_of_the_documentation_is_served_by_its_index);

const PAGE: u64 = 20;
const FIRST_DAY: i64 = 1_700_000_000_000;

fn filter(words: &str) -> ScanFilter {
    let mut filter = ScanFilter::default();
    let period = Period {
        start: Some(FIRST_DAY + 100_000),
        end: Some(FIRST_DAY + 1_400_000),
    };
    for word in words.split(", ") {
        match word {
            "none" => {}
            "states" => filter.states = vec![ScanState::Completed, ScanState::Cancelled],
            "target_type" => filter.target_type = "type.T1".to_owned(),
            "target_name" => filter.target_name = "name-1".to_owned(),
            "template" => filter.template = "quick".to_owned(),
            "defcon" => filter.defcon = vec![2, 3],
            "probe" => filter.probe = "dan.P2".to_owned(),
            "label" => filter.labels = [("team".to_owned(), "t2".to_owned())].into(),
            "label_key" => filter.labels = [("team".to_owned(), String::new())].into(),
            "create_time" => filter.created = period,
            "start_time" => filter.started = period,
            "end_time" => filter.ended = period,
            "pass_rate" => {
                filter.pass_rate = Share {
                    min: Some(0.3),
                    max: Some(0.9),
                }
            }
            other => panic!("{other} is no filter"),
        }
    }
    filter
}

fn order(word: &str) -> ScanOrder {
    match word {
        "CREATE_TIME" => ScanOrder::CreateTime,
        "START_TIME" => ScanOrder::StartTime,
        "END_TIME" => ScanOrder::EndTime,
        "TARGET" => ScanOrder::Target,
        "PASS_RATE" => ScanOrder::PassRate,
        "DURATION" => ScanOrder::Duration,
        "STATE" => ScanOrder::State,
        other => panic!("{other} is no order"),
    }
}

/// Filter, order and index of each line.
fn documented() -> Vec<(String, String, String)> {
    let text = include_str!("../../../../docs/history.md");
    let lines = text.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = lines.map(|line| line.trim_end_matches(" |").split(" | "));
    let lines = cells.map(|cells| cells.map(str::to_owned).collect::<Vec<_>>());
    let lines = lines.filter(|line| line.len() == 3 && !["filter", "---"].contains(&&*line[0]));
    lines
        .map(|line| (line[0].clone(), line[1].clone(), line[2].clone()))
        .collect()
}

async fn each_line_of_the_documentation_is_served_by_its_index(world: &World) {
    many::fill(world, 5_000).await;
    let lines = documented();
    assert!(lines.len() >= 25, "{lines:?}");
    for (words, ordered, index) in lines {
        for ascending in [false, true] {
            let query = ScanQuery {
                filter: filter(&words),
                order: order(&ordered),
                ascending,
                deleted: false,
            };
            let (chosen, served) = world.store.list_index(&query).unwrap();
            assert_eq!(
                (chosen, served),
                (index.as_str(), true),
                "{words}: {ordered}"
            );
            let what = format!("{words}: {ordered}, ascending {ascending}");
            check_plans(world, &query, &index, &what).await;
        }
    }
}

/// The first page, and one after many rows.
async fn check_plans(world: &World, query: &ScanQuery, index: &str, what: &str) {
    let (store, project) = (&world.store, &world.project);
    let plan = store.list_plan(project, query, None, PAGE).await.unwrap();
    check(world, &plan, index, what, false);
    let skipped = store.list(project, query, None, 60).await.unwrap();
    let after = skipped
        .next
        .unwrap_or_else(|| panic!("{what}: too few rows"));
    let plan = store.list_plan(project, query, Some(&after), PAGE).await;
    check(world, &plan.unwrap(), index, what, true);
}

fn check(world: &World, plan: &str, index: &str, what: &str, deep: bool) {
    match world.backend() {
        DatabaseBackend::Sqlite => on_sqlite(plan, index, what, deep),
        _ => on_postgres(plan, index, what, deep),
    }
}

/// Each table is searched, never scanned, and the cursor is part of the search.
fn on_sqlite(plan: &str, index: &str, what: &str, deep: bool) {
    let named = match index.ends_with("_pkey") {
        true => "USING PRIMARY KEY".to_owned(),
        false => format!("INDEX {index} "),
    };
    let ranges: Vec<&str> = plan.lines().filter(|line| line.contains(&named)).collect();
    assert!(!ranges.is_empty(), "{what}: {index} is not used:\n{plan}");
    for table in ["scans", "scan_labels", "scan_probes", "s"] {
        let whole = plan.lines().any(|line| {
            let scan = line.trim().strip_prefix("SCAN ");
            scan.is_some_and(|scan| scan.split(' ').next() == Some(table))
        });
        assert!(!whole, "{what}: {table} is read whole:\n{plan}");
    }
    if deep {
        let begins = |line: &&&str| line.contains("id)<(?") || line.contains("id)>(?");
        let begun = ranges.iter().filter(begins).count();
        // Those without the value were not reached yet, and begin at their first.
        let nulls = ranges.iter().filter(|line| line.contains("=? AND")).count();
        assert!(
            begun >= 1,
            "{what}: the cursor is not in the search ({nulls}):\n{plan}"
        );
    }
}

/// No step takes more rows than a page has, and none is read and thrown away.
fn on_postgres(plan: &str, index: &str, what: &str, deep: bool) {
    assert!(plan.contains(index), "{what}: {index} is not used:\n{plan}");
    assert!(!plan.contains("Seq Scan"), "{what}:\n{plan}");
    for line in plan.lines() {
        let rows = line.split("actual rows=").nth(1);
        let rows = rows.and_then(|rest| rest.split([' ', '.', ')']).next());
        let rows: u64 = rows.map_or(0, |rows| rows.parse().unwrap());
        let branches = plan.matches(index).count() as u64;
        assert!(
            rows <= (PAGE + 5) * branches.max(2),
            "{what}: {rows} rows:\n{plan}"
        );
        if let Some(thrown) = line.split("Rows Removed by Filter: ").nth(1) {
            let thrown: u64 = thrown.trim().parse().unwrap();
            // Labels and probes of deleted scans.
            assert!(thrown <= 5, "{what}: {thrown} rows in vain:\n{plan}");
        }
    }
    if deep {
        assert!(
            plan.contains("Index Cond: ") && plan.contains("ROW("),
            "{what}:\n{plan}"
        );
    }
}
