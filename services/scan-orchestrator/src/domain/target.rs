//! What a target may be: a generator and options that the runners allow, and a secret by name.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    allowance::Allowance,
    catalogue::Catalogue,
    credential::find_credential,
    names::{listed, nearest},
    spec::Target,
    violation::{INVALID_FIELD, Violations, shown},
};

/// REST headers that may have any value; all others only garak's `$KEY`, as the runner has it.
const PLAIN_HEADERS: [&str; 3] = ["accept", "accept-language", "content-type"];
/// Longest list in a hint.
const LISTED: usize = 20;

/// Checks the target against the catalogue and the allowance.
pub fn check(
    target: &Target,
    catalogue: &Catalogue,
    allowance: &Allowance,
    violations: &mut Violations,
) {
    if let Some(options) = generator(&target.generator, catalogue, allowance, violations) {
        check_options(target, options, violations);
    }
    secret(target, catalogue, allowance, violations);
}

/// The options that the generator may be given; `None` when it may not be used itself.
fn generator<'a>(
    name: &str,
    catalogue: &Catalogue,
    allowance: &'a Allowance,
    violations: &mut Violations,
) -> Option<&'a BTreeSet<String>> {
    const FIELD: &str = "spec.target.type";
    let allowed = || listed(allowance.generators.keys().map(String::as_str), LISTED);
    if name.is_empty() {
        let hint = format!("allowed are {}", allowed());
        violations.add_with_hint(FIELD, INVALID_FIELD, "a generator must be named", hint);
        return None;
    }
    let Some(generator) = catalogue.generators.get(name) else {
        let near = nearest(name, allowance.generators.keys().map(String::as_str));
        let hint = match near.is_empty() {
            true => format!("allowed are {}", allowed()),
            false => format!("did you mean {}?", near.join(", ")),
        };
        let description = format!("{} is none of garak's generators here", shown(name));
        violations.add_with_hint(FIELD, INVALID_FIELD, description, hint);
        return None;
    };
    let Some(options) = allowance.generators.get(name) else {
        let description = format!("no runner allows the generator {}", shown(name));
        let hint = format!("allowed are {}", allowed());
        violations.add_with_hint(FIELD, "GENERATOR_NOT_ALLOWED", description, hint);
        return None;
    };
    if let Some(problem) = &generator.not_loadable {
        let description = format!("{name} does not load here: {}", problem.message);
        violations.add(FIELD, "GENERATOR_UNAVAILABLE", description);
    }
    Some(options)
}

fn check_options(target: &Target, allowed: &BTreeSet<String>, violations: &mut Violations) {
    for (key, value) in &target.options {
        let field = format!("spec.target.options.{key}");
        if let Some(path) = find_credential(&field, key, value) {
            violations.add_with_hint(
                path,
                "OPTION_NOT_ALLOWED",
                "looks like a credential, and a specification is stored and shown",
                "name the credential in spec.target.secret as env:NAME of the runner's environment",
            );
            continue;
        }
        if !allowed.contains(key) {
            let hint = match nearest(key, allowed.iter().map(String::as_str)).first() {
                Some(near) => format!("did you mean {near}?"),
                None => format!(
                    "allowed are {}",
                    listed(allowed.iter().map(String::as_str), LISTED)
                ),
            };
            let description = format!("{} has no allowed option {}", target.generator, shown(key));
            violations.add_with_hint(field, "OPTION_NOT_ALLOWED", description, hint);
            continue;
        }
        if key == "headers" {
            headers(&field, value, violations);
        }
    }
}

fn headers(field: &str, headers: &Value, violations: &mut Violations) {
    let Some(headers) = headers.as_object() else {
        return violations.add(field, INVALID_FIELD, "must be an object of texts");
    };
    for (name, value) in headers {
        let field = format!("{field}.{name}");
        let Some(value) = value.as_str() else {
            violations.add(field, INVALID_FIELD, "must be a text");
            continue;
        };
        let is_plain = PLAIN_HEADERS.contains(&name.to_ascii_lowercase().as_str());
        if !is_plain && !is_key_in_its_place(value) {
            violations.add_with_hint(
                field,
                "OPTION_NOT_ALLOWED",
                "may only be $KEY, with a word before it",
                "write \"Bearer $KEY\" and name the key in spec.target.secret",
            );
        }
    }
}

/// "$KEY" or "Bearer $KEY".
fn is_key_in_its_place(value: &str) -> bool {
    let is_scheme = |c: char| c.is_ascii_alphabetic() || matches!(c, ' ' | '-');
    value
        .strip_suffix("$KEY")
        .is_some_and(|scheme| scheme.len() <= 16 && scheme.chars().all(is_scheme))
}

/// A generator may declare a key and run without one (a local model behind an OpenAI-compatible
/// server), so a missing secret is no violation. A key variable of one generator is never sent to
/// the target of another.
fn secret(
    target: &Target,
    catalogue: &Catalogue,
    allowance: &Allowance,
    violations: &mut Violations,
) {
    const FIELD: &str = "spec.target.secret";
    const REASON: &str = "SECRET_NOT_ALLOWED";
    if target.secret.is_empty() {
        return;
    }
    // What does not begin with env: may be the key itself, so it is not repeated.
    let Some(name) = target.secret.strip_prefix("env:") else {
        return violations.add_with_hint(
            FIELD,
            REASON,
            "must be env:NAME of the runner's environment",
            "set the variable where the runner starts, and name it here",
        );
    };
    let allowed = || listed(allowance.secrets.iter().map(String::as_str), LISTED);
    if !allowance.secrets.contains(name) {
        // Not repeated either: someone may have put the key behind env:.
        let hint = format!(
            "allowed are {}; the runner's configuration may allow more",
            allowed()
        );
        return violations.add_with_hint(FIELD, REASON, "no runner allows this variable", hint);
    }
    let Some(generator) = catalogue.generators.get(&target.generator) else {
        return;
    };
    match generator.key_env_var.as_deref() {
        None | Some("") => {
            let description = format!("{} reads no key", target.generator);
            violations.add_with_hint(FIELD, REASON, description, "leave it out");
        }
        Some(own) if own != name && catalogue.is_key_variable(name) => {
            let description = format!("{name} is the key of another generator");
            let hint = format!("{} reads {own}", target.generator);
            violations.add_with_hint(FIELD, REASON, description, hint);
        }
        Some(_) => {}
    }
}

#[cfg(test)]
#[path = "target_tests.rs"]
mod tests;
