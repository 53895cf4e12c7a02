//! Statistics are exact at any moment, whatever was folded.

use std::time::Duration;

use aegis_catalog::{
    domain::{
        artifact::ArtifactName,
        statistics::{Day, Dimension, Grouping, Query, Scope, Sums, Target, Window},
        tally::{Grades, Tally, TallyRow},
        task::OutcomeKind,
    },
    store::{Folded, Granted, Work},
};
use aegis_proto::ids::ScanId;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    keeping::purge,
    on_both,
    statistics_oracle::{Oracle, compare},
    world::{World, call, new_scan, outcome},
};

on_both!(
    anything_in_any_order_is_counted_exactly_seed_1,
    anything_in_any_order_is_counted_exactly_seed_2,
    a_fold_is_bounded_and_changes_nothing_that_is_told,
    two_folds_at_once_fold_each_change_once,
    a_new_revision_takes_the_old_grades_back,
    a_retried_scan_has_not_ended,
    what_is_taken_back_leaves_no_line,
    reads_take_a_fixed_number_of_statements,
);

const GROUPINGS: [Grouping; 9] = [
    Grouping::None,
    Grouping::Day,
    Grouping::Week,
    Grouping::Month,
    Grouping::Target,
    Grouping::Key(Dimension::Probe),
    Grouping::Key(Dimension::Module),
    Grouping::Key(Dimension::Tag),
    Grouping::Key(Dimension::Detector),
];

async fn fold(world: &World, limit: u32) -> Folded {
    let fold = world.store.fold_statistics(&world.project, limit);
    fold.await.unwrap()
}

async fn total(world: &World) -> Sums {
    let query = Query::default();
    let scope = Scope::of(&query, Grouping::None).unwrap();
    let lines = world
        .store
        .statistics(&world.project, &query, Grouping::None, &scope);
    lines
        .await
        .unwrap()
        .first()
        .map_or(Sums::default(), |line| line.sums)
}

async fn waiting(world: &World) -> i64 {
    world.number("SELECT COUNT(*) FROM statistics_deltas").await
}

/// All that is new happened some days ago: the database's clock cannot be turned, so its rows are
/// moved, and the changes that count them, which nothing has folded yet.
async fn move_back(world: &World, days: i64) {
    const DAY: i64 = 86_400_000;
    let now = world
        .number(match world.location {
            aegis_catalog::store::Location::File(_) => "SELECT unixepoch() * 1000",
            aegis_catalog::store::Location::Postgres(_) => {
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
            }
        })
        .await;
    // Midnight may pass meanwhile; what was moved before lies three days back and more.
    let since = (now / DAY - 1) * DAY;
    for (table, column) in [("probe_results", "evaluated_at"), ("scans", "ended_at")] {
        let sql = format!("UPDATE {table} SET {column} = {column} - $1 WHERE {column} >= $2");
        world
            .sql(&sql, vec![(days * DAY).into(), since.into()])
            .await;
    }
    let sql = "UPDATE statistics_deltas SET day = day - $1 WHERE day >= $2";
    let values = [days as i32, (since / DAY) as i32].map(Into::into);
    world.sql(sql, values.to_vec()).await;
}

async fn anything_in_any_order_is_counted_exactly_seed_1(world: &World) {
    anything_in_any_order(world, 1).await;
}

async fn anything_in_any_order_is_counted_exactly_seed_2(world: &World) {
    anything_in_any_order(world, 2).await;
}

async fn anything_in_any_order(world: &World, seed: u64) {
    const STEPS: usize = 140;
    let mut dice = StdRng::seed_from_u64(seed);
    let mut scans = Vec::new();
    for n in 0..STEPS {
        step(world, &mut dice, &mut scans).await;
        move_back(world, dice.random_range(3..900)).await;
        if dice.random_bool(0.3) {
            fold(world, dice.random_range(1..60)).await;
        }
        if n % 10 == 9 {
            check(world, &mut dice).await;
        }
    }
    while fold(world, 1_000).await.more {}
    assert_eq!(waiting(world).await, 0);
    check(world, &mut dice).await;
}

/// The same by every grouping, of everything and of some windows and filters.
async fn check(world: &World, dice: &mut StdRng) {
    let oracle = Oracle::of(world).await;
    for grouping in GROUPINGS {
        compare(world, &oracle, &Query::default(), grouping).await;
        for _ in 0..3 {
            compare(world, &oracle, &query(dice, &oracle), grouping).await;
        }
    }
}

fn query(dice: &mut StdRng, oracle: &Oracle) -> Query {
    let days = oracle.days();
    let mut some_day = |or: Day| {
        if days.is_empty() || dice.random_bool(0.2) {
            return or;
        }
        Day(days[dice.random_range(0..days.len())].0 + dice.random_range(-2..=2))
    };
    let (one, other) = (some_day(Day::FIRST), some_day(Day::LAST));
    let target = dice
        .random_bool(0.4)
        .then(|| target(dice.random_range(0..3)));
    let filters = [
        (Dimension::Probe, "b.P3"),
        (Dimension::Module, "a"),
        (Dimension::Tag, "owasp:llm01"),
        (Dimension::Detector, "d.D1"),
    ];
    let filter = dice.random_range(0..filters.len() * 2);
    Query {
        window: Window {
            start: one.min(other),
            end: one.max(other),
        },
        target,
        by: filters
            .get(filter)
            .map(|(of, key)| (*of, (*key).to_owned())),
    }
}

fn target(n: usize) -> Target {
    Target {
        kind: format!("test.T{}", n % 2),
        name: format!("m/{n}"),
    }
}

async fn step(world: &World, dice: &mut StdRng, scans: &mut Vec<ScanId>) {
    match dice.random_range(0..12) {
        0..=2 => scans.push(create(world, dice).await),
        3..=8 => {
            if let Some(granted) = world.lease().await {
                end(world, dice, &granted).await;
            }
        }
        9 => {
            if let Some(id) = some(dice, scans) {
                world.store.cancel(&world.project, id, "").await.unwrap();
            }
        }
        10 => {
            if let Some(id) = some(dice, scans) {
                // Refused while it runs, or when nothing is left to do.
                let _ = world.store.retry(&world.project, id).await;
            }
        }
        _ => purge_one(world, dice, scans).await,
    }
    world.end_waits().await;
}

fn some(dice: &mut StdRng, scans: &[ScanId]) -> Option<ScanId> {
    (!scans.is_empty()).then(|| scans[dice.random_range(0..scans.len())])
}

/// Of some probes of two modules, one of them in two shards, with tags, one of them twice.
async fn create(world: &World, dice: &mut StdRng) -> ScanId {
    let mut new = new_scan(dice.random_range(1..5));
    let target = target(dice.random_range(0..3));
    new.target_type = target.kind;
    new.target_name = target.name;
    for (n, task) in new.tasks.iter_mut().enumerate() {
        task.probe = format!("{}.P{n}", ["a", "b"][n % 2]);
        task.tags = ["owasp:llm01", "cwe:1427", "owasp:llm01"][..n % 4]
            .iter()
            .map(|tag| (*tag).to_owned())
            .collect();
    }
    if dice.random_bool(0.5) {
        let mut second = new.tasks[0].clone();
        new.tasks[0].shard_count = 2;
        second.shard_count = 2;
        second.shard_index = 1;
        second.ordinal = 100;
        new.tasks.push(second);
    }
    world.create_new(&new).await
}

async fn end(world: &World, dice: &mut StdRng, granted: &Granted) {
    if dice.random_bool(0.15) {
        let kinds = [
            OutcomeKind::Permanent,
            OutcomeKind::Retryable,
            OutcomeKind::Released,
        ];
        let kind = kinds[dice.random_range(0..kinds.len())];
        world.fail(granted, kind, "SOME_REASON").await;
        return;
    }
    let tally = match &granted.work {
        Work::Probe(grant) => part(dice, &grant.task.probe),
        Work::Report { .. } => graded(world, dice, granted.lease.scan).await,
    };
    done(world, granted, &tally).await;
}

fn part(dice: &mut StdRng, probe: &str) -> Tally {
    let rows = (0..dice.random_range(1..4)).map(|n| {
        let (passed, failed) = (dice.random_range(0..9), dice.random_range(0..9));
        TallyRow {
            probe: probe.to_owned(),
            detector: format!("d.D{n}"),
            passed,
            failed,
            nones: dice.random_range(0..3),
            evaluated: passed + failed,
            grades: None,
        }
    });
    Tally {
        rows: rows.collect(),
        attempts: 5,
    }
}

/// A report's tally: grades for most of the scan's results.
async fn graded(world: &World, dice: &mut StdRng, scan: ScanId) -> Tally {
    let sql = "SELECT probe, detector FROM probe_results WHERE scan_id = $1";
    let rows = world.sql(sql, vec![scan.0.into()]).await;
    let rows = rows.iter().map(|row| TallyRow {
        probe: row.try_get("", "probe").unwrap(),
        detector: row.try_get("", "detector").unwrap(),
        grades: dice
            .random_bool(0.8)
            .then(|| grades(dice.random_range(1..=5))),
        ..TallyRow::default()
    });
    Tally {
        rows: rows.collect(),
        attempts: 5,
    }
}

fn grades(detector_defcon: i32) -> Grades {
    Grades {
        absolute_defcon: Some(5),
        detector_defcon: Some(detector_defcon),
        ..Grades::default()
    }
}

async fn done(world: &World, granted: &Granted, tally: &Tally) {
    let mut done = outcome(OutcomeKind::Done, "");
    let names: &[ArtifactName] = match granted.work {
        Work::Probe(_) => &[ArtifactName::Report],
        Work::Report { .. } => &[
            ArtifactName::Report,
            ArtifactName::Html,
            ArtifactName::Digest,
        ],
    };
    for name in names {
        let file = world.upload(&granted.lease, *name, Some(tally)).await;
        done.artifacts.push(file.unwrap());
    }
    world.finish(&granted.lease, &done).await.unwrap();
}

async fn purge_one(world: &World, dice: &mut StdRng, scans: &mut Vec<ScanId>) {
    if scans.is_empty() {
        return;
    }
    let index = dice.random_range(0..scans.len());
    if world.get(scans[index]).await.scan.state.is_terminal() {
        purge(world, scans.swap_remove(index)).await;
    }
}

async fn a_fold_is_bounded_and_changes_nothing_that_is_told(world: &World) {
    world.create(4).await;
    world.work_off().await;
    let before = total(world).await;
    assert_eq!(
        (before.evaluations, before.passed, before.failed),
        (4, 12, 4)
    );
    assert_eq!(before.scans_completed, 1);
    let all = waiting(world).await;
    assert_eq!(all, 5);
    let folded = fold(world, 2).await;
    assert_eq!((folded.deltas, folded.more), (2, true));
    assert_eq!(waiting(world).await, all - 2);
    assert_eq!(total(world).await, before);
    let folded = fold(world, 3).await;
    assert_eq!((folded.deltas, folded.more), (3, false));
    assert_eq!(total(world).await, before);
    assert_eq!(fold(world, 3).await, Folded::default());
}

async fn two_folds_at_once_fold_each_change_once(world: &World) {
    let other = world.replica().await;
    for _ in 0..3 {
        world.create(4).await;
    }
    world.work_off().await;
    let (all, before) = (waiting(world).await, total(world).await);
    let mut folded = 0;
    while waiting(world).await > 0 {
        let (one, two) = tokio::join!(
            world.store.fold_statistics(&world.project, 4),
            other.fold_statistics(&world.project, 4)
        );
        folded += one.unwrap().deltas + two.unwrap().deltas;
    }
    assert_eq!(i64::from(folded), all);
    assert_eq!(total(world).await, before);
}

async fn a_new_revision_takes_the_old_grades_back(world: &World) {
    let id = world.create(2).await;
    let first = world.leased().await;
    world.done(&first).await.unwrap();
    let second = world.leased().await;
    world
        .fail(&second, OutcomeKind::Permanent, "SOME_REASON")
        .await;
    let report = world.leased().await;
    let row = |probe: usize, grade| TallyRow {
        probe: format!("test.Probe{probe}"),
        detector: "test.Detector".to_owned(),
        grades: Some(grades(grade)),
        ..TallyRow::default()
    };
    let revision = |rows: Vec<TallyRow>| Tally { rows, attempts: 5 };
    done(world, &report, &revision(vec![row(0, 2)])).await;
    assert_eq!(total(world).await.defcon, [0, 1, 0, 0, 0]);
    assert_eq!(world.get(id).await.scan.defcon, Some(2));
    fold(world, 100).await;

    world.store.retry(&world.project, id).await.unwrap();
    world.done(&world.leased().await).await.unwrap();
    // Until the new report is there, the grades are those of the old one.
    assert_eq!(total(world).await.defcon, [0, 1, 0, 0, 0]);
    let report = world.leased().await;
    done(world, &report, &revision(vec![row(0, 4), row(1, 3)])).await;
    assert_eq!(total(world).await.defcon, [0, 0, 1, 1, 0]);
    assert_eq!(world.get(id).await.scan.defcon, Some(3));
}

async fn a_retried_scan_has_not_ended(world: &World) {
    let id = world.create(1).await;
    let granted = world.leased().await;
    world
        .fail(&granted, OutcomeKind::Permanent, "SOME_REASON")
        .await;
    assert_eq!(total(world).await.scans_failed, 1);
    fold(world, 100).await;
    world.store.retry(&world.project, id).await.unwrap();
    assert_eq!(total(world).await, Sums::default());
    world.work_off().await;
    let now = total(world).await;
    assert_eq!((now.scans_failed, now.scans_completed), (0, 1));
    // Deleting hides a scan; it counts until it is purged.
    world.store.delete(&world.project, id).await.unwrap();
    assert_eq!(total(world).await, now);
}

async fn what_is_taken_back_leaves_no_line(world: &World) {
    let kept = world.create(1).await;
    let id = world.create(3).await;
    world.work_off().await;
    fold(world, 3).await;
    purge(world, id).await;
    for _ in 0..2 {
        let oracle = Oracle::of(world).await;
        for grouping in GROUPINGS {
            compare(world, &oracle, &Query::default(), grouping).await;
        }
        fold(world, 100).await;
    }
    purge(world, kept).await;
    fold(world, 100).await;
    assert_eq!(total(world).await, Sums::default());
}

/// Whatever is stored: years, two ranges of months, two edges, and what is not folded.
async fn reads_take_a_fixed_number_of_statements(world: &World) {
    for _ in 0..3 {
        world.create(3).await;
        world.work_off().await;
        move_back(world, 40).await;
        fold(world, 4).await;
    }
    let window = Window {
        start: Day::parse("2019-03-05").unwrap(),
        end: Day::LAST,
    };
    for grouping in GROUPINGS {
        let query = Query {
            window,
            ..Query::default()
        };
        let scope = Scope::of(&query, grouping).unwrap();
        let before = world.store.statements();
        let read = world
            .store
            .statistics(&world.project, &query, grouping, &scope);
        read.await.unwrap();
        let statements = world.store.statements() - before;
        assert!(statements <= 6, "{statements} statements by {grouping:?}");
    }
}

/// Two that finish at once, of two scans on two targets: the second does not wait for the first,
/// which hangs in its transaction with its changes written. Neither does a fold, nor a read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finish_that_hangs_makes_no_other_wait() {
    let world = World::postgres().await;
    let mut finishes = Vec::new();
    for n in 0..2 {
        let mut new = new_scan(1);
        new.lane.key = format!("target-{n}");
        world.create_new(&new).await;
        let granted = world.lease_as(&call()).await.unwrap();
        let outcome = world.uploaded(&granted).await.unwrap();
        finishes.push((granted, outcome));
    }
    let other = world.replica().await;
    // The last row that a finish writes before its scan's own.
    let blocker = world
        .hold(
            "SELECT 1 FROM task_runs WHERE task_id = $1 FOR UPDATE",
            vec![finishes[0].0.lease.task.0.into()],
        )
        .await;
    let (first, second) = (&finishes[0], &finishes[1]);
    let hanging = world.finish(&first.0.lease, &first.1);
    tokio::pin!(hanging);
    let rest = async {
        world.wait_for("SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'", 1).await;
        let policy = &crate::world::POLICY;
        other
            .finish(&world.project, &second.0.lease, &second.1, None, policy)
            .await
            .unwrap();
        assert_eq!(fold(&world, 100).await.deltas, 1);
        assert_eq!(total(&world).await.evaluations, 1);
    };
    tokio::select! {
        ended = &mut hanging => panic!("nothing held it up: {ended:?}"),
        in_time = tokio::time::timeout(Duration::from_secs(20), rest) => in_time.expect("nobody waits"),
    }
    blocker.rollback().await.unwrap();
    hanging.await.unwrap();
    assert_eq!(total(&world).await.evaluations, 2);
    crate::invariants::check(&world).await;
}
