//! A process of a cluster.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use aegis_testkit::Disk;
use anyhow::Result;

use super::topology::{has_disk, service_of};
use crate::process::Process;

/// Of a disk.
const MIB: u64 = 16;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    binary: PathBuf,
    settings: Mutex<BTreeMap<String, String>>,
    pub(super) disk: Option<Disk>,
    /// Held by whoever does something to it.
    pub(super) process: tokio::sync::Mutex<Process>,
    pub(super) starts: AtomicUsize,
}

impl Member {
    /// Starts it; its logs lie in `data`, and its disk, if it has one.
    pub(super) fn start(
        name: String,
        binary: PathBuf,
        settings: BTreeMap<String, String>,
        data: &Path,
    ) -> Result<Self> {
        let disk = has_disk(&name).then(|| Disk::at(&data.join(&name), MIB));
        if let Some(disk) = &disk {
            std::fs::create_dir_all(disk.folder())?;
        }
        let command = &mut command(&name, &binary, &settings, disk.as_ref());
        let process = Process::start(&name, command, data)?;
        Ok(Self {
            name,
            binary,
            settings: Mutex::new(settings),
            disk,
            process: tokio::sync::Mutex::new(process),
            starts: AtomicUsize::new(1),
        })
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn spawn(&self, data: &Path) -> Result<Process> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        let settings = self.settings().clone();
        let command = &mut command(&self.name, &self.binary, &settings, self.disk.as_ref());
        Process::start(&self.name, command, data)
    }
}

/// What starts a process. The signal at its parent's end is that of the thread that started it.
fn command(
    member: &str,
    binary: &Path,
    settings: &BTreeMap<String, String>,
    disk: Option<&Disk>,
) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(binary);
    let prefix = service_of(member).to_uppercase().replace('-', "_");
    for (key, value) in settings {
        command.env(format!("AEGIS_{prefix}__{key}"), value);
    }
    command.env("OPENAICOMPATIBLE_API_KEY", "k-chaos");
    match disk {
        Some(disk) => disk.given_to(&command),
        None => command,
    }
}
