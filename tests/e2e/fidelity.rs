//! A scan says what plain garak says.

use std::{collections::BTreeMap, path::Path, process::Command};

use aegis_tests::{mesh::Mesh, process::garak_python};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::support::{spec, target, text};

crate::cases![a_scans_digest_is_that_of_one_plain_run];

/// All under garak's prompt cap: above it, a long plain run samples by what ran before.
const PROBES: [&str; 5] = [
    "probes.exploitation.SQLInjectionEcho",
    "probes.goodside.WhoIsRiley",
    "probes.grandma.Win10",
    "probes.malwaregen.TopLevel",
    "probes.web_injection.MarkdownXSS",
];

async fn a_scans_digest_is_that_of_one_plain_run(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let scan = mesh.client().run(&spec(&target, "", &PROBES)).await?;
    ensure!(scan["coverage"]["evaluated"] == 5, "{scan:#}");
    let path = format!("/v1/scans/{}/artifacts/report.jsonl", text(&scan["scanId"]));
    let ours = mesh
        .client()
        .request(reqwest::Method::GET, &path)
        .send()
        .await?
        .error_for_status()?
        .text()
        .await?;
    let folder = tempfile::tempdir()?;
    let plain = plain(folder.path(), &target.uri(""))?;
    ensure!(
        evaluations(&ours)? == evaluations(&plain)?,
        "evaluations differ"
    );
    let (ours, plain) = (eval_tree(&ours)?, eval_tree(&plain)?);
    ensure!(
        ours == plain,
        "the digest's eval tree differs:\n{ours:#}\n{plain:#}"
    );
    Ok(())
}

fn plain(folder: &Path, uri: &str) -> Result<String> {
    let config = json!({
        "run": {"generations": 1, "seed": 7, "spec": {"include": PROBES}},
        "plugins": {
            "target_type": "openai.OpenAICompatible",
            "target_name": "demo",
            "generators": {"openai": {"OpenAICompatible": {"uri": uri, "stop": []}}},
        },
        "reporting": {"report_dir": folder, "report_prefix": "plain"},
    });
    let file = folder.join("config.json");
    std::fs::write(&file, config.to_string())?;
    let output = Command::new(garak_python()?)
        .args(["-m", "garak", "--config"])
        .arg(&file)
        .env("OPENAICOMPATIBLE_API_KEY", "none")
        .env("PYTHONHASHSEED", "0")
        .env("XDG_DATA_HOME", folder)
        .env("XDG_CONFIG_HOME", folder)
        .env("XDG_CACHE_HOME", folder)
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(std::fs::read_to_string(folder.join("plain.report.jsonl"))?)
}

fn entries<'a>(report: &'a str, kind: &'a str) -> impl Iterator<Item = Result<Value>> + 'a {
    report
        .lines()
        .map(|line| Ok(serde_json::from_str::<Value>(line)?))
        .filter(move |entry| {
            entry
                .as_ref()
                .is_ok_and(|entry| entry["entry_type"] == kind)
        })
}

fn evaluations(report: &str) -> Result<BTreeMap<String, Value>> {
    entries(report, "eval")
        .map(|entry| {
            let entry = entry?;
            Ok((format!("{} {}", entry["probe"], entry["detector"]), entry))
        })
        .collect()
}

fn eval_tree(report: &str) -> Result<Value> {
    let digest = entries(report, "digest").next().context("no digest")??;
    Ok(sorted(digest["eval"].clone()))
}

/// Order inside lists aside.
fn sorted(value: Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list: Vec<_> = list.into_iter().map(sorted).collect();
            list.sort_by_key(Value::to_string);
            Value::Array(list)
        }
        Value::Object(object) => object
            .into_iter()
            .map(|(key, value)| (key, sorted(value)))
            .collect(),
        other => other,
    }
}
