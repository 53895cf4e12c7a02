//! The gateway's configuration.

use std::net::SocketAddr;

use aegis_mesh::{ClientConfig, ConfigError, Secret, ServiceConfig, TelemetryConfig};
use serde::{Deserialize, Serialize};

/// Configuration of the gateway; environment prefix `AEGIS_GATEWAY__`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens, for HTTP/1.1 and HTTP/2 without TLS. Loopback by default: whoever reaches a
    /// listener without `api_token` may do everything. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// What clients must show as `authorization: Bearer`. Demanded off loopback.
    pub api_token: Option<Secret>,
    /// What opens `GET /v1/admin/queue` and nothing else: for what decides how many runners there
    /// are. Unset: only `api_token` does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_token: Option<Secret>,
    /// Host names, without port, that it answers to besides localhost and its address. Off loopback
    /// none means any.
    pub allowed_hosts: Vec<String>,
    /// scan-orchestrator.
    pub orchestrator: ClientConfig,
    /// catalog.
    pub catalog: ClientConfig,
    /// artifact.
    pub artifact: ClientConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// For a request's body, a unary call and the first message of a stream, 1 to 600.
    pub unary_deadline_seconds: u64,
    /// The largest body of a JSON request, 1024 to 4194304 (what the mesh takes).
    pub max_body_bytes: u64,
    /// Connections at once, 1 to 65536; further ones wait.
    pub max_connections: usize,
    /// Requests at once, streams and downloads included, 1 to 65536; further ones get 503.
    pub max_requests: usize,
    /// For a request's headers to arrive, 1 to 300.
    pub header_timeout_seconds: u64,
    /// How long a client may leave its connection full before it is cut, 1 to 3600.
    pub write_timeout_seconds: u64,
    /// How long requests under way may go on after a shutdown began, 0 to 300.
    pub shutdown_grace_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            api_token: None,
            queue_token: None,
            allowed_hosts: Vec::new(),
            orchestrator: ClientConfig::at("http://127.0.0.1:7101"),
            catalog: ClientConfig::at("http://127.0.0.1:7103"),
            artifact: ClientConfig::at("http://127.0.0.1:7104"),
            telemetry: TelemetryConfig::default(),
            unary_deadline_seconds: 30,
            max_body_bytes: 4 << 20,
            max_connections: 4096,
            max_requests: 1024,
            header_timeout_seconds: 10,
            write_timeout_seconds: 60,
            shutdown_grace_seconds: 10,
        }
    }
}

impl ServiceConfig for Config {
    fn telemetry(&self) -> &TelemetryConfig {
        &self.telemetry
    }

    fn listen(&self) -> SocketAddr {
        self.listen
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.orchestrator.validate("orchestrator")?;
        self.catalog.validate("catalog")?;
        self.artifact.validate("artifact")?;
        self.validate_own()
    }
}

impl Config {
    /// The checks of what is the gateway's own.
    ///
    /// # Errors
    /// Naming the first field that is out of range, and a listener that others reach without a token.
    pub fn validate_own(&self) -> Result<(), ConfigError> {
        if !self.listen.ip().is_loopback() && self.api_token.is_none() {
            return Err(ConfigError::invalid(format!(
                "listen is {}, which others can reach: set api_token, or listen on 127.0.0.1",
                self.listen
            )));
        }
        if self
            .api_token
            .as_ref()
            .is_some_and(|token| token.expose().is_empty())
        {
            return Err(ConfigError::invalid("api_token is empty"));
        }
        if let (Some(api), Some(queue)) = (&self.api_token, &self.queue_token)
            && api.expose() == queue.expose()
        {
            let text = "queue_token is api_token: it would open everything";
            return Err(ConfigError::invalid(text));
        }
        let ranges = [
            (
                "unary_deadline_seconds",
                self.unary_deadline_seconds,
                1..=600,
            ),
            ("max_body_bytes", self.max_body_bytes, 1024..=4 << 20),
            ("max_connections", self.max_connections as u64, 1..=65_536),
            ("max_requests", self.max_requests as u64, 1..=65_536),
            (
                "header_timeout_seconds",
                self.header_timeout_seconds,
                1..=300,
            ),
            (
                "write_timeout_seconds",
                self.write_timeout_seconds,
                1..=3600,
            ),
            (
                "shutdown_grace_seconds",
                self.shutdown_grace_seconds,
                0..=300,
            ),
        ];
        for (field, value, range) in ranges {
            if !range.contains(&value) {
                let (least, most) = (range.start(), range.end());
                let text = format!("{field} is {value}; it must be {least} to {most}");
                return Err(ConfigError::invalid(text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        assert!(Config::default().validate().is_ok());
    }

    #[test]
    fn off_loopback_a_token_is_demanded() {
        let mut config = Config {
            listen: "0.0.0.0:8080".parse().unwrap(),
            ..Config::default()
        };
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("api_token")
        );
        config.api_token = Some(Secret::new(""));
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .contains("api_token")
        );
        config.api_token = Some(Secret::new("long-enough"));
        assert!(config.validate().is_ok());
    }

    #[test]
    fn a_token_for_little_is_not_the_one_for_all() {
        let token = || Some(Secret::new("long-enough"));
        let mut config = Config {
            api_token: token(),
            queue_token: token(),
            ..Config::default()
        };
        let refused = config.validate().unwrap_err().to_string();
        assert!(refused.starts_with("queue_token"), "{refused}");
        config.queue_token = Some(Secret::new("another"));
        assert!(config.validate().is_ok());
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let config = Config {
            max_requests: 0,
            ..Config::default()
        };
        assert!(
            config
                .validate()
                .unwrap_err()
                .to_string()
                .starts_with("max_requests is 0")
        );
    }
}
