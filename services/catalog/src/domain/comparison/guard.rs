//! What makes two scans' rates comparable, and what does not. `docs/comparison.md` has the table.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::domain::{scan::Scan, secret::masked};

/// garak's default for outputs per prompt.
const DEFAULT_GENERATIONS: i64 = 5;
/// A longer value is told by its checksum.
const LONGEST_VALUE: usize = 1_000;
/// Which rows a setting concerns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Concerns {
    /// All.
    All,
    /// Those of this module's probes and detectors.
    Module(String),
}

impl Concerns {
    /// Whether a row is among them.
    pub fn row(&self, probe: &str, detector: &str) -> bool {
        match self {
            Self::All => true,
            Self::Module(module) => [probe, detector]
                .iter()
                .any(|name| name.split_once('.').is_some_and(|(of, _)| of == module)),
        }
    }
}

/// A setting that is not the same in all scans.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Its name in the specification, or of what was chosen when the scan was made.
    pub field: String,
    /// One per scan, as it is compared.
    values: Vec<Value>,
    /// Rates that differ in it are not compared.
    pub blocking: bool,
    /// Which rows.
    pub concerns: Concerns,
    /// What it means.
    pub message: &'static str,
}

impl Difference {
    /// Whether it is between these two, and their rates must not be compared.
    pub fn blocks(&self, one: usize, other: usize, probe: &str, detector: &str) -> bool {
        self.blocking
            && self.values[one] != self.values[other]
            && self.concerns.row(probe, detector)
    }

    /// The values as they are told, as JSON: bounded, and without what is secret.
    pub fn told(&self) -> Vec<String> {
        self.values.iter().map(told).collect()
    }
}

fn told(value: &Value) -> String {
    let text = masked(value).to_string();
    if text.len() <= LONGEST_VALUE {
        return text;
    }
    let sha256 = hex::encode(Sha256::digest(&text));
    json!({"sha256": sha256, "bytes": text.len()}).to_string()
}

/// What a setting is: where it is, whether it blocks, and what it means that it differs.
struct Setting {
    field: &'static str,
    blocking: bool,
    message: &'static str,
    value: fn(&Scan) -> Value,
}

const SETTINGS: [Setting; 16] = [
    Setting {
        field: "garak_version",
        blocking: true,
        message: "garak's prompts and detectors change from version to version",
        value: |scan| scan.garak_version.clone().into(),
    },
    Setting {
        field: "eval_threshold",
        blocking: true,
        message: "the same output is a hit by one threshold and none by the other",
        value: |scan| scan.effective_eval_threshold.into(),
    },
    Setting {
        field: "buffs",
        blocking: true,
        message: "buffs change the prompts",
        value: |scan| list(scan, "buffs"),
    },
    Setting {
        field: "buffs_include_original_prompt",
        blocking: true,
        message: "the prompts are not the same with and without the original ones",
        // Without buffs there are only original prompts.
        value: |scan| match list(scan, "buffs") {
            Value::Null => Value::Null,
            _ => or(spec(scan, "buffsIncludeOriginalPrompt"), false),
        },
    },
    Setting {
        field: "deprefix",
        blocking: true,
        message: "detectors see the prompt in the output of one and not of the other",
        value: |scan| or(spec(scan, "deprefix"), true),
    },
    Setting {
        field: "target.type",
        blocking: false,
        message: "another target: the difference is between the two",
        value: |scan| scan.target_type.clone().into(),
    },
    Setting {
        field: "target.name",
        blocking: false,
        message: "another target: the difference is between the two",
        value: |scan| scan.target_name.clone().into(),
    },
    Setting {
        field: "target.options",
        blocking: false,
        message: "the target was asked with other options",
        value: |scan| or(spec(scan, "target")["options"].clone(), json!({})),
    },
    Setting {
        field: "system_prompt",
        blocking: false,
        message: "the target was told something else first",
        value: |scan| or(spec(scan, "systemPrompt"), ""),
    },
    Setting {
        field: "generations",
        blocking: false,
        message: "more or fewer outputs per prompt: the test accounts for the counts",
        value: |scan| or(spec(scan, "generations"), DEFAULT_GENERATIONS),
    },
    Setting {
        field: "seed",
        blocking: false,
        message: "other random choices, of prompts too where a probe draws some",
        value: |scan| scan.effective_seed.into(),
    },
    Setting {
        field: "detectors",
        blocking: false,
        message: "rows are by detector: those of one scan only are new or gone",
        value: |scan| list(scan, "detectors"),
    },
    Setting {
        field: "exclude_detectors",
        blocking: false,
        message: "rows are by detector: those of one scan only are new or gone",
        value: |scan| list(scan, "excludeDetectors"),
    },
    Setting {
        field: "extended_detectors",
        blocking: false,
        message: "rows are by detector: those of one scan only are new or gone",
        value: |scan| or(spec(scan, "extendedDetectors"), true),
    },
    Setting {
        field: "plugin_options.buffs",
        blocking: true,
        message: "buffs with other options change the prompts in other ways",
        value: |scan| spec(scan, "pluginOptions")["buffs"].clone(),
    },
    Setting {
        field: "plugin_options.generators",
        blocking: false,
        message: "the target was asked with other options",
        value: |scan| spec(scan, "pluginOptions")["generators"].clone(),
    },
];

fn spec(scan: &Scan, name: &str) -> Value {
    scan.spec[name].clone()
}

fn or(value: Value, default: impl Into<Value>) -> Value {
    if value.is_null() {
        return default.into();
    }
    value
}

/// A list of names in any order; none is null.
fn list(scan: &Scan, name: &str) -> Value {
    let items = scan.spec[name].as_array();
    let names: BTreeSet<&str> = items
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if names.is_empty() {
        return Value::Null;
    }
    names.into_iter().collect()
}

/// Settings that are not the same in all scans.
pub fn differences(scans: &[&Scan]) -> Vec<Difference> {
    let mut found: Vec<Difference> = SETTINGS
        .iter()
        .map(|setting| Difference {
            field: setting.field.to_owned(),
            values: scans.iter().map(|scan| (setting.value)(scan)).collect(),
            blocking: setting.blocking,
            concerns: Concerns::All,
            message: setting.message,
        })
        .collect();
    for category in ["probes", "detectors"] {
        found.extend(plugin_options(scans, category));
    }
    found.extend(custom_probes(scans));
    found.retain(|difference| {
        let values = &difference.values;
        values.iter().any(|value| *value != values[0])
    });
    found
}

/// Options by module: they concern no other module's rows.
fn plugin_options<'a>(
    scans: &'a [&Scan],
    category: &'a str,
) -> impl Iterator<Item = Difference> + 'a {
    let options = move |scan: &'a Scan| &scan.spec["pluginOptions"][category];
    let modules: BTreeSet<&String> = scans
        .iter()
        .filter_map(|scan| options(scan).as_object())
        .flat_map(|modules| modules.keys())
        .collect();
    modules.into_iter().map(move |module| Difference {
        field: format!("plugin_options.{category}.{module}"),
        values: scans
            .iter()
            .map(|scan| options(scan)[module].clone())
            .collect(),
        blocking: true,
        concerns: Concerns::Module(module.clone()),
        message: "a plugin with other options asks or judges differently",
    })
}

fn custom_probes<'a>(scans: &'a [&Scan]) -> impl Iterator<Item = Difference> + 'a {
    let names: BTreeSet<&String> = scans
        .iter()
        .flat_map(|scan| scan.custom_probes.iter().map(|probe| &probe.name))
        .collect();
    names.into_iter().map(move |name| {
        let source = |scan: &&Scan| {
            let mut probes = scan.custom_probes.iter();
            let probe = probes.find(|probe| probe.name == *name);
            probe.map_or(Value::Null, |probe| probe.sha256.clone().into())
        };
        Difference {
            field: format!("custom_probes.{name}"),
            values: scans.iter().map(source).collect(),
            blocking: true,
            concerns: Concerns::Module(name.clone()),
            message: "the probe's source is not the same",
        }
    })
}
