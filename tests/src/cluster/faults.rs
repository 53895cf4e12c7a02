//! What can go wrong with a cluster, and right again.

use std::{sync::Arc, time::Duration};

use aegis_mesh::spawn::blocking;
use anyhow::{Context, Result};
use nix::sys::signal::Signal;
use tokio::time::sleep;

use super::Cluster;

impl Cluster {
    /// Kills a process, and starts it again after so long.
    ///
    /// # Errors
    /// When that cannot be done.
    pub async fn kill(&self, member: &str, down: Duration) -> Result<()> {
        let member = self.member(member)?;
        let mut process = member.process.lock().await;
        process.kill()?;
        sleep(down).await;
        *process = member.spawn(self.data.path())?;
        Ok(())
    }

    /// Stops a process for so long; it knows nothing of it.
    ///
    /// # Errors
    /// When that cannot be done.
    pub async fn freeze(&self, member: &str, time: Duration) -> Result<()> {
        let process = self.member(member)?.process.lock().await;
        process.signal(Signal::SIGSTOP)?;
        sleep(time).await;
        process.signal(Signal::SIGCONT)
    }

    /// For so long a process has no room left on its disk.
    ///
    /// # Errors
    /// When that cannot be done.
    pub async fn fill_disk(&self, member: &str, time: Duration) -> Result<()> {
        let member = self.member(member)?;
        let disk = member.disk.as_ref().context("it has no disk of its own")?;
        let mut process = member.process.lock().await;
        if process.status()?.is_some() {
            return Ok(());
        }
        // Right after its start it has none yet.
        if !disk.is_with(process.id())? {
            return Ok(());
        }
        let filled = disk.fill(process.id());
        sleep(time).await;
        // One that ended took its disk with it.
        if process.status()?.is_none() {
            filled?;
            disk.free(process.id())?;
        }
        Ok(())
    }

    /// Ends all connections of an arrow.
    ///
    /// # Errors
    /// When there is no such arrow.
    pub fn cut(&self, arrow: &str) -> Result<()> {
        self.proxy(arrow)?.cut();
        Ok(())
    }

    /// Nothing passes along an arrow for so long; nothing is lost.
    ///
    /// # Errors
    /// When there is no such arrow.
    pub fn hold(&self, arrow: &str, time: Duration) -> Result<()> {
        self.proxy(arrow)?.hold(time);
        Ok(())
    }

    /// The database crashes, and is back after so long.
    ///
    /// # Errors
    /// When it cannot be stopped or started.
    pub async fn database_down(&self, time: Duration) -> Result<()> {
        let postgres = Arc::clone(&self.postgres);
        blocking("stop", move || postgres.stop()).await??;
        sleep(time).await;
        let postgres = Arc::clone(&self.postgres);
        Ok(blocking("start", move || postgres.start_again()).await??)
    }

    /// The object store crashes, and is back after so long.
    ///
    /// # Errors
    /// When it cannot be stopped or started.
    pub async fn store_down(&self, time: Duration) -> Result<()> {
        self.store.stop()?;
        sleep(time).await;
        let store = Arc::clone(&self.store);
        Ok(blocking("start", move || store.start_again()).await??)
    }
}
