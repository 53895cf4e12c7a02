//! What rows are ordered by, and where a page goes on.

use aegis_proto::ids::ScanId;
use sea_orm::{QueryResult, Value};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        history::{Period, ScanFilter, ScanOrder},
        scan::Scan,
    },
    store::fault::Result,
};

/// One value that rows are ordered by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Key {
    /// The row has no such value.
    #[serde(rename = "n")]
    Null,
    /// A time, a duration, a rank.
    #[serde(rename = "i")]
    Number(i64),
    /// A rate: the bits of its f64, for JSON does not keep every last one.
    #[serde(rename = "r")]
    Rate(u64),
    /// A target's type or name.
    #[serde(rename = "t")]
    Text(String),
}

impl Key {
    pub(crate) fn value(&self) -> Value {
        match self {
            Self::Null => Value::BigInt(None),
            Self::Number(number) => (*number).into(),
            Self::Rate(bits) => f64::from_bits(*bits).into(),
            Self::Text(text) => text.as_str().into(),
        }
    }

    fn number(number: Option<i64>) -> Self {
        number.map_or(Self::Null, Self::Number)
    }

    fn rate(rate: Option<f64>) -> Self {
        rate.map_or(Self::Null, |rate| Self::Rate(rate.to_bits()))
    }
}

/// Where a page goes on: after this row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanCursor {
    /// Its values, as many as the order has columns.
    #[serde(rename = "k")]
    pub(crate) keys: Vec<Key>,
    /// Its id.
    #[serde(rename = "s")]
    pub(crate) id: ScanId,
}

impl ScanCursor {
    /// Where a list in this order goes on after this scan.
    pub fn after(order: ScanOrder, scan: &Scan) -> Self {
        let created = || Key::Number(scan.created_at);
        let keys = match order {
            ScanOrder::CreateTime => vec![created()],
            ScanOrder::StartTime => vec![Key::number(scan.started_at)],
            ScanOrder::EndTime => vec![Key::number(scan.ended_at)],
            ScanOrder::PassRate => vec![Key::rate(scan.totals.pass_rate())],
            ScanOrder::Duration => vec![Key::number(scan.duration_ms())],
            ScanOrder::State => vec![Key::Number(scan.state.rank()), created()],
            ScanOrder::Target => vec![
                Key::Text(scan.target_type.clone()),
                Key::Text(scan.target_name.clone()),
                created(),
            ],
        };
        Self { keys, id: scan.id }
    }

    /// Out of a row of candidates.
    pub(crate) fn of_row(order: ScanOrder, row: &QueryResult) -> Result<Self> {
        let mut keys = Vec::new();
        for (at, column) in columns(order).iter().enumerate() {
            let name = format!("k{at}");
            keys.push(match *column {
                "target_type" | "target_name" => Key::Text(row.try_get("", &name)?),
                "pass_rate" => Key::rate(row.try_get("", &name)?),
                // An INTEGER, not a BIGINT.
                "state_rank" => Key::Number(row.try_get::<i32>("", &name)?.into()),
                _ => Key::number(row.try_get("", &name)?),
            });
        }
        Ok(Self {
            keys,
            id: ScanId(row.try_get("", "id")?),
        })
    }

    /// Whether it lies among the rows without a value.
    pub(crate) fn is_null(&self) -> bool {
        self.keys.first() == Some(&Key::Null)
    }
}

/// The columns of an order, before the id.
pub(crate) const fn columns(order: ScanOrder) -> &'static [&'static str] {
    match order {
        ScanOrder::CreateTime => &["created_at"],
        ScanOrder::StartTime => &["started_at"],
        ScanOrder::EndTime => &["ended_at"],
        ScanOrder::PassRate => &["pass_rate"],
        ScanOrder::Duration => &["duration_ms"],
        ScanOrder::State => &["state_rank", "created_at"],
        ScanOrder::Target => &["target_type", "target_name", "created_at"],
    }
}

/// Whether scans may lack what this is the order of.
pub(crate) const fn is_nullable(order: ScanOrder) -> bool {
    matches!(
        order,
        ScanOrder::StartTime | ScanOrder::EndTime | ScanOrder::PassRate | ScanOrder::Duration
    )
}

/// The index of an order without a filter.
pub(crate) const fn index(order: ScanOrder) -> &'static str {
    match order {
        ScanOrder::CreateTime => "scans_by_time",
        ScanOrder::StartTime => "scans_by_start",
        ScanOrder::EndTime => "scans_by_end",
        ScanOrder::PassRate => "scans_by_pass_rate",
        ScanOrder::Duration => "scans_by_duration",
        ScanOrder::State => "scans_by_state_rank",
        ScanOrder::Target => "scans_by_target_time",
    }
}

/// The period of the filter that bounds this column.
pub(crate) fn period(column: &str, filter: &ScanFilter) -> Period {
    match column {
        "created_at" => filter.created,
        "started_at" => filter.started,
        "ended_at" => filter.ended,
        _ => Period::default(),
    }
}
