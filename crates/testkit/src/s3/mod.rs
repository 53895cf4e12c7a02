//! Throw-away S3 servers: SeaweedFS, and JuiceFS's gateway, which speaks as MinIO does.

mod juicefs;
pub mod policy;
mod seaweedfs;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::guard::Guarded;

/// How long a server may take to come up on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// Credentials of one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    /// Access key.
    pub access: &'static str,
    /// Secret key.
    pub secret: &'static str,
}

/// May do everything.
const ADMIN: Keys = Keys {
    access: "aegis-admin",
    secret: "admin-secret",
};

/// A running server without any data worth keeping.
#[derive(Debug)]
pub struct S3Server {
    address: SocketAddr,
    guard: Guarded,
    signs: Vec<Sign>,
}

/// A server is up when this port answers a GET of this path with this text in it.
type Sign = (u16, &'static str, &'static str);

impl S3Server {
    /// The SeaweedFS of this process; started by the first who asks. It knows the identities of
    /// [`policy`].
    ///
    /// # Panics
    /// When there is no `weed` (`make tools`, or set `AEGIS_S3_BIN` to its folder), or it does not
    /// start. A test that needs it cannot go on.
    pub fn seaweedfs() -> &'static Self {
        static SHARED: OnceLock<S3Server> = OnceLock::new();
        SHARED.get_or_init(|| started("SeaweedFS", seaweedfs::start(None)))
    }

    /// A SeaweedFS of its own, which may be stopped.
    ///
    /// # Panics
    /// As [`Self::seaweedfs`].
    pub fn seaweedfs_of_its_own() -> Self {
        started("SeaweedFS", seaweedfs::start(None))
    }

    /// The JuiceFS gateway of this process; started by the first who asks.
    ///
    /// # Panics
    /// As [`Self::seaweedfs`]; its program is `juicefs`.
    pub fn juicefs() -> &'static Self {
        static SHARED: OnceLock<S3Server> = OnceLock::new();
        SHARED.get_or_init(|| started("JuiceFS", juicefs::start()))
    }

    /// A SeaweedFS of its own that speaks TLS.
    ///
    /// # Panics
    /// As [`Self::seaweedfs`].
    pub fn seaweedfs_with_tls(certificate_pem: &str, key_pem: &str) -> Self {
        let tls = Some((certificate_pem, key_pem));
        started("SeaweedFS with TLS", seaweedfs::start(tls))
    }

    /// What it is, once it answers.
    fn new(port: u16, guard: Guarded, signs: Vec<Sign>) -> io::Result<Self> {
        let server = Self {
            address: ([127, 0, 0, 1], port).into(),
            guard,
            signs,
        };
        server.wait()?;
        Ok(server)
    }

    /// Ends the server at once, whatever it does; its objects stay.
    ///
    /// # Errors
    /// When it cannot be told so.
    pub fn stop(&self) -> io::Result<()> {
        self.guard.tell("stop")
    }

    /// Starts it again, where it was.
    ///
    /// # Errors
    /// When it cannot be told so, or does not come up.
    pub fn start_again(&self) -> io::Result<()> {
        self.guard.tell("start")?;
        self.wait()
    }

    /// In a moment these keys of [`policy`] may not do this any more, an action without its `s3:`;
    /// with `None`, what they might at first. SeaweedFS alone.
    ///
    /// # Errors
    /// When it cannot be told so.
    pub fn forbid(&self, keys: Keys, action: Option<&str>) -> io::Result<()> {
        let mut limited = policy::LIMITED;
        for (of, what) in &mut limited {
            if let Some(action) = action
                && *of == keys
            {
                *what = action;
            }
        }
        let file = self.guard.folder().join(seaweedfs::IDENTITIES);
        std::fs::write(file, seaweedfs::identities(&limited))?;
        self.guard.tell("reload")
    }

    /// Waits until all signs are there.
    fn wait(&self) -> io::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        for (port, path, text) in &self.signs {
            while !get(*port, path).contains(text) {
                if Instant::now() > deadline {
                    let folder = self.guard.folder().display();
                    return Err(io::Error::other(format!("{folder}: {}", self.guard.log())));
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// The process that all of the server's are below.
    pub fn id(&self) -> i32 {
        self.guard.id()
    }

    /// Where it listens, on loopback.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without TLS.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Credentials that may do everything.
    pub fn admin(&self) -> Keys {
        ADMIN
    }
}

fn started(name: &str, server: io::Result<S3Server>) -> S3Server {
    match server {
        Ok(server) => server,
        Err(error) => panic!("no {name} for the tests: {error}"),
    }
}

/// A server's program: of `AEGIS_S3_BIN`, or of what `make tools` installed.
fn program(name: &str) -> io::Result<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/s3/bin");
    let named = std::env::var_os("AEGIS_S3_BIN").map(PathBuf::from);
    named
        .into_iter()
        .chain([installed])
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            let hint = "run `make tools`, or set AEGIS_S3_BIN to its folder";
            io::Error::other(format!("found no {name}; {hint}"))
        })
}

/// The whole answer to a plain GET, empty when there is none.
fn get(port: u16, path: &str) -> String {
    let ask = || -> io::Result<String> {
        let mut connection = TcpStream::connect(("127.0.0.1", port))?;
        connection.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(connection, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn servers_refuse_strangers_and_leave_nothing_behind() {
        for start in [|| seaweedfs::start(None), juicefs::start] {
            let server = start().unwrap();
            let port = server.address().port();
            let answer = get(port, "/");
            assert!(answer.contains(" 403 "), "{answer}");
            server.stop().unwrap();
            server.start_again().unwrap();
            let folder = server.guard.folder().to_owned();
            drop(server);
            assert!(!folder.is_dir());
            // The port is free again: nothing listens.
            TcpListener::bind(("127.0.0.1", port)).unwrap();
        }
    }
}
