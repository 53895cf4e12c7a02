//! What /proc knows.

use std::fs;

use nix::{
    sys::signal::{Signal, kill as send},
    unistd::Pid,
};

/// SIGKILLs one process.
pub(crate) fn kill(pid: u32) {
    send(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
}

/// The parent of a process.
pub(crate) fn parent_of(pid: u32) -> u32 {
    stat(pid).unwrap().parent
}

/// Whether no process is left in the session of this id.
pub(crate) fn is_gone(session: u32) -> bool {
    pids()
        .into_iter()
        .all(|pid| stat(pid).is_none_or(|stat| stat.session != session || stat.is_zombie))
}

/// Processes whose first environment names `text`.
pub(crate) fn with_environment_of(text: &str) -> Vec<u32> {
    pids()
        .into_iter()
        .filter(|pid| {
            fs::read(format!("/proc/{pid}/environ"))
                .is_ok_and(|environ| String::from_utf8_lossy(&environ).contains(text))
        })
        .collect()
}

struct Stat {
    parent: u32,
    session: u32,
    is_zombie: bool,
}

fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything.
    let fields: Vec<&str> = text.rsplit_once(") ")?.1.split(' ').collect();
    Some(Stat {
        is_zombie: fields[0] == "Z",
        parent: fields[1].parse().ok()?,
        session: fields[3].parse().ok()?,
    })
}

fn pids() -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}
