//! What a received report says, and what is worth a word about it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::SystemTime;

use aegis_report::index::SkeletonKind;
use aegis_report::{DEFAULT_EVAL_THRESHOLD, Grades, Summary, Warning};
use time::format_description::well_known::Iso8601;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::rows::{ImportHeader, ImportedReport};
use crate::domain::registry::ReportTally;

/// Warnings of one import.
const MAX_WARNINGS: usize = 100;

/// The report's facts. `report` is the file that `summary` was made from.
pub(super) fn of(
    header: &ImportHeader,
    summary: &Summary,
    report: &File,
    warnings: &mut Vec<String>,
) -> ImportedReport {
    let run = summary.run.clone();
    let known = run.eval_threshold.or(header.eval_threshold);
    say(summary, warnings);
    let probes = summary.index.header().probes.iter();
    ImportedReport {
        start_time: time_of(&run.start_time),
        end_time: time_of(&run.end_time),
        eval_threshold: known.unwrap_or(DEFAULT_EVAL_THRESHOLD),
        eval_threshold_known: known.is_some(),
        probes: probes
            .map(|probe| (probe.name.clone(), probe.count))
            .collect(),
        tally: ReportTally {
            counts: summary.whole_tally(),
            grades: grades(summary, report, warnings),
        },
        run,
    }
}

/// garak's grades, from the digest line, which is bounded as every line is.
fn grades(summary: &Summary, report: &File, warnings: &mut Vec<String>) -> Option<Grades> {
    let digest = summary
        .index
        .header()
        .lines_of(SkeletonKind::Digest)
        .last()?;
    let mut line = vec![0; digest.length as usize];
    let read = report
        .read_exact_at(&mut line, digest.offset)
        .map_err(|error| error.to_string())
        .and_then(|()| Grades::parse(&line).map_err(|error| error.to_string()));
    read.inspect_err(|error| {
        warnings.push(format!("the digest's grades are not taken over: {error}"));
    })
    .ok()
}

fn say(summary: &Summary, warnings: &mut Vec<String>) {
    if !summary.run.is_completed {
        let what = "the report has no completion line: its run was cut off, or its garak was too \
                    old to write one; what is there was taken";
        warnings.push(what.to_owned());
    }
    let unlike = |warning: &&Warning| !matches!(warning, Warning::NotEvaluated { .. });
    let odd = summary.warnings.iter().filter(unlike).count();
    if odd > 0 {
        warnings.push(format!(
            "{odd} eval lines and the scores of their attempts do not add up; the eval lines count"
        ));
    }
    let scored = summary.tally.probes.values();
    let unevaluated =
        scored.filter(|probe| probe.detectors.is_empty() && probe.attempts.completed > 0);
    let unevaluated = unevaluated.count();
    if unevaluated > 0 {
        warnings.push(format!(
            "{unevaluated} probes have no eval line and are counted by their attempts' scores"
        ));
    }
    for error in &summary.left_out.named {
        warnings.push(format!("left out: {error}"));
    }
}

/// The first of them, and how many more there were.
pub(super) fn bounded(mut warnings: Vec<String>, unnamed: u64) -> Vec<String> {
    let more = unnamed + warnings.len().saturating_sub(MAX_WARNINGS) as u64;
    if more > 0 {
        let fits = warnings.len().min(MAX_WARNINGS - 1);
        let more = more + (warnings.len().min(MAX_WARNINGS) - fits) as u64;
        warnings.truncate(fits);
        warnings.push(format!("and {more} more"));
    }
    warnings
}

/// A time as garak writes it: local and without a zone, which is taken for UTC.
fn time_of(text: &str) -> Option<SystemTime> {
    let zoned = OffsetDateTime::parse(text, &Iso8601::DEFAULT).ok();
    let local = || PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).ok();
    let time = zoned.or_else(|| local().map(PrimitiveDateTime::assume_utc))?;
    Some(time.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_read_with_and_without_a_zone() {
        let at = |seconds| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (text, time) in [
            ("2024-05-01T10:00:01", at(1_714_557_601)),
            ("2024-05-01T10:00:01Z", at(1_714_557_601)),
            ("2024-05-01T12:00:01+02:00", at(1_714_557_601)),
            ("yesterday", None),
            ("", None),
        ] {
            assert_eq!(time_of(text), time, "{text}");
        }
        let micros = time_of("2024-05-01T10:00:01.000001").unwrap();
        assert_eq!(
            micros.duration_since(at(1_714_557_601).unwrap()).unwrap(),
            Duration::from_micros(1)
        );
    }

    #[test]
    fn warnings_are_a_hundred_at_most() {
        let many = |count: usize| vec![String::new(); count];
        assert_eq!(bounded(many(100), 0).len(), 100);
        let cut = bounded(many(150), 20);
        assert_eq!((cut.len(), cut[99].as_str()), (100, "and 71 more"));
        assert_eq!(bounded(many(3), 2)[3], "and 2 more");
    }
}
