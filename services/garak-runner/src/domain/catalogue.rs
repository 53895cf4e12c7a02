//! The plugin catalogue that `aegis_garak`'s survey writes, as far as a runner reads it.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::plugin_name::PluginName;

/// What this installation's garak has.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Catalogue {
    /// "0.17.1".
    #[serde(default)]
    pub garak_version: String,
    #[serde(default)]
    generators: BTreeMap<String, Plugin>,
    #[serde(default)]
    probes: BTreeMap<String, Plugin>,
    #[serde(default)]
    detectors: BTreeMap<String, Plugin>,
    #[serde(default)]
    buffs: BTreeMap<String, Plugin>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Plugin {
    #[serde(default)]
    key_env_var: Option<String>,
    #[serde(default)]
    option_keys: BTreeSet<String>,
}

/// A kind of plugin that a scan may set options of, besides its generator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginKind {
    /// garak.probes
    Probe,
    /// garak.detectors
    Detector,
    /// garak.buffs
    Buff,
}

impl PluginKind {
    /// The kind behind garak's name of a section: "probes", "detectors", "buffs".
    pub fn from_section(section: &str) -> Option<Self> {
        match section {
            "probes" => Some(Self::Probe),
            "detectors" => Some(Self::Detector),
            "buffs" => Some(Self::Buff),
            _ => None,
        }
    }
}

impl Catalogue {
    /// Reads the survey's JSON. Fields that are not known here are passed over.
    ///
    /// # Errors
    /// When it is no such JSON.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// The environment variable that a generator reads its key from.
    pub fn key_variable(&self, generator: &PluginName) -> Option<&str> {
        find(&self.generators, "generators", generator)?
            .key_env_var
            .as_deref()
            .filter(|name| !name.is_empty())
    }

    /// Whether some generator of garak's reads its key from this variable.
    pub fn is_key_variable(&self, name: &str) -> bool {
        self.generators
            .values()
            .any(|plugin| plugin.key_env_var.as_deref() == Some(name))
    }

    /// Whether a plugin declares an option; false too when there is no such plugin.
    pub fn declares(&self, kind: PluginKind, plugin: &PluginName, option: &str) -> bool {
        let (section, plugins) = match kind {
            PluginKind::Probe => ("probes", &self.probes),
            PluginKind::Detector => ("detectors", &self.detectors),
            PluginKind::Buff => ("buffs", &self.buffs),
        };
        find(plugins, section, plugin).is_some_and(|plugin| plugin.option_keys.contains(option))
    }
}

/// Plugins may be listed as garak's cache does ("probes.dan.AntiDAN") or without the section.
fn find<'a>(
    plugins: &'a BTreeMap<String, Plugin>,
    section: &str,
    name: &PluginName,
) -> Option<&'a Plugin> {
    plugins
        .get(&name.to_string())
        .or_else(|| plugins.get(&format!("{section}.{name}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_options_are_found_under_either_name() {
        let catalogue = Catalogue::parse(
            br#"{"garak_version":"0.17.1","new":1,
                "generators":{"generators.rest.RestGenerator":{"key_env_var":"REST_API_KEY"},
                              "test.Blank":{"key_env_var":null}},
                "probes":{"dan.AntiDAN":{"option_keys":["follow_prompt_cap"]}}}"#,
        )
        .unwrap();
        let name = |text: &str| text.parse::<PluginName>().unwrap();
        assert_eq!(
            catalogue.key_variable(&name("rest.RestGenerator")),
            Some("REST_API_KEY")
        );
        assert_eq!(catalogue.key_variable(&name("test.Blank")), None);
        assert!(catalogue.is_key_variable("REST_API_KEY"));
        let declares = |option| catalogue.declares(PluginKind::Probe, &name("dan.AntiDAN"), option);
        assert!(declares("follow_prompt_cap"));
        assert!(!declares("primary_detector"));
    }
}
