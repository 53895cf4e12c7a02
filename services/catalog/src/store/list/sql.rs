//! The statements of a list.
//!
//! One shape for all: candidates are read off an index in the order asked for, a bounded number
//! of them; each is looked up in `scans`, what is left of the filter is looked at there, and it
//! ends when the page is full.

use std::{cmp::Ordering, fmt::Write};

use aegis_proto::ids::ProjectId;
use sea_orm::{EntityTrait, Iterable, Value};

use super::{
    access::{Access, Fixed, Table},
    order::{self, ScanCursor},
};
use crate::{
    domain::history::{Period, ScanFilter, ScanOrder, ScanQuery, Share},
    store::{dialect::Dialect, entity::scan},
};

/// A statement in the making.
pub(super) struct Sql {
    pub(super) text: String,
    pub(super) values: Vec<Value>,
}

impl Sql {
    /// The project is the first value of every one.
    pub(super) fn new(project: &ProjectId) -> Self {
        Self {
            text: String::new(),
            values: vec![project.as_str().into()],
        }
    }

    /// The place of a value.
    fn bind(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }
}

/// What a list is read with.
pub(super) struct List<'a> {
    pub(super) query: &'a ScanQuery,
    pub(super) access: &'a Access,
    pub(super) after: Option<&'a ScanCursor>,
    /// Candidates that are looked at, at most.
    pub(super) look: u64,
    pub(super) dialect: Dialect,
}

/// Where a branch begins.
#[derive(Debug, Clone, Copy)]
enum Start {
    /// At its first row.
    First,
    /// After the cursor, whose first values are the branch's own.
    After { skip: usize },
}

/// A column of a row of a list. What imported scans come with may be large, and is for those who
/// look at one.
fn listed(column: scan::Column) -> String {
    let name = sea_orm::IdenStatic::as_str(&column);
    match column {
        scan::Column::OriginalOptions | scan::Column::OriginalCounts => {
            format!("CAST(NULL AS {{json}}) AS {name}")
        }
        _ => format!("s.{name}"),
    }
}

impl List<'_> {
    fn direction(&self) -> &'static str {
        if self.query.ascending { "ASC" } else { "DESC" }
    }

    /// The page: whole rows.
    pub(super) fn page(&self, sql: &mut Sql, limit: u64) {
        let columns: Vec<String> = scan::Column::iter().map(listed).collect();
        sql.push(&format!("SELECT {} ", columns.join(", ")));
        self.matches(sql);
        // SQLite takes the candidates in their order, and would sort the rows once more, all of
        // them before the first. PostgreSQL sees that they are in order, if they are.
        if self.dialect == Dialect::Postgres {
            sql.push(&format!(" ORDER BY {}", self.merged("c.")));
        }
        sql.push(&format!(" LIMIT {limit}"));
    }

    /// How many match, up to a limit.
    pub(super) fn count(&self, sql: &mut Sql, limit: u64) {
        sql.push("SELECT COUNT(*) AS found FROM (");
        if self.access.is_exact(self.query) {
            self.candidates(sql);
            sql.push(") c");
            return;
        }
        sql.push("SELECT 1 AS one ");
        self.matches(sql);
        sql.push(&format!(" LIMIT {limit}) m"));
    }

    /// The last of the candidates, if there are as many as are looked at.
    pub(super) fn horizon(&self, sql: &mut Sql) {
        sql.push("SELECT * FROM (");
        self.candidates(sql);
        let order = self.merged("c.");
        let skip = self.look - 1;
        sql.push(&format!(") c ORDER BY {order} LIMIT 1 OFFSET {skip}"));
    }

    fn matches(&self, sql: &mut Sql) {
        sql.push("FROM (");
        self.candidates(sql);
        // Exactly in this order: SQLite's CROSS JOIN is never turned round.
        sql.push(") c CROSS JOIN scans s WHERE s.project_id = $1 AND s.id = c.id");
        if self.query.deleted {
            sql.push(" AND s.deleted_at IS NOT NULL AND s.purge_at > {now}");
        } else if self.access.table != Table::Scans {
            sql.push(" AND s.deleted_at IS NULL");
        }
        rest(sql, &self.access.rest);
    }

    /// Keys and id of the rows that the index gives.
    fn candidates(&self, sql: &mut Sql) {
        let order = self.query.order;
        let bounded = order == ScanOrder::PassRate && !self.query.filter.pass_rate.is_everything()
            || !order::period(order::columns(order)[0], &self.query.filter).is_everything();
        let in_nulls = self.after.is_some_and(ScanCursor::is_null);
        let mut parts = Vec::new();
        for fixed in &self.access.branches {
            let Some(start) = self.start(fixed) else {
                continue;
            };
            if !order::is_nullable(order) {
                parts.push((fixed, start, None));
                continue;
            }
            if !in_nulls {
                parts.push((fixed, start, Some(false)));
            }
            if !bounded {
                parts.push((fixed, start, Some(true)));
            }
        }
        if let [(fixed, start, nulls)] = parts[..] {
            return self.branch(sql, fixed, start, nulls);
        }
        if parts.is_empty() {
            sql.push(&self.select("scans", "id"));
            return sql.push(" AND 1 = 0");
        }
        sql.push("SELECT * FROM (");
        for (at, (fixed, start, nulls)) in parts.into_iter().enumerate() {
            sql.push(if at == 0 { "" } else { " UNION ALL " });
            sql.push("SELECT * FROM (");
            self.branch(sql, fixed, start, nulls);
            sql.push(&format!(") b{at}"));
        }
        let (order, look) = (self.merged("u."), self.look);
        sql.push(&format!(") u ORDER BY {order} LIMIT {look}"));
    }

    /// Where a branch begins; `None` when all of it was shown. What is fixed is compared here:
    /// SQLite uses no index for a comparison of rows that names a fixed column once more.
    fn start(&self, fixed: &[Fixed]) -> Option<Start> {
        let Some(after) = self.after else {
            return Some(Start::First);
        };
        let columns = order::columns(self.query.order);
        let mut skip = 0;
        for (column, key) in columns.iter().zip(&after.keys) {
            let Some(is) = fixed.iter().find_map(|fixed| fixed.compare(column, key)) else {
                break;
            };
            let is = if self.query.ascending {
                is
            } else {
                is.reverse()
            };
            match is {
                Ordering::Less => return None,
                Ordering::Greater => return Some(Start::First),
                Ordering::Equal => skip += 1,
            }
        }
        Some(Start::After { skip })
    }

    /// The order of rows of several branches.
    fn merged(&self, of: &str) -> String {
        let mut order = String::new();
        if order::is_nullable(self.query.order) {
            // False comes first.
            order.push_str(&format!("({of}k0 IS NULL), "));
        }
        let direction = self.direction();
        for at in 0..order::columns(self.query.order).len() {
            order.push_str(&format!("{of}k{at} {direction}, "));
        }
        order + &format!("{of}id {direction}")
    }

    fn select(&self, table: &str, id: &str) -> String {
        let columns = order::columns(self.query.order).iter().enumerate();
        let keys: String = columns
            .map(|(at, name)| format!("{name} AS k{at}, "))
            .collect();
        format!("SELECT {keys}{id} AS id FROM {table} WHERE project_id = $1")
    }

    /// The table, and that it is read by the index that was chosen. SQLite has no statistics of its
    /// own making, and may else take another one that it then has to sort.
    fn by_index(&self, table: &str) -> String {
        let index = self.access.index;
        match self.dialect {
            // A primary key has no name there, and nothing else would do.
            Dialect::Sqlite if !index.ends_with("_pkey") => format!("{table} INDEXED BY {index}"),
            Dialect::Sqlite | Dialect::Postgres => table.to_owned(),
        }
    }

    /// One range of the index. `nulls`: only rows with, or without, the value that is ordered by.
    fn branch(&self, sql: &mut Sql, fixed: &[Fixed], start: Start, nulls: Option<bool>) {
        let (table, id) = match self.access.table {
            Table::Scans => ("scans", "id"),
            Table::Labels => ("scan_labels", "scan_id"),
            Table::Probes => ("scan_probes", "scan_id"),
        };
        let columns = order::columns(self.query.order);
        sql.push(&self.select(&self.by_index(table), id));
        if self.access.table == Table::Scans {
            let is = if self.query.deleted {
                "IS NOT NULL"
            } else {
                "IS NULL"
            };
            sql.push(&format!(" AND deleted_at {is}"));
        }
        for fixed in fixed {
            self.fix(sql, fixed);
        }
        match nulls {
            None => {}
            Some(false) => sql.push(&format!(" AND {} IS NOT NULL", columns[0])),
            Some(true) => sql.push(&format!(" AND {} IS NULL", columns[0])),
        }
        if nulls != Some(true) {
            self.ranges(sql, fixed.len(), matches!(start, Start::After { .. }));
        }
        if let Start::After { skip } = start {
            self.go_on(sql, skip, id, nulls);
        }
        let direction = self.direction();
        let by: Vec<String> = columns
            .iter()
            .chain(&[id])
            .map(|column| format!("{column} {direction}"))
            .collect();
        sql.push(&format!(" ORDER BY {} LIMIT {}", by.join(", "), self.look));
    }

    fn fix(&self, sql: &mut Sql, fixed: &Fixed) {
        let (column, place) = match fixed {
            Fixed::Text(column, text) => (column, sql.bind(text.as_str())),
            Fixed::Number(column, number) => (column, sql.bind(*number)),
        };
        sql.push(&format!(" AND {column} = {place}"));
        if *column == "template" {
            // Its index has no scan without a template; a database does not see that from a value.
            sql.push(" AND template <> ''");
        }
    }

    /// Ranges of the column that the index is ordered by, after what is fixed. The end that the
    /// cursor is within is left out: SQLite would begin its search there, and not at the cursor.
    fn ranges(&self, sql: &mut Sql, fixed: usize, goes_on: bool) {
        let filter = &self.query.filter;
        let (from, to) = match (goes_on, self.query.ascending) {
            (false, _) => (true, true),
            (true, true) => (false, true),
            (true, false) => (true, false),
        };
        if self.query.order == ScanOrder::PassRate {
            let Share { min, max } = filter.pass_rate;
            let (min, max) = (min.filter(|_| from), max.filter(|_| to));
            return share(sql, "pass_rate", Share { min, max });
        }
        let column = match (self.query.order, fixed) {
            (ScanOrder::State, 1) | (ScanOrder::Target, 2) => "created_at",
            (ScanOrder::State | ScanOrder::Target, _) => return,
            (order, _) => order::columns(order)[0],
        };
        let Period { start, end } = order::period(column, filter);
        let (start, end) = (start.filter(|_| from), end.filter(|_| to));
        range(sql, column, Period { start, end });
    }

    /// After the cursor, as one comparison of rows, which an index can begin with.
    fn go_on(&self, sql: &mut Sql, skip: usize, id: &str, nulls: Option<bool>) {
        let Some(after) = self.after else { return };
        let beyond = if self.query.ascending { ">" } else { "<" };
        let in_nulls = after.is_null();
        if nulls == Some(true) && !in_nulls {
            // None of them was shown yet.
            return;
        }
        let (mut names, mut places) = (Vec::new(), Vec::new());
        if !in_nulls {
            let columns = order::columns(self.query.order);
            for (column, key) in columns.iter().zip(&after.keys).skip(skip) {
                names.push(*column);
                places.push(sql.bind(key.value()));
            }
        }
        names.push(id);
        places.push(sql.bind(after.id.0));
        let (names, places) = (names.join(", "), places.join(", "));
        sql.push(&format!(" AND ({names}) {beyond} ({places})"));
    }
}

fn range(sql: &mut Sql, column: &str, period: Period) {
    if let Some(start) = period.start {
        let place = sql.bind(start);
        sql.push(&format!(" AND {column} >= {place}"));
    }
    if let Some(end) = period.end {
        let place = sql.bind(end);
        sql.push(&format!(" AND {column} < {place}"));
    }
}

fn share(sql: &mut Sql, column: &str, share: Share) {
    if let Some(min) = share.min {
        let place = sql.bind(min);
        sql.push(&format!(" AND {column} >= {place}"));
    }
    if let Some(max) = share.max {
        let place = sql.bind(max);
        sql.push(&format!(" AND {column} <= {place}"));
    }
}

fn equals(sql: &mut Sql, column: &str, text: &str) {
    if !text.is_empty() {
        let place = sql.bind(text);
        sql.push(&format!(" AND s.{column} = {place}"));
    }
}

fn any_of(sql: &mut Sql, column: &str, numbers: impl Iterator<Item = i64>) {
    // Numbers of ours: they can stand in the text.
    let numbers: Vec<String> = numbers.map(|number| number.to_string()).collect();
    if !numbers.is_empty() {
        sql.push(&format!(" AND s.{column} IN ({})", numbers.join(", ")));
    }
}

/// What is looked at row by row.
fn rest(sql: &mut Sql, filter: &ScanFilter) {
    any_of(
        sql,
        "state_rank",
        filter.states.iter().map(|state| state.rank()),
    );
    any_of(
        sql,
        "defcon",
        filter.defcon.iter().map(|grade| i64::from(*grade)),
    );
    equals(sql, "target_type", &filter.target_type);
    equals(sql, "target_name", &filter.target_name);
    equals(sql, "template", &filter.template);
    range(sql, "s.created_at", filter.created);
    range(sql, "s.started_at", filter.started);
    range(sql, "s.ended_at", filter.ended);
    share(sql, "s.pass_rate", filter.pass_rate);
    share(sql, "s.coverage", filter.coverage);
    if !filter.text.is_empty() {
        let place = sql.bind(filter.text.as_str());
        sql.push(&format!(" AND {{position}}(s.search_text, {place}) > 0"));
    }
    if !filter.probe.is_empty() {
        let place = sql.bind(filter.probe.as_str());
        row_of(sql, "scan_probes", &format!("k.probe = {place}"));
    }
    for (key, value) in &filter.labels {
        let mut is = format!("k.key = {}", sql.bind(key.as_str()));
        if !value.is_empty() {
            let place = sql.bind(value.as_str());
            // Writing to a String cannot fail.
            let _ = write!(is, " AND k.value = {place}");
        }
        row_of(sql, "scan_labels", &is);
    }
}

fn row_of(sql: &mut Sql, table: &str, is: &str) {
    sql.push(&format!(
        " AND EXISTS (SELECT 1 FROM {table} k WHERE k.project_id = $1 AND {is} \
         AND k.created_at = s.created_at AND k.scan_id = s.id)"
    ));
}

/// The page's rows.
pub(super) type Row = <scan::Entity as EntityTrait>::Model;
