//! Options of probes, detectors and buffs. garak sets *any* given name as an attribute of the
//! plugin, so only what the plugin declares is let through, and nothing that names code or data.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::{
    catalogue::Catalogue,
    credential::find_credential,
    names::nearest,
    violation::{INVALID_FIELD, Violations, shown},
};

/// An option whose name has one of these parts names a generator, a model, a file or a data set,
/// or is handed on as arguments: it may lead out of the plugin, so it is refused. The runner
/// judges by the same list.
const UNSAFE_PARTS: &[&str] = &[
    "_model_", "path", "file", "hf_", "dataset", "kwargs", "sources", "lexicon",
];

const ROOT: &str = "spec.plugin_options";

/// Checks `{"probes": {"dan": {"AntiDAN": {"key": value}}}}`.
pub fn check(options: &Map<String, Value>, catalogue: &Catalogue, violations: &mut Violations) {
    for (category, modules) in options {
        let field = format!("{ROOT}.{category}");
        let Some(declared) = declared(category, catalogue) else {
            violations.add_with_hint(
                field,
                "OPTION_NOT_ALLOWED",
                format!("{} take no options here", shown(category)),
                "probes, detectors and buffs do; the generator's are spec.target.options",
            );
            continue;
        };
        for (module, classes) in object(&field, modules, violations) {
            let field = format!("{field}.{module}");
            for (class, keys) in object(&field, classes, violations) {
                let plugin = format!("{module}.{class}");
                let field = format!("{field}.{class}");
                match declared.get(plugin.as_str()) {
                    Some(declared) => {
                        for (key, value) in object(&field, keys, violations) {
                            option(&format!("{field}.{key}"), key, value, declared, violations);
                        }
                    }
                    None => unknown(&field, &plugin, declared.keys().copied(), violations),
                }
            }
        }
    }
}

/// The options that each plugin of a category declares.
fn declared<'a>(
    category: &str,
    catalogue: &'a Catalogue,
) -> Option<BTreeMap<&'a str, &'a BTreeSet<String>>> {
    macro_rules! keys {
        ($plugins:ident) => {
            catalogue
                .$plugins
                .iter()
                .map(|(name, plugin)| (name.as_str(), &plugin.option_keys))
                .collect()
        };
    }
    match category {
        "probes" => Some(keys!(probes)),
        "detectors" => Some(keys!(detectors)),
        "buffs" => Some(keys!(buffs)),
        _ => None,
    }
}

fn option(
    field: &str,
    key: &str,
    value: &Value,
    declared: &BTreeSet<String>,
    violations: &mut Violations,
) {
    if !declared.contains(key) {
        let description = format!("{} is no option of this plugin", shown(key));
        let near = nearest(key, declared.iter().map(String::as_str));
        return match near.first() {
            Some(near) => violations.add_with_hint(
                field,
                INVALID_FIELD,
                description,
                format!("did you mean {near}?"),
            ),
            None => violations.add(field, INVALID_FIELD, description),
        };
    }
    if UNSAFE_PARTS.iter().any(|part| key.contains(part)) {
        let description = "names code or data, which a scan may not choose";
        return violations.add(field, "OPTION_NOT_ALLOWED", description);
    }
    if let Some(path) = find_credential(field, key, value) {
        let description = "looks like a credential, and a specification is stored and shown";
        violations.add(path, "OPTION_NOT_ALLOWED", description);
    }
}

fn unknown<'a>(
    field: &str,
    plugin: &str,
    names: impl Iterator<Item = &'a str>,
    violations: &mut Violations,
) {
    let description = format!("{} is no plugin here", shown(plugin));
    match nearest(plugin, names).first() {
        Some(near) => violations.add_with_hint(
            field,
            INVALID_FIELD,
            description,
            format!("did you mean {near}?"),
        ),
        None => violations.add(field, INVALID_FIELD, description),
    }
}

fn object<'a>(
    field: &str,
    value: &'a Value,
    violations: &mut Violations,
) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
    if !value.is_object() {
        let description = "must be nested as {\"module\": {\"Class\": {\"option\": value}}}";
        violations.add(field, INVALID_FIELD, description);
    }
    value.as_object().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::catalogue::{Detector, Probe};
    use serde_json::json;

    /// (field, reason) of what is wrong.
    fn wrong(options: Value) -> Option<(String, String)> {
        let keys = ["follow_prompt_cap", "red_team_model_type", "payload_name"];
        let option_keys: BTreeSet<String> = keys.iter().map(|k| (*k).to_owned()).collect();
        let probe = Probe {
            option_keys: option_keys.clone(),
            ..Probe::default()
        };
        let detector = Detector {
            option_keys,
            ..Detector::default()
        };
        let catalogue = Catalogue {
            probes: [("dan.X".to_owned(), probe)].into(),
            detectors: [("dan.X".to_owned(), detector)].into(),
            ..Catalogue::default()
        };
        let mut violations = Violations::new();
        check(options.as_object().unwrap(), &catalogue, &mut violations);
        let error = violations.into_result().err()?;
        Some((error.fields()[0].path.clone(), error.reason().to_owned()))
    }

    #[test]
    fn what_a_plugin_declares_is_taken() {
        assert_eq!(
            wrong(json!({"probes": {"dan": {"X": {"follow_prompt_cap": false}}}})),
            None
        );
        assert_eq!(
            wrong(json!({"detectors": {"dan": {"X": {"payload_name": "x"}}}})),
            None
        );
    }

    #[test]
    fn everything_else_is_refused_at_its_place() {
        for (options, path, reason) in [
            (
                json!({"generators": {}}),
                "generators",
                "OPTION_NOT_ALLOWED",
            ),
            (json!({"harnesses": {}}), "harnesses", "OPTION_NOT_ALLOWED"),
            (json!({"probes": 1}), "probes", "INVALID_FIELD"),
            (
                json!({"probes": {"dan": {"Y": {}}}}),
                "probes.dan.Y",
                "INVALID_FIELD",
            ),
            (
                json!({"probes": {"dan": {"X": {"folow": 1}}}}),
                "probes.dan.X.folow",
                "INVALID_FIELD",
            ),
            (
                json!({"probes": {"dan": {"X": {"prompts": []}}}}),
                "probes.dan.X.prompts",
                "INVALID_FIELD",
            ),
            (
                json!({"probes": {"dan": {"X": {"red_team_model_type": "function.Single"}}}}),
                "probes.dan.X.red_team_model_type",
                "OPTION_NOT_ALLOWED",
            ),
            (
                json!({"probes": {"dan": {"X": {"payload_name": {"token": "x"}}}}}),
                "probes.dan.X.payload_name.token",
                "OPTION_NOT_ALLOWED",
            ),
        ] {
            assert_eq!(
                wrong(options),
                Some((format!("{ROOT}.{path}"), reason.to_owned()))
            );
        }
    }
}
