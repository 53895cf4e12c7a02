//! Reading: the sums that are kept, and the changes that are not folded yet, of one moment.

use std::collections::HashMap;

use aegis_proto::ids::ProjectId;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryResult, Value};

use super::{
    super::{Store, entity::statistics_delta, fault::Result, tx::Tx},
    rows,
};
use crate::domain::statistics::{
    Day, Delta, Grouping, Line, LineKey, Month, Parts, Query, Scope, Sums, Target,
};

type Lines = HashMap<LineKey, Sums>;

impl Store {
    /// All lines of a query by `grouping`, in no order; only those that count anything.
    /// `scope` is [`Scope::of`] both.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn statistics(
        &self,
        project: &ProjectId,
        query: &Query,
        grouping: Grouping,
        scope: &Scope,
    ) -> aegis_mesh::Result<Vec<Line>> {
        let reading = Reading {
            tx: self.read().await?,
            project,
            query,
            grouping,
            scope,
        };
        let mut lines = reading.lines().await?;
        lines.retain(|_, sums| !sums.is_zero());
        let lines = lines.into_iter().map(|(key, sums)| Line { key, sums });
        Ok(lines.collect())
    }
}

struct Reading<'a> {
    tx: Tx,
    project: &'a ProjectId,
    query: &'a Query,
    grouping: Grouping,
    scope: &'a Scope,
}

/// A statement that grows.
struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn bind(&mut self, value: impl Into<Value>) {
        self.values.push(value.into());
        self.text.push_str(&format!("${}", self.values.len()));
    }

    fn and(&mut self, condition: &str, value: impl Into<Value>) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
        self.bind(value);
    }
}

/// A row of rollups without its numbers.
struct Place {
    key: String,
    target: Option<Target>,
    month: Month,
}

impl Reading<'_> {
    async fn lines(&self) -> Result<Lines> {
        let mut lines = Lines::new();
        let window = &self.query.window;
        let parts = match self.grouping {
            Grouping::Day | Grouping::Week => {
                let months = (window.start.month(), window.end.month());
                self.days(&mut lines, months).await?;
                Parts::default()
            }
            Grouping::Month => window.whole_months_and_days(),
            Grouping::None | Grouping::Target | Grouping::Key(_) => window.parts(),
        };
        if let Some(years) = parts.years {
            self.whole(&mut lines, "YEAR", years).await?;
        }
        for (first, last) in &parts.months {
            self.whole(&mut lines, "MONTH", (first.0, last.0)).await?;
        }
        for edge in &parts.edges {
            self.days(&mut lines, (edge.month, edge.month)).await?;
        }
        self.deltas(&mut lines).await?;
        Ok(lines)
    }

    /// Rows that are in the window as a whole.
    async fn whole(&self, lines: &mut Lines, period: &str, buckets: (i32, i32)) -> Result<()> {
        let by_month = self.grouping == Grouping::Month;
        let mut sql = Sql {
            text: "SELECT key, target_type, target_name".to_owned(),
            values: Vec::new(),
        };
        // The months of other lines are all one.
        sql.push(if by_month {
            ", bucket"
        } else {
            ", 0 AS bucket"
        });
        for column in rows::COLUMNS {
            sql.push(&format!(", CAST(SUM({column}) AS BIGINT) AS {column}"));
        }
        self.from(&mut sql, period, buckets);
        sql.push(" GROUP BY key, target_type, target_name");
        if by_month {
            sql.push(", bucket");
        }
        for row in self.tx.all(&sql.text, sql.values).await? {
            let place = place_of(&row)?;
            let key = self.line(&place.key, place.target.as_ref(), place.month.first());
            *lines.entry(key).or_default() += rows::sums_of(&row)?;
        }
        Ok(())
    }

    /// Days out of the rows of months.
    async fn days(&self, lines: &mut Lines, months: (Month, Month)) -> Result<()> {
        let mut sql = Sql {
            text: "SELECT key, target_type, target_name, bucket, days".to_owned(),
            values: Vec::new(),
        };
        self.from(&mut sql, "MONTH", (months.0.0, months.1.0));
        for row in self.tx.all(&sql.text, sql.values).await? {
            let place = place_of(&row)?;
            let days: String = row.try_get("", "days")?;
            for (of_month, sums) in rows::days_of(&days)? {
                let day = place.month.day(of_month);
                if self.query.window.contains(day) {
                    let key = self.line(&place.key, place.target.as_ref(), day);
                    *lines.entry(key).or_default() += sums;
                }
            }
        }
        Ok(())
    }

    /// The rows of the query's scope in a range of time.
    fn from(&self, sql: &mut Sql, period: &str, buckets: (i32, i32)) {
        sql.push(" FROM statistics_rollups WHERE project_id = ");
        sql.bind(self.project.as_str());
        sql.and("dimension = ", self.scope.dimension.as_str());
        if let Some(key) = &self.scope.key {
            sql.and("key = ", key.as_str());
        }
        if let Some(prefix) = &self.scope.prefix {
            sql.and(
                "substr(key, 1, ",
                i32::try_from(prefix.chars().count()).unwrap_or(i32::MAX),
            );
            sql.push(") = ");
            sql.bind(prefix.as_str());
        }
        match (&self.query.target, self.grouping) {
            (Some(target), _) => {
                sql.and("target_type = ", target.kind.as_str());
                sql.and("target_name = ", target.name.as_str());
            }
            (None, Grouping::Target) => {
                sql.and("target_type <> ", "");
                // Always so. The index by time, which begins with the target, would hold all
                // that is asked for but this: SQLite would read the whole of it.
                sql.and("days <> ", "");
            }
            (None, _) => {
                sql.and("target_type = ", "");
                sql.and("target_name = ", "");
            }
        }
        sql.and("period = ", period);
        sql.and("bucket BETWEEN ", buckets.0);
        sql.and("", buckets.1);
    }

    async fn deltas(&self, lines: &mut Lines) -> Result<()> {
        use statistics_delta::Column;
        let window = &self.query.window;
        let mut find = statistics_delta::Entity::find()
            .filter(Column::ProjectId.eq(self.project.as_str()))
            .filter(Column::Day.between(window.start.0, window.end.0));
        if let Some(target) = &self.query.target {
            find = find
                .filter(Column::TargetType.eq(&target.kind))
                .filter(Column::TargetName.eq(&target.name));
        }
        for row in find.all(self.tx.conn()).await? {
            self.add(lines, &rows::delta_of(row)?);
        }
        Ok(())
    }

    fn add(&self, lines: &mut Lines, delta: &Delta) {
        for key in self.scope.keys_of(&delta.subject) {
            let line = self.line(key, Some(&delta.target), delta.day);
            *lines.entry(line).or_default() += delta.sums;
        }
    }

    /// The line that something counts in.
    fn line(&self, key: &str, target: Option<&Target>, day: Day) -> LineKey {
        match self.grouping {
            Grouping::None => LineKey::All,
            Grouping::Day => LineKey::Day(day),
            Grouping::Week => LineKey::Day(day.monday()),
            Grouping::Month => LineKey::Month(day.month()),
            Grouping::Target => target.cloned().map_or(LineKey::All, LineKey::Target),
            Grouping::Key(_) => LineKey::Key(key.to_owned()),
        }
    }
}

fn place_of(row: &QueryResult) -> Result<Place> {
    Ok(Place {
        key: row.try_get("", "key")?,
        target: rows::target_of(
            row.try_get("", "target_type")?,
            row.try_get("", "target_name")?,
        ),
        month: Month(row.try_get("", "bucket")?),
    })
}
