use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Day, Month, Parts, Window};

fn window(start: &str, end: &str) -> Window {
    Window {
        start: Day::parse(start).unwrap(),
        end: Day::parse(end).unwrap(),
    }
}

/// How often each day is in the parts.
fn days(parts: &Parts) -> BTreeMap<Day, usize> {
    let mut days = BTreeMap::new();
    let mut add = |first: Day, last: Day| {
        for day in first.0..=last.0 {
            *days.entry(Day(day)).or_default() += 1;
        }
    };
    if let Some((first, last)) = parts.years {
        add(Month(first * 12).first(), Month(last * 12 + 11).last());
    }
    for (first, last) in &parts.months {
        add(first.first(), last.last());
    }
    for edge in &parts.edges {
        add(edge.month.day(edge.first), edge.month.day(edge.last));
    }
    days
}

proptest! {
    #[test]
    fn the_parts_are_the_window_each_day_once(start in -2_000..30_000_i32, length in 0..4_000_i32) {
        let window = Window { start: Day(start), end: Day(start + length) };
        for parts in [window.parts(), window.whole_months_and_days()] {
            let days = days(&parts);
            prop_assert_eq!(days.len() as i32, length + 1);
            prop_assert!(days.iter().all(|(day, times)| window.contains(*day) && *times == 1));
            prop_assert!(parts.edges.len() <= 2 && parts.months.len() <= 2, "{:?}", parts);
        }
    }

    #[test]
    fn a_day_is_read_as_it_is_written(day in Day::FIRST.0..=Day::LAST.0) {
        let day = Day(day);
        prop_assert_eq!(Day::parse(&day.to_string()), Some(day));
        prop_assert_eq!(day.month().day(day.of_month()), day);
        prop_assert!(day.month().last() >= day && day.month().first() <= day);
    }
}

#[test]
fn everything_is_years() {
    let parts = Window::default().parts();
    assert_eq!(parts.years, Some((1, 9999)));
    assert!(parts.months.is_empty() && parts.edges.is_empty());
}

#[test]
fn long_windows_are_few_rows() {
    let parts = window("2023-03-05", "2026-11-24").parts();
    assert_eq!(parts.years, Some((2024, 2025)));
    let months: Vec<_> = parts
        .months
        .iter()
        .map(|(a, b)| format!("{a}..{b}"))
        .collect();
    assert_eq!(months, ["2023-04..2023-12", "2026-01..2026-10"]);
    let edges: Vec<_> = parts
        .edges
        .iter()
        .map(|e| (e.month.to_string(), e.first, e.last))
        .collect();
    assert_eq!(
        edges,
        [("2023-03".to_owned(), 5, 31), ("2026-11".to_owned(), 1, 24)]
    );
}

#[test]
fn iso_weeks_begin_on_monday_also_over_new_year() {
    let monday = |day| Day::parse(day).unwrap().monday().to_string();
    assert_eq!(monday("2026-11-24"), "2026-11-23");
    assert_eq!(monday("2027-01-03"), "2026-12-28");
    assert_eq!(monday("2027-01-04"), "2027-01-04");
}

#[test]
fn what_is_no_day_is_refused() {
    for text in [
        "",
        "2026-02-30",
        "2026-1-1",
        "20261124",
        "0000-01-01",
        "2026-11-24T00:00:00Z",
        "+12026-01-01",
    ] {
        assert_eq!(Day::parse(text), None, "{text}");
    }
}

#[test]
fn a_time_outside_all_years_is_the_nearest_day() {
    assert_eq!(Day::of_time(i64::MAX), Day::LAST);
    assert_eq!(Day::of_time(i64::MIN), Day::FIRST);
    assert_eq!(Day::of_time(-1), Day(-1));
    assert_eq!(Day::of_time(86_399_999), Day(0));
}
