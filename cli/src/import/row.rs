//! A row of the old system's scans as the header of an import.

use aegis_proto::{
    json::from_json,
    report::v1::ImportHeader,
    scan::v1::{Target, scan::State},
};
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::{credential, database::Row, time};

const MAX_FAILURE_CHARS: usize = 2000;

/// A header, and what is odd about it.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) header: ImportHeader,
    pub(super) warnings: Vec<String>,
}

impl Prepared {
    /// What a row says wins over what its report says.
    pub(super) fn take_row(&mut self, row: &Row, zone: &TimeZone, is_lost: bool) {
        let (state, why) = state(row);
        let header = &mut self.header;
        header.set_state(state);
        header.failure_message = why;
        header.target = Some(Target {
            r#type: row.text("target_type").to_owned(),
            name: row.text("target_name").to_owned(),
            ..Target::default()
        });
        let mut at = |column: &str, kept: Option<prost_types::Timestamp>| {
            let text = row.text(column);
            let parsed = time::parse(text, zone);
            if parsed.is_none() && !text.is_empty() {
                self.warnings.push(format!("{column} is no time: {text:?}"));
            }
            parsed.or(kept)
        };
        let start = at("started_at", header.start_time);
        let create = at("created_at", None).or(start).or(header.create_time);
        let end = at("completed_at", header.end_time);
        header.start_time = start;
        header.create_time = create;
        header.end_time = end;
        self.take_options(row.text("config_json"));
        if is_lost {
            self.take_counts(row);
        }
    }

    fn take_options(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let Some(mut options) = object(text) else {
            return self.warn("its options are no JSON object; they are not kept");
        };
        for path in credential::strip(&mut options) {
            self.warn(format!(
                "a credential in clear text is not taken along: config_json.{path}"
            ));
        }
        match from_json::<ImportHeader>(json!({"originalOptions": options})) {
            Ok(header) => self.header.original_options = header.original_options,
            Err(error) => self.warn(format!("its options are not kept: {error}")),
        }
    }

    /// What there is to count by when the report is lost.
    fn take_counts(&mut self, row: &Row) {
        let counts = counts(row.text("probe_stats_json"));
        self.warn(match counts.is_empty() {
            true => "its report is lost, and its row has no counts by category",
            false => "its report is lost: it comes with the counts of its row",
        });
        if counts.is_empty() {
            return;
        }
        match from_json::<ImportHeader>(json!({"originalCounts": counts})) {
            Ok(header) => self.header.original_counts = header.original_counts,
            Err(error) => self.warn(format!("its counts are not kept: {error}")),
        }
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

/// The state of a row, and why it failed.
fn state(row: &Row) -> (State, String) {
    let said = credential::masked(row.text("error_message").trim());
    let said: String = said.chars().take(MAX_FAILURE_CHARS).collect();
    let or = |default: String| {
        if said.is_empty() {
            default
        } else {
            said.clone()
        }
    };
    match row.text("status") {
        "completed" => (State::Completed, String::new()),
        "cancelled" => (State::Cancelled, String::new()),
        "failed" | "error" => (
            State::Failed,
            or("the old system says no more than that it failed".to_owned()),
        ),
        status @ ("pending" | "running") => {
            let dead = format!("it was {status} when the old system stopped, and can never end");
            (State::Failed, dead)
        }
        status => (State::Failed, or(format!("the old system says {status:?}"))),
    }
}

fn object(text: &str) -> Option<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Some(object),
        _ => None,
    }
}

/// {category: {passed, failed}} without whatever else there may be.
fn counts(text: &str) -> Map<String, Value> {
    let all = object(text).unwrap_or_default();
    let counted = all.into_iter().filter_map(|(category, counts)| {
        let count = |name| counts.get(name).and_then(Value::as_u64);
        let (passed, failed) = (count("passed")?, count("failed")?);
        Some((category, json!({"passed": passed, "failed": failed})))
    });
    counted.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(columns: &[(&'static str, &str)]) -> Row {
        Row(columns
            .iter()
            .map(|(name, text)| (*name, (*text).to_owned()))
            .collect())
    }

    fn prepared(columns: &[(&'static str, &str)], is_lost: bool) -> Prepared {
        let mut prepared = Prepared::default();
        prepared.take_row(&row(columns), &TimeZone::UTC, is_lost);
        prepared
    }

    #[test]
    fn a_row_becomes_a_header() {
        let prepared = prepared(
            &[
                ("target_type", "ollama"),
                ("target_name", "llama3"),
                ("status", "completed"),
                ("started_at", "2024-05-01T10:00:01.5"),
                ("completed_at", "2024-05-01T10:00:02"),
                ("created_at", "2024-05-01T10:00:00"),
                (
                    "config_json",
                    r#"{"generations": 5, "api_key": "sk-abcdefghijklmnop"}"#,
                ),
                ("probe_stats_json", r#"{"dan": {"passed": 1, "failed": 2}}"#),
            ],
            false,
        );
        let header = &prepared.header;
        assert_eq!(header.state(), State::Completed);
        assert_eq!(header.target.as_ref().unwrap().name, "llama3");
        assert_eq!(header.create_time.unwrap().seconds, 1_714_557_600);
        assert_eq!(header.start_time.unwrap().nanos, 500_000_000);
        assert_eq!(header.end_time.unwrap().seconds, 1_714_557_602);
        let options = &header.original_options.as_ref().unwrap().fields;
        assert_eq!(options.keys().collect::<Vec<_>>(), ["generations"]);
        assert!(header.original_counts.is_none(), "its report has them");
        assert_eq!(prepared.warnings.len(), 1);
        assert!(
            prepared.warnings[0].ends_with("config_json.api_key"),
            "{:?}",
            prepared.warnings
        );
    }

    #[test]
    fn a_row_whose_report_is_lost_brings_its_counts() {
        let stats = r#"{"dan": {"passed": 1, "failed": 2, "x": 0}, "odd": {"passed": "many"}}"#;
        let kept = prepared(
            &[("status", "completed"), ("probe_stats_json", stats)],
            true,
        );
        let counts = kept.header.original_counts.unwrap().fields;
        assert_eq!(counts.keys().collect::<Vec<_>>(), ["dan"]);
        for nothing in ["", "no json", "[]"] {
            let none = prepared(&[("probe_stats_json", nothing)], true);
            assert!(none.header.original_counts.is_none());
            assert!(
                none.warnings
                    .iter()
                    .any(|warning| warning.contains("no counts"))
            );
        }
    }

    #[test]
    fn what_was_under_way_is_dead_and_failures_keep_their_words_but_no_key() {
        for status in ["pending", "running"] {
            let (state, why) = state(&row(&[("status", status)]));
            assert_eq!(state, State::Failed);
            assert!(why.contains(status), "{why}");
        }
        let said = [
            ("status", "failed"),
            ("error_message", "401 with sk-abcdefghijklmnop"),
        ];
        assert_eq!(
            state(&row(&said)),
            (State::Failed, "401 with ***".to_owned())
        );
        assert_eq!(state(&row(&[("status", "cancelled")])).0, State::Cancelled);
        let odd = state(&row(&[("status", "exploded")]));
        assert!(odd.0 == State::Failed && odd.1.contains("exploded"));
    }

    #[test]
    fn what_is_no_time_or_no_json_is_named() {
        let odd = prepared(&[("started_at", "soon"), ("config_json", "{")], false);
        assert_eq!(odd.warnings.len(), 2, "{:?}", odd.warnings);
        assert!(odd.header.start_time.is_none() && odd.header.original_options.is_none());
    }
}
