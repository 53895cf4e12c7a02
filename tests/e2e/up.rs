//! `aegis up` itself: where it cannot start, how it stops, what it finds again.

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use aegis_tests::{client::Client, mesh::aegis_up, process::Process};
use anyhow::{Result, ensure};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{spec, target, text};

const ANY_PORT: &str = "127.0.0.1:0";
/// Longest from a start to a probe that runs again: garak warms up on a busy machine.
const AGAIN: Duration = Duration::from_secs(30);

/// These have meshes of their own.
pub(crate) fn trials() -> Vec<Trial> {
    let case = |name: &str, case: fn() -> Result<()>| {
        let name = format!("up::{name}");
        Trial::test(name, move || {
            case().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    vec![
        case("a_used_port_is_named", a_used_port_is_named),
        case(
            "a_data_directory_is_one_meshs",
            a_data_directory_is_one_meshs,
        ),
        case(
            "an_unusable_data_directory_is_named",
            an_unusable_data_directory_is_named,
        ),
        case(
            "a_second_interrupt_ends_it_at_once",
            a_second_interrupt_ends_it_at_once,
        ),
        case(
            "what_was_running_goes_on_after_a_kill",
            what_was_running_goes_on_after_a_kill,
        ),
        case(
            "a_paused_scan_stays_so_over_a_kill",
            a_paused_scan_stays_so_over_a_kill,
        ),
        case(
            "a_report_that_cannot_be_made_is_retried_alone",
            a_report_that_cannot_be_made_is_retried_alone,
        ),
    ]
}

fn refused(process: &mut Process, wanted: &[&str]) -> Result<()> {
    let status = process.ended(Duration::from_secs(20))?;
    let log = process.log_end()?;
    ensure!(status.code() == Some(2), "{status}: {log}");
    for part in wanted {
        ensure!(log.contains(part), "{part}: {log}");
    }
    Ok(())
}

fn start(data: &Path, name: &str) -> Result<Process> {
    Process::start(name, &mut aegis_up(data, ANY_PORT)?, data)
}

fn a_used_port_is_named() -> Result<()> {
    let data = tempfile::tempdir()?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let mut command = aegis_up(data.path(), &address)?;
    let mut process = Process::start("aegis", &mut command, data.path())?;
    refused(&mut process, &["LISTEN_FAILED", &address, "hint:"])
}

fn a_data_directory_is_one_meshs() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut first = start(data.path(), "first")?;
    first.said("ready ")?;
    let mut second = start(data.path(), "second")?;
    refused(&mut second, &["DATA_DIR_IN_USE", "hint:"])?;
    first.signal(Signal::SIGTERM)?;
    ensure!(
        first.ended(Duration::from_secs(30))?.success(),
        "{}",
        first.log_end()?
    );
    Ok(())
}

fn an_unusable_data_directory_is_named() -> Result<()> {
    let data = tempfile::tempdir()?;
    // A file where the folder should be: permissions do not stop root.
    std::fs::write(data.path().join("data"), "")?;
    std::fs::set_permissions(
        data.path().join("data"),
        std::fs::Permissions::from_mode(0o400),
    )?;
    let mut process = start(data.path(), "aegis")?;
    refused(&mut process, &["DATA_DIR_UNUSABLE", "hint:"])
}

fn a_second_interrupt_ends_it_at_once() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut process = start(data.path(), "aegis")?;
    process.said("ready ")?;
    process.signal(Signal::SIGINT)?;
    // It may be gone by itself already: then it was fast enough.
    let _late = process.signal(Signal::SIGINT);
    let status = process.ended(Duration::from_secs(5))?;
    ensure!(matches!(status.code(), Some(0 | 130)), "{status}");
    Ok(())
}

fn what_was_running_goes_on_after_a_kill() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let data = tempfile::tempdir()?;
        let target = target().await?;
        let up = || -> Result<std::process::Command> {
            let mut command = aegis_up(data.path(), ANY_PORT)?;
            // Longer than anybody waits here: the dead one's leases do not run out by themselves.
            command.env("AEGIS_UP__SCAN_ORCHESTRATOR__LEASE_SECONDS", "600");
            Ok(command)
        };
        let mut first = Process::start("first", &mut up()?, data.path())?;
        let client = Client::new(&first.said("ready ")?)?;
        // One call, and six.
        let probes = ["probes.goodside.ThreatenJSON", "probes.grandma.Win10"];
        let id = create_once_warm(&client, &spec(&target, "latency/1500", &probes)).await?;
        let in_the_middle =
            |scan: &Value| scan["coverage"]["evaluated"] == 1 && target.stats().calls > 1;
        client
            .until(&id, Duration::from_secs(30), in_the_middle)
            .await?;
        first.signal(Signal::SIGKILL)?;
        first.ended(Duration::from_secs(5))?;
        let calls = target.stats().calls;
        ensure!(calls <= 1 + 6, "{calls}");

        let mut second = Process::start("second", &mut up()?, data.path())?;
        let client = Client::new(&second.said("ready ")?)?;
        let ready = Instant::now();
        client
            .until(&id, AGAIN, |_| target.stats().calls > calls)
            .await?;
        println!("it runs again {:?} after the start", ready.elapsed());
        let scan = client.ended(&id).await?;
        ensure!(
            scan["state"] == "STATE_COMPLETED" && scan["coverage"]["evaluated"] == 2,
            "{scan:#}"
        );
        // What was evaluated did not run again, and the other once.
        ensure!(target.stats().calls == calls + 6, "{:?}", target.stats());
        second.signal(Signal::SIGTERM)?;
        ensure!(
            second.ended(Duration::from_secs(30))?.success(),
            "{}",
            second.log_end()?
        );
        Ok(())
    })
}

fn a_paused_scan_stays_so_over_a_kill() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let data = tempfile::tempdir()?;
        let target = target().await?;
        let up = || aegis_up(data.path(), ANY_PORT);
        let mut first = Process::start("first", &mut up()?, data.path())?;
        let client = Client::new(&first.said("ready ")?)?;
        // Two slots: the last of three waits.
        let probes = [
            "probes.goodside.ThreatenJSON",
            "probes.grandma.Win10",
            "probes.web_injection.MarkdownXSS",
        ];
        let id = create_once_warm(&client, &spec(&target, "latency/300", &probes)).await?;
        client
            .until(&id, Duration::from_secs(30), |_| target.stats().calls > 0)
            .await?;
        let pause = json!({"reason": "a test"});
        let answer = client
            .post(&format!("/v1/scans/{id}:pause"), &pause)
            .await?;
        let scan = &answer.ok()?["scan"];
        ensure!(
            scan["state"] == "STATE_PAUSED" && scan["pauseTime"].is_string(),
            "{scan:#}"
        );
        // What runs goes on to its end.
        let rests = |scan: &Value| {
            let probes = scan["progress"]["probes"].as_array();
            probes.is_none_or(|all| all.iter().all(|probe| probe["state"] != "STATE_RUNNING"))
        };
        let scan = client.until(&id, Duration::from_secs(30), rests).await?;
        ensure!(scan["coverage"]["evaluated"] != 0, "{scan:#}");
        ensure!(scan["state"] == "STATE_PAUSED", "{scan:#}");
        let calls = target.stats().calls;
        first.signal(Signal::SIGKILL)?;
        first.ended(Duration::from_secs(5))?;

        let mut second = Process::start("second", &mut up()?, data.path())?;
        let client = Client::new(&second.said("ready ")?)?;
        // Its runner is at work, on another scan of the same target.
        let other = spec(&target, "", &["probes.goodside.ThreatenJSON"]);
        let other = create_once_warm(&client, &other).await?;
        client.ended(&other).await?;
        let scan = client.get(&format!("/v1/scans/{id}")).await?.ok()?;
        ensure!(scan["scan"]["state"] == "STATE_PAUSED", "{scan:#}");
        ensure!(target.stats().calls == calls + 1, "{:?}", target.stats());

        client
            .post(&format!("/v1/scans/{id}:resume"), &json!({}))
            .await?
            .ok()?;
        let scan = client.ended(&id).await?;
        ensure!(scan["state"] == "STATE_COMPLETED", "{scan:#}");
        ensure!(scan["coverage"]["evaluated"] == 3, "{scan:#}");
        // Each probe ran once.
        ensure!(
            target.stats().calls == 1 + 1 + 6 + 7,
            "{:?}",
            target.stats()
        );
        second.signal(Signal::SIGTERM)?;
        let status = second.ended(Duration::from_secs(30))?;
        ensure!(status.success(), "{}", second.log_end()?);
        Ok(())
    })
}

/// Creates a scan as soon as garak has warmed up.
pub(crate) async fn create_once_warm(client: &Client, spec: &Value) -> Result<String> {
    loop {
        let created = client.post("/v1/scans", &json!({"spec": spec})).await?;
        if created.reason() != "NO_PLUGIN_CATALOGUE" {
            return Ok(text(&created.ok()?["scan"]["scanId"]));
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn a_report_that_cannot_be_made_is_retried_alone() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let data = tempfile::tempdir()?;
        let target = target().await?;
        let mut command = aegis_up(data.path(), ANY_PORT)?;
        // Room for the parts, and not for garak's page of 1.8 MB.
        command.env("AEGIS_UP__GARAK_RUNNER__LIMITS__FILE_BYTES", "1048576");
        let mut first = Process::start("first", &mut command, data.path())?;
        let client = Client::new(&first.said("ready ")?)?;
        let wanted = spec(&target, "", &["probes.goodside.ThreatenJSON"]);
        let id = create_once_warm(&client, &wanted).await?;
        let scan = client.ended(&id).await?;
        ensure!(
            scan["state"] == "STATE_COMPLETED",
            "the results stand: {scan:#}"
        );
        ensure!(scan["report"]["state"] == "STATE_FAILED", "{scan:#}");
        ensure!(!text(&scan["report"]["reason"]).is_empty(), "{scan:#}");
        ensure!(client.results(&id).await?.len() == 1, "the results stand");
        first.signal(Signal::SIGTERM)?;
        ensure!(
            first.ended(Duration::from_secs(30))?.success(),
            "{}",
            first.log_end()?
        );

        let calls = target.stats().calls;
        let mut second = start(data.path(), "second")?;
        let client = Client::new(&second.said("ready ")?)?;
        client
            .post(&format!("/v1/scans/{id}:retry"), &json!({}))
            .await?
            .ok()?;
        let scan = client.ended(&id).await?;
        ensure!(scan["report"]["state"] == "STATE_READY", "{scan:#}");
        ensure!(
            target.stats().calls == calls,
            "the target is not called for a report"
        );
        second.signal(Signal::SIGTERM)?;
        ensure!(
            second.ended(Duration::from_secs(30))?.success(),
            "{}",
            second.log_end()?
        );
        Ok(())
    })
}
