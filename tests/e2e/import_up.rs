//! `aegis up --import FOLDER`: once, also when it was interrupted.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use aegis_tests::{client::Client, mesh::aegis_up, process::Process};
use anyhow::{Result, bail, ensure};
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::Signal;

use crate::old_system::{OldFolder, report_of};

/// Longest wait for an import.
const WITHIN: Duration = Duration::from_secs(90);

/// These have meshes of their own.
pub(crate) fn trials() -> Vec<Trial> {
    let case = |name: &str, case: fn() -> Result<()>| {
        Trial::test(format!("import_up::{name}"), move || {
            case().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    vec![
        case("it_is_done_once", it_is_done_once),
        case("one_that_was_killed_goes_on", one_that_was_killed_goes_on),
        case(
            "a_folder_that_is_not_there_is_refused",
            a_folder_that_is_not_there_is_refused,
        ),
    ]
}

fn up(data: &Path, old: &Path) -> Result<Command> {
    let mut command = aegis_up(data, "127.0.0.1:0")?;
    command.arg("--import").arg(old);
    Ok(command)
}

/// Where it is written that an import has ended.
fn marker(data: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(data.join("data"))? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_string_lossy().starts_with("imported-") {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn ended(process: &Process, data: &Path) -> Result<String> {
    let until = Instant::now() + WITHIN;
    loop {
        if let Some(marker) = marker(data)? {
            return Ok(fs::read_to_string(marker)?);
        }
        if Instant::now() > until {
            bail!("no end of the import: {}", process.log_end()?);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

async fn all_there(client: &Client, old: &OldFolder) -> Result<()> {
    for id in &old.scans {
        let scan = client.scan(&id.to_string()).await?;
        ensure!(scan["imported"] == true, "{scan:#}");
    }
    Ok(())
}

fn stop(mut process: Process) -> Result<String> {
    process.signal(Signal::SIGTERM)?;
    let status = process.ended(Duration::from_secs(40))?;
    let log = process.log_end()?;
    ensure!(status.success(), "{status}: {log}");
    Ok(log)
}

fn it_is_done_once() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let data = tempfile::tempdir()?;
    let mut old = OldFolder::whole()?;
    let mut first = Process::start("first", &mut up(data.path(), old.path())?, data.path())?;
    let client = Client::new(&first.said("ready ")?)?;
    let summary = ended(&first, data.path())?;
    ensure!(summary.contains("\"imported\": 7"), "{summary}");
    runtime.block_on(all_there(&client, &old))?;
    let log = stop(first)?;
    ensure!(log.contains("the import has ended"), "{log}");
    // What comes later into the folder is for `aegis import`.
    let late = old.add_report(&report_of("0.14.0")?)?;
    let mut second = Process::start("second", &mut up(data.path(), old.path())?, data.path())?;
    let client = Client::new(&second.said("ready ")?)?;
    let answer = runtime.block_on(client.get(&format!("/v1/scans/{late}")))?;
    ensure!(answer.status == 404, "{answer:?}");
    let log = stop(second)?;
    ensure!(!log.contains("an import begins"), "{log}");
    Ok(())
}

fn one_that_was_killed_goes_on() -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    let data = tempfile::tempdir()?;
    let mut old = OldFolder::empty()?;
    let report = report_of("0.14.0")?;
    for _ in 0..120 {
        old.add_report(&report)?;
    }
    let mut first = Process::start("first", &mut up(data.path(), old.path())?, data.path())?;
    let client = Client::new(&first.said("ready ")?)?;
    let one = old.scans.iter().min().copied().unwrap_or_default();
    let path = format!("/v1/scans/{one}");
    let until = Instant::now() + WITHIN;
    while !runtime.block_on(client.get(&path))?.status.is_success() {
        ensure!(Instant::now() < until, "nothing came: {}", first.log_end()?);
    }
    first.signal(Signal::SIGKILL)?;
    first.ended(Duration::from_secs(10))?;
    ensure!(marker(data.path())?.is_none(), "it was through already");
    let mut second = Process::start("second", &mut up(data.path(), old.path())?, data.path())?;
    let client = Client::new(&second.said("ready ")?)?;
    ended(&second, data.path())?;
    runtime.block_on(all_there(&client, &old))?;
    stop(second)?;
    Ok(())
}

fn a_folder_that_is_not_there_is_refused() -> Result<()> {
    let data = tempfile::tempdir()?;
    let none = data.path().join("none");
    let mut process = Process::start("aegis", &mut up(data.path(), &none)?, data.path())?;
    let status = process.ended(Duration::from_secs(20))?;
    let log = process.log_end()?;
    ensure!(status.code() == Some(2), "{status}: {log}");
    ensure!(
        log.contains("IMPORT_SOURCE_UNUSABLE") && log.contains("hint:"),
        "{log}"
    );
    Ok(())
}
