//! A scan that does not get on says why, since when, at which place; and goes on by itself.

use std::{path::Path, process::Command, time::Duration};

use aegis_demo_target::DemoTarget;
use aegis_tests::{
    client::Client,
    mesh::aegis_up,
    process::{Process, binary},
};
use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    support::{spec, target},
    up::create_once_warm,
};

const LIMIT: Duration = Duration::from_secs(60);

/// These have meshes of their own.
pub(crate) fn trials() -> Vec<Trial> {
    let case = |name: &str, case: fn() -> Result<()>| {
        Trial::test(format!("waiting::{name}"), move || {
            case().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    vec![
        case("the_place_in_the_queue", the_place_in_the_queue),
        case(
            "a_target_that_comes_back_is_found",
            a_target_that_comes_back_is_found,
        ),
    ]
}

/// `aegis up` with this setting of the orchestrator.
fn up(data: &Path, name: &str, value: &str) -> Result<(Process, Client)> {
    let mut command = aegis_up(data, "127.0.0.1:0")?;
    command.env(format!("AEGIS_UP__SCAN_ORCHESTRATOR__{name}"), value);
    let mut process = Process::start("aegis", &mut command, data)?;
    let client = Client::new(&process.said("ready ")?)?;
    Ok((process, client))
}

pub(crate) fn stop(mut process: Process) -> Result<()> {
    process.signal(Signal::SIGTERM)?;
    let status = process.ended(Duration::from_secs(40))?;
    ensure!(status.success(), "{status}: {}", process.log_end()?);
    Ok(())
}

/// What the command line says of a scan.
pub(crate) fn shown(client: &Client, id: &str) -> Result<String> {
    let show = ["--server", client.base(), "scan", "show", id];
    let output = Command::new(binary("aegis")?).args(show).output()?;
    ensure!(output.status.success(), "{output:?}");
    Ok(String::from_utf8(output.stdout)?)
}

fn the_place_in_the_queue() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let data = tempfile::tempdir()?;
        let (process, client) = up(data.path(), "MAX_RUNNING_SCANS", "1")?;
        let target = target().await?;
        let slow = spec(&target, "latency/200", &["probes.grandma.Win10"]);
        let quick = spec(&target, "", &["probes.goodside.ThreatenJSON"]);
        let first = create_once_warm(&client, &slow).await?;
        let runs = |scan: &Value| scan["state"] == "STATE_RUNNING";
        client.until(&first, LIMIT, runs).await?;
        let second = client.create(&quick).await?;
        let third = client.create(&quick).await?;
        // There is a slot for it, and yet it waits.
        let scan = client.scan(&third).await?;
        ensure!(scan["waitingReason"] == "QUEUED", "{scan:#}");
        ensure!(scan["progress"]["queuePlace"] == 2, "{scan:#}");
        let told = shown(&client, &third)?;
        ensure!(told.contains("waiting: QUEUED, place 2"), "{told}");
        let mut ends = Vec::new();
        for id in [&first, &second, &third] {
            let scan = client.ended(id).await?;
            ensure!(scan["state"] == "STATE_COMPLETED", "{scan:#}");
            ends.push((scan["startTime"].to_string(), scan["endTime"].to_string()));
        }
        ensure!(ends[1].0 < ends[2].0, "the first come first: {ends:?}");
        stop(process)
    })
}

fn a_target_that_comes_back_is_found() -> Result<()> {
    tokio::runtime::Runtime::new()?.block_on(async {
        let data = tempfile::tempdir()?;
        let (process, client) = up(data.path(), "MAX_OUTAGE_SECONDS", "600")?;
        let target = target().await?;
        let address = target.address();
        let probes = [
            "probes.goodside.ThreatenJSON",
            "probes.promptinject.HijackHateHumans",
        ];
        let id = create_once_warm(&client, &spec(&target, "latency/50", &probes)).await?;
        let evaluated = |scan: &Value| scan["coverage"]["evaluated"] == 1;
        client.until(&id, LIMIT, evaluated).await?;
        target.stop().await;
        let silent = |scan: &Value| scan["waitingReason"] == "TARGET_NOT_ANSWERING";
        client.until(&id, LIMIT, silent).await?;
        let scan = client.scan(&id).await?;
        let since = scan["progress"]["waitingSince"].as_str().unwrap_or("");
        ensure!(!since.is_empty(), "{scan:#}");
        let told = shown(&client, &id)?;
        ensure!(
            told.contains("waiting: TARGET_NOT_ANSWERING since 20"),
            "{told}"
        );
        let again = DemoTarget::start(address).await?;
        let scan = client.ended(&id).await?;
        ensure!(scan["state"] == "STATE_COMPLETED", "{scan:#}");
        ensure!(scan["coverage"]["evaluated"] == 2, "{scan:#}");
        again.stop().await;
        stop(process)
    })
}
