//! How often the store's jobs run, and what they leave.

use std::time::Duration;

use aegis_mesh::ConfigError;
use serde::{Deserialize, Serialize};

const DAY: u64 = 86_400;
/// Longest rule about a label.
const MAX_LABEL: usize = 320;
const MAX_LABELS: usize = 100;

/// The store's jobs: table `jobs`. Periods are in seconds, 10 to 2,678,400 (31 days).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobsConfig {
    /// Collects files that nothing refers to; 600.
    pub gc_period_seconds: u64,
    /// Holds rows against files; 86,400.
    pub scrub_period_seconds: u64,
    /// Deletes ended scans by the rules below; 3,600.
    pub retention_period_seconds: u64,
    /// Takes deleted scans apart once they cannot be restored any more; 3,600.
    pub purge_period_seconds: u64,
    /// Forgets requests, trials and runs; 3,600.
    pub expire_period_seconds: u64,
    /// Shortens logs; 86,400.
    pub compact_period_seconds: u64,
    /// Between marking a file and deleting it, in seconds, for those who are reading it; 0 to
    /// 604,800; 1,800.
    pub grace_seconds: u64,
    /// A source of a custom probe that nothing uses is kept for so long after it was sent last, in
    /// seconds, 0 to 31,536,000; 86,400.
    pub source_seconds: u64,
    /// A file without a row is nobody's once it is so old, in seconds, 3,600 to 31,536,000; 172,800.
    pub orphan_seconds: u64,
    /// Files that a scrub reads and holds against their SHA-256, 0 to 100,000; 200.
    pub scrub_reads: u32,
    /// It reads no more once it has read so many bytes; 10 GiB.
    pub scrub_read_bytes: u64,
    /// Runs of tasks are known for so many days after their end, 1 to 3,650; 30.
    pub run_days: u64,
    /// Logs are shortened so many days after the end of their scan, 1 to 3,650; 30.
    pub event_days: u64,
    /// Scans are deleted so many days after their end, up to 36,500; 0: never.
    pub retention_days: u64,
    /// So many ended scans of a target are kept, up to 1,000,000; 0: all.
    pub retention_per_target: u32,
    /// Scans with one of these labels are kept by both rules: `"key"` or `"key=value"`.
    pub retention_keep_labels: Vec<String>,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            gc_period_seconds: 600,
            scrub_period_seconds: DAY,
            retention_period_seconds: 3_600,
            purge_period_seconds: 3_600,
            expire_period_seconds: 3_600,
            compact_period_seconds: DAY,
            grace_seconds: 1_800,
            source_seconds: DAY,
            orphan_seconds: 2 * DAY,
            scrub_reads: 200,
            scrub_read_bytes: 10 << 30,
            run_days: 30,
            event_days: 30,
            retention_days: 0,
            retention_per_target: 0,
            retention_keep_labels: Vec::new(),
        }
    }
}

impl JobsConfig {
    /// The first value that is out of its range.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        const YEAR: u64 = 365 * DAY;
        for (key, value, low, high) in [
            ("gc_period_seconds", self.gc_period_seconds, 10, 31 * DAY),
            (
                "scrub_period_seconds",
                self.scrub_period_seconds,
                10,
                31 * DAY,
            ),
            (
                "retention_period_seconds",
                self.retention_period_seconds,
                10,
                31 * DAY,
            ),
            (
                "purge_period_seconds",
                self.purge_period_seconds,
                10,
                31 * DAY,
            ),
            (
                "expire_period_seconds",
                self.expire_period_seconds,
                10,
                31 * DAY,
            ),
            (
                "compact_period_seconds",
                self.compact_period_seconds,
                10,
                31 * DAY,
            ),
            ("grace_seconds", self.grace_seconds, 0, 7 * DAY),
            ("source_seconds", self.source_seconds, 0, YEAR),
            ("orphan_seconds", self.orphan_seconds, 3_600, YEAR),
            ("scrub_reads", self.scrub_reads.into(), 0, 100_000),
            ("scrub_read_bytes", self.scrub_read_bytes, 0, 1 << 50),
            ("run_days", self.run_days, 1, 3_650),
            ("event_days", self.event_days, 1, 3_650),
            ("retention_days", self.retention_days, 0, 36_500),
            (
                "retention_per_target",
                self.retention_per_target.into(),
                0,
                1_000_000,
            ),
        ] {
            if !(low..=high).contains(&value) {
                let message = format!("jobs.{key} must be {low} to {high}");
                return Err(ConfigError::invalid(message));
            }
        }
        let labels = &self.retention_keep_labels;
        let is_rule = |rule: &String| {
            rule.len() <= MAX_LABEL && rule.split('=').next().is_some_and(|key| !key.is_empty())
        };
        if labels.len() > MAX_LABELS || !labels.iter().all(is_rule) {
            let message =
                "jobs.retention_keep_labels must be up to 100 of \"key\" or \"key=value\"";
            return Err(ConfigError::invalid(message.to_owned()));
        }
        Ok(())
    }
}

/// So many days.
pub(crate) fn days(number: u64) -> Duration {
    Duration::from_secs(number * DAY)
}
