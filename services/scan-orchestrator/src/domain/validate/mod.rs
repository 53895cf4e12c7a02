//! Whether a specification can be honoured. Everything that is wrong with it is said at once.

mod options;
mod target;

use std::time::Duration;

use aegis_mesh::Error;

use super::{
    catalogue::{Allowance, Catalogue, without_category},
    closest::did_you_mean,
    spec::Spec,
};

/// Longest text of a name.
const MAX_NAME: usize = 256;
/// Longest list of selectors, tags, detectors or buffs.
const MAX_LIST: usize = 1000;
/// Longest system prompt, in bytes.
const MAX_SYSTEM_PROMPT: usize = 64 * 1024;
/// Seeds are numpy's: 32 bits without sign.
const MAX_SEED: i64 = u32::MAX as i64;
const LEAST_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// What is wrong with a request, field by field.
#[derive(Debug, Default)]
pub struct Violations {
    fields: Vec<(String, String)>,
    reason: Option<&'static str>,
    hint: Option<String>,
}

impl Violations {
    /// A field is wrong.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.fields.push((field.into(), description.into()));
    }

    /// A field is wrong, and there is something to suggest.
    pub fn add_with_hint(
        &mut self,
        field: impl Into<String>,
        description: impl Into<String>,
        hint: Option<String>,
    ) {
        self.add(field, description);
        self.hint = self.hint.take().or(hint);
    }

    /// A field is wrong in a way of its own; the first such reason is the request's.
    pub fn add_reason(
        &mut self,
        reason: &'static str,
        field: impl Into<String>,
        description: impl Into<String>,
        hint: &str,
    ) {
        self.reason.get_or_insert(reason);
        self.add_with_hint(field, description, Some(hint.to_owned()));
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The refusal, if anything is wrong.
    ///
    /// # Errors
    /// INVALID_ARGUMENT with every field.
    pub fn into_result(self) -> Result<(), Error> {
        let Some((field, description)) = self.fields.first() else {
            return Ok(());
        };
        let message = format!("{field}: {description}");
        let mut error = Error::invalid_argument(self.reason.unwrap_or("INVALID_FIELD"), message);
        for (field, description) in self.fields {
            error = error.field(field, description);
        }
        Err(match self.hint {
            Some(hint) => error.hint(hint),
            None => error,
        })
    }
}

/// Checks everything but the selection of probes.
pub fn check(spec: &Spec, catalogue: &Catalogue, allowance: &Allowance, found: &mut Violations) {
    target::check(spec.target.as_ref(), catalogue, allowance, found);
    numbers(spec, found);
    lists(spec, found);
    not_yet(spec, found);
    options::check(&spec.plugin_options, catalogue, found);
    plugins("detectors", &spec.detectors, "detectors", catalogue, found);
    plugins("exclude_detectors", &spec.exclude_detectors, "detectors", catalogue, found);
    plugins("buffs", &spec.buffs, "buffs", catalogue, found);
    if spec.include.is_empty() {
        found.add_reason(
            "EMPTY_SELECTION",
            "spec.include",
            "names no probe",
            "name probes, such as probes.dan, or all",
        );
    }
}

fn numbers(spec: &Spec, found: &mut Violations) {
    within("generations", spec.generations, 1, 500, found);
    within("seed", spec.seed, 0, MAX_SEED, found);
    within("max_in_flight", spec.max_in_flight, 1, 500, found);
    within("priority", spec.priority, 0, 100, found);
    for (index, tier) in spec.tiers.iter().enumerate() {
        within(&format!("tiers[{index}]"), Some(*tier), 1, 9, found);
    }
    // A NaN is in no range.
    if spec.eval_threshold.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
        found.add("spec.eval_threshold", "must be from 0 to 1");
    }
    let timeout = LEAST_TIMEOUT..=MAX_TIMEOUT;
    let out_of_range = spec.probe_timeout.is_some_and(|value| !timeout.contains(&value));
    if out_of_range || spec.probe_timeout_is_invalid {
        found.add("spec.probe_timeout", "must be from 1s to 86400s");
    }
    let prompt = spec.system_prompt.as_deref().unwrap_or_default();
    if prompt.len() > MAX_SYSTEM_PROMPT || prompt.contains('\0') {
        found.add("spec.system_prompt", "must be at most 64 KiB, without NUL");
    }
}

fn within<T: PartialOrd + std::fmt::Display>(
    field: &str,
    value: Option<T>,
    least: T,
    most: T,
    found: &mut Violations,
) {
    if let Some(value) = value.filter(|value| *value < least || *value > most) {
        found.add(format!("spec.{field}"), format!("must be from {least} to {most}, is {value}"));
    }
}

fn lists(spec: &Spec, found: &mut Violations) {
    let lists = [
        ("include", &spec.include),
        ("exclude", &spec.exclude),
        ("tags", &spec.tags),
        ("buffs", &spec.buffs),
        ("detectors", &spec.detectors),
        ("exclude_detectors", &spec.exclude_detectors),
    ];
    for (field, list) in lists {
        if list.len() > MAX_LIST {
            found.add(format!("spec.{field}"), format!("has over {MAX_LIST} entries"));
        }
        for (index, text) in list.iter().enumerate().take(MAX_LIST) {
            name(&format!("spec.{field}[{index}]"), text, found);
        }
    }
}

/// A name that is no name: empty, too long, or with control characters.
fn name(field: &str, text: &str, found: &mut Violations) {
    if text.is_empty() {
        found.add(field, "must not be empty");
    } else if text.chars().count() > MAX_NAME {
        found.add(field, format!("must be at most {MAX_NAME} characters"));
    } else if text.chars().any(char::is_control) {
        found.add(field, "must not hold control characters");
    }
}

/// What the contract has room for and this version cannot do.
fn not_yet(spec: &Spec, found: &mut Violations) {
    if !spec.custom_probes.is_empty() {
        found.add_reason(
            "UNSUPPORTED_OPTION",
            "spec.custom_probes",
            "custom probes are not supported by this version",
            "leave spec.custom_probes out",
        );
    }
}

fn plugins(
    field: &str,
    names: &[String],
    category: &str,
    catalogue: &Catalogue,
    found: &mut Violations,
) {
    for (index, selector) in names.iter().enumerate() {
        let field = format!("spec.{field}[{index}]");
        let problem = match matching(selector, category, catalogue).as_slice() {
            [] => format!("garak {} has no {category} {selector:?}", catalogue.garak_version),
            found => match found.iter().find_map(|name| unloadable(name, category, catalogue)) {
                Some(problem) => problem,
                None => continue,
            },
        };
        let known: Vec<_> = known(category, catalogue);
        let body = without_category(category, selector);
        found.add_with_hint(field, problem, did_you_mean(body, known));
    }
}

fn known<'a>(category: &str, catalogue: &'a Catalogue) -> Vec<&'a str> {
    match category {
        "buffs" => catalogue.buffs.keys().map(String::as_str).collect(),
        _ => catalogue.detectors.keys().map(String::as_str).collect(),
    }
}

/// The plugins that a selector names: one by its whole name, or all of a module.
pub fn matching<'a>(selector: &str, category: &str, catalogue: &'a Catalogue) -> Vec<&'a str> {
    let body = without_category(category, selector);
    let prefix = format!("{body}.");
    known(category, catalogue)
        .into_iter()
        .filter(|name| *name == body || name.starts_with(&prefix))
        .collect()
}

fn unloadable(name: &str, category: &str, catalogue: &Catalogue) -> Option<String> {
    let problem = match category {
        "buffs" => catalogue.buffs.get(name)?.not_loadable.as_ref()?,
        _ => catalogue.detectors.get(name)?.not_loadable.as_ref()?,
    };
    Some(format!("{name} does not load here: {} ({})", problem.message, problem.reason))
}
