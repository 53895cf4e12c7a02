//! A scan's specification as it was sent: nothing in it has been checked.

use serde_json::{Map, Value};

/// What to run. The fields are those of the contract's `ScanSpec`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Spec {
    /// Whom to ask.
    pub target: Target,
    /// Selectors of probes.
    pub include: Vec<String>,
    /// Selectors of probes that are taken away.
    pub exclude: Vec<String>,
    /// Prefixes of tags; a probe stays that has a tag with any of them.
    pub tags: Vec<String>,
    /// Tiers; a probe stays that is of any of them.
    pub tiers: Vec<i32>,
    /// Outputs per prompt.
    pub generations: Option<i32>,
    /// Score from which an output is a hit.
    pub eval_threshold: Option<f64>,
    /// Seed of every probe.
    pub seed: Option<i64>,
    /// Calls in flight over all tasks.
    pub max_in_flight: Option<i32>,
    /// Selectors of buffs.
    pub buffs: Vec<String>,
    /// Whether buffs keep the original prompt.
    pub buffs_include_original_prompt: bool,
    /// Selectors of detectors to run instead of each probe's own.
    pub detectors: Vec<String>,
    /// Selectors of detectors not to run.
    pub exclude_detectors: Vec<String>,
    /// Whether extended detectors run.
    pub extended_detectors: Option<bool>,
    /// Sent before each prompt.
    pub system_prompt: Option<String>,
    /// Longest run of one probe.
    pub probe_timeout: Option<Seconds>,
    /// Options of probes, detectors and buffs.
    pub plugin_options: Map<String, Value>,
    /// Custom probes to make available: "acme" or "acme@2".
    pub custom_probes: Vec<String>,
    /// Higher is leased first.
    pub priority: Option<i32>,
    /// What its runners must have.
    pub requires: Vec<String>,
}

/// The target part of a specification.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// The generator's name.
    pub generator: String,
    /// Model or endpoint.
    pub name: String,
    /// The generator's options.
    pub options: Map<String, Value>,
    /// "env:NAME", or empty.
    pub secret: String,
}

/// A duration as it came, which may be out of any range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds {
    /// Whole seconds.
    pub seconds: i64,
    /// Of a second.
    pub nanos: i32,
}
