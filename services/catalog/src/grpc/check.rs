//! What every request's fields must be.

use std::{collections::BTreeMap, time::Duration};

use aegis_mesh::{CallContext, Result};
use aegis_proto::{
    ids::{ArtifactId, Epoch, ScanId},
    internal::task::v1 as task,
};

use crate::domain::{refusal::invalid_field, task::LeaseProof};

/// The longest long poll.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What is left of the caller's time for the answer itself.
const TO_ANSWER: Duration = Duration::from_millis(250);

pub(crate) fn scan_id(text: &str) -> Result<ScanId> {
    text.parse()
        .map_err(|error| invalid_field("scan_id", error).with("scan_id", short(text)))
}

pub(crate) fn artifact_id(field: &str, text: &str) -> Result<ArtifactId> {
    text.parse()
        .map_err(|error| invalid_field(field, error).with("artifact_id", short(text)))
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

/// Text that is there, of at most `max` characters, without NUL, which PostgreSQL cannot store.
pub(crate) fn required(field: &str, text: &str, max: usize) -> Result<String> {
    if text.is_empty() {
        return Err(invalid_field(field, "must not be empty"));
    }
    optional(field, text, max)
}

/// Text of at most `max` characters without NUL.
pub(crate) fn optional(field: &str, text: &str, max: usize) -> Result<String> {
    if text.chars().count() > max {
        return Err(invalid_field(
            field,
            format_args!("must have at most {max} characters"),
        ));
    }
    if text.contains('\0') {
        return Err(invalid_field(field, "must not contain NUL"));
    }
    Ok(text.to_owned())
}

/// A reason: UPPER_SNAKE of at most 63 characters.
pub(crate) fn reason(field: &str, text: &str) -> Result<String> {
    let snake = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    if text.is_empty() || text.len() > 63 || !text.bytes().all(snake) {
        return Err(invalid_field(
            field,
            "must be UPPER_SNAKE of at most 63 characters",
        ));
    }
    Ok(text.to_owned())
}

pub(crate) fn sha256(field: &str, text: &str) -> Result<String> {
    let hexadecimal = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    if text.len() != 64 || !text.bytes().all(hexadecimal) {
        return Err(invalid_field(
            field,
            "must be a SHA-256 in lower-case hexadecimal",
        ));
    }
    Ok(text.to_owned())
}

pub(crate) fn labels(
    labels: std::collections::HashMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let mut checked = BTreeMap::new();
    for (key, value) in labels {
        let field = "labels";
        let key = required(field, &key, 63)?;
        checked.insert(key, optional(field, &value, 255)?);
    }
    if checked.len() > 64 {
        return Err(invalid_field("labels", "must be at most 64"));
    }
    Ok(checked)
}

/// A whole number in a range.
pub(crate) fn within<N: PartialOrd + std::fmt::Display>(
    field: &str,
    value: N,
    range: std::ops::RangeInclusive<N>,
) -> Result<N> {
    if range.contains(&value) {
        return Ok(value);
    }
    let (least, most) = (range.start(), range.end());
    Err(invalid_field(
        field,
        format_args!("is {value}; it must be {least} to {most}"),
    ))
}

pub(crate) fn lease(lease: Option<task::Lease>) -> Result<LeaseProof> {
    let lease = lease.ok_or_else(|| invalid_field("lease", "must be set"))?;
    Ok(LeaseProof {
        task: lease
            .task_id
            .parse()
            .map_err(|error| invalid_field("lease.task_id", error))?,
        scan: lease
            .scan_id
            .parse()
            .map_err(|error| invalid_field("lease.scan_id", error))?,
        epoch: Epoch(within("lease.epoch", lease.epoch, 1..=i64::MAX)?),
        token: lease.token,
    })
}

/// Milliseconds of a duration that is set, not negative and at most a year.
pub(crate) fn millis(field: &str, duration: prost_types::Duration) -> Result<i64> {
    const YEAR_MS: i64 = 366 * 86_400_000;
    let ms = duration
        .seconds
        .saturating_mul(1_000)
        .saturating_add(i64::from(duration.nanos) / 1_000_000);
    within(field, ms, 0..=YEAR_MS)
}

/// A lease's time, 1 s to 1 h.
pub(crate) fn ttl_ms(duration: Option<prost_types::Duration>) -> Result<i64> {
    let ttl = duration.ok_or_else(|| invalid_field("ttl", "must be set"))?;
    within("ttl", millis("ttl", ttl)?, 1_000..=3_600_000)
}

/// How long to hold a poll: what was asked for, but so that the answer still reaches its caller.
pub(crate) fn wait(duration: Option<prost_types::Duration>) -> Result<Duration> {
    let asked = match duration {
        None => 0,
        Some(duration) => millis("wait", duration)?,
    };
    let asked = Duration::from_millis(asked.unsigned_abs()).min(MAX_WAIT);
    let left = CallContext::current().and_then(|context| context.remaining());
    Ok(left.map_or(asked, |left| asked.min(left.saturating_sub(TO_ANSWER))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_field_is_named_with_its_value() {
        let error = scan_id("../etc").unwrap_err();
        assert_eq!(error.reason(), "INVALID_FIELD");
        assert_eq!(error.fields()[0].path, "scan_id");
        assert!(error.message().contains("../etc"), "{error}");
    }

    #[test]
    fn reasons_are_upper_snake_and_text_has_no_nul() {
        assert!(reason("outcome.reason", "TARGET_BUSY_2").is_ok());
        for bad in ["", "target", "A B", &"A".repeat(64)] {
            assert!(reason("outcome.reason", bad).is_err(), "{bad:?}");
        }
        assert!(optional("name", "a\0b", 10).is_err());
        assert!(optional("name", "😀😀", 2).is_ok());
    }

    #[test]
    fn a_poll_is_held_for_half_a_minute_at_most() {
        let hour = prost_types::Duration {
            seconds: 3_600,
            nanos: 0,
        };
        assert_eq!(wait(Some(hour)).unwrap(), MAX_WAIT);
        let negative = prost_types::Duration {
            seconds: -1,
            nanos: 0,
        };
        assert!(wait(Some(negative)).is_err());
    }
}
