//! What a request costs.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::process;

/// Pages and plans are in memory for those that are asked again.
const BEFORE: usize = 5;

/// What some requests cost, one after another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    /// Of the processes that answer, per request.
    pub(crate) cpu: Duration,
    /// Of the database's own processes, per request; zero where there are none.
    pub(crate) database: Duration,
}

impl Cost {
    /// For a table.
    pub(crate) fn said(&self) -> String {
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
    pub(crate) fn all_cpu(&self) -> Duration {
        self.cpu + self.database
    }
}

/// Asks so many times, one request after the other. `servers` and what is below them answer,
/// `database` and what is below it is their database.
pub(crate) async fn measure(
    requests: usize,
    servers: &[i32],
    database: Option<i32>,
    mut ask: impl AsyncFnMut() -> Result<()>,
) -> Result<Cost> {
    for _ in 0..BEFORE {
        ask().await?;
    }
    let cpu_of = |root: Option<i32>| root.map_or(Ok(Duration::ZERO), process::cpu_of_tree);
    let answering = || {
        servers
            .iter()
            .map(|server| process::cpu_of_tree(*server))
            .sum::<Result<Duration>>()
    };
    let before = (answering()?, cpu_of(database)?);
    let mut times = Vec::with_capacity(requests);
    for _ in 0..requests {
        let began = Instant::now();
        ask().await?;
        times.push(began.elapsed());
    }
    let after = (answering()?, cpu_of(database)?);
    times.sort();
    Ok(Cost {
        p50: times[requests / 2],
        p99: times[requests * 99 / 100],
        cpu: after.0.saturating_sub(before.0) / requests as u32,
        database: after.1.saturating_sub(before.1) / requests as u32,
    })
}

pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
