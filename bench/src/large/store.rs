//! Databases with scans in them, and meshes that are started on them.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use aegis_testkit::{Postgres, S3Server};
use aegis_tests::{
    client::Client,
    process::{Process, garak_python},
};
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::Signal;
use sea_orm::{Database, DatabaseConnection};

use super::rows;
use crate::{LIMIT, process};

/// Which database is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
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

/// So many scans in a database of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Size {
    pub(crate) backend: Backend,
    pub(crate) scans: u64,
}

impl Size {
    pub(crate) fn label(self) -> String {
        let scans = match self.scans {
            ..1_000_000 => format!("{} k", self.scans / 1_000),
            many => format!("{} M", many / 1_000_000),
        };
        format!("{scans} scans, {}", self.backend.name())
    }
}

/// A folder with a data directory and, if it is that, PostgreSQL's.
pub(crate) struct Store {
    aegis: PathBuf,
    folder: PathBuf,
    postgres: Option<Postgres>,
}

impl Store {
    /// That of the size below `keep`; made, or completed, when it is not there.
    pub(crate) async fn open(aegis: &Path, keep: &Path, size: Size) -> Result<Self> {
        let name = format!("{}-{}", size.backend.name().to_lowercase(), size.scans);
        let folder = keep.join(name);
        let complete = folder.join("complete");
        let is_there = complete.try_exists()?;
        std::fs::create_dir_all(&folder)?;
        let postgres = match size.backend {
            Backend::Sqlite => None,
            Backend::Postgres => Some(Postgres::kept(&folder.join("postgres"))?),
        };
        let store = Self {
            aegis: aegis.to_owned(),
            folder,
            postgres,
        };
        if !is_there {
            store.start().await?.stop()?;
            let begun = Instant::now();
            let database = store.connect().await?;
            rows::fill(&database, size.backend, size.scans).await?;
            database.close().await?;
            std::fs::write(complete, "")?;
            println!("{}: made in {:.0?}", size.label(), begun.elapsed());
        }
        Ok(store)
    }

    /// The database itself, while no mesh uses it.
    async fn connect(&self) -> Result<DatabaseConnection> {
        let url = match &self.postgres {
            Some(postgres) => postgres.url(),
            None => format!("sqlite:{}", self.file()?.display()),
        };
        let mut options = sea_orm::ConnectOptions::new(url);
        // Its settings belong to its connection.
        options
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .sqlx_logging(false);
        Ok(Database::connect(options).await?)
    }

    /// SQLite's file, wherever below the data directory it is.
    fn file(&self) -> Result<PathBuf> {
        let mut folders = vec![self.folder.join("data")];
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
        bail!("no catalog.db below {}", self.folder.display())
    }

    /// `aegis up` on it; ready once every index is there and garak has warmed up.
    pub(crate) async fn start(&self) -> Result<Mesh> {
        let mut command = up(&self.aegis, &self.folder.join("data"))?;
        if let Some(postgres) = &self.postgres {
            command.env("AEGIS_UP__CATALOG__DATABASE_URL", postgres.url());
        }
        let mesh = Mesh::start(command, &self.folder).await?;
        mesh.indexed().await?;
        Ok(mesh)
    }

    /// The database's processes are below this one.
    pub(crate) fn server(&self) -> Option<i32> {
        self.postgres.as_ref().map(Postgres::id)
    }
}

fn up(aegis: &Path, data: &Path) -> Result<Command> {
    let mut command = Command::new(aegis);
    command
        .args(["up", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .arg("--garak-python")
        .arg(garak_python()?);
    Ok(command)
}

/// A mesh in one process.
pub(crate) struct Mesh {
    process: Process,
    client: Client,
}

impl Mesh {
    /// One with nothing in it; reports lie in a directory, or on an S3 server.
    pub(crate) async fn empty(aegis: &Path, folder: &Path, s3: Option<&S3Server>) -> Result<Self> {
        let mut command = up(aegis, &folder.join("data"))?;
        if let Some(s3) = s3 {
            let keys = s3.admin();
            command
                .env("STORAGE_BACKEND", "minio")
                .env("MINIO_ENDPOINT", s3.endpoint())
                .env("MINIO_ACCESS_KEY", keys.access)
                .env("MINIO_SECRET_KEY", keys.secret);
        }
        Self::start(command, folder).await
    }

    async fn start(mut command: Command, logs: &Path) -> Result<Self> {
        let mut process = Process::start("aegis", &mut command, logs)?;
        let client = Client::new(&process.said("ready ")?)?;
        let mesh = Self { process, client };
        mesh.wait("/v1/plugins/buffs").await?;
        mesh.rests().await?;
        Ok(mesh)
    }

    /// Waits until nothing but what is always done is done: garak goes on for a while after its
    /// catalogue is published.
    async fn rests(&self) -> Result<()> {
        const LOOK: Duration = Duration::from_secs(1);
        let until = Instant::now() + LIMIT;
        let mut before = process::cpu_of_tree(self.id())?;
        loop {
            tokio::time::sleep(LOOK).await;
            let now = process::cpu_of_tree(self.id())?;
            if now.saturating_sub(before) < LOOK / 20 {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("the mesh does not come to rest");
            }
            before = now;
        }
    }

    pub(crate) fn id(&self) -> i32 {
        self.process.id()
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Waits until no order is refused for its index.
    async fn indexed(&self) -> Result<()> {
        for order in [
            "START_TIME",
            "END_TIME",
            "TARGET",
            "PASS_RATE",
            "DURATION",
            "STATE",
        ] {
            self.wait(&format!("/v1/scans?pageSize=1&orderBy=SCAN_ORDER_{order}"))
                .await?;
        }
        Ok(())
    }

    /// Waits until something is answered.
    async fn wait(&self, path: &str) -> Result<()> {
        let until = Instant::now() + LIMIT;
        loop {
            let answer = self.client.get(path).await?;
            if answer.status.is_success() {
                return Ok(());
            }
            if Instant::now() > until {
                bail!("{path}: {answer:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub(crate) fn stop(mut self) -> Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        let status = self.process.ended(Duration::from_secs(60))?;
        status.success().then_some(()).context("did not stop well")
    }
}
