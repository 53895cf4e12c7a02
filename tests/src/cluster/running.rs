//! The processes of a cluster, for whoever looks at them.

use std::path::PathBuf;

use anyhow::{Result, bail};

use super::Cluster;

/// A process that runs.
#[derive(Debug, Clone)]
pub struct Running {
    /// `catalog-1`.
    pub name: String,
    /// Process id.
    pub id: i32,
    /// Its disk, as it is seen from here, if it has one of its own.
    pub disk: Option<PathBuf>,
}

impl Cluster {
    /// All processes.
    ///
    /// # Errors
    /// When one has ended; the error has its log's end.
    pub async fn running(&self) -> Result<Vec<Running>> {
        let mut all = Vec::new();
        for member in self.members.values() {
            let mut process = member.process.lock().await;
            if let Some(status) = process.status()? {
                bail!("{} ended: {status}\n{}", member.name, process.log_end()?);
            }
            let id = process.id();
            let disk = member.disk.as_ref();
            all.push(Running {
                name: member.name.clone(),
                id,
                disk: disk.map(|disk| disk.seen_by(id)),
            });
        }
        Ok(all)
    }
}
