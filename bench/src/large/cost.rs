//! What a request costs.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process;

/// Pages and plans are in memory for those that are asked again.
const BEFORE: usize = 5;

/// What some requests cost, one after another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    /// Of the processes that answer, per request.
    pub(super) cpu: Duration,
    /// Of the database's own processes, per request; zero where there are none.
    pub(super) database: Duration,
}

impl Cost {
    /// For a table.
    pub(super) fn said(&self) -> String {
        let database = match self.database {
            Duration::ZERO => String::new(),
            database => format!(" + {:.2} ms of the server", ms(database)),
        };
        format!(
            "p50 {:.2} ms, p99 {:.2} ms, CPU {:.2} ms{database}",
            ms(self.p50),
            ms(self.p99),
            ms(self.cpu)
        )
    }

    /// All that is used of the CPU.
    pub(super) fn all_cpu(&self) -> Duration {
        self.cpu + self.database
    }
}

/// Asks so many times, one request after the other. `server` and what is below it answers,
/// `database` and what is below it is its database.
pub(super) async fn measure(
    requests: usize,
    server: i32,
    database: Option<i32>,
    mut ask: impl AsyncFnMut() -> Result<()>,
) -> Result<Cost> {
    for _ in 0..BEFORE {
        ask().await?;
    }
    let cpu_of = |root: Option<i32>| root.map_or(Ok(Duration::ZERO), process::cpu_of_tree);
    let before = (cpu_of(Some(server))?, cpu_of(database)?);
    let mut times = Vec::with_capacity(requests);
    for _ in 0..requests {
        let began = Instant::now();
        ask().await?;
        times.push(began.elapsed());
    }
    let after = (cpu_of(Some(server))?, cpu_of(database)?);
    times.sort();
    Ok(Cost {
        p50: times[requests / 2],
        p99: times[requests * 99 / 100],
        cpu: after.0.saturating_sub(before.0) / requests as u32,
        database: after.1.saturating_sub(before.1) / requests as u32,
    })
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
