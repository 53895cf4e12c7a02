//! What a runner's garak has, as `aegis_garak`'s survey wrote it down, and what the runner allows.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Plugins by name without their category ("dan.AntiDAN"), in garak's own order, which is by name
/// (`garak/_selection.py`).
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Catalogue {
    /// "0.17.1".
    pub garak_version: String,
    /// What can be probed.
    pub probes: BTreeMap<String, Probe>,
    /// What judges outputs.
    pub detectors: BTreeMap<String, Detector>,
    /// What can be a target.
    pub generators: BTreeMap<String, Generator>,
    /// What changes prompts.
    pub buffs: BTreeMap<String, Buff>,
}

/// Why something does not work in this installation.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// UPPER_SNAKE.
    pub reason: String,
    /// In words.
    pub message: String,
}

/// One probe.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// First line of its docstring.
    pub description: Option<String>,
    /// What it tries to make the target do.
    pub goal: Option<String>,
    /// Part of its module and of "all".
    pub active: bool,
    /// garak's tier; 9 is unlisted.
    pub tier: Option<i32>,
    /// "owasp:llm01", …
    pub tags: Vec<String>,
    /// BCP 47.
    pub lang: Option<String>,
    /// Its own detector.
    pub primary_detector: Option<String>,
    /// Further ones, which run when `extended_detectors` is on.
    pub extended_detectors: Vec<String>,
    /// Of both, those that do not work here.
    pub unavailable_detectors: Vec<String>,
    /// Prompts, with garak's default cap.
    pub prompts: Option<i64>,
    /// Options that it declares.
    pub option_keys: BTreeSet<String>,
    /// Set when nothing of it can be evaluated here.
    pub not_evaluable: Option<Problem>,
}

/// One detector.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Detector {
    /// First line of its docstring.
    pub description: Option<String>,
    /// As garak has it.
    pub active: bool,
    /// As garak has them.
    pub tags: Vec<String>,
    /// BCP 47, or "*".
    pub lang_spec: Option<String>,
    /// Options that it declares.
    pub option_keys: BTreeSet<String>,
    /// Set when it does not load here.
    pub not_loadable: Option<Problem>,
}

/// One generator.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Generator {
    /// First line of its docstring.
    pub description: Option<String>,
    /// Environment variable that it reads its key from.
    pub key_env_var: Option<String>,
    /// Set when it does not load here.
    pub not_loadable: Option<Problem>,
}

/// One buff.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Buff {
    /// First line of its docstring.
    pub description: Option<String>,
    /// As garak has it.
    pub active: bool,
    /// BCP 47.
    pub lang: Option<String>,
    /// Options that it declares.
    pub option_keys: BTreeSet<String>,
    /// Set when it does not load here.
    pub not_loadable: Option<Problem>,
}

/// A runner's allow-list.
#[derive(Debug, Clone, Default)]
pub struct Allowance {
    /// Generators, each with the options that a scan may set.
    pub generators: BTreeMap<String, BTreeSet<String>>,
    /// Environment variables that `target.secret` may name.
    pub secrets: BTreeSet<String>,
}

impl Catalogue {
    /// Reads a survey's JSON. Fields that are not known here are passed over.
    ///
    /// # Errors
    /// When it is no survey.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// Names of the modules that have probes.
    pub fn probe_modules(&self) -> BTreeSet<&str> {
        self.probes.keys().filter_map(|name| module(name)).collect()
    }
}

impl Probe {
    /// The detectors that a run of it uses, in garak's order: its own, then the extended ones.
    pub fn detectors(&self, extended: bool) -> Vec<&str> {
        let primary = self.primary_detector.iter();
        let extended = self.extended_detectors.iter().filter(|_| extended);
        let mut names = Vec::new();
        for name in primary.chain(extended) {
            if !names.contains(&name.as_str()) {
                names.push(name.as_str());
            }
        }
        names
    }
}

/// The module of a plugin's name: "dan" of "dan.AntiDAN".
pub fn module(name: &str) -> Option<&str> {
    Some(name.split_once('.')?.0)
}

/// A name without garak's category in front: "dan.AntiDAN" of "probes.dan.AntiDAN".
pub fn without_category<'a>(category: &str, name: &'a str) -> &'a str {
    name.strip_prefix(category)
        .and_then(|rest| rest.strip_prefix('.'))
        .unwrap_or(name)
}
