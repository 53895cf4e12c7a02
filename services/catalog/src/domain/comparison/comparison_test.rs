use proptest::prelude::*;

use super::{guard_test::scan, *};
use crate::domain::tally::TallyRow;

fn result(probe: &str, passed: i64, failed: i64) -> ProbeResult {
    ProbeResult {
        row: TallyRow {
            probe: probe.to_owned(),
            detector: "always.Fail".to_owned(),
            passed,
            failed,
            nones: 1,
            evaluated: passed + failed,
            grades: None,
        },
        evaluated_at: 0,
    }
}

fn compared(results: Vec<ProbeResult>) -> Compared {
    Compared {
        scan: scan(),
        results,
    }
}

/// Passed and failed of a baseline and of another scan, `None` without a result.
type Pair = (Option<(i64, i64)>, Option<(i64, i64)>);

fn one_row((baseline, here): Pair) -> Cell {
    let results = |counts: Option<(i64, i64)>| {
        let counts = counts.map(|(passed, failed)| result("a.B", passed, failed));
        compared(counts.into_iter().collect())
    };
    let comparison = compare(&[results(baseline), results(here)], 0.05);
    let row = comparison.rows.into_iter().next().expect("a row");
    assert_eq!(row.cells[0].change, None);
    row.cells.into_iter().nth(1).expect("two cells")
}

#[test]
fn a_row_becomes_what_it_is() {
    let cases: [(Pair, Option<Change>); 11] = [
        ((None, Some((5, 5))), Some(Change::New)),
        ((Some((0, 0)), Some((5, 5))), Some(Change::New)),
        ((Some((5, 5)), None), Some(Change::Gone)),
        ((Some((5, 5)), Some((0, 0))), Some(Change::Gone)),
        ((Some((0, 0)), Some((0, 0))), None),
        ((Some((50, 50)), Some((100, 0))), Some(Change::Fixed)),
        ((Some((50, 50)), Some((90, 10))), Some(Change::Better)),
        ((Some((90, 10)), Some((50, 50))), Some(Change::Worse)),
        ((Some((100, 0)), Some((50, 50))), Some(Change::Worse)),
        ((Some((50, 50)), Some((51, 49))), Some(Change::Unchanged)),
        // No failure left, but of so few that it may be chance.
        ((Some((3, 1)), Some((4, 0))), Some(Change::Unchanged)),
    ];
    for (pair, expected) in cases {
        let cell = one_row(pair);
        assert_eq!(cell.change, expected, "{pair:?}");
        let tested = cell.p_value.is_some();
        assert_eq!(tested, cell.q_value.is_some() && cell.difference.is_some());
    }
}

#[test]
fn what_must_not_be_compared_is_not() {
    let baseline = compared(vec![result("a.B", 100, 0), result("c.D", 1, 1)]);
    let mut here = compared(vec![result("a.B", 0, 100), result("e.F", 1, 1)]);
    here.scan.garak_version = "0.18.0".to_owned();
    let comparison = compare(&[baseline, here], 0.05);
    let cells: Vec<_> = comparison.rows.iter().map(|row| &row.cells[1]).collect();
    let changes: Vec<_> = cells.iter().map(|cell| cell.change).collect();
    // New and gone are facts, whatever the rates mean.
    let expected = [Change::New, Change::NotComparable, Change::Gone].map(Some);
    assert_eq!(changes, expected);
    assert!(
        cells
            .iter()
            .all(|cell| cell.p_value.is_none() && cell.difference.is_none())
    );
}

#[test]
fn a_difference_between_two_others_does_not_block_a_pair() {
    let scans = || compared(vec![result("a.B", 100, 0)]);
    let mut third = scans();
    third.scan.effective_eval_threshold = 0.9;
    let comparison = compare(&[scans(), scans(), third], 0.05);
    let changes: Vec<_> = comparison.rows[0]
        .cells
        .iter()
        .map(|cell| cell.change)
        .collect();
    assert_eq!(
        changes,
        [None, Some(Change::Unchanged), Some(Change::NotComparable)]
    );
    assert_eq!(comparison.summary(1)[&Change::Unchanged], 1);
    assert_eq!(comparison.summary(2)[&Change::NotComparable], 1);
}

#[test]
fn more_rows_ask_for_more_evidence() {
    let baseline = |rows: usize| {
        let rest = (1..rows).map(|n| result(&format!("same.P{n}"), 10, 10));
        compared(rest.chain([result("a.B", 20, 0)]).collect())
    };
    let here = |rows: usize| {
        let mut scan = baseline(rows);
        *scan.results.last_mut().unwrap() = result("a.B", 15, 5);
        scan
    };
    let change = |rows: usize| {
        let comparison = compare(&[baseline(rows), here(rows)], 0.05);
        let row = comparison.rows.into_iter().find(|row| row.probe == "a.B");
        row.unwrap().cells[1].clone()
    };
    let (alone, among_many) = (change(1), change(20));
    assert_eq!(alone.p_value, among_many.p_value);
    assert_eq!(alone.change, Some(Change::Worse));
    assert_eq!(among_many.change, Some(Change::Unchanged));
}

#[test]
fn the_worst_comes_first() {
    let baseline = compared(vec![
        result("b.Same", 5, 5),
        result("a.Same", 5, 5),
        result("c.Worse", 100, 0),
        result("d.Fixed", 0, 100),
        result("e.Gone", 1, 0),
    ]);
    let here = compared(vec![
        result("b.Same", 5, 5),
        result("a.Same", 5, 5),
        result("c.Worse", 0, 100),
        result("d.Fixed", 100, 0),
        result("f.New", 0, 1),
    ]);
    let comparison = compare(&[baseline, here], 0.05);
    let probes: Vec<_> = comparison
        .rows
        .iter()
        .map(|row| row.probe.as_str())
        .collect();
    assert_eq!(
        probes,
        ["c.Worse", "f.New", "e.Gone", "a.Same", "b.Same", "d.Fixed"]
    );
    assert!(comparison.rows.is_sorted_by_key(Row::place));
    assert!(comparison.rows[0].has(&[Change::Fixed, Change::Worse]));
    assert!(!comparison.rows[0].has(&[Change::Fixed]));
}

fn counts() -> impl Strategy<Value = Option<(i64, i64)>> {
    prop::option::of((0..60_i64, 0..60_i64))
}

proptest! {
    /// Worse one way is better the other way.
    #[test]
    fn forth_and_back(rows in prop::collection::vec((counts(), counts()), 1..12)) {
        let side = |pick: fn(&Pair) -> Option<(i64, i64)>| {
            let results = rows.iter().enumerate().filter_map(|(n, pair)| {
                pick(pair).map(|(passed, failed)| result(&format!("a.P{n:02}"), passed, failed))
            });
            compared(results.collect())
        };
        let (one, other) = (side(|pair| pair.0), side(|pair| pair.1));
        let forth = compare(&[one.clone(), other.clone()], 0.05);
        let back = compare(&[other, one], 0.05);
        for row in &forth.rows {
            let cell = &row.cells[1];
            let same = |other: &&Row| other.probe == row.probe;
            let returned = &back.rows.iter().find(same).expect("the same rows").cells[1];
            let fits = match cell.change {
                Some(Change::New) => returned.change == Some(Change::Gone),
                Some(Change::Gone) => returned.change == Some(Change::New),
                Some(Change::Worse) => matches!(returned.change, Some(Change::Better | Change::Fixed)),
                Some(Change::Better | Change::Fixed) => returned.change == Some(Change::Worse),
                same => returned.change == same,
            };
            prop_assert!(fits, "{:?} and {:?}", cell.change, returned.change);
            prop_assert_eq!(cell.difference, returned.difference.map(|rate| -rate));
        }
    }

    /// With itself, nothing changed.
    #[test]
    fn to_and_of_itself(rows in prop::collection::vec((1..60_i64, 0..60_i64), 1..12)) {
        let results = rows.iter().enumerate();
        let results = results.map(|(n, (passed, failed))| result(&format!("a.P{n}"), *passed, *failed));
        let scan = compared(results.collect());
        let comparison = compare(&[scan.clone(), scan], 0.05);
        prop_assert!(comparison.differences.is_empty());
        for row in comparison.rows {
            prop_assert_eq!(row.cells[1].change, Some(Change::Unchanged));
            prop_assert_eq!(row.cells[1].p_value, Some(1.0));
        }
    }
}
