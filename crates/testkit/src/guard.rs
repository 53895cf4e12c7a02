//! A server as a child process that ends with the test process, however that ends.
//!
//! The server is the child of a small shell that waits for its standard input to end. That pipe
//! ends with the test process (`kill -9` included); then the shell kills the server and removes its
//! folder.

use std::ffi::OsString;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// `$1` the folder, `$2` how many files it leaves elsewhere, then these, the rest the command.
const GUARD: &str = r#"
folder=$1
count=$2
shift 2
leaves=
while [ "$count" -gt 0 ]; do
  leaves="$leaves $1"
  count=$((count - 1))
  shift
done
cd "$folder" || exit 1
"$@" </dev/null >"$folder/server.log" 2>&1 &
server=$!
cat >/dev/null
kill -KILL "$server"
wait "$server"
cd /
rm -rf "$folder" $leaves
"#;

/// A running server, and its folder.
#[derive(Debug)]
pub(crate) struct Guarded {
    folder: PathBuf,
    guard: Child,
}

impl Guarded {
    /// Runs a command in `folder`, which is removed after it, as are the files that it leaves
    /// elsewhere, whose paths have no blanks.
    pub(crate) fn spawn(
        folder: PathBuf,
        leaves: &[PathBuf],
        command: impl IntoIterator<Item = OsString>,
        environment: &[(&str, &str)],
    ) -> io::Result<Self> {
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "server-guard"])
            .arg(&folder)
            .arg(leaves.len().to_string())
            .args(leaves)
            .args(command)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C for the tests must not reach the guard before its pipe ends.
            .process_group(0)
            .spawn()?;
        Ok(Self { folder, guard })
    }

    /// The end of what the server said.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// The process that all of the server's are below.
    pub(crate) fn id(&self) -> i32 {
        self.guard.id().cast_signed()
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            eprintln!("a server of a test cannot be waited for: {error}");
        }
    }
}

/// An empty folder that its guard removes: it outlives this process for a moment.
pub(crate) fn folder(prefix: &str) -> io::Result<PathBuf> {
    Ok(tempfile::Builder::new().prefix(prefix).tempdir()?.keep())
}

/// Ports that were free a moment ago, all different.
pub(crate) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
