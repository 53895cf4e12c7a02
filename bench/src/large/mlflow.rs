//! The newest of ten thousand, of MLflow's tracking server and of ours: one client, one machine,
//! as many rows, measured the same way.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use aegis_tests::{client::Client, process::Process};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{
    Plan,
    cost::{self, Cost, ms},
    goals::Goals,
    lists::PAGE,
    store::{Backend, Mesh, Size, Store},
};
use crate::LIMIT;

const SCANS: u64 = 10_000;
/// Requests of each question to each server.
const REQUESTS: usize = 100;
/// How many processes MLflow's server has; the best of these counts. Its own default is 4.
const WORKERS: [u32; 3] = [1, 2, 4];
const LOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mlflow/mlflow.lock");
const RUNS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/mlflow/runs.py");
/// What is asked of both, in the words of each.
const QUESTIONS: [(&str, &str, &str); 2] = [
    ("newest 20", "", ""),
    (
        "newest 20 of a team",
        "filter.labels.team=team-3",
        "tags.team = 'team-3'",
    ),
];

pub(super) async fn compare(plan: &Plan, keep: &Path, goals: &mut Goals) -> Result<()> {
    let size = Size {
        backend: Backend::Sqlite,
        scans: SCANS,
    };
    let store = Store::open(&plan.aegis, keep, size).await?;
    let mesh = store.start().await?;
    let mut ours = Vec::new();
    for (_, filter, _) in QUESTIONS {
        ours.push(of_ours(&mesh, filter).await?);
    }
    mesh.stop()?;
    let database = filled(&plan.python, keep)?;
    for ((what, _, filter), ours) in QUESTIONS.iter().zip(ours) {
        let (workers, theirs) = best(&plan.python, &database, filter).await?;
        let ratio = |of: fn(&Cost) -> Duration| ms(of(&ours)) / ms(of(&theirs));
        goals.note(
            &format!(
                "{what} of 10,000, SQLite: Aegis to MLflow's server of {workers} workers, its best"
            ),
            &format!(
                "p50 {:.3}, p99 {:.3}, CPU {:.3} times: {} to {}",
                ratio(|cost| cost.p50),
                ratio(|cost| cost.p99),
                ratio(|cost| cost.cpu),
                ours.said(),
                theirs.said()
            ),
        );
    }
    Ok(())
}

async fn of_ours(mesh: &Mesh, filter: &str) -> Result<Cost> {
    let path = format!("/v1/scans?pageSize={PAGE}&{filter}");
    let ask = async || {
        let page = mesh.client().get(&path).await?.ok()?;
        full(&page, "scans")
    };
    cost::measure(REQUESTS, &[mesh.id()], None, ask).await
}

/// By the number of workers with the lowest median.
async fn best(python: &Path, database: &Path, filter: &str) -> Result<(u32, Cost)> {
    let mut best: Option<(u32, Cost)> = None;
    for workers in WORKERS {
        let server = Server::start(python, database, workers).await?;
        let cost = server.cost(filter).await?;
        println!("MLflow, {workers} workers, {filter:?}: {}", cost.said());
        if best.as_ref().is_none_or(|(_, best)| cost.p50 < best.p50) {
            best = Some((workers, cost));
        }
    }
    best.context("some number of workers")
}

/// A database with as many runs; made when it is not there.
fn filled(python: &Path, keep: &Path) -> Result<PathBuf> {
    let folder = std::path::absolute(keep.join(format!("mlflow-{SCANS}")))?;
    let (database, complete) = (folder.join("mlflow.db"), folder.join("complete"));
    if !complete.try_exists()? {
        std::fs::create_dir_all(&folder)?;
        let status = command(python)?
            .arg(RUNS)
            .arg(format!("sqlite:///{}", database.display()))
            .arg(SCANS.to_string())
            .current_dir(&folder)
            .status()?;
        if !status.success() {
            bail!("{RUNS}: {status}");
        }
        std::fs::write(complete, "")?;
    }
    Ok(database)
}

fn command(python: &Path) -> Result<Command> {
    if !python.try_exists()? {
        bail!(
            "{} is missing: `make bench-large` installs it, of {LOCK}",
            python.display()
        );
    }
    let mut command = Command::new(python);
    // It is measured at rest but for the requests, and tells nobody.
    command
        .env("MLFLOW_DISABLE_TELEMETRY", "true")
        .env("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false");
    Ok(command)
}

/// MLflow's tracking server.
struct Server {
    process: Process,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start(python: &Path, database: &Path, workers: u32) -> Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::tempdir()?;
        let mut command = command(&std::path::absolute(python)?)?;
        command
            .args(["-m", "mlflow", "server", "--host", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .args(["--workers", &workers.to_string()])
            .args([
                "--backend-store-uri",
                &format!("sqlite:///{}", database.display()),
            ])
            .current_dir(folder.path());
        let server = Self {
            process: Process::start("mlflow", &mut command, folder.path())?,
            client: Client::new(&format!("http://127.0.0.1:{port}"))?,
            _folder: folder,
        };
        let until = Instant::now() + LIMIT;
        while server.search("").await.is_err() {
            if Instant::now() > until {
                bail!("MLflow does not answer:\n{}", server.process.log_end()?);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(server)
    }

    async fn cost(&self, filter: &str) -> Result<Cost> {
        let ask = async || full(&self.search(filter).await?, "runs");
        // Each of its workers has answered some before they are measured.
        for _ in 0..5 * WORKERS[2] {
            ask().await?;
        }
        cost::measure(REQUESTS, &[self.process.id()], None, ask).await
    }

    async fn search(&self, filter: &str) -> Result<Value> {
        let search = json!({
            "experiment_ids": ["1"],
            "filter": filter,
            "max_results": PAGE,
            "order_by": ["attributes.start_time DESC"],
        });
        let answer = self.client.post("/api/2.0/mlflow/runs/search", &search);
        answer.await?.ok()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its workers end with it; killed, it would leave them.
        let asked = self.process.signal(nix::sys::signal::Signal::SIGTERM);
        let ended = self.process.ended(Duration::from_secs(30));
        if let Err(error) = asked.and(ended.map(drop)) {
            eprintln!("MLflow's server: {error:#}");
        }
    }
}

fn full(page: &Value, rows: &str) -> Result<()> {
    let rows = page[rows].as_array().map_or(0, Vec::len);
    anyhow::ensure!(rows == PAGE, "{rows} rows");
    Ok(())
}
