//! Options of probes, detectors and buffs: only what a plugin declares.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::Violations;
use crate::domain::catalogue::Catalogue;

/// Most bytes of all options as JSON.
const MAX_OPTIONS: usize = 64 * 1024;

pub(super) fn check(options: &Map<String, Value>, catalogue: &Catalogue, found: &mut Violations) {
    if serde_json::to_string(options).map_or(usize::MAX, |text| text.len()) > MAX_OPTIONS {
        found.add("spec.plugin_options", "must be at most 64 KiB");
        return;
    }
    for (category, modules) in options {
        let field = format!("spec.plugin_options.{category}");
        if !matches!(category.as_str(), "probes" | "detectors" | "buffs") {
            found.add(field, "must be probes, detectors or buffs");
            continue;
        }
        each(&field, modules, found, |field, module, classes, found| {
            each(&field, classes, found, |field, class, values, found| {
                plugin(&field, category, &format!("{module}.{class}"), values, catalogue, found);
            });
        });
    }
}

fn plugin(
    field: &str,
    category: &str,
    name: &str,
    values: &Value,
    catalogue: &Catalogue,
    found: &mut Violations,
) {
    let Some(declared) = declared(category, name, catalogue) else {
        found.add(field, format!("garak {} has no {category} {name}", catalogue.garak_version));
        return;
    };
    each(field, values, found, |field, key, _, found| {
        if !declared.contains(key) {
            let keys: Vec<_> = declared.iter().map(String::as_str).collect();
            found.add_reason(
                "OPTION_NOT_ALLOWED",
                field,
                format!("{name} declares no such option"),
                &format!("{name} declares: {}", keys.join(", ")),
            );
        }
    });
}

fn declared<'a>(category: &str, name: &str, catalogue: &'a Catalogue) -> Option<&'a BTreeSet<String>> {
    match category {
        "probes" => Some(&catalogue.probes.get(name)?.option_keys),
        "detectors" => Some(&catalogue.detectors.get(name)?.option_keys),
        _ => Some(&catalogue.buffs.get(name)?.option_keys),
    }
}

fn each(
    field: &str,
    value: &Value,
    found: &mut Violations,
    mut entry: impl FnMut(String, &str, &Value, &mut Violations),
) {
    let Value::Object(object) = value else {
        found.add(field, "must be an object, nested as garak takes it: category, module, class, option");
        return;
    };
    for (key, value) in object {
        entry(format!("{field}.{key}"), key, value, found);
    }
}
