//! The plugin catalogue of the garak that is installed.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

/// Where runners keep it from run to run.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/catalogue")
}

/// A catalogue as a runner publishes it.
pub(crate) struct Catalogue {
    pub(crate) json: Vec<u8>,
    pub(crate) garak_version: String,
    /// Names of all probes that can be evaluated.
    pub(crate) probes: Vec<String>,
}

impl Catalogue {
    /// The one that was kept last.
    pub(crate) fn read() -> Result<Self> {
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(folder()).context("no catalogue: `make demo` keeps one")? {
            let entry = entry?;
            kept.push((entry.metadata()?.modified()?, entry.path()));
        }
        let (_, path) = kept.into_iter().max().context("no catalogue is kept")?;
        let json = std::fs::read(path)?;
        let catalogue: Value = serde_json::from_slice(&json)?;
        let probes = catalogue["probes"].as_object().context("probes")?;
        let can_be_evaluated = |probe: &&Value| probe["not_evaluable"].is_null();
        Ok(Self {
            probes: probes
                .iter()
                .filter(|(_, probe)| can_be_evaluated(probe))
                .map(|(name, _)| name.clone())
                .collect(),
            garak_version: catalogue["garak_version"]
                .as_str()
                .context("garak_version")?
                .to_owned(),
            json,
        })
    }
}
