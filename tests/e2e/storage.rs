//! An object store that takes nothing: what was evaluated waits for it, and is not asked for again.

use std::time::Duration;

use aegis_artifact::{
    config::MinioConfig,
    store::{ObjectStore, S3Store},
};
use aegis_demo_target::DemoTarget;
use aegis_mesh::{Secret, spawn::blocking};
use aegis_testkit::{S3Server, policy::LEAST};
use aegis_tests::{client::Client, mesh::Mesh};
use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::Value;

use crate::{
    support::{spec, target},
    waiting::shown,
};

const LIMIT: Duration = Duration::from_secs(60);
/// One has one call, the other six.
const PROBES: [&str; 2] = ["probes.goodside.ThreatenJSON", "probes.grandma.Win10"];
const CALLS: u64 = 1 + 6;

/// It has a mesh and an object store of its own.
pub(crate) fn trials() -> Vec<Trial> {
    let name = "storage::a_store_that_takes_nothing_is_waited_for";
    vec![Trial::test(name, || {
        let case = tokio::runtime::Runtime::new()?;
        let case = case.block_on(a_store_that_takes_nothing_is_waited_for());
        case.map_err(|error| Failed::from(format!("{error:#}")))
    })]
}

async fn a_store_that_takes_nothing_is_waited_for() -> Result<()> {
    let server = blocking("store", S3Server::seaweedfs_of_its_own).await?;
    make_bucket(&server).await?;
    let mesh = Mesh::start_on(&server, LEAST, LEAST.access).await?;
    let target = target().await?;

    let id = begun(mesh.client(), &target).await?;
    server.forbid(LEAST, Some("PutObject"))?;
    waits_for(mesh.client(), &target, &id, "STORAGE_REFUSED").await?;
    server.forbid(LEAST, None)?;
    goes_on(mesh.client(), &target, &id, CALLS).await?;

    let id = begun(mesh.client(), &target).await?;
    server.stop()?;
    waits_for(mesh.client(), &target, &id, "STORAGE_DOWN").await?;
    let server = blocking("store", move || server.start_again().map(|()| server)).await??;
    goes_on(mesh.client(), &target, &id, 2 * CALLS).await?;

    mesh.stop()?;
    drop(server);
    Ok(())
}

/// The key that the mesh has may not make it.
async fn make_bucket(server: &S3Server) -> Result<()> {
    let admin = server.admin();
    let config = MinioConfig {
        endpoint: server.endpoint(),
        access_key: Some(Secret::new(admin.access)),
        secret_key: Some(Secret::new(admin.secret)),
        bucket: LEAST.access.to_owned(),
        ..MinioConfig::default()
    };
    Ok(S3Store::open(&config)?.check().await?)
}

/// A scan whose target was asked something, and that has no results yet.
async fn begun(client: &Client, target: &DemoTarget) -> Result<String> {
    let calls = target.stats().calls;
    let id = client.create(&spec(target, "latency/500", &PROBES)).await?;
    client
        .until(&id, LIMIT, |_| target.stats().calls > calls)
        .await?;
    Ok(id)
}

/// Both probes have asked all that they ask, and cannot hand it in.
async fn waits_for(client: &Client, target: &DemoTarget, id: &str, reason: &str) -> Result<()> {
    let all = target.stats().calls.next_multiple_of(CALLS);
    let waits = |scan: &Value| target.stats().calls == all && scan["waitingReason"] == reason;
    let scan = client.until(id, LIMIT, waits).await?;
    ensure!(scan["state"] == "STATE_RUNNING", "{scan:#}");
    ensure!(client.results(id).await?.is_empty(), "nothing is stored");
    let told = shown(client, id)?;
    ensure!(told.contains(&format!("waiting: {reason}")), "{told}");
    Ok(())
}

/// It comes to its end by itself, and the target has been asked so often in all: nothing twice.
async fn goes_on(client: &Client, target: &DemoTarget, id: &str, calls: u64) -> Result<()> {
    let scan = client.ended(id).await?;
    ensure!(scan["state"] == "STATE_COMPLETED", "{scan:#}");
    ensure!(scan["coverage"]["evaluated"] == 2, "{scan:#}");
    ensure!(scan["report"]["state"] == "STATE_READY", "{scan:#}");
    ensure!(scan["waitingReason"] == "", "{scan:#}");
    ensure!(target.stats().calls == calls, "{:?}", target.stats());
    Ok(())
}
