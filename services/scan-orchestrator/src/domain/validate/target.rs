//! The target: a specification is code unless it is looked at. What a runner does not allow by
//! name is refused.

use serde_json::{Map, Value};

use super::{Violations, name};
use crate::domain::{
    catalogue::{Allowance, Catalogue, without_category},
    closest::did_you_mean,
    spec::Target,
};

/// Most bytes of a target's options as JSON.
const MAX_OPTIONS: usize = 64 * 1024;

/// Parts of an option's name that say it is a credential.
const CREDENTIAL_WORDS: [&str; 7] = [
    "key", "token", "secret", "password", "authorization", "credential", "bearer",
];
/// Options that sound like one and are none: `max_tokens`, …
const NO_CREDENTIALS: [&str; 4] = ["max_tokens", "max_completion_tokens", "skip_special_tokens", "top_k_tokens"];

pub(super) fn check(
    target: Option<&Target>,
    catalogue: &Catalogue,
    allowance: &Allowance,
    found: &mut Violations,
) {
    let Some(target) = target.filter(|target| !target.kind.is_empty()) else {
        found.add("spec.target.type", "is required: a generator such as openai.OpenAICompatible");
        return;
    };
    name("spec.target.type", &target.kind, found);
    if !target.name.is_empty() {
        name("spec.target.name", &target.name, found);
    }
    secret(&target.secret, allowance, found);
    let generator = without_category("generators", &target.kind);
    if !catalogue.generators.contains_key(generator) {
        let known = catalogue.generators.keys().map(String::as_str);
        found.add_with_hint(
            "spec.target.type",
            format!("garak {} has no generator {:?}", catalogue.garak_version, target.kind),
            did_you_mean(generator, known),
        );
        return;
    }
    let Some(allowed) = allowance.generators.get(generator) else {
        found.add_reason(
            "GENERATOR_NOT_ALLOWED",
            "spec.target.type",
            format!("{generator} is not allowed here"),
            "GET /v1/plugins/generators lists what is; a runner's configuration decides",
        );
        return;
    };
    if let Some(problem) = &catalogue.generators[generator].not_loadable {
        let why = format!("{generator} does not load here: {} ({})", problem.message, problem.reason);
        found.add("spec.target.type", why);
    }
    options(&target.options, |key| allowed.contains(key), found);
}

fn options(options: &Map<String, Value>, is_allowed: impl Fn(&str) -> bool, found: &mut Violations) {
    if serde_json::to_string(options).map_or(usize::MAX, |text| text.len()) > MAX_OPTIONS {
        found.add("spec.target.options", "must be at most 64 KiB");
    }
    for key in options.keys() {
        let field = format!("spec.target.options.{key}");
        if is_allowed(key) {
            continue;
        }
        if sounds_like_a_credential(key) {
            found.add_reason(
                "OPTION_NOT_ALLOWED",
                field,
                "a credential is never part of a scan",
                "name a variable of the runner's environment in spec.target.secret: env:NAME",
            );
        } else {
            found.add_reason(
                "OPTION_NOT_ALLOWED",
                field,
                "is not allowed for this generator",
                "GET /v1/plugins/generators lists the options that are",
            );
        }
    }
}

fn sounds_like_a_credential(key: &str) -> bool {
    let key = key.to_lowercase();
    !NO_CREDENTIALS.contains(&key.as_str()) && CREDENTIAL_WORDS.iter().any(|word| key.contains(word))
}

fn secret(secret: &str, allowance: &Allowance, found: &mut Violations) {
    if secret.is_empty() {
        return;
    }
    // Whatever is no name may be the key itself: it is not repeated.
    let Some(variable) = secret.strip_prefix("env:") else {
        found.add_reason(
            "SECRET_NOT_ALLOWED",
            "spec.target.secret",
            "must name a variable: env:NAME",
            "set the key in the runner's environment and name its variable",
        );
        return;
    };
    if !allowance.secrets.contains(variable) {
        let known: Vec<_> = allowance.secrets.iter().map(String::as_str).collect();
        found.add_reason(
            "SECRET_NOT_ALLOWED",
            "spec.target.secret",
            "names a variable that the runner's configuration does not permit",
            &format!("permitted: {}", known.join(", ")),
        );
    }
}
