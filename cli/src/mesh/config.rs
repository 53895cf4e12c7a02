//! The configuration of the whole mesh: a table a service.

use std::path::{Path, PathBuf};

use aegis_mesh::{ConfigError, PlainVariable, ServiceConfig, TelemetryConfig, config};
use serde::{Deserialize, Serialize};

use crate::args::UpArgs;

/// Configuration of `aegis up`; environment prefix `AEGIS_UP__`, a service's table behind it:
/// `AEGIS_UP__GARAK_RUNNER__SLOTS`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MeshConfig {
    /// Where database, reports and scratch files lie, unless a table says otherwise.
    pub(crate) data_dir: PathBuf,
    /// Logs and traces of all five.
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) gateway: aegis_gateway::Config,
    pub(crate) scan_orchestrator: aegis_scan_orchestrator::Config,
    pub(crate) garak_runner: aegis_garak_runner::Config,
    pub(crate) catalog: aegis_catalog::Config,
    pub(crate) artifact: aegis_artifact::Config,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(".data/aegis"),
            telemetry: TelemetryConfig::default(),
            gateway: aegis_gateway::Config::default(),
            scan_orchestrator: aegis_scan_orchestrator::Config::default(),
            garak_runner: aegis_garak_runner::Config::default(),
            catalog: aegis_catalog::Config::default(),
            artifact: aegis_artifact::Config::default(),
        }
    }
}

impl MeshConfig {
    /// Defaults, then the file, then the environment, then the command line.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, a value that cannot be.
    pub(crate) fn load(args: &UpArgs) -> Result<Self, ConfigError> {
        let environment = aegis_mesh::service::environment();
        let file = args.config.as_deref();
        let mut config: Self = config::load_with("up", &plain_variables(), file, environment)?;
        if let Some(data_dir) = &args.data_dir {
            config.data_dir.clone_from(data_dir);
        }
        if let Some(listen) = args.listen {
            config.gateway.listen = listen;
        }
        if args.garak_python.is_some() {
            config
                .garak_runner
                .garak_python
                .clone_from(&args.garak_python);
        }
        if let Some(slots) = args.slots {
            config.garak_runner.slots = Some(slots.into());
        }
        let data_dir = config.data_dir.clone();
        config.place_in(&data_dir);
        Ok(config)
    }

    /// Whether the catalog's database is the file in the data directory, which is locked: nobody
    /// else has that one.
    pub(crate) fn has_catalog_alone(&self) -> bool {
        self.catalog.database_url.is_none()
            && self.catalog.data_dir == self.data_dir.join("catalog")
    }

    /// Puts what still has its default place into the data directory.
    fn place_in(&mut self, data_dir: &Path) {
        let runner = aegis_garak_runner::Config::default();
        if self.garak_runner.data_dir == runner.data_dir {
            self.garak_runner.data_dir = data_dir.join("runner");
        }
        let artifact = aegis_artifact::Config::default();
        if self.artifact.data_dir == artifact.data_dir {
            self.artifact.data_dir = data_dir.join("artifact");
        }
        let catalog = aegis_catalog::Config::default();
        if self.catalog.data_dir == catalog.data_dir {
            self.catalog.data_dir = data_dir.join("catalog");
        }
    }
}

/// Variables of services, which set the same keys here.
fn plain_variables() -> Vec<PlainVariable> {
    let artifact = aegis_artifact::Config::plain_variables().iter();
    let catalog = aegis_catalog::Config::plain_variables().iter();
    let artifact = artifact.map(|v| v.within("artifact"));
    artifact
        .chain(catalog.map(|v| v.within("catalog")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn database_url_selects_the_database() {
        let set = |name: &str, url: &str| (name.to_owned(), url.to_owned());
        let url = |environment: Vec<(String, String)>| {
            let config: MeshConfig =
                config::load_with("up", &plain_variables(), None, environment).unwrap();
            let url = config.catalog.database_url;
            url.map(|url| url.expose().to_owned())
        };
        let common = set("DATABASE_URL", "postgres://a/b");
        assert_eq!(url(vec![common.clone()]).as_deref(), Some("postgres://a/b"));
        let own = set("AEGIS_UP__CATALOG__DATABASE_URL", "sqlite:x");
        assert_eq!(url(vec![own, common]).as_deref(), Some("sqlite:x"));
        assert_eq!(url(vec![set("DATABASE_URL", "")]), None);
    }

    #[test]
    fn only_the_file_in_the_locked_directory_is_ones_own() {
        let alone = |more: &[(&str, &str)]| {
            let environment: Vec<(String, String)> = more
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect();
            let mut config: MeshConfig =
                config::load_with("up", &plain_variables(), None, environment).unwrap();
            let data_dir = config.data_dir.clone();
            config.place_in(&data_dir);
            config.has_catalog_alone()
        };
        assert!(alone(&[]));
        assert!(alone(&[("AEGIS_UP__DATA_DIR", "/elsewhere")]));
        assert!(!alone(&[("DATABASE_URL", "postgres://a/b")]));
        assert!(!alone(&[(
            "DATABASE_URL",
            "sqlite:.data/aegis/catalog/catalog.db"
        )]));
        assert!(!alone(&[("AEGIS_UP__CATALOG__DATA_DIR", "/shared")]));
    }

    /// docs/configuration.md names keys that there are: each of its examples can be set.
    #[test]
    fn every_key_of_the_documentation_can_be_set() {
        let text = include_str!("../../../docs/configuration.md");
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `"));
        let mut seen = 0;
        for row in rows.filter(|row| !row.starts_with("aegis")) {
            let (key, rest) = row.split_once("` | `").expect(row);
            let (value, _) = rest.split_once("` |").expect(row);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), format!("{key} = {value}\n")).unwrap();
            let loaded: Result<MeshConfig, _> = config::load("up", Some(file.path()), []);
            assert!(loaded.is_ok(), "{key}: {}", loaded.unwrap_err());
            seen += 1;
        }
        assert!(seen >= 15, "{seen}");
    }

    #[test]
    fn the_plain_variables_of_a_service_set_its_keys() {
        let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let environment = [
            variable("STORAGE_BACKEND", "minio"),
            variable("MINIO_BUCKET", "reports"),
            variable("AEGIS_UP__ARTIFACT__MINIO__REGION", "eu-central-1"),
        ];
        let plain = plain_variables();
        let config: MeshConfig = config::load_with("up", &plain, None, environment).unwrap();
        assert_eq!(config.artifact.minio.bucket, "reports");
        assert_eq!(config.artifact.minio.region, "eu-central-1");
        let dumped = config::dump(&config).unwrap();
        assert!(dumped.contains("storage_backend = \"minio\""), "{dumped}");
    }

    #[test]
    fn an_unknown_key_is_refused() {
        let variable = ("AEGIS_UP__GARAK_RUNNER__SLOT".to_owned(), "2".to_owned());
        let error = config::load::<MeshConfig>("up", None, [variable]).unwrap_err();
        assert!(
            error.to_string().contains("AEGIS_UP__GARAK_RUNNER__SLOT"),
            "{error}"
        );
    }
}
