//! Which lines are asked for, and in which order.

use serde::{Deserialize, Serialize};

use super::{
    calendar::{Day, Month},
    delta::{Dimension, Subject, Target},
    sums::Sums,
    window::Window,
};

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Which days.
    pub window: Window,
    /// Only this target.
    pub target: Option<Target>,
    /// Only this probe, module, tag or detector.
    pub by: Option<(Dimension, String)>,
}

/// What lines are by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Grouping {
    /// All in one.
    None,
    /// By day.
    Day,
    /// By ISO week.
    Week,
    /// By month.
    Month,
    /// By target.
    Target,
    /// By the key of a dimension.
    Key(Dimension),
}

/// Which rows of which dimension are summed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The dimension.
    pub dimension: Dimension,
    /// Only this key.
    pub key: Option<String>,
    /// Only keys that begin with it: a module's probes.
    pub prefix: Option<String>,
}

impl Scope {
    /// The scope of lines by `grouping`; `None` where no rows are kept that could tell.
    pub fn of(query: &Query, grouping: Grouping) -> Option<Self> {
        let (dimension, filter) = match (grouping, &query.by) {
            (Grouping::Key(dimension), filter) => (dimension, filter.as_ref()),
            (_, Some(filter)) => (filter.0, Some(filter)),
            (_, None) => return Some(Self::exactly(Dimension::Total, "")),
        };
        match filter {
            None => Some(Self {
                dimension,
                key: None,
                prefix: None,
            }),
            Some((of, key)) if *of == dimension => Some(Self::exactly(dimension, key)),
            Some((Dimension::Module, module)) if dimension == Dimension::Probe => Some(Self {
                dimension,
                key: None,
                prefix: Some(format!("{module}.")),
            }),
            Some(_) => None,
        }
    }

    fn exactly(dimension: Dimension, key: &str) -> Self {
        Self {
            dimension,
            key: Some(key.to_owned()),
            prefix: None,
        }
    }

    /// The keys of a delta that are in it.
    pub fn keys_of<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = &'a str> {
        let keys = subject.keys().into_iter();
        keys.filter(|(dimension, key)| *dimension == self.dimension && self.has(key))
            .map(|(_, key)| key)
    }

    fn has(&self, key: &str) -> bool {
        let exactly = self.key.as_ref().is_none_or(|only| only == key);
        exactly
            && self
                .prefix
                .as_ref()
                .is_none_or(|prefix| key.starts_with(prefix))
    }
}

/// What a line is about. Their order is the order of lines by key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LineKey {
    /// Everything.
    All,
    /// A day, or a week by its Monday.
    Day(Day),
    /// A month.
    Month(Month),
    /// A target.
    Target(Target),
    /// A probe, module, tag or detector.
    Key(String),
}

impl std::fmt::Display for LineKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All => Ok(()),
            Self::Day(day) => day.fmt(f),
            Self::Month(month) => month.fmt(f),
            Self::Target(target) => write!(f, "{}/{}", target.kind, target.name),
            Self::Key(key) => f.write_str(key),
        }
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Of what.
    pub key: LineKey,
    /// Its numbers.
    pub sums: Sums,
}

/// How lines are ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Order {
    /// By key.
    Key,
    /// Most failed outputs first.
    Failed,
    /// Lowest pass rate first, and what has none last.
    PassRate,
    /// Most evaluated outputs first.
    Evaluated,
}

impl Order {
    /// Smaller is earlier.
    fn rank(self, sums: &Sums) -> i64 {
        match self {
            Self::Key => 0,
            Self::Failed => -sums.failed,
            Self::Evaluated => -sums.evaluated(),
            // In 10^-15: an integer, so that a page's cursor compares exactly.
            Self::PassRate => sums
                .pass_rate()
                .map_or(i64::MAX, |rate| (rate * 1e15).round() as i64),
        }
    }
}

/// Where a page begins: after this line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineCursor {
    rank: i64,
    key: String,
    name: String,
}

impl LineCursor {
    fn of(order: Order, line: &Line) -> Self {
        let (key, name) = match &line.key {
            LineKey::Target(target) => (target.kind.clone(), target.name.clone()),
            key => (key.to_string(), String::new()),
        };
        Self {
            rank: order.rank(&line.sums),
            key,
            name,
        }
    }
}

/// A page of the lines in their order, and where the next one begins when there is one.
pub fn page(
    mut lines: Vec<Line>,
    order: Order,
    after: Option<&LineCursor>,
    size: usize,
) -> (Vec<Line>, Option<LineCursor>) {
    let sort_key = |line: &Line| {
        let cursor = LineCursor::of(order, line);
        (cursor.rank, cursor.key, cursor.name)
    };
    lines.sort_by_cached_key(sort_key);
    if let Some(after) = after {
        let after = (after.rank, after.key.clone(), after.name.clone());
        lines.retain(|line| sort_key(line) > after);
    }
    let more = lines.len() > size;
    lines.truncate(size);
    let next = lines
        .last()
        .filter(|_| more)
        .map(|line| LineCursor::of(order, line));
    (lines, next)
}
