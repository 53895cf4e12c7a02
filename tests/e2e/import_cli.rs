//! `aegis import`: what the old system and garak left, from a disk, a database and a bucket.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
    time::{Duration, Instant},
};

use aegis_tests::{
    mesh::Mesh,
    process::{Process, binary},
};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    old_system::{KEY, OldFolder, SOURCE, VERSIONS, own_report, report_of},
    support::text,
};

crate::cases![
    a_folder_is_taken_in_once_whatever_garak_wrote,
    a_dry_run_keeps_nothing,
    what_cannot_be_taken_is_named_and_the_rest_comes,
    a_loose_report_has_the_id_of_its_run_or_of_its_bytes,
    an_import_that_was_killed_goes_on,
    what_is_not_there_is_refused,
];

pub(crate) fn command(mesh: &Mesh, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(binary("aegis")?);
    command.arg("--server").arg(mesh.client().base());
    // Times without a zone are those of the machine.
    command.args(args).env("TZ", "UTC");
    Ok(command)
}

pub(crate) fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{}: {out}{err}", output.status)
}

/// Runs `aegis import … --json`, which is to end with this code; its summary.
pub(crate) fn import(mesh: &Mesh, code: i32, args: &[&str], env: &[(&str, &str)]) -> Result<Value> {
    let args = [&["import", "--json"], args].concat();
    let mut command = command(mesh, &args)?;
    command.envs(env.iter().copied());
    let output = tokio::task::block_in_place(|| command.output())?;
    let all = said(&output);
    ensure!(output.status.code() == Some(code), "{args:?}: {all}");
    ensure!(!all.contains(KEY), "a key is shown: {all}");
    serde_json::from_slice(&output.stdout).with_context(|| all)
}

pub(crate) fn counts(summary: &Value, what: &str) -> [i64; 3] {
    ["imported", "unchanged", "notTaken"].map(|name| summary[what][name].as_i64().unwrap_or(-1))
}

/// The messages of a list that are about this.
pub(crate) fn about(summary: &Value, list: &str, source: &str) -> Vec<String> {
    let all = summary[list].as_array().cloned().unwrap_or_default();
    let about = all
        .iter()
        .filter(|one| text(&one["source"]).contains(source));
    about.map(ToString::to_string).collect()
}

pub(crate) async fn there(mesh: &Mesh, id: Uuid) -> Result<bool> {
    let answer = mesh.client().get(&format!("/v1/scans/{id}")).await?;
    Ok(answer.status.is_success())
}

async fn a_folder_is_taken_in_once_whatever_garak_wrote(mesh: &Mesh) -> Result<()> {
    let old = OldFolder::whole()?;
    let before = contents(old.path())?;
    let first = import(mesh, 0, &[&old.shown()], &[])?;
    ensure!(
        counts(&first, "scans") == [VERSIONS.len() as i64, 0, 0],
        "{first:#}"
    );
    ensure!(counts(&first, "templates") == [1, 0, 0], "{first:#}");
    ensure!(counts(&first, "customProbes") == [1, 0, 0], "{first:#}");
    let left = first["leftOut"].to_string();
    for option in ["hit_rate", "continue_on_error", "api_key"] {
        ensure!(left.contains(option), "{option}: {left}");
    }
    ensure!(!left.contains("no_report"), "it was off: {left}");
    let again = import(mesh, 0, &[&old.shown()], &[])?;
    ensure!(
        counts(&again, "scans") == [0, VERSIONS.len() as i64, 0],
        "{again:#}"
    );
    ensure!(counts(&again, "templates") == [0, 1, 0], "{again:#}");
    ensure!(counts(&again, "customProbes") == [0, 1, 0], "{again:#}");
    ensure!(contents(old.path())? == before, "a source was changed");
    for (id, version) in old.scans.iter().zip(VERSIONS) {
        scan_can_be_read(mesh, &id.to_string(), version)
            .await
            .with_context(|| version.to_owned())?;
    }
    let ids = [old.scans[1].to_string(), old.scans[6].to_string()];
    let compared = aegis(mesh, &["compare", &ids[0], &ids[1], "--json"])?;
    let compared: Value = serde_json::from_str(&compared)?;
    ensure!(
        compared["rows"]
            .as_array()
            .is_some_and(|rows| !rows.is_empty()),
        "{compared:#}"
    );
    template_and_probe(mesh, &old).await
}

/// Every file of a folder.
fn contents(folder: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => all.extend(contents(&path)?),
            false => all.push((path.display().to_string(), fs::read(&path)?)),
        }
    }
    all.sort();
    Ok(all)
}

pub(crate) fn aegis(mesh: &Mesh, args: &[&str]) -> Result<String> {
    let output =
        tokio::task::block_in_place(|| command(mesh, args)?.output().map_err(anyhow::Error::from))?;
    ensure!(output.status.success(), "{args:?}: {}", said(&output));
    Ok(String::from_utf8(output.stdout)?)
}

/// Found, counted, downloaded as it was, and read inside.
async fn scan_can_be_read(mesh: &Mesh, id: &str, version: &str) -> Result<()> {
    let scan = mesh.client().scan(id).await?;
    ensure!(scan["imported"] == true, "{scan:#}");
    ensure!(scan["garakVersion"] == version, "{scan:#}");
    ensure!(
        text(&scan["startTime"]).starts_with("2024-05-01T10:00:01"),
        "{scan:#}"
    );
    let days = ["--since", "2024-05-01", "--until", "2024-05-02"];
    let list = [
        &["scan", "list", "--page-size", "1000", "--json"],
        &days[..],
    ]
    .concat();
    let listed = aegis(mesh, &list)?;
    ensure!(listed.contains(id), "not listed");
    let results = aegis(mesh, &["scan", "results", id, "--json"])?;
    ensure!(results.contains("dan.AntiDAN"), "{results}");
    let attempts = aegis(mesh, &["scan", "attempts", id, "--json"])?;
    ensure!(attempts.contains("Hello DAN"), "{attempts}");
    let folder = tempfile::tempdir()?;
    let to = folder.path().display().to_string();
    let paths = aegis(mesh, &["scan", "report", id, "-o", &to])?;
    let file = |end: &str| {
        let path = paths.lines().find(|path| path.ends_with(end));
        path.with_context(|| format!("{end}: {paths}"))
    };
    let report = fs::read_to_string(file("report.jsonl")?)?;
    ensure!(report == report_of(version)?, "the report is not the same");
    let page = fs::read_to_string(file("report.html")?)?;
    ensure!(page == "<html>old</html>", "{page}");
    Ok(())
}

async fn template_and_probe(mesh: &Mesh, old: &OldFolder) -> Result<()> {
    let name = old.template.to_lowercase().replace(' ', "-");
    let answer = mesh.client().get(&format!("/v1/templates/{name}")).await?;
    let template = answer.ok()?["template"].take();
    ensure!(template["displayName"] == *old.template, "{template:#}");
    let spec = &template["spec"];
    ensure!(spec["include"][0] == "probes.dan.AntiDAN", "{template:#}");
    ensure!(
        spec["target"]["type"] == "ollama.OllamaGeneratorChat",
        "{template:#}"
    );
    ensure!(
        spec["generations"] == 7 && spec["maxInFlight"] == 4,
        "{template:#}"
    );
    let answer = mesh
        .client()
        .get(&format!("/v1/custom-probes/{}", old.probe))
        .await?;
    let probe = answer.ok()?["customProbe"].take();
    ensure!(probe["source"] == SOURCE, "{probe:#}");
    ensure!(
        text(&probe["description"]).contains("make it talk"),
        "{probe:#}"
    );
    Ok(())
}

async fn a_dry_run_keeps_nothing(mesh: &Mesh) -> Result<()> {
    let mut old = OldFolder::whole()?;
    old.add_report("no report\n")?;
    let summary = import(mesh, 1, &[&old.shown(), "--dry-run"], &[])?;
    ensure!(counts(&summary, "scans") == [7, 0, 1], "{summary:#}");
    ensure!(counts(&summary, "templates") == [1, 0, 0], "{summary:#}");
    ensure!(summary["dryRun"] == true, "{summary:#}");
    for id in &old.scans {
        ensure!(!there(mesh, *id).await?, "{id} is there");
    }
    let name = old.template.to_lowercase().replace(' ', "-");
    for path in [
        format!("/v1/templates/{name}"),
        format!("/v1/custom-probes/{}", old.probe),
    ] {
        ensure!(mesh.client().get(&path).await?.status == 404, "{path}");
    }
    Ok(())
}

async fn what_cannot_be_taken_is_named_and_the_rest_comes(mesh: &Mesh) -> Result<()> {
    let mut old = OldFolder::empty()?;
    let good = old.add_report(&report_of("0.14.0")?)?;
    let whole = report_of("0.13.0")?;
    let broken = old.add_report("this is no report\n")?;
    let partly = old.add_report(&whole.replacen("\"entry_type\": \"attempt\"", "\"entry_", 1))?;
    old.add_probe()?;
    old.write("custom_probes/binary.py", "x")?;
    fs::write(old.path().join("custom_probes/binary.py"), [0xff, 0xfe])?;
    fs::remove_file(old.path().join(format!("custom_probes/{}.py", old.probe)))?;
    old.write("config_templates/bad.json", "{")?;
    old.write("orphan.hitlog.jsonl", "{}\n")?;
    old.write("other.jsonl", "{\"a\": 1}\n")?;
    old.write("garak.log", "x")?;
    symlink("/nowhere/at/all", old.path().join("link.report.jsonl"))?;
    let summary = import(mesh, 1, &[&old.shown()], &[])?;
    ensure!(counts(&summary, "scans") == [2, 0, 1], "{summary:#}");
    ensure!(there(mesh, good).await? && !there(mesh, broken).await?);
    let left_out = about(&summary, "warnings", &partly.to_string()).concat();
    ensure!(left_out.contains("left out: line "), "{left_out}");
    for (source, why) in [
        (broken.to_string().as_str(), "REPORT_MALFORMED"),
        ("metadata.json: AcmeProbe", "SOURCE_MISSING"),
        ("binary.py", "SOURCE_MALFORMED"),
        ("bad.json", "TEMPLATE_MALFORMED"),
        ("orphan.hitlog.jsonl", "its report"),
        ("link.report.jsonl", "leads nowhere"),
    ] {
        let found = about(&summary, "notTaken", source);
        ensure!(
            found.len() == 1 && found[0].contains(why),
            "{source}: {found:?} of {summary:#}"
        );
    }
    let ignored = summary["ignored"].to_string();
    ensure!(
        ignored.contains("other.jsonl") && ignored.contains("garak.log"),
        "{ignored}"
    );
    Ok(())
}

async fn a_loose_report_has_the_id_of_its_run_or_of_its_bytes(mesh: &Mesh) -> Result<()> {
    let old = OldFolder::empty()?;
    let (run, report) = own_report("0.14.0")?;
    old.write("my model.report.jsonl", &report)?;
    let (_, nameless) = own_report("0.12.0")?;
    let nameless = nameless
        .replace("\"run\":", "\"ran\":")
        .replace("transient.run_id", "transient.ran");
    let nameless = old.write("nameless.jsonl", &nameless)?;
    let summary = import(mesh, 0, &[&old.shown()], &[])?;
    ensure!(counts(&summary, "scans") == [2, 0, 0], "{summary:#}");
    let scan = mesh.client().scan(&run.to_string()).await?;
    ensure!(scan["displayName"] == "my model", "{scan:#}");
    // The same bytes elsewhere are the same scan.
    let elsewhere = tempfile::tempdir()?;
    let copy = elsewhere.path().join("copy");
    fs::copy(&nameless, &copy)?;
    let again = import(mesh, 0, &[&copy.display().to_string()], &[])?;
    ensure!(counts(&again, "scans") == [0, 1, 0], "{again:#}");
    // Another report of the same run is not.
    let other = report.replace("I am DAN", "I am STAN");
    let other = old.write("other.report.jsonl", &other)?;
    let summary = import(mesh, 1, &[&other.display().to_string()], &[])?;
    let found = about(&summary, "notTaken", "other.report.jsonl");
    ensure!(found[0].contains("SCAN_EXISTS"), "{summary:#}");
    Ok(())
}

/// More than can be through before the first is seen.
const MANY: usize = 120;

async fn an_import_that_was_killed_goes_on(mesh: &Mesh) -> Result<()> {
    let mut old = OldFolder::empty()?;
    let report = report_of("0.14.0")?;
    for _ in 0..MANY {
        old.add_report(&report)?;
    }
    let mut command = command(mesh, &["import", &old.shown()])?;
    let logs = tempfile::tempdir()?;
    let mut process = Process::start("import", &mut command, logs.path())?;
    let until = Instant::now() + Duration::from_secs(60);
    while !any_there(mesh, &old.scans).await? {
        if Instant::now() > until {
            bail!("nothing came: {}", process.log_end()?);
        }
    }
    process.signal(Signal::SIGKILL)?;
    process.ended(Duration::from_secs(10))?;
    let summary = import(mesh, 0, &[&old.shown()], &[])?;
    let [imported, unchanged, not_taken] = counts(&summary, "scans");
    ensure!(
        imported > 0 && unchanged > 0,
        "not in the middle: {summary:#}"
    );
    ensure!(
        imported + unchanged == MANY as i64 && not_taken == 0,
        "{summary:#}"
    );
    for id in &old.scans {
        ensure!(there(mesh, *id).await?, "{id}");
    }
    Ok(())
}

/// They go in the order of their names, four at once.
async fn any_there(mesh: &Mesh, scans: &[Uuid]) -> Result<bool> {
    let first = scans.iter().min().context("there are some")?;
    there(mesh, *first).await
}

async fn what_is_not_there_is_refused(mesh: &Mesh) -> Result<()> {
    let old = OldFolder::empty()?;
    let missing = old.path().join("none").display().to_string();
    for (args, wanted) in [
        (&["import", &missing][..], "IMPORT_SOURCE_UNUSABLE"),
        (&["import"], "required"),
        (&["import", ".", "--database", "sqlite:none.db"], "none.db"),
        (
            &["import", ".", "--database", "mysql://a:hunter2@b/c"],
            "--database",
        ),
        (
            &["import", ".", "--time-zone", "Mars/Olympus"],
            "Mars/Olympus",
        ),
        (
            &["import", ".", "--bucket", "old-reports"],
            "MINIO_ACCESS_KEY",
        ),
        (&["--server", "http://127.0.0.1:9", "import", "."], "error:"),
    ] {
        let mut command = command(mesh, args)?;
        command
            .current_dir(old.path())
            .env_remove("MINIO_ACCESS_KEY");
        let output = tokio::task::block_in_place(|| command.output())?;
        let all = said(&output);
        ensure!(output.status.code() == Some(2), "{args:?}: {all}");
        ensure!(
            all.contains(wanted) && !all.contains("hunter2"),
            "{args:?}: {all}"
        );
    }
    Ok(())
}
