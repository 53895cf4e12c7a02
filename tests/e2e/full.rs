//! A database on a disk that is full: nothing is lost, it is said, and work goes on by itself.

use std::{path::Path, time::Duration};

use aegis_testkit::Disk;
use aegis_tests::{
    client::{Answer, Client},
    mesh::aegis_up,
    process::Process,
};
use anyhow::{Result, bail, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::{
    support::{spec, target, text},
    up::create_once_warm,
    waiting::{shown, stop},
};

const LIMIT: Duration = Duration::from_secs(60);
/// The schema and garak's plugin catalogue need half of it.
const MIB: u64 = 24;
/// More than the disk has room for.
const MOST: usize = 2_000;

/// It has a mesh of its own.
pub(crate) fn trials() -> Vec<Trial> {
    let name = "full::a_full_database_is_named_and_work_goes_on";
    vec![Trial::test(name, || {
        let case = tokio::runtime::Runtime::new()?;
        let case = case.block_on(a_full_database_is_named_and_work_goes_on());
        case.map_err(|error| Failed::from(format!("{error:#}")))
    })]
}

async fn a_full_database_is_named_and_work_goes_on() -> Result<()> {
    let data = tempfile::tempdir()?;
    let (process, disk) = up(data.path())?;
    let (mut process, target) = (process, target().await?);
    let client = Client::new(&process.said("ready ")?)?;
    let probes = ["probes.goodside.ThreatenJSON", "probes.grandma.Win10"];
    let id = create_once_warm(&client, &spec(&target, "latency/500", &probes)).await?;
    client
        .until(&id, LIMIT, |_| target.stats().calls > 0)
        .await?;

    make(&client, "before", 1).await?.ok()?;
    disk.fill(process.id())?;
    let mut made = until_refused(&client).await?;
    made.push("before".to_owned());
    let request = json!({
        "spec": spec(&target, "", &["probes.goodside.ThreatenJSON"]),
        "requestId": uuid::Uuid::new_v4().to_string(),
    });
    let refused = client.post("/v1/scans", &request).await?;
    ensure!(refused.status == 503, "{refused:?}");
    ensure!(refused.reason() == "DATABASE_FULL", "{refused:?}");
    let waits = |scan: &Value| scan["waitingReason"] == "DATABASE_FULL";
    client.until(&id, LIMIT, waits).await?;
    let told = shown(&client, &id)?;
    ensure!(told.contains("waiting: DATABASE_FULL"), "{told}");
    for name in &made {
        client.get(&format!("/v1/templates/{name}")).await?.ok()?;
    }
    let listed = client.get("/v1/scans").await?.ok()?;
    ensure!(
        listed["scans"].as_array().map(Vec::len) == Some(1),
        "{listed:#}"
    );

    disk.free(process.id())?;
    let scan = client.ended(&id).await?;
    ensure!(scan["state"] == "STATE_COMPLETED", "{scan:#}");
    ensure!(scan["coverage"]["evaluated"] == 2, "{scan:#}");
    ensure!(target.stats().calls == 1 + 6, "{:?}", target.stats());
    let again = client.post("/v1/scans", &request).await?.ok()?;
    let scan = client.ended(&text(&again["scan"]["scanId"])).await?;
    ensure!(scan["state"] == "STATE_COMPLETED", "{scan:#}");
    ensure!(target.stats().calls == 1 + 6 + 1, "{:?}", target.stats());
    stop(process)
}

/// `aegis up` whose database has a disk to itself.
fn up(data: &Path) -> Result<(Process, Disk)> {
    let folder = data.join("data/catalog");
    std::fs::create_dir_all(&folder)?;
    let disk = Disk::at(&folder, MIB);
    let mut command = disk.given_to(&aegis_up(data, "127.0.0.1:0")?);
    Ok((Process::start("aegis", &mut command, data)?, disk))
}

/// Makes a template with so much text.
async fn make(client: &Client, name: &str, size: usize) -> Result<Answer> {
    let template = json!({"name": name, "description": "x".repeat(size)});
    client.post("/v1/templates", &template).await
}

/// Makes templates, large ones and then small ones, until there is no room for any: the names of
/// those that were made.
async fn until_refused(client: &Client) -> Result<Vec<String>> {
    let mut made = Vec::new();
    for size in [2_000, 0] {
        loop {
            let name = format!("t{}", made.len());
            let answer = make(client, &name, size).await?;
            if answer.status.is_success() {
                made.push(name);
            } else if answer.reason() == "DATABASE_FULL" {
                break;
            } else {
                bail!("{answer:?}");
            }
            ensure!(made.len() < MOST, "the disk is not full");
        }
    }
    Ok(made)
}
