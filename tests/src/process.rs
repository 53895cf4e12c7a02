//! Processes of ours, started and ended by the test run.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// A binary of the workspace, built as this program: beside it, or a folder above that of a test.
///
/// # Errors
/// When it was not built: `cargo build --workspace --bins` comes first.
pub fn binary(name: &str) -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let mut folders = program.ancestors().skip(1).take(2);
    let built = folders.find(|folder| folder.join(name).is_file());
    let folder = built.with_context(|| {
        format!(
            "{name} is missing near {}: cargo build --workspace --bins",
            program.display()
        )
    })?;
    Ok(folder.join(name))
}

/// The Python that has garak, as `make` installs it.
///
/// # Errors
/// When it is not there, saying what installs it.
pub fn garak_python() -> Result<PathBuf> {
    let path = match std::env::var_os("AEGIS_GARAK_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/garak/bin/python"),
    };
    if !path.try_exists()? {
        bail!("{} is missing: `make tools` installs garak", path.display());
    }
    Ok(path)
}

/// A process that is killed when dropped, if it still runs.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command; its standard error goes to a file in `logs`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // One that is started again goes on with its log.
            .stderr(
                std::fs::File::options()
                    .create(true)
                    .append(true)
                    .open(&log)?,
            )
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let name = name.to_owned();
        Ok(Self { name, child, log })
    }

    /// The first line of its standard output that begins with `prefix`, without it.
    ///
    /// # Errors
    /// When it ends before it says so; the error has its log's end.
    pub fn said(&mut self, prefix: &str) -> Result<String> {
        let Some(stdout) = self.child.stdout.take() else {
            bail!("{} was listened to before", self.name);
        };
        let mut lines = BufReader::new(stdout);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if let Some(rest) = line.strip_prefix(prefix) {
                let rest = rest.trim().to_owned();
                drain(lines);
                return Ok(rest);
            }
            line.clear();
        }
        bail!(
            "{} ended without {prefix:?}:\n{}",
            self.name,
            self.log_end()?
        )
    }

    /// Process id.
    pub fn id(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.id()), signal).with_context(|| format!("{signal} to {}", self.name))
    }

    /// Ends it at once, as a crash would.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// When it cannot be asked for.
    pub fn status(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`; the error has its log's end.
    pub fn ended(&mut self, limit: Duration) -> Result<ExitStatus> {
        let until = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                bail!(
                    "{} still runs after {limit:?}:\n{}",
                    self.name,
                    self.log_end()?
                );
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The lines of its standard error that have this text.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn lines_with(&self, text: &str) -> Result<Vec<String>> {
        let log = std::fs::read_to_string(&self.log)?;
        let lines = log.lines().filter(|line| line.contains(text));
        Ok(lines.map(str::to_owned).collect())
    }

    /// The last lines of its standard error.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log_end(&self) -> Result<String> {
        let text = std::fs::read_to_string(&self.log)?;
        let lines: Vec<_> = text.lines().collect();
        Ok(lines[lines.len().saturating_sub(40)..].join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended is what we want; anything else cannot be mended here.
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A full pipe would stop the process: what it says further on is read away.
fn drain(mut lines: BufReader<ChildStdout>) {
    std::thread::spawn(move || {
        let mut sink = [0; 4096];
        while matches!(lines.read(&mut sink), Ok(read) if read > 0) {}
    });
}
