//! The queue with 200,000 tasks waiting, most of them in lanes that are full, paused, or of scans
//! that are: what a poll costs that finds nothing, and how many leases with their ends there are a
//! second, through the RPCs that a runner uses.

mod bare;
mod lanes;

use std::time::{Duration, Instant};

use aegis_testkit::Postgres;
use anyhow::{Result, ensure};
use sea_orm::{ConnectionTrait, Database};

use self::lanes::Lanes;
use crate::{
    catalogue::Catalogue,
    cost::{self, Cost, ms},
    large::Backend,
    runner::Runner,
    services::{Layout, Services},
    table::Table,
};

/// Tasks that wait behind something.
const WAITING: usize = 200_000;
/// The same before: what an empty poll is compared with.
const FEW: usize = 10;
/// Tasks that can run, each time pairs are counted.
const FREE: usize = 20_000;
const POLLS: usize = 500;
/// Pairs are counted for so long.
const TIME: Duration = Duration::from_secs(20);
/// That ask at once.
const RUNNERS: usize = 8;
/// Many: a scan's calls are shared out among so many, so that a lease takes one.
const SLOTS: i32 = 64;

/// A lease holds through all of it, and no scan waits for another.
const SETTINGS: [(&str, &str, &str); 3] = [
    ("scan-orchestrator", "LEASE_SECONDS", "3600"),
    ("scan-orchestrator", "MAX_RUNNING_SCANS", "0"),
    ("scan-orchestrator", "LANE_MAX_IN_FLIGHT", "4"),
];

/// On one database.
pub(crate) async fn measure(table: &mut Table, database: Backend) -> Result<()> {
    let name = database.name();
    let services = Services::start(&Layout {
        database,
        replicas: 1,
        runners: 0,
        settings: &SETTINGS,
    })
    .await?;
    let catalogue = Catalogue::read()?;
    let runner = Runner::new(
        &services.endpoint("scan-orchestrator-1")?,
        SLOTS,
        &catalogue,
    )
    .await?;
    let lanes = Lanes::new(services.gateway(1)?, &catalogue, &runner);

    lanes.free("shallow", FREE).await?;
    rest(&services).await?;
    let shallow = pairs(&runner).await?;
    lanes.drain("shallow").await?;

    lanes.full("few", FEW).await?;
    let few = empty_polls(&services, &runner).await?;
    lanes.blocked(WAITING).await?;
    let many = empty_polls(&services, &runner).await?;
    table.compare(
        &format!("{name}: a poll that finds nothing, with {WAITING} tasks waiting and with {FEW}"),
        &many.said(),
        &few.said(),
        many.p50.as_secs_f64() / few.p50.as_secs_f64(),
        "≤ 1.2",
    );

    lanes.free("deep", FREE).await?;
    rest(&services).await?;
    let deep = pairs(&runner).await?;
    table.compare(
        &format!("{name}: lease and finish, with {WAITING} more waiting and without"),
        &format!("{deep:.0} /s"),
        &format!("{shallow:.0} /s"),
        deep / shallow,
        "flat",
    );
    match services.postgres() {
        None => table.fact(
            "SQLite: lease and finish, every commit synced",
            format!("{deep:.0} /s"),
            "≥ 100 /s",
        ),
        Some(postgres) => {
            let bare = bare::pairs(postgres, runner.catalogue(), RUNNERS, TIME)?;
            table.compare(
                "PostgreSQL: lease and finish, against pgbench with the bare statements",
                &format!("{deep:.0} /s"),
                &format!("{bare:.0} /s"),
                deep / bare,
                "≥ 0.5",
            );
        }
    }
    services.stop()
}

/// What PostgreSQL's autovacuum does by itself after a while, and not in the midst of a measurement.
async fn rest(services: &Services) -> Result<()> {
    if let Some(postgres) = services.postgres() {
        let database = Database::connect(postgres.url()).await?;
        database.execute_unprepared("VACUUM (ANALYZE)").await?;
        database.close().await?;
    }
    Ok(())
}

async fn empty_polls(services: &Services, runner: &Runner) -> Result<Cost> {
    let ask = async || {
        ensure!(runner.lease().await?.is_none(), "there is something to do");
        Ok(())
    };
    let database = services.postgres().map(Postgres::id);
    let cost = cost::measure(POLLS, &services.ids(), database, ask).await?;
    println!(
        "an empty poll: {}, {:.2} ms",
        cost.said(),
        ms(cost.all_cpu())
    );
    Ok(cost)
}

/// Leases that were ended, a second.
async fn pairs(runner: &Runner) -> Result<f64> {
    let until = Instant::now() + TIME;
    let mut working = tokio::task::JoinSet::new();
    for _ in 0..RUNNERS {
        let runner = runner.clone();
        working.spawn(async move {
            let mut pairs = 0_usize;
            while Instant::now() < until {
                // Others may have been faster for each task that was looked at: it is asked again.
                if let Some(lease) = runner.lease().await? {
                    runner.give_up(lease).await?;
                    pairs += 1;
                }
            }
            anyhow::Ok(pairs)
        });
    }
    let mut pairs = 0;
    while let Some(worked) = working.join_next().await {
        pairs += worked??;
    }
    ensure!(pairs < FREE, "the tasks did not last");
    let rate = pairs as f64 / TIME.as_secs_f64();
    println!("lease and finish: {rate:.0} /s");
    Ok(rate)
}
