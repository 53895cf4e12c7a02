//! A database that outlives the meshes that are started on it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use aegis_testkit::{Postgres, TestDatabase};
use aegis_tests::{
    client::Client,
    process::{Process, garak_python},
};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use sea_orm::{Database, DatabaseConnection};
use tempfile::TempDir;

/// Building the indexes of a million scans.
const INDEXED_WITHIN: Duration = Duration::from_secs(1_800);

/// Which database is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// The embedded one
    Sqlite,
    /// The one of production
    Postgres,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// Where the rows are.
pub(crate) struct Store {
    aegis: PathBuf,
    data: TempDir,
    database: Option<TestDatabase<'static>>,
}

impl Store {
    /// Makes the database and its schema.
    pub(crate) async fn make(aegis: &Path, backend: Backend) -> Result<Self> {
        let database = (backend == Backend::Postgres).then(|| Postgres::shared().create_database());
        let store = Self {
            aegis: aegis.to_owned(),
            data: tempfile::tempdir_in(".data")?,
            database,
        };
        store.start().await?.stop()?;
        Ok(store)
    }

    /// The database itself, while no mesh uses it.
    pub(crate) async fn open(&self) -> Result<DatabaseConnection> {
        let url = match &self.database {
            Some(database) => database.url(),
            None => format!("sqlite:{}", self.file()?.display()),
        };
        let mut options = sea_orm::ConnectOptions::new(url);
        options.max_connections(1).sqlx_logging(false);
        Ok(Database::connect(options).await?)
    }

    /// SQLite's file, wherever below the data directory it is.
    fn file(&self) -> Result<PathBuf> {
        let mut folders = vec![self.data.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder)? {
                let path = entry?.path();
                if path.ends_with("catalog.db") {
                    return Ok(path);
                }
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        bail!("no catalog.db below {}", self.data.path().display())
    }

    /// `aegis up` on it; ready once every index is there.
    pub(crate) async fn start(&self) -> Result<Mesh> {
        let mut command = Command::new(&self.aegis);
        command
            .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(self.data.path().join("data"))
            .arg("--garak-python")
            .arg(garak_python()?);
        if let Some(database) = &self.database {
            command.env("AEGIS_UP__CATALOG__DATABASE_URL", database.url());
        }
        let mut process = Process::start("aegis", &mut command, self.data.path())?;
        let client = Client::new(&process.said("ready ")?)?;
        let mesh = Mesh { process, client };
        mesh.indexed().await?;
        Ok(mesh)
    }
}

/// A mesh on the database.
pub(crate) struct Mesh {
    process: Process,
    client: Client,
}

impl Mesh {
    pub(crate) fn id(&self) -> i32 {
        self.process.id()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until no order is refused for its index.
    async fn indexed(&self) -> Result<()> {
        let until = Instant::now() + INDEXED_WITHIN;
        for order in [
            "START_TIME",
            "END_TIME",
            "TARGET",
            "PASS_RATE",
            "DURATION",
            "STATE",
        ] {
            let path = format!("/v1/scans?pageSize=1&orderBy=SCAN_ORDER_{order}");
            loop {
                let answer = self.client.get(&path).await?;
                if answer.status.is_success() {
                    break;
                }
                if Instant::now() > until {
                    bail!("{order} is not indexed: {answer:?}");
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        Ok(())
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.ended(Duration::from_secs(60))?;
        status.success().then_some(()).context("did not stop well")
    }
}
