//! Custom probes in scans: modules of one's own beside garak's. They join the catalogue that a
//! scan is planned with; where a name is garak's own, garak's own wins.

use std::collections::BTreeSet;

use super::{
    catalogue::{Catalogue, Detector, Probe},
    spec::Spec,
    violation::{INVALID_FIELD, Violations, shown},
};

/// Custom probes of one scan, at most.
pub const MAX_CUSTOM_PROBES: usize = 32;
/// Longest name, in bytes.
const MAX_NAME: usize = 63;

/// Words that mean something else in a selector.
const RESERVED: [&str; 2] = ["all", "none"];

/// garak takes a module whose name begins so for one of its own.
const GARAKS_PREFIX: &str = "base";

/// garak's report writer cuts these out of names.
const CUT_OUT: [&str; 3] = ["garak", "probes", "detector"];

/// What Python cannot import by its name.
const KEYWORDS: [&str; 32] = [
    "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif",
    "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda",
    "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

/// A version of a custom probe.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomModule {
    /// garak's module name.
    pub name: String,
    /// 1, 2, 3, …
    pub version: i32,
    /// Of its source.
    pub sha256: String,
    /// Where it stands.
    pub standing: Standing,
    /// Its probes, by whole name.
    pub probes: Vec<(String, Probe)>,
    /// Its detectors, by whole name.
    pub detectors: Vec<(String, Detector)>,
}

/// Whether a scan may use a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// A runner has not tried it out yet.
    Checking,
    /// It may.
    Valid,
    /// See its validation.
    Invalid,
}

/// A custom probe that a specification means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meant {
    /// Where it is named: "spec.custom_probes[0]", "spec.include[3]".
    pub field: String,
    /// garak's module name.
    pub name: String,
    /// The newest valid one when `None`.
    pub version: Option<i32>,
    /// Listed itself, not only selected from: then it must be there.
    pub is_listed: bool,
}

/// Why a name cannot be that of a custom probe; `None` when it can.
pub fn wrong_name(name: &str) -> Option<String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let begins = name.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if !begins || name.len() > MAX_NAME || !name.bytes().all(allowed) {
        return Some(format!(
            "must be 1 to {MAX_NAME} of a-z, 0-9 and _, beginning with a letter, is {}",
            shown(name)
        ));
    }
    let is_reserved = KEYWORDS.contains(&name)
        || RESERVED.contains(&name)
        || name.starts_with(GARAKS_PREFIX)
        || CUT_OUT.iter().any(|end| name.ends_with(end));
    is_reserved.then(|| {
        format!(
            "must not be {}, which means something else to Python or garak",
            shown(name)
        )
    })
}

/// Whether garak has a module of this name itself.
pub fn is_garaks(name: &str, catalogue: &Catalogue) -> bool {
    let mut names = catalogue.probes.keys().chain(catalogue.detectors.keys());
    names.any(|plugin| module_of(plugin) == name)
}

/// The custom probes that a specification means: those that it lists, and those that it selects
/// from although it does not list them. "all" takes of custom probes only what is listed.
pub fn meant(spec: &Spec, catalogue: &Catalogue, violations: &mut Violations) -> Vec<Meant> {
    let mut found = listed(spec, catalogue, violations);
    let mut known: BTreeSet<String> = found.iter().map(|meant| meant.name.clone()).collect();
    for (list, category, selectors) in [
        ("include", "probes.", &spec.include),
        ("exclude", "probes.", &spec.exclude),
        ("detectors", "detectors.", &spec.detectors),
        ("exclude_detectors", "detectors.", &spec.exclude_detectors),
    ] {
        for (index, selector) in selectors.iter().enumerate() {
            let name = module_of(selector.strip_prefix(category).unwrap_or(selector));
            let is_custom = wrong_name(name).is_none() && !is_garaks(name, catalogue);
            if is_custom && known.insert(name.to_owned()) {
                found.push(Meant {
                    field: format!("spec.{list}[{index}]"),
                    name: name.to_owned(),
                    version: None,
                    is_listed: false,
                });
            }
        }
    }
    found
}

fn listed(spec: &Spec, catalogue: &Catalogue, violations: &mut Violations) -> Vec<Meant> {
    const FIELD: &str = "spec.custom_probes";
    if spec.custom_probes.len() > MAX_CUSTOM_PROBES {
        let count = spec.custom_probes.len();
        let description = format!("must be at most {MAX_CUSTOM_PROBES}, are {count}");
        violations.add(FIELD, INVALID_FIELD, description);
        return Vec::new();
    }
    let mut found: Vec<Meant> = Vec::new();
    for (index, text) in spec.custom_probes.iter().enumerate() {
        let field = format!("{FIELD}[{index}]");
        let Some((name, version)) = reference(text) else {
            let description = format!("{} is no name, such as acme or acme@2", shown(text));
            violations.add(field, INVALID_FIELD, description);
            continue;
        };
        if is_garaks(name, catalogue) {
            let description = format!("{} is garak's own", shown(name));
            let hint = "select it with spec.include; custom probes have names of their own";
            violations.add_with_hint(field, "CUSTOM_PROBE_EXISTS", description, hint);
            continue;
        }
        if found.iter().any(|meant| meant.name == name) {
            let description = format!("{} is there twice", shown(name));
            violations.add(field, INVALID_FIELD, description);
            continue;
        }
        found.push(Meant {
            field,
            name: name.to_owned(),
            version,
            is_listed: true,
        });
    }
    found
}

/// "acme" or "acme@2".
fn reference(text: &str) -> Option<(&str, Option<i32>)> {
    let (name, version) = match text.split_once('@') {
        None => (text, None),
        Some((name, number)) => {
            let is_plain = number.bytes().all(|b| b.is_ascii_digit()) && !number.starts_with('0');
            (name, Some(number.parse().ok().filter(|_| is_plain)?))
        }
    };
    wrong_name(name).is_none().then_some((name, version))
}

/// Takes what may be used; the rest is violations. `found` is in the order of `meant`.
pub fn usable(
    meant: &[Meant],
    found: Vec<Option<CustomModule>>,
    violations: &mut Violations,
) -> Vec<CustomModule> {
    let mut usable = Vec::new();
    for (meant, module) in meant.iter().zip(found) {
        match module {
            Some(module) if module.standing == Standing::Valid => usable.push(module),
            Some(module) => refuse(meant, &module, violations),
            // What is not there may be a slip of the hand: the selection says so.
            None if !meant.is_listed => {}
            None => {
                let what = match meant.version {
                    None => format!("there is no custom probe {}", shown(&meant.name)),
                    Some(v) => format!("custom probe {} has no version {v}", shown(&meant.name)),
                };
                let hint = "ListCustomProbes (GET /v1/custom-probes) names those that there are";
                violations.add_with_hint(&meant.field, "CUSTOM_PROBE_NOT_FOUND", what, hint);
            }
        }
    }
    if usable.len() > MAX_CUSTOM_PROBES {
        let description = format!(
            "a scan uses at most {MAX_CUSTOM_PROBES} custom probes, this one {}",
            usable.len()
        );
        violations.add("spec.include", INVALID_FIELD, description);
    }
    usable
}

fn refuse(meant: &Meant, module: &CustomModule, violations: &mut Violations) {
    let (name, version) = (shown(&module.name), module.version);
    let (what, hint) = match module.standing {
        Standing::Checking => (
            "is not checked yet",
            "wait until a runner has tried it out: GetCustomProbe says when",
        ),
        _ => ("is not valid", "GetCustomProbe says what is wrong with it"),
    };
    let which = match meant.version {
        Some(_) => format!("version {version} of custom probe {name} {what}"),
        None => format!("custom probe {name} has no valid version: its newest, {version}, {what}"),
    };
    violations.add_with_hint(&meant.field, "CUSTOM_PROBE_NOT_VALID", which, hint);
}

/// The catalogue with these modules' classes. What garak has itself stays its own.
pub fn extended(catalogue: &Catalogue, modules: &[CustomModule]) -> Catalogue {
    let mut extended = catalogue.clone();
    for module in modules.iter().filter(|m| !is_garaks(&m.name, catalogue)) {
        extended.probes.extend(module.probes.iter().cloned());
        extended.detectors.extend(module.detectors.iter().cloned());
    }
    extended
}

fn module_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(module, _)| module)
}

#[cfg(test)]
#[path = "custom_tests.rs"]
mod tests;
