//! A throw-away PostgreSQL: one server for a test process, one database for a test.
//!
//! The server is the child of a small shell that reads its standard input: `stop` and `start` as
//! it is told, and when the pipe ends, which it does with the test process however that ends
//! (`kill -9` included), the shell stops the server and removes its folder, unless its data is to
//! stay. No orphan, and no unsafe code.

use std::{
    io::{self, Write},
    net::SocketAddr,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use nix::unistd::{User, geteuid};

use crate::{disk::Disk, guard::free_ports};

/// What is needed of it. A folder in PATH may have links to some of them only.
const PROGRAMS: [&str; 5] = ["initdb", "postgres", "createdb", "dropdb", "pg_isready"];

/// How long the server may take to come up on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// `$1` the folder with the programs, `$2` that of the data, `$3` the port, `$4` what becomes of the
/// data, `$5` more settings, none of which has a space in it.
///
/// QUIT ends the server at once, as a crash would. What it acknowledged is in its log then: without
/// fsync that would not survive a loss of power, but the end of a process.
const GUARD: &str = r#"
programs=$1 data=$2 port=$3 after=$4 more=$5
start() {
    "$programs/postgres" -D "$data" -p "$port" -h 127.0.0.1 -k "" \
        -c fsync=off -c full_page_writes=off \
        -c max_connections=300 -c shared_buffers=32MB -c log_min_messages=fatal $more \
        </dev/null >>"$data/server.log" 2>&1 &
    server=$!
}
stop() {
    kill -"${1:-QUIT}" "$server"
    wait "$server"
}
start
while read -r word; do "$word"; done
if [ "$after" = keep ]; then
    stop INT
else
    stop
    rm -rf "$data"
fi
"#;

/// `$1` a folder on whose place the rest, a command, has a disk: goes with it.
const AND_DISK: &str = r#"
folder=$1
shift
"$@"
umount -l "$folder"
rmdir "$folder"
"#;

/// Settings of a server whose data stays: one that has some memory of its own.
const KEPT: &str = "-c shared_buffers=512MB -c maintenance_work_mem=512MB -c max_wal_size=256MB \
    -c synchronous_commit=off -c wal_level=minimal -c max_wal_senders=0";

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    port: u16,
    databases: AtomicU32,
    disk: Option<Disk>,
    /// Its standard input holds the server alive.
    guard: Child,
}

impl Postgres {
    /// The server of this process; started by the first who asks.
    ///
    /// # Panics
    /// When there is no PostgreSQL on the machine (`apt-get install postgresql`, or set
    /// `AEGIS_POSTGRES_BIN` to the folder of `initdb`), or it does not start. A test that
    /// needs it cannot go on.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| match Self::start() {
            Ok(postgres) => postgres,
            Err(error) => panic!("no PostgreSQL for the tests: {error}"),
        })
    }

    /// Starts a server of its own; it ends with this value or this process.
    ///
    /// # Errors
    /// What could not be found, made or started.
    pub fn start() -> io::Result<Self> {
        Self::start_with(None)
    }

    /// Starts a server whose data stays in `folder`; made when it is not there. It ends with this
    /// value or this process, and may be started again.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn kept(folder: &Path) -> io::Result<Self> {
        let programs = programs()?;
        let folder = std::path::absolute(folder)?;
        if !folder.join("PG_VERSION").try_exists()? {
            std::fs::create_dir_all(&folder)?;
            own(&folder)?;
            init(&programs, &folder)?;
        }
        Self::launch(programs, &folder, "keep", KEPT, None)
    }

    /// Starts a server that speaks TLS with this certificate and key, both PEM, and with nobody
    /// otherwise.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with_tls(certificate: &str, key: &str) -> io::Result<Self> {
        Self::start_with(Some((certificate, key)))
    }

    /// Starts a server that has another disk besides, of so many MiB: tablespaces may lie there.
    ///
    /// # Errors
    /// As [`Postgres::start`].
    pub fn start_with_disk(mib: u64) -> io::Result<Self> {
        let programs = programs()?;
        let data = data_folder()?;
        init(&programs, &data)?;
        let disk = Disk::at(&data_folder()?, mib).of(nobody()?);
        Self::launch(programs, &data, "remove", "", Some(disk))
    }

    fn start_with(tls: Option<(&str, &str)>) -> io::Result<Self> {
        let programs = programs()?;
        let data = data_folder()?;
        init(&programs, &data)?;
        let settings = match tls {
            Some((certificate, key)) => {
                secure(&data, certificate, key)?;
                "-c ssl=on"
            }
            None => "",
        };
        Self::launch(programs, &data, "remove", settings, None)
    }

    fn launch(
        programs: PathBuf,
        data: &Path,
        then: &str,
        settings: &str,
        disk: Option<Disk>,
    ) -> io::Result<Self> {
        let [port] = free_ports()?;
        let shell = Path::new("/bin/sh");
        let guard = match &disk {
            None => as_nobody(shell)?,
            Some(disk) => disk.given_to(&nobody_with(disk, shell)?),
        }
        .args(["-c", GUARD, "postgres-guard"])
        .arg(&programs)
        .arg(data)
        .arg(port.to_string())
        .args([then, settings])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A Ctrl-C for the tests must not reach the guard before its pipe ends.
        .process_group(0)
        .spawn()?;
        let postgres = Self {
            programs,
            port,
            databases: AtomicU32::new(0),
            disk,
            guard,
        };
        postgres.wait_until_ready()?;
        Ok(postgres)
    }

    /// Makes an empty database.
    ///
    /// # Panics
    /// When the server is gone.
    pub fn create_database(&self) -> TestDatabase<'_> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let mut createdb = self.client("createdb");
        createdb.arg(&name);
        if let Err(error) = succeed(createdb) {
            panic!("cannot make a database: {error}");
        }
        TestDatabase { server: self, name }
    }

    /// A program that comes with the server.
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Where it listens, on loopback.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Where the database `postgres` is, which every server has, as its superuser.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// The disk of a server that was started with one.
    pub fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// The process that all of the server's are below.
    pub fn id(&self) -> i32 {
        self.guard.id().cast_signed()
    }

    /// Ends the server at once, whatever it does; its databases stay.
    ///
    /// # Errors
    /// When it cannot be told so, or does not end.
    pub fn stop(&self) -> io::Result<()> {
        self.tell("stop")?;
        until(|| match succeed(self.client("pg_isready")) {
            Ok(()) => Err(io::Error::other("the server goes on")),
            Err(_) => Ok(()),
        })
    }

    /// Starts it again, where it was.
    ///
    /// # Errors
    /// When it cannot be told so, or does not come up.
    pub fn start_again(&self) -> io::Result<()> {
        self.tell("start")?;
        self.wait_until_ready()
    }

    fn tell(&self, word: &str) -> io::Result<()> {
        let gone = || io::Error::from(io::ErrorKind::BrokenPipe);
        let mut pipe = self.guard.stdin.as_ref().ok_or_else(gone)?;
        writeln!(pipe, "{word}")
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .args(["-h", "127.0.0.1", "-U", "postgres", "-p"])
            .arg(self.port.to_string());
        command
    }

    fn wait_until_ready(&self) -> io::Result<()> {
        until(|| succeed(self.client("pg_isready")))
    }
}

/// Looks until it is so.
fn until(is_so: impl Fn() -> io::Result<()>) -> io::Result<()> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let Err(error) = is_so() else {
            return Ok(());
        };
        if Instant::now() > deadline {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A database of one test; dropped with this value.
#[derive(Debug)]
pub struct TestDatabase<'a> {
    server: &'a Postgres,
    name: String,
}

impl TestDatabase<'_> {
    /// Where it is, as its superuser.
    pub fn url(&self) -> String {
        self.url_as("postgres")
    }

    /// Where it is, as another role.
    pub fn url_as(&self, role: &str) -> String {
        let Self { server, name } = self;
        format!("postgres://{role}@127.0.0.1:{}/{name}", server.port)
    }

    /// Its name; no other database of the server has it.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestDatabase<'_> {
    fn drop(&mut self) {
        let mut dropdb = self.server.client("dropdb");
        dropdb.args(["--force", "--if-exists", &self.name]);
        // The server's end takes with it what is left.
        if let Err(error) = succeed(dropdb) {
            eprintln!("a test's database stays for now: {error}");
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        if let Err(error) = self.guard.wait() {
            eprintln!("the PostgreSQL of a test cannot be waited for: {error}");
        }
    }
}

/// The newest PostgreSQL of the machine.
fn programs() -> io::Result<PathBuf> {
    let named = std::env::var_os("AEGIS_POSTGRES_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path);
    let mut debian: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .collect();
    debian.sort();
    named
        .into_iter()
        .chain(in_path)
        .chain(debian.into_iter().rev())
        .find(|folder| {
            PROGRAMS
                .iter()
                .all(|program| folder.join(program).is_file())
        })
        .ok_or_else(|| {
            io::Error::other("found no initdb; install postgresql or set AEGIS_POSTGRES_BIN")
        })
}

/// Whom the server runs as: PostgreSQL refuses root.
fn nobody() -> io::Result<Option<User>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = User::from_name("nobody")?;
    user.map(Some)
        .ok_or_else(|| io::Error::other("there is no user nobody to run PostgreSQL as"))
}

fn as_nobody(program: &Path) -> io::Result<Command> {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some(user) = nobody()? {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    Ok(command)
}

/// The same of a server with a disk. Who mounts it may not be nobody yet; its folder goes at the end.
fn nobody_with(disk: &Disk, program: &Path) -> io::Result<Command> {
    let mut command = Command::new("/bin/sh");
    command
        .current_dir("/")
        .args(["-c", AND_DISK, "and-disk"])
        .arg(disk.folder());
    match nobody()? {
        Some(User { uid, gid, .. }) => command
            .args(["setpriv", "--clear-groups"])
            .args([format!("--reuid={uid}"), format!("--regid={gid}")]),
        // Root of a user namespace alone, and itself again in one below.
        None => command.args(["unshare".to_owned(), format!("--map-user={}", geteuid())]),
    };
    command.arg(program);
    Ok(command)
}

fn data_folder() -> io::Result<PathBuf> {
    let folder = tempfile::Builder::new()
        .prefix("aegis-postgres-")
        .tempdir()?
        // The guard removes it: it outlives this process for a moment.
        .keep();
    own(&folder)?;
    Ok(folder)
}

/// Makes a folder the server's alone.
fn own(folder: &Path) -> io::Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    if let Some(user) = nobody()? {
        chown(folder, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
    }
    Ok(())
}

fn init(programs: &Path, data: &Path) -> io::Result<()> {
    let mut initdb = as_nobody(&programs.join("initdb"))?;
    initdb
        .args(["-U", "postgres", "-A", "trust", "-E", "UTF8"])
        .args(["--locale=C", "--no-sync", "-D"])
        .arg(data);
    succeed(initdb)
}

/// The server's certificate and key where it looks for them, and only TLS over TCP.
fn secure(data: &Path, certificate: &str, key: &str) -> io::Result<()> {
    // pg_isready asks no database, and needs none of these lines.
    const ONLY_TLS: &str = "hostssl all all 127.0.0.1/32 trust\n";
    for (name, content) in [
        ("server.crt", certificate),
        ("server.key", key),
        ("pg_hba.conf", ONLY_TLS),
    ] {
        let file = data.join(name);
        std::fs::write(&file, content)?;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600))?;
        if let Some(user) = nobody()? {
            chown(&file, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
    }
    Ok(())
}

fn succeed(mut command: Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let program = command.get_program().to_string_lossy().into_owned();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(io::Error::other(format!(
        "{program}: {}: {said}",
        output.status
    )))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_gives_databases_and_leaves_nothing_behind() {
        let postgres = Postgres::start().unwrap();
        let first = postgres.create_database();
        let second = postgres.create_database();
        assert_ne!(first.url(), second.url());
        let reindex = || {
            let mut reindexdb = postgres.client("reindexdb");
            reindexdb.arg("test_1");
            succeed(reindexdb)
        };
        reindex().unwrap();
        drop((first, second));
        assert!(reindex().is_err());
        let port = postgres.port;
        drop(postgres);
        // The port is free again: nothing listens.
        TcpListener::bind(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn what_is_kept_is_there_again() {
        // Not in a temporary folder's own: the server's user must get through to it.
        let folder = data_folder().unwrap();
        let createdb = |server: &Postgres| {
            let mut createdb = server.client("createdb");
            createdb.arg("stays");
            succeed(createdb)
        };
        let postgres = Postgres::kept(&folder).unwrap();
        createdb(&postgres).unwrap();
        drop(postgres);
        let postgres = Postgres::kept(&folder).unwrap();
        let error = createdb(&postgres).unwrap_err().to_string();
        assert!(error.contains("already exists"), "{error}");
        drop(postgres);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
