//! The orchestrator's configuration.

pub(crate) mod jobs;

use std::{net::SocketAddr, time::Duration};

use aegis_mesh::{ClientConfig, ConfigError, Secret, ServerConfig, ServiceConfig, TelemetryConfig};
use serde::{Deserialize, Serialize};

pub use self::jobs::JobsConfig;

/// A plugin catalogue has up to 8 MiB, and a message around it.
const MESSAGE_BYTES: usize = 9 * 1024 * 1024;

/// Configuration of the scan orchestrator; environment prefix `AEGIS_SCAN_ORCHESTRATOR__`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How it listens; `127.0.0.1:7101`.
    pub server: ServerConfig,
    /// The catalog, which keeps everything.
    pub catalog: ClientConfig,
    /// The artifact service, which has the sources of custom probes.
    pub artifact: ClientConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// How long a lease holds without a report, in seconds, 3 to 3600; 60.
    pub lease_seconds: u64,
    /// How long a target may stay without one good answer before a run gives up, in seconds,
    /// 1 to 3600; 20.
    pub target_patience_seconds: u64,
    /// How long the check of a custom probe may take, in seconds, 1 to 600; 60.
    pub check_timeout_seconds: u64,
    /// Calls in flight to one target over all scans, 1 to 10,000; 64.
    pub lane_max_in_flight: i32,
    /// Runs of one task that may fail before it is given up, 1 to 100; 3.
    pub max_failures: i32,
    /// Pause before a task's first retry, in seconds, doubled for each further failure; 0 to
    /// 3600; 2.
    pub backoff_seconds: u64,
    /// The longest such pause, in seconds, 1 to 86,400; 300.
    pub max_backoff_seconds: u64,
    /// How long a lane rests when its target pushes back and names no time, in seconds; 1 to
    /// 3600; 5.
    pub lane_pause_seconds: u64,
    /// Scans whose probes run at once, 0 to 100,000; 5. The others wait in the queue; 0 is no limit.
    pub max_running_scans: i32,
    /// A target that pushes back for longer and never answered has its tasks given up, in seconds;
    /// 0 to 86,400; 60.
    pub max_backpressure_seconds: u64,
    /// The same for a target that has answered before, in seconds; 0 to 604,800; 3600.
    pub max_outage_seconds: u64,
    /// How often leases that ran out are ended, in seconds, 1 to 600; 5.
    pub reaper_period_seconds: u64,
    /// The jobs that keep the store in order.
    pub jobs: JobsConfig,
    /// Silence on a watch after which a heartbeat is sent, in seconds, 1 to 300; 15.
    pub heartbeat_seconds: u64,
    /// Signs page tokens; all replicas need the same. Unset: one of its own, and tokens end with
    /// the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token_secret: Option<Secret>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig {
                max_message_bytes: MESSAGE_BYTES,
                ..ServerConfig::on_port(7101)
            },
            catalog: ClientConfig {
                max_message_bytes: MESSAGE_BYTES,
                ..ClientConfig::at("http://127.0.0.1:7103")
            },
            artifact: ClientConfig::at("http://127.0.0.1:7104"),
            telemetry: TelemetryConfig::default(),
            lease_seconds: 60,
            target_patience_seconds: 20,
            check_timeout_seconds: 60,
            lane_max_in_flight: 64,
            max_failures: 3,
            backoff_seconds: 2,
            max_backoff_seconds: 300,
            lane_pause_seconds: 5,
            max_running_scans: 5,
            max_backpressure_seconds: 60,
            max_outage_seconds: 3600,
            reaper_period_seconds: 5,
            jobs: JobsConfig::default(),
            heartbeat_seconds: 15,
            page_token_secret: None,
        }
    }
}

impl ServiceConfig for Config {
    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn listen(&self) -> SocketAddr {
        self.server.listen
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate()?;
        self.catalog.validate("catalog")?;
        self.artifact.validate("artifact")?;
        self.validate_own()
    }
}

impl Config {
    /// Checks what is its own, without listener and addresses, which are not used in one process.
    ///
    /// # Errors
    /// The first value that is out of its range.
    pub fn validate_own(&self) -> Result<(), ConfigError> {
        let positive = |n: i32| u64::try_from(n).unwrap_or_default();
        for (key, value, low, high) in [
            ("lease_seconds", self.lease_seconds, 3, 3600),
            (
                "target_patience_seconds",
                self.target_patience_seconds,
                1,
                3600,
            ),
            ("check_timeout_seconds", self.check_timeout_seconds, 1, 600),
            (
                "lane_max_in_flight",
                positive(self.lane_max_in_flight),
                1,
                10_000,
            ),
            ("max_failures", positive(self.max_failures), 1, 100),
            ("backoff_seconds", self.backoff_seconds, 0, 3600),
            ("max_backoff_seconds", self.max_backoff_seconds, 1, 86_400),
            ("lane_pause_seconds", self.lane_pause_seconds, 1, 3600),
            (
                "max_backpressure_seconds",
                self.max_backpressure_seconds,
                0,
                86_400,
            ),
            (
                "max_running_scans",
                u64::try_from(self.max_running_scans).unwrap_or(u64::MAX),
                0,
                100_000,
            ),
            ("max_outage_seconds", self.max_outage_seconds, 0, 604_800),
            ("reaper_period_seconds", self.reaper_period_seconds, 1, 600),
            ("heartbeat_seconds", self.heartbeat_seconds, 1, 300),
        ] {
            if !(low..=high).contains(&value) {
                let message = format!("{key} must be {low} to {high}");
                return Err(ConfigError::invalid(message));
            }
        }
        self.jobs.validate()
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_secs(self.heartbeat_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_round_trip() {
        let config = Config::default();
        config.validate().unwrap();
        let text = aegis_mesh::config::dump(&config).unwrap();
        let again: Config = toml::from_str(&text).unwrap();
        assert_eq!(aegis_mesh::config::dump(&again).unwrap(), text);
    }

    #[test]
    fn values_out_of_range_are_refused_by_name() {
        type Change = fn(&mut Config);
        let changes: [(&str, Change); 7] = [
            ("check_timeout_seconds", |c| c.check_timeout_seconds = 601),
            ("lease_seconds", |c| c.lease_seconds = 2),
            ("lane_max_in_flight", |c| c.lane_max_in_flight = -1),
            ("max_backoff_seconds", |c| c.max_backoff_seconds = 0),
            ("reaper_period_seconds", |c| c.reaper_period_seconds = 0),
            ("jobs.gc_period_seconds", |c| c.jobs.gc_period_seconds = 9),
            ("jobs.retention_keep_labels", |c| {
                c.jobs.retention_keep_labels = vec!["=x".to_owned()];
            }),
        ];
        for (key, change) in changes {
            let mut config = Config::default();
            change(&mut config);
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(toml::from_str::<Config>("lease = 3").is_err());
    }
}
