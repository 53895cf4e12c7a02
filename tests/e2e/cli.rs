//! The command line, as a user and a CI job have it.

use std::process::{Command, Output};

use aegis_demo_target::DemoTarget;
use aegis_tests::{mesh::Mesh, process::binary};
use anyhow::{Result, ensure};
use serde_json::Value;

use crate::support::target;

crate::cases![
    exit_codes_say_how_it_went,
    every_command_has_json,
    a_refusal_names_field_and_hint
];

async fn aegis(mesh: &Mesh, args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary("aegis")?);
    command.arg("--server").arg(mesh.client().base()).args(args);
    Ok(tokio::task::block_in_place(|| command.output())?)
}

fn out(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

async fn run(mesh: &Mesh, target: &DemoTarget, behaviour: &str, more: &[&str]) -> Result<Output> {
    let uri = format!("uri={}", target.uri(behaviour));
    let mut args = vec![
        "scan",
        "run",
        "--target-type",
        "openai.OpenAICompatible",
        "--target-name",
        "demo",
        "--target-option",
        &uri,
        "-g",
        "1",
        "--include",
        "probes.grandma.Win10",
    ];
    args.extend(more);
    aegis(mesh, &args).await
}

async fn exit_codes_say_how_it_went(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    for (behaviour, more, code) in [
        ("", &["--include", "probes.malwaregen.TopLevel"][..], 0),
        ("", &["--fail-under", "0.9"], 1),
        ("", &["--fail-under", "0"], 0),
        ("status/401", &[], 2),
        ("", &["--include", "probes.nope"], 2),
        ("", &["--fail-under", "2"], 2),
    ] {
        let output = run(mesh, &target, behaviour, more).await?;
        ensure!(
            output.status.code() == Some(code),
            "{behaviour} {more:?}: {:?} {}",
            output.status,
            out(&output)
        );
    }
    let output = run(mesh, &target, "", &[]).await?;
    let text = out(&output);
    for wanted in [
        "grandma.Win10",
        "productkey.Win5x5",
        "0.0 %",
        "DC-",
        "report.html",
        "1 of 1 probes evaluated",
    ] {
        ensure!(text.contains(wanted), "{wanted}: {text}");
    }
    Ok(())
}

async fn every_command_has_json(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let output = run(mesh, &target, "", &["--json"]).await?;
    let lines: Vec<Value> = String::from_utf8(output.stdout)?
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let scan = lines.last().cloned().unwrap_or_default();
    let id = scan["scanId"].as_str().unwrap_or_default();
    ensure!(scan["state"] == "STATE_COMPLETED", "{scan:#}");
    let folder = tempfile::tempdir()?;
    let commands: [&[&str]; 10] = [
        &["scan", "list", "--json"],
        &["scan", "show", id, "--json"],
        &["scan", "results", id, "--json"],
        &["scan", "report", id, "--json"],
        &["scan", "cancel", id, "--json"],
        &["plugins", "probes", "--json"],
        &["plugins", "detectors", "--json"],
        &["plugins", "generators", "--json"],
        &["plugins", "buffs", "--json"],
        &[
            "scan",
            "plan",
            "--target-type",
            "test.Repeat",
            "--include",
            "all",
            "--json",
        ],
    ];
    for command in commands {
        let output = aegis(mesh, command).await?;
        ensure!(output.status.success(), "{command:?}: {}", out(&output));
        serde_json::from_slice::<Value>(&output.stdout)?;
    }
    let path = folder.path().display().to_string();
    let output = aegis(mesh, &["scan", "report", id, "-o", &path]).await?;
    ensure!(
        output.status.success() && std::fs::read_dir(folder.path())?.count() == 3,
        "{}",
        out(&output)
    );
    let output = aegis(mesh, &["scan", "watch", id]).await?;
    ensure!(output.status.success(), "{}", out(&output));
    let output = aegis(mesh, &["scan", "delete", id]).await?;
    ensure!(output.status.success(), "{}", out(&output));
    Ok(())
}

async fn a_refusal_names_field_and_hint(mesh: &Mesh) -> Result<()> {
    let output = aegis(
        mesh,
        &[
            "scan",
            "run",
            "--target-type",
            "test.Repeat",
            "--include",
            "probes.dan.AntiDANN",
        ],
    )
    .await?;
    let text = out(&output);
    ensure!(output.status.code() == Some(2), "{:?}", output.status);
    for wanted in ["INVALID_FIELD", "spec.include[0]", "AntiDAN", "hint:"] {
        ensure!(text.contains(wanted), "{wanted}: {text}");
    }
    let output = aegis(mesh, &["--server", "http://127.0.0.1:9", "scan", "list"]).await?;
    ensure!(
        output.status.code() == Some(2) && out(&output).contains("error:"),
        "{}",
        out(&output)
    );
    Ok(())
}
