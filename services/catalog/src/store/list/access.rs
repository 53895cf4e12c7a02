//! By which index a list is read, and what is left to be looked at row by row.

use std::cmp::Ordering;

use crate::domain::{
    history::{ScanFilter, ScanOrder, ScanQuery},
    scan::ScanState,
};

use super::order::{self, Key};

/// Where candidates come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    Scans,
    Labels,
    Probes,
}

/// A column and what it must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fixed {
    Text(&'static str, String),
    Number(&'static str, i64),
}

impl Fixed {
    /// How it lies to a cursor's value of this column, if it is of this column.
    pub(crate) fn compare(&self, column: &str, key: &Key) -> Option<Ordering> {
        match (self, key) {
            (Self::Text(of, text), Key::Text(key)) if *of == column => Some(text.cmp(key)),
            (Self::Number(of, number), Key::Number(key)) if *of == column => Some(number.cmp(key)),
            _ => None,
        }
    }
}

/// How candidates are found: one range of an index a branch, merged by the order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Access {
    pub(crate) index: &'static str,
    pub(crate) table: Table,
    /// What is fixed in each branch: the columns of the index before those of the order.
    pub(crate) branches: Vec<Vec<Fixed>>,
    /// What the branches do not take care of.
    pub(crate) rest: ScanFilter,
}

impl Access {
    /// Whether the index answers all, and nothing is looked at in vain.
    pub(crate) fn is_served(&self) -> bool {
        self.rest == ScanFilter::default()
    }

    /// Whether each candidate is a match: rows of labels and probes may be of deleted scans.
    pub(crate) fn is_exact(&self, query: &ScanQuery) -> bool {
        self.is_served() && self.table == Table::Scans && !query.deleted
    }
}

/// The best access whose index is there. With an order whose own index is not, there is none: its
/// name is the error.
pub(crate) fn choose(
    query: &ScanQuery,
    is_there: impl Fn(&str) -> bool,
) -> Result<Access, &'static str> {
    let found = if query.deleted {
        Some(of_deleted(&query.filter))
    } else {
        let ways = match query.order {
            ScanOrder::CreateTime => by_time(&query.filter),
            ScanOrder::State => vec![by_state(&query.filter)],
            ScanOrder::Target => vec![by_target(&query.filter)],
            other => vec![plain(&query.filter, other)],
        };
        ways.into_iter().find(|way| is_there(way.index))
    };
    let mut found = found.ok_or_else(|| order::index(query.order))?;
    take_ranges(&mut found, query.order);
    Ok(found)
}

fn way(
    index: &'static str,
    branches: Vec<Vec<Fixed>>,
    filter: &ScanFilter,
    take: impl FnOnce(&mut ScanFilter),
) -> Access {
    let mut rest = filter.clone();
    take(&mut rest);
    Access {
        index,
        table: Table::Scans,
        branches,
        rest,
    }
}

fn plain(filter: &ScanFilter, order: ScanOrder) -> Access {
    way(order::index(order), vec![Vec::new()], filter, |_| {})
}

fn of_deleted(filter: &ScanFilter) -> Access {
    way("scans_deleted", vec![Vec::new()], filter, |_| {})
}

/// Ranges of the order's own columns that the index bounds by itself.
fn take_ranges(access: &mut Access, order: ScanOrder) {
    match order {
        ScanOrder::CreateTime => access.rest.created = Default::default(),
        ScanOrder::StartTime => access.rest.started = Default::default(),
        ScanOrder::EndTime => access.rest.ended = Default::default(),
        ScanOrder::PassRate => access.rest.pass_rate = Default::default(),
        ScanOrder::State if fixes(access, 1) => access.rest.created = Default::default(),
        ScanOrder::Target if fixes(access, 2) => access.rest.created = Default::default(),
        ScanOrder::State | ScanOrder::Target | ScanOrder::Duration => {}
    }
}

fn fixes(access: &Access, columns: usize) -> bool {
    access.branches.iter().all(|fixed| fixed.len() == columns)
}

fn of_states(states: &[ScanState]) -> Vec<Vec<Fixed>> {
    let ranks = states.iter().map(|state| state.rank());
    let mut ranks: Vec<i64> = ranks.collect();
    ranks.sort_unstable();
    ranks.dedup();
    let fixed = |rank| vec![Fixed::Number("state_rank", rank)];
    ranks.into_iter().map(fixed).collect()
}

fn by_state(filter: &ScanFilter) -> Access {
    let index = order::index(ScanOrder::State);
    let branches = match (filter.states.is_empty(), filter.created.is_everything()) {
        (false, _) => of_states(&filter.states),
        // A range of times in each state.
        (true, false) => of_states(&ScanState::ALL),
        (true, true) => vec![Vec::new()],
    };
    way(index, branches, filter, |rest| rest.states.clear())
}

fn by_target(filter: &ScanFilter) -> Access {
    let index = order::index(ScanOrder::Target);
    if filter.target_type.is_empty() {
        return way(index, vec![Vec::new()], filter, |_| {});
    }
    let mut fixed = vec![Fixed::Text("target_type", filter.target_type.clone())];
    if !filter.target_name.is_empty() {
        fixed.push(Fixed::Text("target_name", filter.target_name.clone()));
    }
    way(index, vec![fixed], filter, |rest| {
        rest.target_type.clear();
        rest.target_name.clear();
    })
}

/// Newest or oldest first, the way that is likely to look at the fewest rows first.
fn by_time(filter: &ScanFilter) -> Vec<Access> {
    let goes_on = filter.states.iter().all(|state| !state.is_terminal());
    let (first, last) = match goes_on {
        true => (states(filter), None),
        false => (None, states(filter)),
    };
    let label = |any: bool| {
        let mut labels = filter.labels.iter();
        let found = labels.find(|(_, value)| value.is_empty() == any);
        found.map(|(key, value)| labelled(filter, key, value))
    };
    let ways = [
        first,
        label(false),
        text(filter, "scans_by_template", "template", |f| &mut f.template),
        target(filter),
        defcon(filter),
        label(true),
        text(filter, "scans_by_target_type", "target_type", |f| {
            &mut f.target_type
        }),
        probe(filter),
        last,
        Some(plain(filter, ScanOrder::CreateTime)),
    ];
    ways.into_iter().flatten().collect()
}

fn states(filter: &ScanFilter) -> Option<Access> {
    let index = order::index(ScanOrder::State);
    (!filter.states.is_empty()).then(|| {
        way(index, of_states(&filter.states), filter, |rest| {
            rest.states.clear();
        })
    })
}

fn text(
    filter: &ScanFilter,
    index: &'static str,
    column: &'static str,
    field: impl Fn(&mut ScanFilter) -> &mut String,
) -> Option<Access> {
    let mut rest = filter.clone();
    let value = std::mem::take(field(&mut rest));
    (!value.is_empty()).then(|| Access {
        index,
        table: Table::Scans,
        branches: vec![vec![Fixed::Text(column, value)]],
        rest,
    })
}

/// One target, by its name and its type when that is given, too.
fn target(filter: &ScanFilter) -> Option<Access> {
    if filter.target_name.is_empty() {
        return None;
    }
    if filter.target_type.is_empty() {
        return text(filter, "scans_by_target_name", "target_name", |f| {
            &mut f.target_name
        });
    }
    Some(by_target(filter))
}

fn defcon(filter: &ScanFilter) -> Option<Access> {
    let mut grades = filter.defcon.clone();
    grades.sort_unstable();
    grades.dedup();
    let fixed = |grade: i32| vec![Fixed::Number("defcon", grade.into())];
    let branches = grades.into_iter().map(fixed).collect();
    (!filter.defcon.is_empty()).then(|| {
        way("scans_by_defcon", branches, filter, |rest| {
            rest.defcon.clear();
        })
    })
}

fn labelled(filter: &ScanFilter, key: &str, value: &str) -> Access {
    let mut fixed = vec![Fixed::Text("key", key.to_owned())];
    let index = match value.is_empty() {
        true => "scan_labels_by_key",
        false => {
            fixed.push(Fixed::Text("value", value.to_owned()));
            "scan_labels_pkey"
        }
    };
    Access {
        table: Table::Labels,
        ..way(index, vec![fixed], filter, |rest| {
            rest.labels.remove(key);
        })
    }
}

fn probe(filter: &ScanFilter) -> Option<Access> {
    let found = text(filter, "scan_probes_pkey", "probe", |f| &mut f.probe)?;
    Some(Access {
        table: Table::Probes,
        ..found
    })
}
