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

use anyhow::Result;
use nix::unistd::geteuid;

use super::topology::{has_disk, service_of};
use crate::process::Process;

/// Gives the command a file system of its own at `$1`, which ends with it, and ends it with whoever
/// started it.
const WITH_OWN_DISK: &str = r#"
folder=$1
shift
mount -t tmpfs -o size=16m,mode=700 aegis-chaos "$folder"
exec setpriv --pdeathsig KILL -- "$@"
"#;

#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    binary: PathBuf,
    settings: Mutex<BTreeMap<String, String>>,
    pub(super) disk: Option<PathBuf>,
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
        let disk = has_disk(&name).then(|| data.join(&name));
        if let Some(disk) = &disk {
            std::fs::create_dir_all(disk)?;
        }
        let command = &mut command(&name, &binary, &settings, disk.as_deref());
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
        let command = &mut command(&self.name, &self.binary, &settings, self.disk.as_deref());
        Process::start(&self.name, command, data)
    }
}

/// A folder of a process that has a file system of its own there.
pub(super) fn seen_from_here(folder: &Path, id: i32) -> PathBuf {
    PathBuf::from(format!("/proc/{id}/root{}", folder.display()))
}

/// What starts a process. The signal at its parent's end is that of the thread that started it.
fn command(
    member: &str,
    binary: &Path,
    settings: &BTreeMap<String, String>,
    disk: Option<&Path>,
) -> Command {
    let mut command;
    if let Some(disk) = disk {
        command = Command::new("unshare");
        if !geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command
            .args(["--mount", "sh", "-e", "-c", WITH_OWN_DISK, "own-disk"])
            .arg(disk);
    } else {
        command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]);
    }
    command.arg(binary);
    let prefix = service_of(member).to_uppercase().replace('-', "_");
    for (key, value) in settings {
        command.env(format!("AEGIS_{prefix}__{key}"), value);
    }
    command.env("OPENAICOMPATIBLE_API_KEY", "k-chaos");
    command
}
