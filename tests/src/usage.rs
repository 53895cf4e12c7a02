//! What processes use, seen from outside: /proc (man 5 proc).

use std::{
    collections::HashMap,
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// What one process uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes that are resident and its own. Pages of a file, such as its binary, are not: the
    /// kernel takes those back when it likes.
    pub memory: u64,
    /// Open file descriptors, sockets and pipes included.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
}

/// What this process uses.
///
/// # Errors
/// When it is gone, or belongs to somebody else.
pub fn of(id: i32) -> Result<Usage> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let number = |field: &'static str| -> Result<u64> {
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix(field));
        let line = line.context(field)?.trim().trim_end_matches(" kB");
        line.parse().with_context(|| format!("{field} {line}"))
    };
    Ok(Usage {
        memory: (number("RssAnon:")? + number("RssShmem:")?) * 1024,
        open_files: fs::read_dir(format!("/proc/{id}/fd"))?.count() as u64,
        threads: number("Threads:")?,
    })
}

/// All processes of the machine at one time, each with its parent.
#[derive(Debug)]
pub struct Processes(HashMap<i32, i32>);

impl Processes {
    /// As they are now.
    ///
    /// # Errors
    /// When /proc is not as it is described.
    pub fn now() -> Result<Self> {
        let mut parents = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            // It may have ended since the folder was read.
            let Ok(text) = fs::read_to_string(format!("/proc/{id}/stat")) else {
                continue;
            };
            // The command's name before it may hold blanks and parentheses.
            let fields = text.rsplit_once(')').context("a command")?.1;
            let parent = fields.split_whitespace().nth(1).context("a parent")?;
            parents.insert(id, parent.parse()?);
        }
        Ok(Self(parents))
    }

    /// Those that this one started and that are still there, also when they ended and nobody took
    /// notice.
    pub fn children(&self, of: i32) -> Vec<i32> {
        let all = self.0.iter();
        let children = all.filter(|(_, parent)| **parent == of);
        children.map(|(id, _)| *id).collect()
    }

    /// Those, theirs, and so on.
    pub fn descendants(&self, of: i32) -> Vec<i32> {
        let mut found = self.children(of);
        let mut at = 0;
        while at < found.len() {
            found.extend(self.children(found[at]));
            at += 1;
        }
        found
    }
}

/// Files and folders below this one, and the bytes of the files. What goes while it is looked at
/// is not there.
///
/// # Errors
/// When a folder cannot be read.
pub fn files(folder: &Path) -> io::Result<(u64, u64)> {
    let (mut number, mut bytes) = (0, 0);
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        let Some(entries) = unless_gone(fs::read_dir(folder))? else {
            continue;
        };
        for entry in entries {
            let Some(entry) = unless_gone(entry)? else {
                continue;
            };
            let Some(what) = unless_gone(entry.metadata())? else {
                continue;
            };
            number += 1;
            if what.is_dir() {
                folders.push(entry.path());
            } else {
                bytes += what.len();
            }
        }
    }
    Ok((number, bytes))
}

fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Write},
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_process_and_what_is_below_it_are_seen() {
        // Both end with the pipe that they read.
        let script = "exec 7</dev/null 8</dev/null; echo ready; cat | cat";
        let mut shell = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let id = shell.id().cast_signed();
        let mut said = BufReader::new(shell.stdout.take().unwrap());
        said.read_line(&mut String::new()).unwrap();
        let usage = of(id).unwrap();
        assert!(usage.open_files >= 5, "{usage:?}");
        assert_eq!(usage.threads, 1);
        // What is written comes back once both of its children run.
        let mut pipe = shell.stdin.take().unwrap();
        pipe.write_all(b"through\n").unwrap();
        said.read_line(&mut String::new()).unwrap();
        let all = Processes::now().unwrap();
        assert_eq!(all.children(id).len(), 2);
        let here = all.descendants(std::process::id().cast_signed());
        assert!(here.contains(&id) && here.contains(&all.children(id)[0]));
        drop(pipe);
        assert!(shell.wait().unwrap().success());
        assert!(of(id).is_err());
    }

    #[test]
    fn memory_counts_once_it_is_written_to() {
        let id = std::process::id().cast_signed();
        let before = of(id).unwrap().memory;
        let taken = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = of(id).unwrap().memory;
        assert!(after > before + (48 << 20), "{before} {after}");
        drop(taken);
    }

    #[test]
    fn files_are_counted_with_their_folders() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(files(folder.path()).unwrap(), (0, 0));
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        fs::write(deep.join("c"), "12345").unwrap();
        assert_eq!(files(folder.path()).unwrap(), (3, 5));
        assert_eq!(files(&folder.path().join("none")).unwrap(), (0, 0));
    }
}
