//! What is measured, of whom, and how much it may grow.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt::Write,
    path::Path,
    time::{Duration, Instant},
};

use aegis_tests::{
    cluster::{Cluster, Running},
    usage::{self, Processes},
};
use anyhow::{Context, Result};
use sea_orm::{ConnectionTrait, DatabaseBackend, DatabaseConnection, QueryResult, Statement};
use tokio::time::interval;

use crate::judge::{Allowed, Sample, Verdict, judge};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(3);

/// Something that must not grow.
#[derive(Debug, Clone, Copy)]
struct Measure {
    name: &'static str,
    allowed: Allowed,
}

const fn measure(name: &'static str, part: f64, besides: f64) -> Measure {
    let allowed = Allowed { part, besides };
    Measure { name, allowed }
}

const MEMORY: Measure = measure("memory, KiB", 0.08, 2048.0);
const OPEN_FILES: Measure = measure("open files", 0.1, 4.0);
const THREADS: Measure = measure("threads", 0.1, 2.0);
const PROCESSES: Measure = measure("processes", 0.1, 1.0);
const SCRATCH_FILES: Measure = measure("scratch, files", 0.1, 4.0);
const SCRATCH_BYTES: Measure = measure("scratch, KiB", 0.2, 1024.0);
const CONNECTIONS: Measure = measure("connections", 0.1, 2.0);
const IDLE: Measure = measure("idle", 0.1, 2.0);
const IDLE_IN_TRANSACTION: Measure = measure("idle in transaction", 0.1, 1.0);
// History is bounded by retention, and waste by collection, so these are flat, too: as flat as the
// rate at which scans go through, which a machine that has other things to do changes.
const SCANS: Measure = measure("rows of scans", 0.3, 5.0);
const FILES: Measure = measure("rows of files", 0.3, 50.0);

const DATABASE: &str = "database";
/// All connections but the one that asks.
const ACTIVITY: &str = "
    SELECT COUNT(*) AS connections,
        COUNT(*) FILTER (WHERE state = 'idle') AS idle,
        COUNT(*) FILTER (WHERE state LIKE 'idle in transaction%') AS idle_in_transaction
    FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
const ROWS: &str = "
    SELECT (SELECT COUNT(*) FROM scans) AS scans, (SELECT COUNT(*) FROM artifacts) AS files";

/// All samples, by whose they are and of what.
#[derive(Debug, Default)]
pub(crate) struct Samples(BTreeMap<(String, &'static str), (Allowed, Vec<Sample>)>);

impl Samples {
    /// Samples until something cannot be measured, as when a process has ended.
    pub(crate) async fn take(
        &mut self,
        cluster: &Cluster,
        database: &DatabaseConnection,
    ) -> Result<Infallible> {
        let began = Instant::now();
        let mut ticks = interval(EVERY);
        loop {
            ticks.tick().await;
            let at = began.elapsed().as_secs_f64();
            let all = Processes::now()?;
            for process in cluster.running().await? {
                self.look(at, &process, &all)
                    .with_context(|| process.name.clone())?;
            }
            let activity = row(database, ACTIVITY).await?;
            let rows = row(database, ROWS).await?;
            for (from, column, measure) in [
                (&activity, "connections", CONNECTIONS),
                (&activity, "idle", IDLE),
                (&activity, "idle_in_transaction", IDLE_IN_TRANSACTION),
                (&rows, "scans", SCANS),
                (&rows, "files", FILES),
            ] {
                let value: i64 = from.try_get("", column)?;
                self.note(at, DATABASE, measure, u64::try_from(value)?);
            }
        }
    }

    fn look(&mut self, at: f64, process: &Running, all: &Processes) -> Result<()> {
        let usage = usage::of(process.id)?;
        self.note(at, &process.name, MEMORY, usage.memory >> 10);
        self.note(at, &process.name, OPEN_FILES, usage.open_files);
        self.note(at, &process.name, THREADS, usage.threads);
        let below = all.descendants(process.id).len() as u64;
        if process.name.starts_with("garak-runner") {
            self.note(at, &process.name, PROCESSES, below);
            self.look_at_garak(at, process, all);
        }
        if let Some(disk) = &process.disk {
            let (files, bytes) = usage::files(disk)?;
            self.note(at, &process.name, SCRATCH_FILES, files);
            self.note(at, &process.name, SCRATCH_BYTES, bytes >> 10);
        }
        Ok(())
    }

    /// The one of its children that stays, from which garak's processes are forked: the oldest, so
    /// the largest. A runner that has none just now is looked at the next time.
    fn look_at_garak(&mut self, at: f64, process: &Running, all: &Processes) {
        let children = all.children(process.id).into_iter();
        let usages = children.filter_map(|child| usage::of(child).ok());
        if let Some(usage) = usages.max_by_key(|usage| usage.memory) {
            let name = format!("{} warm", process.name);
            self.note(at, &name, MEMORY, usage.memory >> 10);
            self.note(at, &name, OPEN_FILES, usage.open_files);
            self.note(at, &name, THREADS, usage.threads);
        }
    }

    fn note(&mut self, at: f64, whose: &str, of: Measure, value: u64) {
        let key = (whose.to_owned(), of.name);
        let (_, samples) = self
            .0
            .entry(key)
            .or_insert_with(|| (of.allowed, Vec::new()));
        samples.push((at, value as f64));
    }

    /// Keeps all of them, a line each, for whoever wants to see how something grew.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let mut text = "whose\twhat\tseconds\tvalue\n".to_owned();
        for ((whose, what), (_, samples)) in &self.0 {
            for (at, value) in samples {
                writeln!(text, "{whose}\t{what}\t{at:.1}\t{value}")?;
            }
        }
        std::fs::write(file, text).with_context(|| file.display().to_string())
    }

    /// A table of all, and what grew.
    pub(crate) fn judge(&self) -> Result<(String, Vec<String>)> {
        let mut table = line(["", "", "first", "last", "drift", "allowed"].map(str::to_owned));
        let mut grew = Vec::new();
        for ((whose, what), (allowed, samples)) in &self.0 {
            let verdict = judge(samples, *allowed).with_context(|| format!("{whose}, {what}"))?;
            let Verdict {
                first,
                last,
                drift,
                allowed,
            } = verdict;
            table.push_str(&line([
                whose.clone(),
                (*what).to_owned(),
                format!("{first:.0}"),
                format!("{last:.0}"),
                format!("{drift:+.1}"),
                format!("{allowed:.1}"),
            ]));
            if verdict.is_leak() {
                let growth = verdict.growth();
                grew.push(format!(
                    "{whose}, {what}: grew by {growth:.1}, {allowed:.1} allowed"
                ));
            }
        }
        Ok((table, grew))
    }
}

fn line([whose, what, first, last, drift, allowed]: [String; 6]) -> String {
    format!("{whose:20} {what:20} {first:>9} {last:>9} {drift:>9} {allowed:>9}\n")
}

/// The one row that a statement gives.
pub(crate) async fn row(database: &DatabaseConnection, sql: &str) -> Result<QueryResult> {
    let statement = Statement::from_string(DatabaseBackend::Postgres, sql);
    let row = database.query_one_raw(statement).await?;
    row.context("a row")
}
