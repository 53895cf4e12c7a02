//! A mesh of real processes, in both ways to run it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use aegis_testkit::{Keys, Postgres, S3Server, TestDatabase, free_ports};
use anyhow::{Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    client::Client,
    process::{Process, binary, garak_python},
};

/// Longest wait for garak to warm up and, the first time, to be surveyed.
const WARM_UP: Duration = Duration::from_secs(180);

/// The ways to run a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// `aegis up`.
    OneProcess,
    /// Five binaries over TCP, on PostgreSQL and an S3 server.
    FiveProcesses,
}

impl Way {
    /// Both.
    pub const ALL: [Self; 2] = [Self::OneProcess, Self::FiveProcesses];

    /// For a test's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::OneProcess => "one_process",
            Self::FiveProcesses => "five_processes",
        }
    }
}

/// A running mesh. Its processes end with it.
#[derive(Debug)]
pub struct Mesh {
    client: Client,
    /// In the order in which they are stopped.
    processes: Vec<Process>,
    data: TempDir,
    /// Goes after the processes that use it.
    _database: Option<TestDatabase<'static>>,
}

/// Orchestrator settings that let bad luck show in seconds.
const IMPATIENT: [(&str, &str); 6] = [
    ("TARGET_PATIENCE_SECONDS", "2"),
    ("LANE_PAUSE_SECONDS", "1"),
    ("MAX_BACKPRESSURE_SECONDS", "3"),
    ("MAX_OUTAGE_SECONDS", "3"),
    ("BACKOFF_SECONDS", "0"),
    ("REAPER_PERIOD_SECONDS", "1"),
];

impl Mesh {
    /// Starts a mesh in a data directory of its own and waits until it can scan.
    ///
    /// # Errors
    /// When a process does not start, or garak does not warm up.
    pub async fn start(way: Way) -> Result<Self> {
        match way {
            Way::OneProcess => {
                let data = data()?;
                let (base, processes) = one_process(data.path())?;
                Self::warm(&base, processes, data, None).await
            }
            Way::FiveProcesses => {
                let server = S3Server::seaweedfs();
                Self::start_on(server, server.admin(), &bucket()).await
            }
        }
    }

    /// The five binaries, whose objects lie in this bucket and are asked for with these keys.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(server: &S3Server, keys: Keys, bucket: &str) -> Result<Self> {
        let (data, database) = (data()?, Postgres::shared().create_database());
        let objects = [
            ("MINIO__ENDPOINT", server.endpoint()),
            ("MINIO__ACCESS_KEY", keys.access.to_owned()),
            ("MINIO__SECRET_KEY", keys.secret.to_owned()),
            ("MINIO__BUCKET", bucket.to_owned()),
        ];
        let (base, processes) = five_processes(data.path(), &database.url(), &objects)?;
        Self::warm(&base, processes, data, Some(database)).await
    }

    async fn warm(
        base: &str,
        processes: Vec<Process>,
        data: TempDir,
        database: Option<TestDatabase<'static>>,
    ) -> Result<Self> {
        let mesh = Self {
            client: Client::new(base)?,
            processes,
            data,
            _database: database,
        };
        if let Err(error) = warm(&mesh.client).await {
            let logs: Vec<_> = mesh.processes.iter().map(Process::log_end).collect();
            bail!("{error:#}\n{logs:#?}");
        }
        Ok(mesh)
    }

    /// Its HTTP API.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Where its files lie.
    pub fn data_dir(&self) -> &Path {
        self.data.path()
    }

    /// What its processes said of internal errors, whose answers name an id alone.
    pub fn internal_errors(&self) -> Vec<String> {
        let logs = self
            .processes
            .iter()
            .map(|process| process.lines_with("internal error"));
        logs.flat_map(|lines| lines.unwrap_or_else(|error| vec![error.to_string()]))
            .collect()
    }

    /// Stops it as an operator would, and looks that nothing is left.
    ///
    /// # Errors
    /// A process that does not stop in time or well, and one that outlives the mesh.
    pub fn stop(mut self) -> Result<()> {
        for process in &mut self.processes {
            process.signal(Signal::SIGTERM)?;
            let status = process.ended(Duration::from_secs(40))?;
            if !status.success() {
                bail!("ended with {status}:\n{}", process.log_end()?);
            }
        }
        let left = processes_of(self.data.path())?;
        if !left.is_empty() {
            bail!("processes outlive the mesh: {left:?}");
        }
        Ok(())
    }
}

fn data() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("aegis-e2e-").tempdir()?)
}

/// Waits until a plugin catalogue is published.
///
/// # Errors
/// When that takes longer than garak needs.
pub async fn warm(client: &Client) -> Result<()> {
    let until = Instant::now() + WARM_UP;
    loop {
        // Not listening yet is no answer, and no catalogue yet a refusal.
        let answer = client.get("/v1/plugins/buffs").await;
        if answer
            .as_ref()
            .is_ok_and(|answer| answer.status.is_success())
        {
            return Ok(());
        }
        if Instant::now() > until {
            bail!("garak did not warm up: {answer:?}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// `aegis up`, listening at `listen`, in a data directory below `data`.
///
/// # Errors
/// When the binary was not built, or garak is not installed.
pub fn aegis_up(data: &Path, listen: &str) -> Result<Command> {
    let mut command = Command::new(binary("aegis")?);
    command
        .args(["up", "--listen", listen, "--slots", "2", "--data-dir"])
        .arg(data.join("data"))
        .env("AEGIS_GARAK_PYTHON", garak_python()?)
        .env("AEGIS_UP__GARAK_RUNNER__CATALOGUE_DIR", catalogue_dir())
        .env("OPENAICOMPATIBLE_API_KEY", "k-e2e");
    for (name, value) in IMPATIENT {
        command.env(format!("AEGIS_UP__SCAN_ORCHESTRATOR__{name}"), value);
    }
    Ok(command)
}

fn one_process(data: &Path) -> Result<(String, Vec<Process>)> {
    let mut process = Process::start("aegis-up", &mut aegis_up(data, "127.0.0.1:0")?, data)?;
    let base = process.said("ready ")?;
    Ok((base, vec![process]))
}

fn five_processes(
    data: &Path,
    database_url: &str,
    objects: &[(&str, String)],
) -> Result<(String, Vec<Process>)> {
    let [gateway, orchestrator, runner, catalog, artifact] =
        free_ports()?.map(|port| format!("127.0.0.1:{port}"));
    let start = |name: &str, settings: &[(&str, &str)]| -> Result<Process> {
        let prefix = format!("AEGIS_{}__", name.to_uppercase().replace('-', "_"));
        let binary = format!("aegis-{name}");
        let mut command = Command::new(self::binary(&binary)?);
        for (key, value) in settings {
            command.env(format!("{prefix}{key}"), value);
        }
        command.env("OPENAICOMPATIBLE_API_KEY", "k-e2e");
        Process::start(&binary, &mut command, data)
    };
    let at = |address: &str| format!("http://{address}");
    let path = |name: &str| data.join(name).display().to_string();
    let (to_orchestrator, to_catalog, to_artifact) =
        (at(&orchestrator), at(&catalog), at(&artifact));
    let python = garak_python()?.display().to_string();
    let catalogue = catalogue_dir().display().to_string();
    let scratch = path("artifact");
    let mut store = vec![
        ("SERVER__LISTEN", artifact.as_str()),
        ("CATALOG__ADDRESS", &to_catalog),
        ("DATA_DIR", &scratch),
        ("STORAGE_BACKEND", "minio"),
    ];
    store.extend(objects.iter().map(|(key, value)| (*key, value.as_str())));
    let mut policy = vec![
        ("SERVER__LISTEN", orchestrator.as_str()),
        ("CATALOG__ADDRESS", to_catalog.as_str()),
        ("ARTIFACT__ADDRESS", to_artifact.as_str()),
    ];
    policy.extend(IMPATIENT);
    let processes = vec![
        // The runner first: it gives back what it has.
        start(
            "garak-runner",
            &[
                ("SERVER__LISTEN", &runner),
                ("ORCHESTRATOR__ADDRESS", &to_orchestrator),
                ("ARTIFACT__ADDRESS", &to_artifact),
                ("DATA_DIR", &path("runner")),
                ("CATALOGUE_DIR", &catalogue),
                ("GARAK_PYTHON", &python),
                ("SLOTS", "2"),
            ],
        )?,
        start(
            "gateway",
            &[
                ("LISTEN", &gateway),
                ("ORCHESTRATOR__ADDRESS", &to_orchestrator),
                ("CATALOG__ADDRESS", &to_catalog),
                ("ARTIFACT__ADDRESS", &to_artifact),
            ],
        )?,
        start("scan-orchestrator", &policy)?,
        start("artifact", &store)?,
        start(
            "catalog",
            &[("SERVER__LISTEN", &catalog), ("DATABASE_URL", database_url)],
        )?,
    ];
    Ok((at(&gateway), processes))
}

/// A bucket of this mesh's own, made by the artifact service.
pub(crate) fn bucket() -> String {
    format!("aegis-{}", uuid::Uuid::new_v4().simple())
}

/// Where the plugin catalogue of the installation is kept from run to run.
pub(crate) fn catalogue_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/catalogue")
}

/// Processes whose command line or working directory names this folder.
pub(crate) fn processes_of(folder: &Path) -> Result<Vec<String>> {
    let name = folder.display().to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let path = entry?.path();
        let is_process = path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().parse::<u32>().is_ok());
        if !is_process {
            continue;
        }
        // A process may end while it is looked at; then it is not left.
        let line = std::fs::read(path.join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        let at = std::fs::read_link(path.join("cwd")).unwrap_or_default();
        if line.contains(&name) || at.starts_with(folder) {
            found.push(line);
        }
    }
    Ok(found)
}
