//! A list's filter and order out of its request.

use aegis_mesh::Result;
use aegis_proto::scan::v1 as proto;

use super::{check, view};
use crate::domain::{
    history::{Period, ScanFilter, ScanOrder, ScanQuery, Share},
    refusal::invalid_field,
    scan::ScanState,
};

/// Longest text, and longest names of targets, templates and probes.
const MAX_TEXT: usize = 256;

/// # Errors
/// INVALID_ARGUMENT / INVALID_FIELD, naming the field.
pub(super) fn of(request: &proto::ListScansRequest) -> Result<ScanQuery> {
    let order = proto::ScanOrder::try_from(request.order_by)
        .map_err(|_| invalid_field("order_by", "is no order"))?;
    let empty = proto::ScanFilter::default();
    Ok(ScanQuery {
        filter: filter(request.filter.as_ref().unwrap_or(&empty))?,
        order: match order {
            proto::ScanOrder::Unspecified | proto::ScanOrder::CreateTime => ScanOrder::CreateTime,
            proto::ScanOrder::StartTime => ScanOrder::StartTime,
            proto::ScanOrder::EndTime => ScanOrder::EndTime,
            proto::ScanOrder::Target => ScanOrder::Target,
            proto::ScanOrder::PassRate => ScanOrder::PassRate,
            proto::ScanOrder::Duration => ScanOrder::Duration,
            proto::ScanOrder::State => ScanOrder::State,
        },
        ascending: request.ascending,
        deleted: request.deleted,
    })
}

fn filter(filter: &proto::ScanFilter) -> Result<ScanFilter> {
    let name = |field: &str, text: &str| check::optional(field, text, MAX_TEXT);
    let labels = check::labels(filter.labels.clone())
        .map_err(|_| invalid_field("filter.labels", "has a key or a value that no label has"))?;
    Ok(ScanFilter {
        states: states(filter)?,
        target_type: name("filter.target_type", &filter.target_type)?,
        target_name: name("filter.target_name", &filter.target_name)?,
        template: name("filter.template", &filter.template)?,
        probe: name("filter.probe", &filter.probe)?,
        labels,
        created: period("filter.create_time", filter.create_time.as_ref())?,
        started: period("filter.start_time", filter.start_time.as_ref())?,
        ended: period("filter.end_time", filter.end_time.as_ref())?,
        pass_rate: share("pass_rate", filter.min_pass_rate, filter.max_pass_rate)?,
        coverage: share("coverage", filter.min_coverage, filter.max_coverage)?,
        defcon: defcon(&filter.defcon)?,
        text: text(&filter.text)?,
    })
}

/// Each once, in one order: the same filter written otherwise is the same list.
fn states(filter: &proto::ScanFilter) -> Result<Vec<ScanState>> {
    let mut states = Vec::new();
    for (index, state) in filter.states().enumerate() {
        let field = format!("filter.states[{index}]");
        let state = view::state_of(state)
            .ok_or_else(|| invalid_field(&field, "is no state that a scan can be in"))?;
        states.push(state);
    }
    if states.len() < filter.states.len() {
        return Err(invalid_field("filter.states", "has an unknown state"));
    }
    states.sort_by_key(|state| state.rank());
    states.dedup();
    Ok(states)
}

fn defcon(grades: &[i32]) -> Result<Vec<i32>> {
    let mut grades = grades.to_vec();
    grades.sort_unstable();
    grades.dedup();
    for grade in &grades {
        check::within("filter.defcon", *grade, 1..=5)?;
    }
    Ok(grades)
}

fn text(text: &str) -> Result<String> {
    let text = check::optional("filter.text", text, MAX_TEXT)?;
    if text.chars().count() == 1 {
        return Err(invalid_field(
            "filter.text",
            "must have at least 2 characters",
        ));
    }
    Ok(text.to_lowercase())
}

fn period(field: &str, range: Option<&proto::TimeRange>) -> Result<Period> {
    let Some(range) = range else {
        return Ok(Period::default());
    };
    let moment = |end: &str, time: &Option<prost_types::Timestamp>| {
        let time = time.as_ref().map(milliseconds);
        time.map(|ms| ms.ok_or_else(|| invalid_field(&format!("{field}.{end}"), "is no time")))
            .transpose()
    };
    let period = Period {
        start: moment("start", &range.start)?,
        end: moment("end", &range.end)?,
    };
    if period
        .start
        .zip(period.end)
        .is_some_and(|(start, end)| start > end)
    {
        return Err(invalid_field(field, "must not end before it starts"));
    }
    Ok(period)
}

/// The first whole millisecond from then on: times are stored in milliseconds.
fn milliseconds(time: &prost_types::Timestamp) -> Option<i64> {
    const NANOS_IN_MS: i32 = 1_000_000;
    (0..1_000 * NANOS_IN_MS)
        .contains(&time.nanos)
        .then_some(())?;
    let rest = i64::from((time.nanos + NANOS_IN_MS - 1) / NANOS_IN_MS);
    time.seconds.checked_mul(1_000)?.checked_add(rest)
}

fn share(name: &str, min: Option<f64>, max: Option<f64>) -> Result<Share> {
    for (end, value) in [("min", min), ("max", max)] {
        if value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(invalid_field(
                &format!("filter.{end}_{name}"),
                "must be 0 to 1",
            ));
        }
    }
    if min.zip(max).is_some_and(|(min, max)| min > max) {
        let field = format!("filter.min_{name}");
        return Err(invalid_field(
            &field,
            format_args!("must not be more than max_{name}"),
        ));
    }
    Ok(Share { min, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut proto::ScanFilter)) -> String {
        let mut filter = proto::ScanFilter::default();
        change(&mut filter);
        let request = proto::ListScansRequest {
            filter: Some(filter),
            ..proto::ListScansRequest::default()
        };
        of(&request).unwrap_err().fields()[0].path.clone()
    }

    fn at(seconds: i64, nanos: i32) -> Option<prost_types::Timestamp> {
        Some(prost_types::Timestamp { seconds, nanos })
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        assert_eq!(refused(|f| f.states = vec![99]), "filter.states");
        assert_eq!(refused(|f| f.defcon = vec![0]), "filter.defcon");
        assert_eq!(refused(|f| f.text = "é".to_owned()), "filter.text");
        assert_eq!(refused(|f| f.probe = "\0".to_owned()), "filter.probe");
        assert_eq!(
            refused(|f| f.min_pass_rate = Some(f64::NAN)),
            "filter.min_pass_rate"
        );
        assert_eq!(
            refused(|f| f.max_coverage = Some(1.1)),
            "filter.max_coverage"
        );
        assert_eq!(
            refused(|f| (f.min_coverage, f.max_coverage) = (Some(0.6), Some(0.5))),
            "filter.min_coverage"
        );
        let range = |start, end| Some(proto::TimeRange { start, end });
        assert_eq!(
            refused(|f| f.end_time = range(at(2, 0), at(1, 0))),
            "filter.end_time"
        );
        assert_eq!(
            refused(|f| f.create_time = range(at(i64::MAX, 0), None)),
            "filter.create_time.start"
        );
    }

    #[test]
    fn a_time_between_two_milliseconds_is_the_later_one() {
        assert_eq!(milliseconds(&at(1, 1).unwrap()), Some(1_001));
        assert_eq!(milliseconds(&at(-1, 500_000_000).unwrap()), Some(-500));
        assert_eq!(milliseconds(&at(0, -1).unwrap()), None);
    }
}
