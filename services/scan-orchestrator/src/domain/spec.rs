//! A scan's specification, in garak's own words. Unset means garak's default.

use std::time::Duration;

use serde_json::{Map, Value};

/// What to run; the meaning of each field is in `aegis.scan.v1.ScanSpec`.
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs, reason = "documented in proto/aegis/scan/v1/scan.proto")]
pub struct Spec {
    pub target: Option<Target>,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub tags: Vec<String>,
    pub tiers: Vec<i32>,
    pub generations: Option<i32>,
    pub eval_threshold: Option<f64>,
    pub seed: Option<i64>,
    pub max_in_flight: Option<i32>,
    pub buffs: Vec<String>,
    pub detectors: Vec<String>,
    pub exclude_detectors: Vec<String>,
    pub extended_detectors: Option<bool>,
    pub system_prompt: Option<String>,
    pub probe_timeout: Option<Duration>,
    /// A timeout that is no duration of time: negative, or out of range.
    pub probe_timeout_is_invalid: bool,
    pub plugin_options: Map<String, Value>,
    pub custom_probes: Vec<String>,
    pub priority: Option<i32>,
}

/// What to scan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// A generator: "openai.OpenAICompatible".
    pub kind: String,
    /// Model or endpoint.
    pub name: String,
    /// Options of the generator.
    pub options: Map<String, Value>,
    /// "env:NAME", or empty.
    pub secret: String,
}

/// garak's defaults (`garak/resources/garak.core.yaml`), and ours where garak has none.
pub mod defaults {
    /// Outputs per prompt.
    pub const GENERATIONS: i32 = 5;
    /// Score from which an output is a hit.
    pub const EVAL_THRESHOLD: f64 = 0.5;
    /// Run extended detectors.
    pub const EXTENDED_DETECTORS: bool = true;
    /// Calls in flight of one scan; ours.
    pub const MAX_IN_FLIGHT: i32 = 16;
}
