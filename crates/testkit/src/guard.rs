//! A server as a child process that ends with the test process, however that ends.
//!
//! The server is the child of a small shell that reads its standard input: `stop` and `start` as it
//! is told. That pipe ends with the test process (`kill -9` included); then the shell kills the
//! server and removes its folder.

use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
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
server=
stop() {
    kill -KILL "$server"
    wait "$server"
    server=
}
start() {
    "$@" </dev/null >>"$folder/server.log" 2>&1 &
    server=$!
}
start "$@"
while read -r word; do
    case $word in
        stop) stop ;;
        start) start "$@" ;;
        reload) kill -HUP "$server" ;;
    esac
done
if [ -n "$server" ]; then stop; fi
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

    /// Ends the server at once, starts it again, or has it read its settings: `stop`, `start`, `reload`.
    pub(crate) fn tell(&self, word: &str) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut pipe = self.guard.stdin.as_ref().ok_or_else(gone)?;
        writeln!(pipe, "{word}")
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

/// Where Linux says which ports it gives to connections that ask for none.
const GIVEN: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Below are those of well-known servers.
const FIRST: u16 = 10_240;
const TRIES: usize = 1_000;

/// Ports that were free a moment ago, all different. Not of those that the system gives to
/// connections, so that a server that is started again finds its port free.
///
/// # Errors
/// When there are not so many.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    for _ in 0..TRIES {
        if held.len() == N {
            break;
        }
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", some_port()?)) {
            held.push(listener);
        }
    }
    let mut ports = [0; N];
    for (index, port) in ports.iter_mut().enumerate() {
        let listener = held.get(index);
        let listener = listener.ok_or_else(|| io::Error::other("no port is free"))?;
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// Any, so that processes that ask at once do not ask for the same; 0, which is any free one, when
/// the system gives all of them to connections.
fn some_port() -> io::Result<u16> {
    let given = std::fs::read_to_string(GIVEN)?;
    let first = given.split_whitespace().next();
    let end = first.and_then(|first| first.parse().ok()).unwrap_or(0);
    let room = u64::from(u16::saturating_sub(end, FIRST));
    if room == 0 {
        return Ok(0);
    }
    let chance = RandomState::new().hash_one(0) % room;
    Ok(FIRST + u16::try_from(chance).unwrap_or(0))
}
