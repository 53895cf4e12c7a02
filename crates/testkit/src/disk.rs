//! A file system of a process's own, in memory: as small as one likes, and full when one likes.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    process::Command,
};

use nix::unistd::{User, geteuid};

/// Mounts it at `$1`, with the options `$2`, where only the rest, a command, and what that starts
/// see it. It ends with the last of them.
const WITH_DISK: &str = r#"
folder=$1 options=$2
shift 2
mount -t tmpfs -o "$options" aegis-test "$folder"
exec "$@"
"#;

/// A disk as a process has it. Nobody else sees what is on it, but by way of that process.
#[derive(Debug, Clone)]
pub struct Disk {
    folder: PathBuf,
    bytes: u64,
    owner: Option<User>,
}

impl Disk {
    /// In place of this folder, which must be there, and with room for so many MiB.
    pub fn at(folder: &Path, mib: u64) -> Self {
        Self {
            folder: folder.to_owned(),
            bytes: mib << 20,
            owner: None,
        }
    }

    /// The disk of this user, of whom there is a need when root starts what must not be root.
    pub(crate) fn of(self, owner: Option<User>) -> Self {
        Self { owner, ..self }
    }

    /// Where it is mounted.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The command as one that has this disk. The process is the same one, and has its id.
    pub fn given_to(&self, command: &Command) -> Command {
        let mut given = Command::new("unshare");
        if !geteuid().is_root() {
            given.arg("--map-root-user");
        }
        let mut options = format!("size={},mode=700", self.bytes);
        if let Some(User { uid, gid, .. }) = &self.owner {
            options += &format!(",uid={uid},gid={gid}");
        }
        given
            .args(["--mount", "sh", "-e", "-c", WITH_DISK, "with-disk"])
            .arg(&self.folder)
            .arg(options)
            .arg(command.get_program())
            .args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => given.env(name, value),
                None => given.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            given.current_dir(folder);
        }
        given
    }

    /// Its folder as this process sees it.
    pub fn seen_by(&self, process: i32) -> PathBuf {
        PathBuf::from(format!("/proc/{process}/root{}", self.folder.display()))
    }

    /// Whether the process has it: right after its start it has none yet.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn is_with(&self, process: i32) -> io::Result<bool> {
        let seen = std::fs::metadata(self.seen_by(process))?;
        Ok(seen.dev() != std::fs::metadata(&self.folder)?.dev())
    }

    /// Takes all room that there is on the disk of this process.
    ///
    /// # Errors
    /// When it does not have it, or it cannot be filled.
    pub fn fill(&self, process: i32) -> io::Result<()> {
        if !self.is_with(process)? {
            return Err(io::Error::other("the process has no disk of its own"));
        }
        let filler = File::create(self.filler(process))?;
        let mut at = 0;
        for size in [64 << 10, 4 << 10] {
            let block = vec![0_u8; size];
            loop {
                if at > self.bytes {
                    return Err(io::Error::other("the disk is larger than it is"));
                }
                match filler.write_at(&block, at) {
                    Ok(written) => at += written as u64,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Gives the room back.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn free(&self, process: i32) -> io::Result<()> {
        std::fs::remove_file(self.filler(process))
    }

    fn filler(&self, process: i32) -> PathBuf {
        self.seen_by(process).join("filler")
    }
}
