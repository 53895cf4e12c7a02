//! What a scan leaves behind: files, ranges, attempts.

use std::process::Command;

use aegis_tests::{mesh::Mesh, process::garak_python};
use anyhow::{Result, ensure};
use reqwest::{Method, StatusCode, header};

use crate::support::{spec, target, text};

crate::cases![
    files_are_served_with_ranges_and_tags,
    a_redirect_leads_to_the_same_bytes,
    garak_accepts_the_report,
    attempts_are_found_by_outcome
];

async fn scanned(mesh: &Mesh) -> Result<String> {
    let target = target().await?;
    let probes = ["probes.grandma.Win10", "probes.malwaregen.TopLevel"];
    let scan = mesh.client().run(&spec(&target, "", &probes)).await?;
    ensure!(scan["report"]["state"] == "STATE_READY", "{scan:#}");
    Ok(text(&scan["scanId"]))
}

async fn files_are_served_with_ranges_and_tags(mesh: &Mesh) -> Result<()> {
    let id = scanned(mesh).await?;
    for (name, media) in [
        ("report.jsonl", "ndjson"),
        ("hitlog.jsonl", "ndjson"),
        ("report.html", "text/html"),
    ] {
        let path = format!("/v1/scans/{id}/artifacts/{name}");
        let get = |range: Option<&str>| {
            let request = mesh.client().request(Method::GET, &path);
            range
                .into_iter()
                .fold(request, |request, range| {
                    request.header(header::RANGE, range)
                })
                .send()
        };
        let whole = get(None).await?.error_for_status()?;
        let head = |name| {
            whole
                .headers()
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default()
                .to_owned()
        };
        ensure!(
            head(header::CONTENT_TYPE).contains(media),
            "{}",
            head(header::CONTENT_TYPE)
        );
        ensure!(
            head(header::CONTENT_DISPOSITION).contains(&format!("garak.{id}.{name}")),
            "{}",
            head(header::CONTENT_DISPOSITION)
        );
        let tag = head(header::ETAG);
        let bytes = whole.bytes().await?;
        let part = get(Some("bytes=10-19")).await?;
        ensure!(
            part.status() == StatusCode::PARTIAL_CONTENT,
            "{}",
            part.status()
        );
        ensure!(part.bytes().await? == bytes.slice(10..20), "{name}");
        ensure!(
            get(Some("bytes=999999999-")).await?.status() == StatusCode::RANGE_NOT_SATISFIABLE,
            "{name}"
        );
        let same = mesh
            .client()
            .request(Method::GET, &path)
            .header(header::IF_NONE_MATCH, tag)
            .send()
            .await?;
        ensure!(
            same.status() == StatusCode::NOT_MODIFIED,
            "{}",
            same.status()
        );
        let asked = mesh.client().request(Method::HEAD, &path).send().await?;
        ensure!(
            asked.headers()[header::CONTENT_LENGTH]
                .to_str()?
                .parse::<usize>()?
                == bytes.len(),
            "{name}"
        );
    }
    let unknown = mesh
        .client()
        .get(&format!("/v1/scans/{id}/artifacts/digest.json"))
        .await?;
    ensure!(unknown.status.is_client_error(), "{unknown:?}");
    Ok(())
}

/// To the object store's own link, or, where artifacts lie in a directory, to no other place.
async fn a_redirect_leads_to_the_same_bytes(mesh: &Mesh) -> Result<()> {
    let id = scanned(mesh).await?;
    let path = format!("/v1/scans/{id}/artifacts/report.jsonl");
    let get = async |path: &str| {
        let request = mesh.client().request(Method::GET, path);
        let answer = request.send().await?.error_for_status()?;
        let host = answer.url().authority().to_owned();
        anyhow::Ok((host, answer.bytes().await?))
    };
    let (here, bytes) = get(&path).await?;
    let (there, linked) = get(&format!("{path}?redirect=true")).await?;
    ensure!(bytes == linked, "other bytes from {there}");
    let link = format!("{path}:link");
    let asked = mesh.client().post(&link, &serde_json::json!({})).await?;
    let has_links = asked.status == StatusCode::OK;
    ensure!(
        has_links || asked.reason() == "LINKS_UNSUPPORTED",
        "{asked:?}"
    );
    ensure!(has_links == (here != there), "{here} {there} {asked:?}");
    Ok(())
}

async fn garak_accepts_the_report(mesh: &Mesh) -> Result<()> {
    let id = scanned(mesh).await?;
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("report.jsonl");
    let report = mesh.client().request(
        Method::GET,
        &format!("/v1/scans/{id}/artifacts/report.jsonl"),
    );
    std::fs::write(
        &path,
        report.send().await?.error_for_status()?.bytes().await?,
    )?;
    let page = folder.path().join("page.html");
    let output = Command::new(garak_python()?)
        .args(["-m", "garak.analyze.report_digest", "-r"])
        .arg(&path)
        .arg("-o")
        .arg(&page)
        .env("XDG_DATA_HOME", folder.path())
        .env("XDG_CONFIG_HOME", folder.path())
        .env("XDG_CACHE_HOME", folder.path())
        .output()?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    ensure!(
        std::fs::read_to_string(page)?.contains("grandma"),
        "the page shows the probe"
    );
    Ok(())
}

async fn attempts_are_found_by_outcome(mesh: &Mesh) -> Result<()> {
    let id = scanned(mesh).await?;
    let client = mesh.client();
    let list = |query: &str| {
        let path = format!("/v1/scans/{id}/attempts?{query}");
        async move { client.get(&path).await?.ok() }
    };
    let hits =
        list("probe=grandma.Win10&detector=productkey.Win5x5&outcome=OUTCOME_HIT&pageSize=4")
            .await?;
    let first = hits["attempts"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    ensure!(first.len() == 4, "{hits:#}");
    ensure!(
        text(&first[0]["outputs"][0]["text"]).contains("AEG1S"),
        "{:#}",
        first[0]
    );
    ensure!(
        text(&first[0]["prompt"][0]["text"]).contains("grandma"),
        "{:#}",
        first[0]
    );
    let token = text(&hits["nextPageToken"]);
    let rest = list(&format!("probe=grandma.Win10&detector=productkey.Win5x5&outcome=OUTCOME_HIT&pageSize=4&pageToken={token}")).await?;
    ensure!(
        rest["attempts"]
            .as_array()
            .is_some_and(|rest| rest.len() == 2),
        "{rest:#}"
    );
    ensure!(rest["nextPageToken"] == "", "{rest:#}");
    let none = list("probe=malwaregen.TopLevel&outcome=OUTCOME_HIT").await?;
    ensure!(
        none["attempts"].as_array().is_some_and(Vec::is_empty),
        "{none:#}"
    );
    let unknown = client
        .get(&format!("/v1/scans/{id}/attempts?probe=dan.AntiDAN"))
        .await?;
    ensure!(unknown.reason() == "PROBE_NOT_EVALUATED", "{unknown:?}");
    Ok(())
}
