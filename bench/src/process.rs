//! What a tree of processes has used, from /proc (man 5 proc).

use std::{collections::HashMap, fs, time::Duration};

use anyhow::{Context, Result};

struct Stat {
    parent: i32,
    /// Its own and its reaped children's, user and system, in clock ticks.
    ticks: u64,
}

/// CPU time of a process and all below it, ended children included.
pub(crate) fn cpu_of_tree(root: i32) -> Result<Duration> {
    let ticks = tree(root)?.iter().map(|(_, stat)| stat.ticks).sum::<u64>();
    Ok(Duration::from_millis(ticks * 1000 / ticks_per_second()?))
}

/// Processes below this one.
pub(crate) fn descendants(root: i32) -> Result<Vec<i32>> {
    Ok(tree(root)?
        .into_iter()
        .map(|(id, _)| id)
        .filter(|id| *id != root)
        .collect())
}

/// CPU time of this process's ended children.
pub(crate) fn cpu_of_children() -> Result<Duration> {
    let text = fs::read_to_string("/proc/self/stat")?;
    let fields = fields(&text).context("/proc/self/stat")?;
    let ticks = number(&fields, 13)? + number(&fields, 14)?;
    Ok(Duration::from_millis(ticks * 1000 / ticks_per_second()?))
}

/// Resident memory, in MB (10^6).
pub(crate) fn resident_mb(id: i32) -> Result<f64> {
    memory_mb(id, "VmRSS:")
}

/// The most that was resident since [`forget_peak`].
pub(crate) fn peak_mb(id: i32) -> Result<f64> {
    memory_mb(id, "VmHWM:")
}

/// The most that was resident is now what is.
pub(crate) fn forget_peak(id: i32) -> Result<()> {
    Ok(fs::write(format!("/proc/{id}/clear_refs"), "5")?)
}

fn memory_mb(id: i32, field: &'static str) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .context(field)?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024.0 / 1e6)
}

fn tree(root: i32) -> Result<Vec<(i32, Stat)>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // It may have ended since the folder was read.
        if let Ok(text) = fs::read_to_string(format!("/proc/{id}/stat"))
            && let Some(stat) = stat(&text)?
        {
            all.insert(id, stat);
        }
    }
    let mut found = Vec::new();
    let mut next = vec![root];
    while let Some(id) = next.pop() {
        next.extend(
            all.iter()
                .filter(|(_, stat)| stat.parent == id)
                .map(|(id, _)| *id),
        );
        if let Some(stat) = all.remove(&id) {
            found.push((id, stat));
        }
    }
    Ok(found)
}

fn stat(text: &str) -> Result<Option<Stat>> {
    let Some(fields) = fields(text) else {
        return Ok(None);
    };
    let ticks = (11..=14)
        .map(|field| number(&fields, field))
        .sum::<Result<u64>>()?;
    let parent = fields.get(1).context("ppid")?.parse()?;
    Ok(Some(Stat { parent, ticks }))
}

/// The fields after the command's name, which may hold blanks: state is 0, ppid 1, utime 11.
fn fields(text: &str) -> Option<Vec<&str>> {
    Some(text.rsplit_once(')')?.1.split_whitespace().collect())
}

fn number(fields: &[&str], index: usize) -> Result<u64> {
    Ok(fields.get(index).context("a field of stat")?.parse()?)
}

fn ticks_per_second() -> Result<u64> {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("CLK_TCK")?;
    Ok(u64::try_from(ticks)?)
}
