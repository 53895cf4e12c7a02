//! The plugin catalogue: what an installation's garak has, as `aegis_garak`'s survey writes it.
//! Fields that are not known here are passed over.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer};

/// garak's `Tier.UNLISTED`, that of probes which declare none (garak/_selection.py).
const UNLISTED: i32 = 9;

/// Everything, by name without its category ("dan.AntiDAN"). The order is garak's own: it sorts
/// probes by name before it runs them (garak/harnesses/probewise.py).
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Catalogue {
    /// "0.17.1".
    pub garak_version: String,
    /// The probes.
    #[serde(deserialize_with = "plugins")]
    pub probes: BTreeMap<String, Probe>,
    /// The detectors.
    #[serde(deserialize_with = "plugins")]
    pub detectors: BTreeMap<String, Detector>,
    /// The generators.
    #[serde(deserialize_with = "plugins")]
    pub generators: BTreeMap<String, Generator>,
    /// The buffs.
    #[serde(deserialize_with = "plugins")]
    pub buffs: BTreeMap<String, Buff>,
    /// What the installation has beside garak that a scan may require: "torch", "gpu".
    #[serde(default)]
    pub capabilities: BTreeSet<String>,
}

/// A probe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// The first line of its docstring.
    #[serde(deserialize_with = "or_default")]
    pub description: String,
    /// What it tries to make the target do.
    #[serde(deserialize_with = "or_default")]
    pub goal: String,
    /// Whether it is part of its module and of "all".
    #[serde(deserialize_with = "or_default")]
    pub active: bool,
    /// garak's tier; `None` is unlisted.
    pub tier: Option<i32>,
    /// Tags such as "owasp:llm01".
    #[serde(deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// BCP 47.
    #[serde(deserialize_with = "or_default")]
    pub lang: String,
    /// Runs first.
    pub primary_detector: Option<String>,
    /// Run after it, unless the scan says otherwise.
    #[serde(deserialize_with = "or_default")]
    pub extended_detectors: Vec<String>,
    /// With garak's default prompt cap; `None` where it does not load.
    pub prompts: Option<i64>,
    /// Options that it declares.
    #[serde(deserialize_with = "or_default")]
    pub option_keys: BTreeSet<String>,
    /// Why it cannot be evaluated here.
    pub not_evaluable: Option<Problem>,
    /// Those of its detectors that do not work here.
    #[serde(deserialize_with = "or_default")]
    pub unavailable_detectors: Vec<String>,
    /// Of the custom probe that it is of; `None` for garak's own.
    #[serde(skip)]
    pub custom_version: Option<i32>,
}

/// A detector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Detector {
    /// The first line of its docstring.
    #[serde(deserialize_with = "or_default")]
    pub description: String,
    /// Whether it is part of its module.
    #[serde(deserialize_with = "or_default")]
    pub active: bool,
    /// Tags.
    #[serde(deserialize_with = "or_default")]
    pub tags: Vec<String>,
    /// Languages it understands, "*" for all.
    #[serde(deserialize_with = "or_default")]
    pub lang_spec: String,
    /// Options that it declares.
    #[serde(deserialize_with = "or_default")]
    pub option_keys: BTreeSet<String>,
    /// Why it does not load here.
    pub not_loadable: Option<Problem>,
    /// Of the custom probe that it is of; `None` for garak's own.
    #[serde(skip)]
    pub custom_version: Option<i32>,
}

/// A generator: what asks the target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Generator {
    /// The first line of its docstring.
    #[serde(deserialize_with = "or_default")]
    pub description: String,
    /// The environment variable that garak reads its key from.
    pub key_env_var: Option<String>,
    /// Options that it declares.
    #[serde(deserialize_with = "or_default")]
    pub option_keys: BTreeSet<String>,
    /// Why it does not load here.
    pub not_loadable: Option<Problem>,
}

/// A buff: it changes prompts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Buff {
    /// The first line of its docstring.
    #[serde(deserialize_with = "or_default")]
    pub description: String,
    /// Whether it is part of its module.
    #[serde(deserialize_with = "or_default")]
    pub active: bool,
    /// BCP 47.
    #[serde(deserialize_with = "or_default")]
    pub lang: String,
    /// Options that it declares.
    #[serde(deserialize_with = "or_default")]
    pub option_keys: BTreeSet<String>,
    /// Why it does not load here.
    pub not_loadable: Option<Problem>,
}

/// Why something does not work here.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// UPPER_SNAKE.
    pub reason: String,
    /// What it means.
    pub message: String,
}

/// Bytes that are no plugin catalogue.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// Not the JSON of a survey.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// It names no probe, or no garak version.
    #[error("it names no {0}")]
    Empty(&'static str),
}

impl Catalogue {
    /// Reads a survey's JSON.
    ///
    /// # Errors
    /// [`CatalogueError`] when it is none, or an empty one.
    pub fn parse(json: &[u8]) -> Result<Self, CatalogueError> {
        let catalogue: Self = serde_json::from_slice(json)?;
        if catalogue.garak_version.is_empty() {
            return Err(CatalogueError::Empty("garak version"));
        }
        if catalogue.probes.is_empty() {
            return Err(CatalogueError::Empty("probe"));
        }
        Ok(catalogue)
    }

    /// Whether some generator reads its key from this variable.
    pub fn is_key_variable(&self, name: &str) -> bool {
        self.generators
            .values()
            .any(|generator| generator.key_env_var.as_deref() == Some(name))
    }
}

impl Probe {
    /// The tier as garak counts it.
    pub fn tier(&self) -> i32 {
        self.tier.unwrap_or(UNLISTED)
    }
}

/// What selectors need to know of a plugin.
pub trait Plugin {
    /// Whether it is part of its module and of "all".
    fn is_active(&self) -> bool;
}

macro_rules! plugin {
    ($($kind:ty),*) => {
        $(impl Plugin for $kind {
            fn is_active(&self) -> bool {
                self.active
            }
        })*
    };
}

plugin!(Probe, Detector, Buff);

/// By name without category, whichever way the survey has it.
fn plugins<'de, D, P>(deserializer: D) -> Result<BTreeMap<String, P>, D::Error>
where
    D: Deserializer<'de>,
    P: Deserialize<'de>,
{
    const CATEGORIES: [&str; 4] = ["probes.", "detectors.", "generators.", "buffs."];
    let listed = BTreeMap::<String, P>::deserialize(deserializer)?;
    Ok(listed
        .into_iter()
        .map(|(name, plugin)| {
            let bare = CATEGORIES.iter().find_map(|c| name.strip_prefix(c));
            (bare.unwrap_or(&name).to_owned(), plugin)
        })
        .collect())
}

/// Python's `None` is the default.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_and_nulls_are_taken() {
        let json = br#"{"garak_version": "0.17.1", "format": 9, "detectors": {}, "generators": {}, "buffs": {},
            "probes": {"probes.dan.X": {"lang": null, "tags": null, "tier": null, "new": [1], "prompts": null}}}"#;
        let catalogue = Catalogue::parse(json).unwrap();
        let probe = &catalogue.probes["dan.X"];
        assert_eq!(
            (probe.tier(), probe.lang.as_str(), probe.prompts),
            (9, "", None)
        );
    }

    #[test]
    fn what_is_no_survey_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"garak_version": "1", "probes": {}, "detectors": {}, "generators": {}, "buffs": {}}"#,
            r#"{"garak_version": "", "probes": {"a.B": {}}, "detectors": {}, "generators": {}, "buffs": {}}"#,
        ] {
            assert!(Catalogue::parse(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
