//! What a creation says besides the specification, and what makes two creations the same.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::violation::{INVALID_FIELD, Violations, shown};

const MAX_DISPLAY_NAME: usize = 200;
const MAX_LABELS: usize = 64;
const MAX_LABEL_KEY: usize = 63;
const MAX_LABEL_VALUE: usize = 255;

/// Checks the name and the labels.
pub fn check(display_name: &str, labels: &BTreeMap<String, String>, violations: &mut Violations) {
    text("display_name", display_name, MAX_DISPLAY_NAME, violations);
    if labels.len() > MAX_LABELS {
        let description = format!("must be at most {MAX_LABELS}, are {}", labels.len());
        return violations.add("labels", INVALID_FIELD, description);
    }
    for (key, value) in labels {
        if key.is_empty() {
            violations.add("labels", INVALID_FIELD, "a key must not be empty");
        }
        text("labels", key, MAX_LABEL_KEY, violations);
        let field = format!("labels[{}]", shown(key));
        text(&field, value, MAX_LABEL_VALUE, violations);
    }
}

/// Checks a request's id: a UUID, or empty for a request that is not idempotent.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_FIELD.
pub fn check_request_id(request_id: &str) -> aegis_mesh::Result<()> {
    let mut violations = Violations::new();
    let is_uuid = request_id.len() == 36 && Uuid::try_parse(request_id).is_ok();
    if !request_id.is_empty() && !is_uuid {
        let description = format!("must be a UUID with hyphens, is {}", shown(request_id));
        violations.add("request_id", INVALID_FIELD, description);
    }
    violations.into_result()
}

/// At most `most` characters, none of them a control character.
pub fn text(field: &str, text: &str, most: usize, violations: &mut Violations) {
    if text.chars().nth(most).is_some() {
        let description = format!("must have at most {most} characters");
        violations.add(field, INVALID_FIELD, description);
    }
    if text.chars().any(char::is_control) {
        violations.add(field, INVALID_FIELD, "must not contain control characters");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(name: &str, labels: &[(&str, &str)]) -> Vec<String> {
        let labels = labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect();
        let mut violations = Violations::new();
        check(name, &labels, &mut violations);
        match violations.into_result() {
            Ok(()) => Vec::new(),
            Err(error) => error.fields().iter().map(|f| f.path.clone()).collect(),
        }
    }

    #[test]
    fn names_and_labels_are_bounded() {
        assert!(wrong("nightly ../🙂", &[("team", "")]).is_empty());
        assert_eq!(wrong(&"x".repeat(201), &[]), ["display_name"]);
        assert_eq!(wrong("a\nb", &[]), ["display_name"]);
        assert_eq!(wrong("", &[("", "x")]), ["labels"]);
        assert_eq!(wrong("", &[("k", "a\0")]), ["labels[\"k\"]"]);
        let long = "k".repeat(64);
        assert_eq!(wrong("", &[(&long, "")]), ["labels"]);
    }

    #[test]
    fn a_request_id_is_a_uuid() {
        for good in [
            "",
            "0198c0de-0000-7000-8000-000000000000",
            "0198C0DE-0000-7000-8000-000000000000",
        ] {
            assert!(check_request_id(good).is_ok(), "{good}");
        }
        for bad in ["x", "../", "0198c0de000070008000000000000000"] {
            assert_eq!(
                check_request_id(bad).unwrap_err().fields()[0].path,
                "request_id"
            );
        }
    }
}
