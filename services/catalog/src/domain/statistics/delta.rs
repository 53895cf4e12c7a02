//! What changes statistics.

use super::{calendar::Day, sums::Sums};
use crate::domain::word::words;

words! {
    /// What lines are kept for.
    Dimension {
        /// Everything; its only key is empty.
        Total = "TOTAL",
        /// "dan.AntiDAN".
        Probe = "PROBE",
        /// "dan".
        Module = "MODULE",
        /// "owasp:llm01".
        Tag = "TAG",
        /// "dan.DAN".
        Detector = "DETECTOR",
    }
}

/// A target, by garak's words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The generator: "openai.OpenAICompatible".
    pub kind: String,
    /// The model or endpoint.
    pub name: String,
}

/// What a delta is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A scan that ended.
    Scan,
    /// A probe's result.
    Result {
        /// "dan.AntiDAN".
        probe: String,
        /// "dan.DAN".
        detector: String,
        /// The probe's.
        tags: Vec<String>,
    },
}

impl Subject {
    /// The lines it counts in.
    pub fn keys(&self) -> Vec<(Dimension, &str)> {
        let mut keys = vec![(Dimension::Total, "")];
        let Self::Result {
            probe,
            detector,
            tags,
        } = self
        else {
            return keys;
        };
        keys.push((Dimension::Probe, probe));
        keys.push((Dimension::Module, module(probe)));
        keys.push((Dimension::Detector, detector));
        for (index, tag) in tags.iter().enumerate() {
            if !tags[..index].contains(tag) {
                keys.push((Dimension::Tag, tag));
            }
        }
        keys
    }
}

/// "dan" of "dan.AntiDAN".
fn module(probe: &str) -> &str {
    probe.split_once('.').map_or(probe, |(module, _)| module)
}

/// One change, written in the transaction of what it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Of which target.
    pub target: Target,
    /// On which day: a result's when it was evaluated, a scan's when it ended.
    pub day: Day,
    /// About what.
    pub subject: Subject,
    /// By how much.
    pub sums: Sums,
}
