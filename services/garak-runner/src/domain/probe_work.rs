//! One probe's run, as a lease asks for it.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{custom_probe::CustomModule, plugin_name::PluginName};

/// Everything a run of one probe is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct ProbeWork {
    /// The probe.
    pub probe: PluginName,
    /// The detectors to run; empty means the probe's own.
    pub detectors: Vec<PluginName>,
    /// What the probe is sent to.
    pub target: Target,
    /// garak's options that the scan sets.
    pub options: ScanOptions,
    /// Calls in flight that this run may use, at least 1.
    pub max_in_flight: u32,
    /// Seed of the run, 0 to 2^32-1.
    pub seed: u32,
    /// A detector's score at or above it is a hit, 0 to 1.
    pub eval_threshold: f64,
    /// How long the target may stay without one good answer.
    pub patience: Duration,
    /// Longest run time.
    pub timeout: Duration,
    /// The scan's custom modules; see [`Self::modules`].
    pub custom_probes: Vec<CustomModule>,
}

impl ProbeWork {
    /// The modules that garak is to have in this run. A probe of garak's own gets none, unless a
    /// detector of one is asked for: other people's code has no business there.
    pub fn modules(&self) -> &[CustomModule] {
        let mut used = std::iter::once(&self.probe).chain(&self.detectors);
        let is_custom = |module: &str| self.custom_probes.iter().any(|c| c.name() == module);
        // All of them: a module's probe may name another module's detector.
        if used.any(|plugin| is_custom(plugin.module())) {
            return &self.custom_probes;
        }
        &[]
    }
}

/// A garak generator and what it talks to.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// The generator, such as "openai.OpenAICompatible".
    pub generator: PluginName,
    /// Model or endpoint; garak's `target_name`.
    pub name: String,
    /// The generator's options.
    pub options: Map<String, Value>,
    /// Name of the environment variable that holds the key, without "env:".
    pub secret: Option<String>,
}

/// The scan's options beyond target and probe. Unset leaves garak's default.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScanOptions {
    /// Outputs per prompt.
    pub generations: Option<u32>,
    /// "buffs.lowercase" or "buffs.lowercase.Lowercase".
    pub buffs: Vec<String>,
    /// Send the unbuffed prompt too.
    pub buffs_include_original_prompt: Option<bool>,
    /// Run the probe's extended detectors too.
    pub extended_detectors: Option<bool>,
    /// Take the prompt off the front of an output.
    pub deprefix: Option<bool>,
    /// Sent to the target before each prompt.
    pub system_prompt: Option<String>,
    /// Options of probes, detectors and buffs, nested as garak takes them.
    pub plugin_options: Map<String, Value>,
}

/// Why work is not done here: a permanent failure of its task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// UPPER_SNAKE.
    pub reason: &'static str,
    /// Our own words; names may be in it, values never.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(probe: &str, detectors: &[&str]) -> ProbeWork {
        let module = |name| CustomModule::new(name, &"0a".repeat(32)).unwrap();
        ProbeWork {
            probe: probe.parse().unwrap(),
            detectors: detectors.iter().map(|name| name.parse().unwrap()).collect(),
            target: Target {
                generator: "test.Blank".parse().unwrap(),
                name: String::new(),
                options: Map::new(),
                secret: None,
            },
            options: ScanOptions::default(),
            max_in_flight: 1,
            seed: 0,
            eval_threshold: 0.5,
            patience: Duration::ZERO,
            timeout: Duration::ZERO,
            custom_probes: vec![module("acme_leak"), module("acme_other")],
        }
    }

    #[test]
    fn a_run_gets_custom_modules_when_it_may_need_one() {
        for (probe, detectors, modules) in [
            ("dan.AntiDAN", &[][..], 0),
            ("dan.AntiDAN", &["mitigation.MitigationBypass"], 0),
            ("dan.AntiDAN", &["acme_leak.CodeWord"], 2),
            ("acme_other.Leak", &[], 2),
        ] {
            assert_eq!(work(probe, detectors).modules().len(), modules, "{probe}");
        }
    }
}
