//! How much memory there is: the machine's, or what a container is given of it.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Bytes of memory that this process and its children may have together; None when /proc is not
/// to be read.
pub(super) fn memory() -> Option<u64> {
    memory_below(Path::new("/"))
}

fn memory_below(root: &Path) -> Option<u64> {
    let physical = physical(&root.join("proc/meminfo"));
    let granted = limit_files(root).into_iter().filter_map(|file| {
        // "max", of a group without a limit, is no number.
        fs::read_to_string(file).ok()?.trim().parse().ok()
    });
    physical.into_iter().chain(granted).min()
}

fn physical(meminfo: &Path) -> Option<u64> {
    let text = fs::read_to_string(meminfo).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// Where the limits of this process's control group and of all above it lie: of version 2
/// (`0::/path`) and of version 1 (`4:memory:/path`). Within a container the path may be one of the
/// host's, which is not there: the container's own group is then the mount's root.
fn limit_files(root: &Path) -> Vec<PathBuf> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (mount, file) = match controllers {
            "" => ("sys/fs/cgroup", "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let path = Path::new(path.trim_start_matches('/'));
        let mount = root.join(mount);
        files.extend(path.ancestors().map(|group| mount.join(group).join(file)));
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cgroup: &str, limits: &[(&str, &str)]) -> Option<u64> {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put(
            "proc/meminfo",
            "MemTotal:       8388608 kB\nMemFree: 1 kB\n",
        );
        put("proc/self/cgroup", cgroup);
        for (path, text) in limits {
            put(path, text);
        }
        memory_below(root.path())
    }

    #[test]
    fn the_smallest_limit_above_holds() {
        const GIB: u64 = 1 << 30;
        assert_eq!(machine("", &[]), Some(8 * GIB));
        let v2 = [
            ("sys/fs/cgroup/a/memory.max", "2147483648\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ];
        assert_eq!(machine("0::/a/b\n", &v2), Some(2 * GIB));
        let namespaced = [("sys/fs/cgroup/memory.max", "1073741824\n")];
        assert_eq!(machine("0::/\n", &namespaced), Some(GIB));
        assert_eq!(machine("0::/not/here\n", &namespaced), Some(GIB));
        let v1 = [(
            "sys/fs/cgroup/memory/c/memory.limit_in_bytes",
            "3221225472\n",
        )];
        let groups = "9:name=systemd:/\n4:cpu,memory:/c\n";
        assert_eq!(machine(groups, &v1), Some(3 * GIB));
        // No limit in version 1 is a number beyond all memory.
        let none = [(
            "sys/fs/cgroup/memory/c/memory.limit_in_bytes",
            "9223372036854771712\n",
        )];
        assert_eq!(machine(groups, &none), Some(8 * GIB));
    }

    #[test]
    fn a_machine_that_cannot_be_asked_is_not_guessed() {
        assert_eq!(memory_below(Path::new("/nonexistent")), None);
    }
}
