//! `aegis up --import FOLDER`: once for a data directory and a folder.

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use aegis_mesh::{Error, Result, Secret};
use anyhow::Context;
use sha2::{Digest, Sha256};

use super::{ImportArgs, import, journal::Journal, summary::Summary};
use crate::{client::Client, mesh::MeshConfig};

/// An import that is yet to be done, or to be ended.
pub(crate) struct Once {
    folder: PathBuf,
    /// There when it has ended.
    marker: PathBuf,
    token: Option<Secret>,
}

impl Once {
    /// The import of this folder; `None` when it was done.
    ///
    /// # Errors
    /// A folder that is not there: better than to start without it.
    pub(crate) fn of(folder: &Path, config: &MeshConfig) -> Result<Option<Self>> {
        let unusable = |error: std::io::Error| {
            let message = format!("cannot import {}: {error}", folder.display());
            Error::failed_precondition("IMPORT_SOURCE_UNUSABLE", message)
                .hint("name a folder that is there with --import, or leave it out")
        };
        let folder = std::fs::canonicalize(folder).map_err(unusable)?;
        let digest = hex::encode(Sha256::digest(folder.as_os_str().as_encoded_bytes()));
        let marker = format!("imported-{}.json", &digest[..16]);
        let marker = config.data_dir.join(marker);
        if marker.try_exists().map_err(unusable)? {
            return Ok(None);
        }
        Ok(Some(Self {
            folder,
            marker,
            token: config.gateway.api_token.clone(),
        }))
    }

    /// Takes everything in, and says in the log how it ended. One that did not come to its end goes
    /// on at the next start.
    pub(crate) async fn run(self, gateway: SocketAddr) {
        let folder = self.folder.display();
        tracing::info!(%folder, "an import begins");
        match self.try_run(gateway).await {
            Ok(summary) => {
                let sums = summary.sums().join("; ");
                tracing::info!(%folder, "the import has ended: {sums}");
            }
            Err(error) => {
                tracing::error!(%folder, "the import ended early and goes on at the next start: {error:#}");
            }
        }
    }

    async fn try_run(&self, mut gateway: SocketAddr) -> anyhow::Result<Summary> {
        // Who listens everywhere is asked here.
        match gateway.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => gateway.set_ip(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(ip) if ip.is_unspecified() => gateway.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let client = Client::at(&format!("http://{gateway}"), self.token.clone())?;
        let args = ImportArgs {
            paths: vec![self.folder.clone()],
            ..ImportArgs::default()
        };
        let (summary, ended) = import(&client, &args, Journal::of_log()).await?;
        ended?;
        mark(&self.marker, &summary)
            .with_context(|| format!("writing {}", self.marker.display()))?;
        Ok(summary)
    }
}

/// Keeps what became of everything, and that it did.
fn mark(marker: &Path, summary: &Summary) -> anyhow::Result<()> {
    let folder = marker.parent().context("a marker lies in a folder")?;
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer_pretty(&mut aside, summary)?;
    aside.flush()?;
    aside.as_file().sync_all()?;
    aside.persist(marker)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_imported_once_for_a_data_directory() {
        let data = tempfile::tempdir().unwrap();
        let old = tempfile::tempdir().unwrap();
        let config = MeshConfig {
            data_dir: data.path().to_owned(),
            ..MeshConfig::default()
        };
        let once = Once::of(old.path(), &config).unwrap().unwrap();
        assert!(
            Once::of(old.path(), &config).unwrap().is_some(),
            "not done yet"
        );
        mark(&once.marker, &Summary::default()).unwrap();
        assert!(Once::of(&old.path().join("."), &config).unwrap().is_none());
        let other = tempfile::tempdir().unwrap();
        assert!(Once::of(other.path(), &config).unwrap().is_some());
        let Err(error) = Once::of(&old.path().join("none"), &config) else {
            panic!("it is not there");
        };
        assert_eq!(error.reason(), "IMPORT_SOURCE_UNUSABLE");
    }
}
