//! The runner's configuration.

mod limits;
mod machine;

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

use aegis_mesh::{ClientConfig, ConfigError, ServerConfig, ServiceConfig, TelemetryConfig};
use serde::{Deserialize, Serialize};

pub use limits::Limits;

use crate::domain::{
    allowance::{Allowance, AllowedGenerator, default_generators, default_secrets},
    bounds::Bounds,
};

/// Configuration of the garak runner; environment prefix `AEGIS_GARAK_RUNNER__`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where its own status is served.
    pub server: ServerConfig,
    /// The scan-orchestrator, whose tasks it runs.
    pub orchestrator: ClientConfig,
    /// The artifact service, which takes what it finds.
    pub artifact: ClientConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Scratch directories and the plugin catalogue lie here; one runner's alone.
    pub data_dir: PathBuf,
    /// Where the plugin catalogue is kept, which may be shared by runners of one installation.
    /// Unset: the data directory.
    pub catalogue_dir: Option<PathBuf>,
    /// What it is called in leases and events, 1 to 128 printable characters. Unset: its host's
    /// name and a random part, new at each start.
    pub runner_id: Option<String>,
    /// The Python that has garak. Unset: `.tools/garak/bin/python` in any folder above the
    /// executable or the working directory, else `python3`.
    pub garak_python: Option<PathBuf>,
    /// Tasks at once, 1 to 64. Unset: the number of cores.
    pub slots: Option<u32>,
    /// The generators that scans may use and the options they may set. A list in the file
    /// replaces the default list as a whole.
    pub generators: Vec<AllowedGenerator>,
    /// Variables of the runner's environment that a scan may name as its target's secret.
    pub secrets: BTreeSet<String>,
    /// How long running tasks may go on after a drain began before they are given back, 0 to 3600.
    pub drain_grace_seconds: u64,
    /// How long a killed child may take to be gone before the whole warm process is killed, 1 to 60.
    pub kill_grace_seconds: u64,
    /// How long importing garak may take, 1 to 600.
    pub warm_up_seconds: u64,
    /// Longest single call to a target in seconds, 1 to 3600.
    pub request_timeout_seconds: f64,
    /// How long uploads are retried, 1 to 3600.
    pub upload_patience_seconds: u64,
    /// Longest making of one report, 1 to 3600.
    pub report_timeout_seconds: u64,
    /// Longest try-out of one probe while the plugin catalogue is made, 1 to 600.
    pub survey_probe_seconds: u64,
    /// Only these probes are in the plugin catalogue. Unset: all.
    pub survey_probes: Option<BTreeSet<String>>,
    /// Memory in bytes that a custom probe's module may take while it is tried out, 16 MiB to 64 GiB.
    pub check_memory_bytes: u64,
    /// No task is taken while the disk of the data directory has less free than so many bytes, 0 to
    /// 1 TiB.
    pub min_free_bytes: u64,
    /// What one task may use.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_port(7102),
            orchestrator: ClientConfig::at("http://127.0.0.1:7101"),
            artifact: ClientConfig::at("http://127.0.0.1:7104"),
            telemetry: TelemetryConfig::default(),
            data_dir: PathBuf::from("aegis-data/runner"),
            catalogue_dir: None,
            runner_id: None,
            garak_python: None,
            slots: None,
            generators: default_generators(),
            secrets: default_secrets(),
            drain_grace_seconds: 5,
            kill_grace_seconds: 5,
            warm_up_seconds: 180,
            request_timeout_seconds: 120.0,
            upload_patience_seconds: 3600,
            report_timeout_seconds: 600,
            survey_probe_seconds: 30,
            survey_probes: None,
            check_memory_bytes: 512 << 20,
            min_free_bytes: 512 << 20,
            limits: Limits::default(),
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
        self.orchestrator.validate("orchestrator")?;
        self.artifact.validate("artifact")?;
        self.validate_own()
    }
}

impl Config {
    /// The checks of what is the runner's own; clients are not used when all services share a process.
    ///
    /// # Errors
    /// Naming the first field that is out of range.
    pub fn validate_own(&self) -> Result<(), ConfigError> {
        let ranges = [
            ("slots", u64::from(self.slots.unwrap_or(1)), 1..=64),
            ("drain_grace_seconds", self.drain_grace_seconds, 0..=3600),
            ("kill_grace_seconds", self.kill_grace_seconds, 1..=60),
            ("warm_up_seconds", self.warm_up_seconds, 1..=600),
            (
                "upload_patience_seconds",
                self.upload_patience_seconds,
                1..=3600,
            ),
            (
                "report_timeout_seconds",
                self.report_timeout_seconds,
                1..=3600,
            ),
            ("survey_probe_seconds", self.survey_probe_seconds, 1..=600),
            (
                "check_memory_bytes",
                self.check_memory_bytes,
                16 << 20..=64 << 30,
            ),
            ("min_free_bytes", self.min_free_bytes, 0..=1 << 40),
        ];
        for (field, value, range) in ranges {
            if !range.contains(&value) {
                return Err(ConfigError::invalid(format!(
                    "{field} is {value}; it must be {} to {}",
                    range.start(),
                    range.end()
                )));
            }
        }
        if !(1.0..=3600.0).contains(&self.request_timeout_seconds) {
            return Err(ConfigError::invalid(
                "request_timeout_seconds must be 1 to 3600",
            ));
        }
        let is_id =
            |id: &String| (1..=128).contains(&id.len()) && id.chars().all(|c| c.is_ascii_graphic());
        if !self.runner_id.as_ref().is_none_or(is_id) {
            return Err(ConfigError::invalid(
                "runner_id must be 1 to 128 printable characters",
            ));
        }
        self.limits.validate()
    }

    /// The allow-list.
    pub fn allowance(&self) -> Allowance {
        Allowance {
            generators: self.generators.clone(),
            secrets: self.secrets.clone(),
        }
    }

    /// Tasks at once.
    pub fn slots(&self) -> u32 {
        self.slots.unwrap_or_else(|| cores().get()).clamp(1, 64)
    }

    /// What one task may use.
    pub(crate) fn bounds(&self) -> Bounds {
        self.limits.bounds(self.slots())
    }

    /// What the survey of garak's plugins may use, while which nothing else runs.
    pub(crate) fn survey_bounds(&self) -> Bounds {
        let bounds = self.bounds();
        Bounds {
            memory: bounds.memory.saturating_mul(u64::from(self.slots())),
            ..bounds
        }
    }

    pub(crate) fn survey_jobs(&self) -> u32 {
        cores().get().min(8)
    }

    pub(crate) fn catalogue_dir(&self) -> &Path {
        self.catalogue_dir.as_deref().unwrap_or(&self.data_dir)
    }

    pub(crate) fn drain_grace(&self) -> Duration {
        Duration::from_secs(self.drain_grace_seconds)
    }

    pub(crate) fn kill_grace(&self) -> Duration {
        Duration::from_secs(self.kill_grace_seconds)
    }

    pub(crate) fn upload_patience(&self) -> Duration {
        Duration::from_secs(self.upload_patience_seconds)
    }

    pub(crate) fn report_timeout(&self) -> Duration {
        Duration::from_secs(self.report_timeout_seconds)
    }
}

fn cores() -> NonZeroU32 {
    std::thread::available_parallelism()
        .ok()
        .and_then(|cores| NonZeroU32::try_from(cores).ok())
        .unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_generators_replaces_the_default() {
        let text = "[[generators]]\nname = \"test.Blank\"\noptions = [\"max_tokens\"]\n";
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!(config.generators.len(), 1);
        assert!(config.secrets.contains("REST_API_KEY"));
        assert!(toml::from_str::<Config>("generator = []").is_err());
    }

    #[test]
    fn values_out_of_range_are_named() {
        for (field, config) in [
            (
                "slots",
                Config {
                    slots: Some(0),
                    ..Config::default()
                },
            ),
            (
                "kill_grace_seconds",
                Config {
                    kill_grace_seconds: 0,
                    ..Config::default()
                },
            ),
            (
                "runner_id",
                Config {
                    runner_id: Some("a b".to_owned()),
                    ..Config::default()
                },
            ),
            (
                "request_timeout_seconds",
                Config {
                    request_timeout_seconds: f64::NAN,
                    ..Config::default()
                },
            ),
        ] {
            let error = config.validate().unwrap_err();
            assert!(error.to_string().contains(field), "{error}");
        }
        assert!(Config::default().validate().is_ok());
    }
}
