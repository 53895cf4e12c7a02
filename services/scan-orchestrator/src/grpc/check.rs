//! Fields that several requests have.

use aegis_proto::{
    ids::{ScanId, TaskId},
    internal::task::v1::Lease,
};

use crate::domain::violation::{INVALID_FIELD, Violations};

/// Longest reason of a cancellation, in characters.
pub(super) const MAX_REASON: usize = 200;
/// Longest lease token, in bytes.
const MAX_TOKEN: usize = 256;

pub(super) fn scan_id(text: &str, violations: &mut Violations) {
    if let Err(error) = text.parse::<ScanId>() {
        violations.add("scan_id", INVALID_FIELD, error.to_string());
    }
}

pub(super) fn not_negative(field: &str, value: i64, violations: &mut Violations) {
    if value < 0 {
        let description = format!("must not be negative, is {value}");
        violations.add(field, INVALID_FIELD, description);
    }
}

/// A lease as a runner shows it. Whether it holds is for catalog to say.
pub(super) fn lease(lease: Option<&Lease>, violations: &mut Violations) {
    let Some(lease) = lease else {
        return violations.add("lease", INVALID_FIELD, "is missing");
    };
    if let Err(error) = lease.task_id.parse::<TaskId>() {
        violations.add("lease.task_id", INVALID_FIELD, error.to_string());
    }
    // A check's lease has no scan.
    if !lease.scan_id.is_empty()
        && let Err(error) = lease.scan_id.parse::<ScanId>()
    {
        violations.add("lease.scan_id", INVALID_FIELD, error.to_string());
    }
    if lease.epoch < 1 {
        let description = format!("must be at least 1, is {}", lease.epoch);
        violations.add("lease.epoch", INVALID_FIELD, description);
    }
    if lease.token.is_empty() || lease.token.len() > MAX_TOKEN {
        violations.add("lease.token", INVALID_FIELD, "must be 1 to 256 bytes");
    }
}

/// UPPER_SNAKE of at most 63 characters, as every reason.
pub(super) fn is_reason(text: &str) -> bool {
    (1..=63).contains(&text.len())
        && text.starts_with(|c: char| c.is_ascii_uppercase())
        && text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_upper_snake() {
        for good in ["HTTP_429", "X"] {
            assert!(is_reason(good), "{good}");
        }
        for bad in ["", "lower", "A B", "_A", "1A", &"A".repeat(64)] {
            assert!(!is_reason(bad), "{bad}");
        }
    }
}
