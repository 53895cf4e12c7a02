//! The ranges of a specification's fields.

use std::{fmt::Display, ops::RangeInclusive};

use serde_json::{Map, Value};

use super::{
    spec::{Seconds, Spec},
    violation::{INVALID_FIELD, Violations, shown},
};

/// garak's default of `generations` (resources/garak.core.yaml, 0.17.1).
pub const DEFAULT_GENERATIONS: i32 = 5;
/// garak's default of `eval_threshold` (resources/garak.core.yaml, 0.17.1).
pub const DEFAULT_EVAL_THRESHOLD: f64 = 0.5;
/// Calls in flight of a scan that does not say.
pub const DEFAULT_MAX_IN_FLIGHT: i32 = 16;

/// garak's tiers (garak/probes/_tier.py), with room between its 3 and 9.
pub const TIERS: RangeInclusive<i32> = 1..=9;

const MAX_SEED: i64 = u32::MAX as i64;
const MAX_PROBE_TIMEOUT_SECONDS: i64 = 24 * 3600;
const MAX_TEXT_BYTES: usize = 64 * 1024;
const MAX_NAME_CHARS: usize = 256;
const MAX_SELECTORS: usize = 1000;
const MAX_TAGS: usize = 64;
/// What a scan may require of its runners.
const MAX_REQUIRED: usize = 16;
const MAX_TIERS: usize = 9;

/// Checks every field that can be judged without a catalogue.
pub fn check(spec: &Spec, violations: &mut Violations) {
    numbers(spec, violations);
    timeout(spec.probe_timeout, violations);
    texts(spec, violations);
    lists(spec, violations);
    options("spec.target.options", &spec.target.options, violations);
    options("spec.plugin_options", &spec.plugin_options, violations);
}

fn numbers(spec: &Spec, violations: &mut Violations) {
    let mut at = |field: &str, value: Option<i64>, low: i64, high: i64| {
        if let Some(value) = value.filter(|v| !(low..=high).contains(v)) {
            out_of_range(field, value, low, high, violations);
        }
    };
    at("spec.generations", spec.generations.map(i64::from), 1, 500);
    at("spec.seed", spec.seed, 0, MAX_SEED);
    at(
        "spec.max_in_flight",
        spec.max_in_flight.map(i64::from),
        1,
        500,
    );
    at("spec.priority", spec.priority.map(i64::from), 0, 100);
    for (index, tier) in spec.tiers.iter().enumerate().take(MAX_TIERS) {
        at(
            &format!("spec.tiers[{index}]"),
            Some(i64::from(*tier)),
            1,
            9,
        );
    }
    // NaN is in no range.
    if let Some(value) = spec.eval_threshold.filter(|v| !(0.0..=1.0).contains(v)) {
        out_of_range("spec.eval_threshold", value, 0, 1, violations);
    }
}

fn out_of_range<L: Display>(
    field: &str,
    value: impl Display,
    low: L,
    high: L,
    violations: &mut Violations,
) {
    let description = format!("must be {low} to {high}, is {value}");
    violations.add(field, INVALID_FIELD, description);
}

fn timeout(timeout: Option<Seconds>, violations: &mut Violations) {
    let Some(Seconds { seconds, nanos }) = timeout else {
        return;
    };
    let is_whole = (0..1_000_000_000).contains(&nanos);
    let is_over =
        seconds > MAX_PROBE_TIMEOUT_SECONDS || (seconds == MAX_PROBE_TIMEOUT_SECONDS && nanos > 0);
    if !is_whole || seconds < 1 || is_over {
        violations.add("spec.probe_timeout", INVALID_FIELD, "must be 1 s to 24 h");
    }
}

fn texts(spec: &Spec, violations: &mut Violations) {
    name("spec.target.name", &spec.target.name, violations);
    if let Some(prompt) = &spec.system_prompt {
        if prompt.len() > MAX_TEXT_BYTES {
            let description = format!("must be at most 64 KiB, is {} bytes", prompt.len());
            violations.add("spec.system_prompt", INVALID_FIELD, description);
        }
        if prompt.contains('\0') {
            violations.add("spec.system_prompt", INVALID_FIELD, "must not contain NUL");
        }
    }
}

fn lists(spec: &Spec, violations: &mut Violations) {
    for (field, values, most) in [
        ("spec.include", &spec.include, MAX_SELECTORS),
        ("spec.exclude", &spec.exclude, MAX_SELECTORS),
        ("spec.tags", &spec.tags, MAX_TAGS),
        ("spec.buffs", &spec.buffs, MAX_SELECTORS),
        ("spec.detectors", &spec.detectors, MAX_SELECTORS),
        ("spec.requires", &spec.requires, MAX_REQUIRED),
        (
            "spec.exclude_detectors",
            &spec.exclude_detectors,
            MAX_SELECTORS,
        ),
    ] {
        if values.len() > most {
            let description = format!("must have at most {most} entries, has {}", values.len());
            violations.add(field, INVALID_FIELD, description);
            continue;
        }
        for (index, value) in values.iter().enumerate() {
            let field = format!("{field}[{index}]");
            if value.is_empty() {
                violations.add(&field, INVALID_FIELD, "must not be empty");
            }
            name(&field, value, violations);
        }
    }
    if spec.tiers.len() > MAX_TIERS {
        violations.add("spec.tiers", INVALID_FIELD, "must have at most 9 entries");
    }
}

/// A name: at most 256 characters, no control characters.
fn name(field: &str, text: &str, violations: &mut Violations) {
    if text.chars().nth(MAX_NAME_CHARS).is_some() {
        violations.add(field, INVALID_FIELD, "must have at most 256 characters");
    }
    if text.chars().any(char::is_control) {
        let description = format!("must not contain control characters: {}", shown(text));
        violations.add(field, INVALID_FIELD, description);
    }
}

fn options(field: &str, options: &Map<String, Value>, violations: &mut Violations) {
    // The JSON form is about what a Struct takes, and what garak's file will hold.
    let bytes = Value::Object(options.clone()).to_string().len();
    if bytes > MAX_TEXT_BYTES {
        let description = format!("must be at most 64 KiB, is {bytes} bytes");
        violations.add(field, INVALID_FIELD, description);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The fields that `change` makes wrong.
    fn wrong(change: impl FnOnce(&mut Spec)) -> Vec<String> {
        let mut spec = Spec::default();
        change(&mut spec);
        let mut violations = Violations::new();
        check(&spec, &mut violations);
        match violations.into_result() {
            Ok(()) => Vec::new(),
            Err(error) => error.fields().iter().map(|f| f.path.clone()).collect(),
        }
    }

    #[test]
    fn both_ends_of_each_range_are_in_it() {
        type Set = fn(&mut Spec, i64);
        let ranges: [(&str, i64, i64, Set); 5] = [
            ("spec.generations", 1, 500, |s, v| {
                s.generations = Some(v as i32)
            }),
            ("spec.seed", 0, 4_294_967_295, |s, v| s.seed = Some(v)),
            ("spec.max_in_flight", 1, 500, |s, v| {
                s.max_in_flight = Some(v as i32)
            }),
            ("spec.priority", 0, 100, |s, v| s.priority = Some(v as i32)),
            ("spec.tiers[0]", 1, 9, |s, v| s.tiers = vec![v as i32]),
        ];
        for (field, low, high, set) in ranges {
            for good in [low, high] {
                assert!(wrong(|s| set(s, good)).is_empty(), "{field} {good}");
            }
            for bad in [low - 1, high + 1] {
                assert_eq!(wrong(|s| set(s, bad)), [field], "{bad}");
            }
        }
        assert_eq!(
            wrong(|s| s.generations = Some(1_000_000)),
            ["spec.generations"]
        );
    }

    #[test]
    fn a_threshold_is_a_share() {
        for good in [0.0, 0.5, 1.0] {
            assert!(wrong(|s| s.eval_threshold = Some(good)).is_empty());
        }
        for bad in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(
                wrong(|s| s.eval_threshold = Some(bad)),
                ["spec.eval_threshold"]
            );
        }
    }

    #[test]
    fn a_timeout_is_a_second_to_a_day() {
        let with = |seconds, nanos| wrong(|s| s.probe_timeout = Some(Seconds { seconds, nanos }));
        assert!(with(1, 0).is_empty() && with(86_400, 0).is_empty());
        for (seconds, nanos) in [
            (0, 5),
            (86_400, 1),
            (1, -1),
            (1, 1_000_000_000),
            (i64::MAX, 0),
            (-1, 0),
        ] {
            assert_eq!(with(seconds, nanos), ["spec.probe_timeout"]);
        }
    }

    #[test]
    fn texts_are_bounded_and_clean() {
        assert!(wrong(|s| s.system_prompt = Some("Be kind.\n\t🙂".to_owned())).is_empty());
        assert_eq!(
            wrong(|s| s.system_prompt = Some("x".repeat(65_537))),
            ["spec.system_prompt"]
        );
        assert_eq!(
            wrong(|s| s.system_prompt = Some("\0".to_owned())),
            ["spec.system_prompt"]
        );
        assert!(wrong(|s| s.target.name = "org/model 🙂".to_owned()).is_empty());
        assert_eq!(
            wrong(|s| s.target.name = "a\0".to_owned()),
            ["spec.target.name"]
        );
        assert_eq!(
            wrong(|s| s.target.name = "é".repeat(257)),
            ["spec.target.name"]
        );
        assert_eq!(wrong(|s| s.tags = vec![String::new()]), ["spec.tags[0]"]);
        assert_eq!(
            wrong(|s| s.include = vec!["x".to_owned(); 1001]),
            ["spec.include"]
        );
        let large = Value::String("x".repeat(70_000));
        assert_eq!(
            wrong(|s| drop(s.target.options.insert("req_template".to_owned(), large))),
            ["spec.target.options"]
        );
    }
}
