//! The artifact service's configuration.

mod minio;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use aegis_mesh::{
    ClientConfig, ConfigError, PlainVariable, Secret, ServerConfig, ServiceConfig, TelemetryConfig,
};
use serde::{Deserialize, Serialize};

pub use self::minio::{MinioConfig, PLAIN_VARIABLES, StorageBackend};
use crate::domain::compose::ComposeLimits;
use crate::domain::upload::UploadLimits;

/// The port it listens on by default.
pub const DEFAULT_PORT: u16 = 7104;
/// Where the catalog listens by default.
pub const DEFAULT_CATALOG: &str = "http://127.0.0.1:7103";

/// Configuration of the artifact service; environment prefix `AEGIS_ARTIFACT__`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where it listens; 127.0.0.1:7104.
    pub server: ServerConfig,
    /// The catalog, which has the rows of artifacts; http://127.0.0.1:7103.
    pub catalog: ClientConfig,
    /// Logs and traces.
    pub telemetry: TelemetryConfig,
    /// Objects lie in `objects` of this folder, uploads under way in `uploads`. One process's alone.
    pub data_dir: PathBuf,
    /// Where objects lie: `local`, the default, in `objects` of `data_dir`; `minio` in an S3 store.
    pub storage_backend: StorageBackend,
    /// The S3 store, used when `storage_backend` is `minio`.
    pub minio: MinioConfig,
    /// Signs page tokens; all replicas need the same. Unset: a key in `data_dir`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub page_token_key: Option<Secret>,
    /// Most bytes of one upload; 8 GiB.
    pub max_upload_bytes: u64,
    /// Most bytes that uploads under way and files being composed may have together in `uploads`, but
    /// always as many as one upload; 64 GiB.
    pub max_scratch_bytes: u64,
    /// Most uploads at once, 1 to 10000; 64. Those whose stream broke count until they are resumed
    /// or collected.
    pub max_uploads: usize,
    /// After how long an upload that nobody writes is collected, in seconds, 1 to 86400; 600.
    pub upload_idle_seconds: u64,
    /// How often uploads are looked through for those to collect, in seconds, 1 to 3600; 30.
    pub sweep_seconds: u64,
    /// Most reports composed at once, 1 to 64; 2. More wait.
    pub max_composing: usize,
    /// Most bytes that the indexes of one report's parts may have together, which are in memory
    /// while it is composed; 256 MiB, which is over six million attempts.
    pub max_compose_index_bytes: u64,
    /// Longest composing of one report, in seconds, 1 to 86400; 900.
    pub compose_deadline_seconds: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::on_port(DEFAULT_PORT),
            catalog: ClientConfig::at(DEFAULT_CATALOG),
            telemetry: TelemetryConfig::default(),
            data_dir: PathBuf::from("data/artifact"),
            storage_backend: StorageBackend::default(),
            minio: MinioConfig::default(),
            page_token_key: None,
            max_upload_bytes: 8 << 30,
            max_scratch_bytes: 64 << 30,
            max_uploads: 64,
            upload_idle_seconds: 600,
            sweep_seconds: 30,
            max_composing: 2,
            max_compose_index_bytes: 256 << 20,
            compose_deadline_seconds: 900,
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

    fn plain_variables() -> &'static [PlainVariable] {
        PLAIN_VARIABLES
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.server.validate()?;
        self.catalog.validate("catalog")?;
        self.validate_own()
    }
}

impl Config {
    /// What holds however the service is reached and reaches others.
    ///
    /// # Errors
    /// Names the key and its range.
    pub fn validate_own(&self) -> Result<(), ConfigError> {
        if self.storage_backend == StorageBackend::Minio {
            self.minio.validate()?;
        }
        let ranges = [
            ("max_upload_bytes", self.max_upload_bytes, 1, 1 << 50),
            ("max_scratch_bytes", self.max_scratch_bytes, 1, 1 << 50),
            ("max_uploads", self.max_uploads as u64, 1, 10_000),
            ("upload_idle_seconds", self.upload_idle_seconds, 1, 86_400),
            ("sweep_seconds", self.sweep_seconds, 1, 3600),
            ("max_composing", self.max_composing as u64, 1, 64),
            (
                "max_compose_index_bytes",
                self.max_compose_index_bytes,
                1,
                1 << 40,
            ),
            (
                "compose_deadline_seconds",
                self.compose_deadline_seconds,
                1,
                86_400,
            ),
        ];
        match ranges
            .iter()
            .find(|(_, value, least, most)| !(least..=most).contains(&value))
        {
            None => Ok(()),
            Some((key, value, least, most)) => Err(ConfigError::invalid(format!(
                "{key} is {value}, not {least} to {most}"
            ))),
        }
    }

    /// What uploads may take.
    pub fn upload_limits(&self) -> UploadLimits {
        UploadLimits {
            max_bytes: self.max_upload_bytes,
            max_uploads: self.max_uploads,
            idle: Duration::from_secs(self.upload_idle_seconds),
        }
    }

    /// Bytes of files that are not objects yet.
    pub fn scratch_bytes(&self) -> u64 {
        self.max_scratch_bytes.max(self.max_upload_bytes)
    }

    /// What composing may take.
    pub fn compose_limits(&self) -> ComposeLimits {
        ComposeLimits {
            max_running: self.max_composing,
            max_index_bytes: self.max_compose_index_bytes,
            max_hitlog_bytes: self.max_upload_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let config = Config {
            max_uploads: 0,
            ..Config::default()
        };
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains("max_uploads is 0"), "{error}");
    }

    fn load(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let env = variables
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        aegis_mesh::config::load_with("artifact", Config::plain_variables(), None, env)
    }

    #[test]
    fn the_plain_variables_choose_the_store() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "{hunter2}\n").unwrap();
        let config = load(&[
            ("STORAGE_BACKEND", "minio"),
            ("MINIO_ENDPOINT", "minio:9000"),
            ("MINIO_ACCESS_KEY", "[aegis"),
            ("MINIO_SECRET_KEY_FILE", file.path().to_str().unwrap()),
            ("MINIO_BUCKET", "reports"),
            ("MINIO_REGION", ""),
        ]);
        let config = config.unwrap();
        config.validate().unwrap();
        assert_eq!(config.storage_backend, StorageBackend::Minio);
        let place = config.minio.place().unwrap();
        assert!(!place.base.https && place.base.host() == "minio");
        assert_eq!(place.bucket.as_str(), "reports");
        assert_eq!(place.base.region.as_str(), "us-east-1");
        assert_eq!(place.access_key.expose(), "[aegis");
        assert_eq!(place.secret_key.expose(), "{hunter2}");
        let shown = format!("{config:?} {}", aegis_mesh::config::dump(&config).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn the_derived_variable_wins_over_the_plain_one() {
        for order in [[0, 1], [1, 0]] {
            let both = [
                ("MINIO_BUCKET", "plain"),
                ("AEGIS_ARTIFACT__MINIO__BUCKET", "derived"),
            ];
            let config = load(&order.map(|n| both[n])).unwrap();
            assert_eq!(config.minio.bucket, "derived");
        }
    }

    #[test]
    fn what_the_store_lacks_is_named() {
        let minio = [("STORAGE_BACKEND", "minio")];
        let keys = [("MINIO_ACCESS_KEY", "a"), ("MINIO_SECRET_KEY", "b")];
        let bad = [
            ([keys[1]].to_vec(), "MINIO_ACCESS_KEY"),
            ([keys[0]].to_vec(), "MINIO_SECRET_KEY"),
            (
                [keys[0], keys[1], ("MINIO_ENDPOINT", "ftp://x")].to_vec(),
                "MINIO_ENDPOINT",
            ),
            (
                [keys[0], keys[1], ("MINIO_BUCKET", "No_Bucket!")].to_vec(),
                "MINIO_BUCKET",
            ),
        ];
        for (variables, named) in bad {
            let config = load(&[&minio[..], &variables].concat()).unwrap();
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
        let error = load(&[("STORAGE_BACKEND", "s3")]).unwrap_err().to_string();
        assert!(error.contains("STORAGE_BACKEND"), "{error}");
    }
}
