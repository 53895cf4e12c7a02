//! Any filter in any order, in pages: against the same list made by hand.

use std::cmp::Ordering;

use aegis_catalog::{
    domain::{
        history::{Period, ScanFilter, ScanOrder, ScanQuery, Share},
        scan::ScanState,
    },
    store::ScanCursor,
};
use aegis_proto::ids::ScanId;

use crate::{many, on_both_without_books, world::World};

on_both_without_books!(
    every_filter_in_every_order_is_complete,
    filters_together_are_complete,
    what_no_index_answers_is_looked_for_in_steps,
    a_count_stops,
    an_order_of_deleted_scans_is_refused,
);

/// A scan as the list by hand knows it.
#[derive(Debug, Clone)]
struct Row {
    number: i64,
    id: ScanId,
    created: i64,
    state: ScanState,
    started: Option<i64>,
    ended: Option<i64>,
    rate: Option<f64>,
}

const COUNT: i64 = 900;

fn row(i: i64) -> Row {
    let created = 1_700_000_000_000 + i / 3 * 1_000;
    let state = match i % 10 {
        0 => ScanState::Pending,
        1 => ScanState::Running,
        2 => ScanState::Failed,
        3 => ScanState::Cancelled,
        _ => ScanState::Completed,
    };
    let started = (state != ScanState::Pending).then_some(created + i % 7 * 500);
    let ended = started.map(|started| started + i % 97 * 1_000);
    let (passed, failed) = (i % 11, i % 5);
    let evaluated = state != ScanState::Failed && passed + failed > 0;
    Row {
        number: i,
        id: ScanId(uuid::Uuid::from_u128((i * 7_919 % 1_000_003) as u128)),
        created,
        state,
        started,
        ended: ended.filter(|_| state.is_terminal()),
        rate: evaluated.then(|| passed as f64 / (passed + failed) as f64),
    }
}

impl Row {
    fn is_deleted(&self) -> bool {
        self.number % 37 == 4 && self.state == ScanState::Completed
    }

    fn matches(&self, filter: &ScanFilter) -> bool {
        let i = self.number;
        let text = |wanted: &str, is: String| wanted.is_empty() || wanted == is;
        let inside = |period: Period, at: Option<i64>| {
            period == Period::default()
                || at.is_some_and(|at| {
                    period.start.is_none_or(|start| at >= start)
                        && period.end.is_none_or(|end| at < end)
                })
        };
        let between = |share: Share, is: Option<f64>| {
            share == Share::default()
                || is.is_some_and(|is| {
                    share.min.is_none_or(|min| is >= min) && share.max.is_none_or(|max| is <= max)
                })
        };
        let label = |(key, value): (&String, &String)| match key.as_str() {
            "team" => value.is_empty() || *value == format!("t{}", i % 5),
            "rare" => i % 50 == 0 && (value.is_empty() || value == "yes"),
            _ => false,
        };
        let error = match self.state {
            ScanState::Failed => format!("target_error no answer {i}"),
            _ => String::new(),
        };
        let searched = format!("scan {i} type.t{} name-{} {error}", i % 4, i % 9);
        let template = if i % 6 == 0 { "quick" } else { "" };
        (filter.states.is_empty() || filter.states.contains(&self.state))
            && text(&filter.target_type, format!("type.T{}", i % 4))
            && text(&filter.target_name, format!("name-{}", i % 9))
            && text(&filter.template, template.to_owned())
            && (filter.probe.is_empty()
                || filter.probe == format!("dan.P{}", i % 7)
                || filter.probe == format!("lmrc.Q{}", i % 300))
            && filter.labels.iter().all(label)
            && inside(filter.created, Some(self.created))
            && inside(filter.started, self.started)
            && inside(filter.ended, self.ended)
            && between(filter.pass_rate, self.rate)
            && between(filter.coverage, Some((i % 41) as f64 / 40.0))
            && (filter.defcon.is_empty() || filter.defcon.contains(&((i % 8) as i32)))
            && searched.contains(&filter.text)
    }

    /// Ascending; `None` is the largest only here, see `by_hand`.
    fn compare(&self, other: &Self, order: ScanOrder) -> Ordering {
        let (a, b) = (self.number, other.number);
        let created = self.created.cmp(&other.created);
        let by = match order {
            ScanOrder::CreateTime => created,
            ScanOrder::StartTime => self.started.cmp(&other.started),
            ScanOrder::EndTime => self.ended.cmp(&other.ended),
            ScanOrder::PassRate => self.rate.partial_cmp(&other.rate).unwrap(),
            ScanOrder::Duration => self.duration().cmp(&other.duration()),
            ScanOrder::Target => (a % 4)
                .cmp(&(b % 4))
                .then((a % 9).cmp(&(b % 9)))
                .then(created),
            ScanOrder::State => self.state.rank().cmp(&other.state.rank()).then(created),
        };
        by.then(self.id.0.cmp(&other.id.0))
    }

    fn duration(&self) -> Option<i64> {
        Some(self.ended? - self.started?)
    }

    fn lacks(&self, order: ScanOrder) -> bool {
        match order {
            ScanOrder::StartTime => self.started.is_none(),
            ScanOrder::EndTime => self.ended.is_none(),
            ScanOrder::PassRate => self.rate.is_none(),
            ScanOrder::Duration => self.duration().is_none(),
            ScanOrder::CreateTime | ScanOrder::Target | ScanOrder::State => false,
        }
    }
}

fn by_hand(query: &ScanQuery, count: i64) -> Vec<ScanId> {
    let can_be_restored = |row: &Row| row.is_deleted() && row.number % 2 == 0;
    let mut rows: Vec<Row> = (1..=count)
        .map(row)
        .filter(|row| match query.deleted {
            true => can_be_restored(row),
            false => !row.is_deleted(),
        })
        .filter(|row| row.matches(&query.filter))
        .collect();
    rows.sort_by(|a, b| {
        let ordered = a.compare(b, query.order);
        let ordered = if query.ascending {
            ordered
        } else {
            ordered.reverse()
        };
        a.lacks(query.order)
            .cmp(&b.lacks(query.order))
            .then(ordered)
    });
    rows.into_iter().map(|row| row.id).collect()
}

/// All pages of a list, and how many there were.
async fn listed(world: &World, query: &ScanQuery, size: u64) -> (Vec<ScanId>, usize) {
    let mut ids = Vec::new();
    let mut after: Option<ScanCursor> = None;
    for pages in 1.. {
        let page = world
            .store
            .list(&world.project, query, after.as_ref(), size);
        let page = page
            .await
            .unwrap_or_else(|error| panic!("{query:?}: {error}"));
        assert!(page.scans.len() as u64 <= size);
        ids.extend(page.scans.iter().map(|view| view.scan.id));
        after = page.next;
        if after.is_none() {
            return (ids, pages);
        }
    }
    unreachable!("a list ends")
}

async fn check(world: &World, query: &ScanQuery, size: u64) {
    let expected = by_hand(query, COUNT);
    let (ids, _) = listed(world, query, size).await;
    assert_eq!(ids, expected, "{query:?}");
    let count = world.store.count(&world.project, query).await.unwrap();
    assert_eq!(count.found, expected.len() as i64, "{query:?}");
    assert!(!count.capped);
}

/// Each filter alone.
pub(crate) fn filters() -> Vec<ScanFilter> {
    let mut filters = vec![ScanFilter::default()];
    let mut with = |change: &dyn Fn(&mut ScanFilter)| {
        let mut filter = ScanFilter::default();
        change(&mut filter);
        filters.push(filter);
    };
    let period = |start: i64, end: i64| Period {
        start: Some(1_700_000_000_000 + start),
        end: Some(1_700_000_000_000 + end),
    };
    let label = |key: &str, value: &str| [(key.to_owned(), value.to_owned())].into();
    with(&|f| f.states = vec![ScanState::Running]);
    with(&|f| f.states = vec![ScanState::Pending, ScanState::Failed, ScanState::Completed]);
    with(&|f| f.target_type = "type.T2".to_owned());
    with(&|f| f.target_name = "name-5".to_owned());
    with(&|f| f.template = "quick".to_owned());
    with(&|f| f.probe = "dan.P3".to_owned());
    with(&|f| f.labels = label("team", "t1"));
    with(&|f| f.labels = label("rare", ""));
    with(&|f| f.created = period(20_000, 200_000));
    with(&|f| f.started = period(20_500, 200_000));
    with(&|f| f.ended = period(20_500, 200_500));
    with(&|f| (f.pass_rate.min, f.pass_rate.max) = (Some(0.5), Some(0.75)));
    with(&|f| f.pass_rate.min = Some(1.0));
    with(&|f| (f.coverage.min, f.coverage.max) = (Some(0.25), Some(1.0)));
    with(&|f| f.defcon = vec![1, 4]);
    with(&|f| f.text = "no answer 1".to_owned());
    filters
}

async fn every_filter_in_every_order_is_complete(world: &World) {
    many::fill(world, COUNT as usize).await;
    for order in ScanOrder::ALL {
        for (number, filter) in filters().into_iter().enumerate() {
            let query = ScanQuery {
                filter,
                order,
                ascending: number % 2 == 0,
                deleted: false,
            };
            check(world, &query, 90).await;
        }
        for ascending in [false, true] {
            let query = ScanQuery {
                order,
                ascending,
                ..ScanQuery::default()
            };
            check(world, &query, 23).await;
        }
    }
    for (number, filter) in filters().into_iter().enumerate() {
        let deleted = ScanQuery {
            filter,
            ascending: number % 2 == 0,
            deleted: true,
            ..ScanQuery::default()
        };
        check(world, &deleted, 5).await;
    }
}

async fn filters_together_are_complete(world: &World) {
    many::fill(world, COUNT as usize).await;
    let filters = filters();
    for (at, first) in filters.iter().enumerate().skip(1) {
        let mut second = filters[1 + (at * 5) % (filters.len() - 1)].clone();
        let third = &filters[1 + (at * 7) % (filters.len() - 1)];
        if second.states.is_empty() {
            second.states.clone_from(&first.states);
        }
        for (into, from) in [
            (&mut second.target_type, &first.target_type),
            (&mut second.target_name, &first.target_name),
            (&mut second.template, &third.template),
            (&mut second.probe, &first.probe),
            (&mut second.text, &first.text),
        ] {
            if into.is_empty() {
                into.clone_from(from);
            }
        }
        second.labels.extend(first.labels.clone());
        second.labels.extend(third.labels.clone());
        if second.created.is_everything() {
            second.created = first.created;
        }
        if second.pass_rate.is_everything() {
            second.pass_rate = third.pass_rate;
        }
        if second.defcon.is_empty() {
            second.defcon.clone_from(&third.defcon);
        }
        for order in ScanOrder::ALL {
            let query = ScanQuery {
                filter: second.clone(),
                order,
                ascending: at % 2 == 0,
                deleted: false,
            };
            check(world, &query, 4).await;
        }
    }
}

/// 2,000 rows a call: a page may be short or empty, and the list goes on.
async fn what_no_index_answers_is_looked_for_in_steps(world: &World) {
    const MANY: i64 = 6_500;
    many::fill(world, MANY as usize).await;
    let query = ScanQuery {
        filter: ScanFilter {
            text: "scan 12 ".trim_end().to_owned() + "\n",
            ..ScanFilter::default()
        },
        ..ScanQuery::default()
    };
    let (ids, pages) = listed(world, &query, 20).await;
    assert_eq!(ids, [row(12).id]);
    assert_eq!(pages, 4);
    let first = world.store.list(&world.project, &query, None, 20).await;
    let first = first.unwrap();
    assert!(first.scans.is_empty() && first.next.is_some());
    for order in [ScanOrder::PassRate, ScanOrder::State, ScanOrder::EndTime] {
        let query = ScanQuery {
            filter: ScanFilter {
                states: vec![ScanState::Completed, ScanState::Failed],
                coverage: Share {
                    min: Some(1.0),
                    max: None,
                },
                ..ScanFilter::default()
            },
            order,
            ..ScanQuery::default()
        };
        let (ids, pages) = listed(world, &query, 1_000).await;
        assert_eq!(ids, by_hand(&query, MANY), "{order:?}");
        assert!(pages <= 5, "{pages} for {order:?}");
    }
}

async fn a_count_stops(world: &World) {
    many::fill(world, 21_000).await;
    let count = async |filter: ScanFilter| {
        let query = ScanQuery {
            filter,
            ..ScanQuery::default()
        };
        let count = world.store.count(&world.project, &query).await.unwrap();
        (count.found, count.capped)
    };
    assert_eq!(count(ScanFilter::default()).await, (10_000, true));
    // An index finds all of them.
    let rare = ScanFilter {
        labels: [("rare".to_owned(), "yes".to_owned())].into(),
        ..ScanFilter::default()
    };
    assert_eq!(count(rare).await, (420, false));
    // No index does, and it stops after 20,000.
    let text = ScanFilter {
        text: "scan 12\n".to_owned(),
        ..ScanFilter::default()
    };
    assert_eq!(count(text).await, (0, true));
}

async fn an_order_of_deleted_scans_is_refused(world: &World) {
    let query = ScanQuery {
        order: ScanOrder::Duration,
        deleted: true,
        ..ScanQuery::default()
    };
    let refused = world.store.list(&world.project, &query, None, 1).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.reason(), "INVALID_FIELD");
    assert_eq!(refused.fields()[0].path, "order_by");
}
