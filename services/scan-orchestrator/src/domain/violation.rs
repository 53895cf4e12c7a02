//! What is wrong with a request, all of it at once.

use std::collections::BTreeSet;

use aegis_mesh::Error;

/// The reason when nothing more special is said.
pub const INVALID_FIELD: &str = "INVALID_FIELD";

/// More are counted, not listed.
const MAX_LISTED: usize = 64;
/// Longest piece of a request that an error repeats, in characters.
const MAX_SHOWN: usize = 64;

#[derive(Clone)]
struct Violation {
    field: String,
    reason: &'static str,
    description: String,
    hint: Option<String>,
}

/// Collects violations while a request is looked at.
#[derive(Clone, Default)]
pub struct Violations {
    listed: Vec<Violation>,
    count: usize,
}

impl Violations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// A wrong field: its path, why, and what is wrong.
    pub fn add(
        &mut self,
        field: impl Into<String>,
        reason: &'static str,
        description: impl Into<String>,
    ) {
        self.push(field.into(), reason, description.into(), None);
    }

    /// The same, and what to do about it.
    pub fn add_with_hint(
        &mut self,
        field: impl Into<String>,
        reason: &'static str,
        description: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.push(field.into(), reason, description.into(), Some(hint.into()));
    }

    fn push(
        &mut self,
        field: String,
        reason: &'static str,
        description: String,
        hint: Option<String>,
    ) {
        self.count += 1;
        if self.listed.len() < MAX_LISTED {
            self.listed.push(Violation {
                field,
                reason,
                description,
                hint,
            });
        }
    }

    /// Nothing when there is none.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with a field violation for each. Its reason is theirs when they share one,
    /// else INVALID_FIELD; the metadata `reasons` has all.
    pub fn into_result(self) -> aegis_mesh::Result<()> {
        let Some(first) = self.listed.first() else {
            return Ok(());
        };
        let reasons: BTreeSet<&'static str> = self.listed.iter().map(|v| v.reason).collect();
        let reason = match reasons.len() {
            1 => first.reason,
            _ => INVALID_FIELD,
        };
        let message = match self.count {
            1 => format!("{}: {}", first.field, first.description),
            n => format!(
                "{n} fields are wrong; {}: {}",
                first.field, first.description
            ),
        };
        let hints: BTreeSet<&str> = self
            .listed
            .iter()
            .filter_map(|v| v.hint.as_deref())
            .collect();
        let hints: Vec<&str> = hints.into_iter().take(5).collect();
        let mut error = Error::invalid_argument(reason, message)
            .with("reasons", reasons.into_iter().collect::<Vec<_>>().join(","));
        if !hints.is_empty() {
            error = error.hint(hints.join("; "));
        }
        for violation in self.listed {
            error = error.field(violation.field, violation.description);
        }
        Err(error)
    }
}

/// Text of a request as an error may show it: short, and without control characters.
pub fn shown(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(MAX_SHOWN)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        short.push('…');
    }
    format!("\"{short}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_reported_at_once() {
        let mut violations = Violations::new();
        violations.add("spec.seed", INVALID_FIELD, "must be 0 to 4294967295");
        violations.add_with_hint(
            "spec.include[1]",
            "UNKNOWN_PROBE",
            "no such probe",
            "see the list",
        );
        let error = violations.into_result().unwrap_err();
        assert_eq!(error.reason(), INVALID_FIELD);
        assert_eq!(error.metadata()["reasons"], "INVALID_FIELD,UNKNOWN_PROBE");
        assert_eq!(error.fields().len(), 2);
        assert_eq!(error.hint_text(), Some("see the list"));
    }

    #[test]
    fn one_reason_is_the_errors_own() {
        let mut violations = Violations::new();
        violations.add("a", "UNKNOWN_PROBE", "x");
        violations.add("b", "UNKNOWN_PROBE", "y");
        assert_eq!(
            violations.into_result().unwrap_err().reason(),
            "UNKNOWN_PROBE"
        );
        assert!(Violations::new().into_result().is_ok());
    }

    #[test]
    fn a_flood_is_bounded_but_counted() {
        let mut violations = Violations::new();
        for n in 0..5000 {
            violations.add(format!("spec.include[{n}]"), "UNKNOWN_PROBE", "x");
        }
        let error = violations.into_result().unwrap_err();
        assert_eq!(error.fields().len(), MAX_LISTED);
        assert!(error.message().starts_with("5000 fields"), "{error}");
    }

    #[test]
    fn what_is_shown_is_short_and_clean() {
        assert_eq!(shown("a\0b"), "\"a\u{fffd}b\"");
        assert_eq!(shown(&"é".repeat(100)).chars().count(), MAX_SHOWN + 3);
    }
}
