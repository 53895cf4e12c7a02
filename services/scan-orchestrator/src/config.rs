//! The orchestrator's configuration.

use std::time::Duration;

use aegis_mesh::{ClientConfig, ConfigError, ServerConfig, ServiceConfig, TelemetryConfig};
use aegis_proto::internal::catalog::v1::RetryPolicy;
use serde::{Deserialize, Serialize};

use crate::grpc::to_duration;

/// Configuration of scan-orchestrator; environment prefix `AEGIS_SCAN_ORCHESTRATOR__`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens.
    pub server: ServerConfig,
    /// The catalog.
    pub catalog: ClientConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// How long a lease holds without a report, 3 to 3600.
    pub lease_seconds: u64,
    /// How often leases that have run out are looked for, 1 to 600.
    pub reaper_period_seconds: u64,
    /// Runs of one task that may fail before it is given up, 1 to 100.
    pub max_failures: i32,
    /// Before the first retry; doubled for each further one. 0 to 3600.
    pub backoff_seconds: u64,
    /// Longest pause before a retry, 1 to 86400.
    pub max_backoff_seconds: u64,
    /// Calls in flight to one target over all scans, 1 to 10000.
    pub lane_max_in_flight: i32,
    /// How long a target rests that pushed back and named no time itself, 1 to 3600.
    pub lane_pause_seconds: u64,
    /// How long a target may push back before its tasks are given up, 0 to 86400.
    pub max_backpressure_seconds: u64,
    /// How long one run of a probe waits for a good answer before it gives the task back, 1 to 3600.
    pub target_patience_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_port(7101),
            catalog: ClientConfig::at("http://127.0.0.1:7103"),
            telemetry: TelemetryConfig::default(),
            lease_seconds: 60,
            reaper_period_seconds: 5,
            max_failures: 3,
            backoff_seconds: 2,
            max_backoff_seconds: 300,
            lane_max_in_flight: 64,
            lane_pause_seconds: 5,
            max_backpressure_seconds: 60,
            target_patience_seconds: 20,
        }
    }
}

impl ServiceConfig for Config {
    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate()?;
        self.catalog.validate("catalog")?;
        self.validate_own()
    }
}

impl Config {
    /// The checks of what is the orchestrator's own.
    ///
    /// # Errors
    /// Naming the first field that is out of range.
    pub fn validate_own(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("lease_seconds", self.lease_seconds, 3..=3600),
            ("reaper_period_seconds", self.reaper_period_seconds, 1..=600),
            ("backoff_seconds", self.backoff_seconds, 0..=3600),
            ("max_backoff_seconds", self.max_backoff_seconds, 1..=86400),
            ("lane_pause_seconds", self.lane_pause_seconds, 1..=3600),
            ("max_backpressure_seconds", self.max_backpressure_seconds, 0..=86400),
            ("target_patience_seconds", self.target_patience_seconds, 1..=3600),
            ("max_failures", u64::try_from(self.max_failures).unwrap_or(0), 1..=100),
            ("lane_max_in_flight", u64::try_from(self.lane_max_in_flight).unwrap_or(0), 1..=10_000),
        ];
        for (field, value, range) in ranges {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                return Err(ConfigError::invalid(format!(
                    "{field} is {value}; it must be {least} to {most}"
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    pub(crate) fn reaper_period(&self) -> Duration {
        Duration::from_secs(self.reaper_period_seconds)
    }

    pub(crate) fn target_patience(&self) -> Duration {
        Duration::from_secs(self.target_patience_seconds)
    }

    pub(crate) fn retry_policy(&self) -> RetryPolicy {
        let seconds = |seconds| to_duration(Duration::from_secs(seconds));
        RetryPolicy {
            backoff: seconds(self.backoff_seconds),
            max_backoff: seconds(self.max_backoff_seconds),
            lane_pause: seconds(self.lane_pause_seconds),
            max_backpressure: seconds(self.max_backpressure_seconds),
        }
    }
}
