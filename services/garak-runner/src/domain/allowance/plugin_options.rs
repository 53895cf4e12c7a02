//! Options of probes, detectors and buffs.
//!
//! garak sets *any* given name as an attribute of the plugin, and some options name files, data
//! sets, or other generators (`red_team_model_type: function.Single` runs what the attacker says).
//! So only options that the plugin declares are let through, and of those none that names code or data.

use serde_json::{Map, Value};

use super::{Refusal, short};
use crate::domain::{
    catalogue::{Catalogue, PluginKind},
    plugin_name::PluginName,
};

/// An option whose name has one of these parts names a generator, a model, a file or a data set,
/// or is handed on as arguments.
const UNSAFE_PARTS: &[&str] = &[
    "_model_", "path", "file", "hf_", "dataset", "kwargs", "sources", "lexicon",
];

/// Whether an option's name alone says that it may lead out of the probe.
pub(super) fn is_unsafe(option: &str) -> bool {
    UNSAFE_PARTS.iter().any(|part| option.contains(part))
}

/// Checks `{"probes": {"dan": {"AntiDAN": {"key": value}}}}`.
pub(super) fn check(options: &Map<String, Value>, catalogue: &Catalogue) -> Result<(), Refusal> {
    for (section, modules) in options {
        let Some(kind) = PluginKind::from_section(section) else {
            return refused(format!("options of {} are not allowed", short(section)));
        };
        for (module, classes) in object(section, modules)? {
            for (class, keys) in object(module, classes)? {
                let Ok(plugin) = format!("{module}.{class}").parse::<PluginName>() else {
                    return refused(format!("{} names no plugin", short(class)));
                };
                for option in object(class, keys)?.keys() {
                    check_option(kind, &plugin, option, catalogue)?;
                }
            }
        }
    }
    Ok(())
}

fn check_option(
    kind: PluginKind,
    plugin: &PluginName,
    option: &str,
    catalogue: &Catalogue,
) -> Result<(), Refusal> {
    if !catalogue.declares(kind, plugin, option) {
        return refused(format!("{plugin} declares no option {}", short(option)));
    }
    if is_unsafe(option) {
        return refused(format!(
            "the option {} of {plugin} is not allowed",
            short(option)
        ));
    }
    Ok(())
}

fn object<'a>(name: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Refusal> {
    value.as_object().ok_or_else(|| {
        Refusal::new(
            "OPTION_NOT_ALLOWED",
            format!("{} must be an object of options per plugin", short(name)),
        )
    })
}

fn refused<T>(message: String) -> Result<T, Refusal> {
    Err(Refusal::new("OPTION_NOT_ALLOWED", message))
}
