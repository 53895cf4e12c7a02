//! Scans of before: real reports of every garak there was, through the gateway, read as what ran
//! here is.

use std::path::Path;

use aegis_proto::report::v1::{
    ImportHeader, ImportScanRequest, ImportScanResponse, import_scan_request::Part,
    import_service_client::ImportServiceClient,
};
use aegis_tests::mesh::Mesh;
use anyhow::{Context, Result, ensure};
use futures_util::stream;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::support::{holds, text};

crate::cases![
    reports_of_every_garak_are_read_as_scans,
    a_whole_scan_comes_back_as_it_was,
    an_import_again_is_unchanged_and_nothing_of_it_runs,
    a_scan_without_its_report_has_its_counts,
];

const VERSIONS: [&str; 10] = [
    "0.9.0.6", "0.10.3", "0.11.0", "0.12.0", "0.13.0", "0.13.1", "0.14.0", "0.15.1", "0.16.0",
    "0.17.1",
];

fn sample(name: &str) -> Result<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/report/tests/data");
    std::fs::read(folder.join(name)).with_context(|| name.to_owned())
}

fn object(json: Value) -> Result<prost_types::Struct> {
    Ok(aegis_proto::json::object_from_json(json)?)
}

fn header(id: Uuid) -> ImportHeader {
    ImportHeader {
        scan_id: id.to_string(),
        ..ImportHeader::default()
    }
}

/// Streams a scan to the gateway.
async fn import(
    mesh: &Mesh,
    header: ImportHeader,
    files: &[(&str, &[u8])],
) -> Result<ImportScanResponse, aegis_mesh::Error> {
    let message = |part| ImportScanRequest { part: Some(part) };
    let mut messages = vec![message(Part::Header(header))];
    for (name, bytes) in files {
        messages.push(message(Part::File((*name).to_owned())));
        let chunks = bytes.chunks(1 << 20);
        messages.extend(chunks.map(|chunk| message(Part::Data(chunk.to_vec().into()))));
    }
    let endpoint = tonic::transport::Endpoint::from_shared(mesh.client().base().to_owned());
    let channel = endpoint
        .map_err(aegis_mesh::Error::internal)?
        .connect_lazy();
    let mut client = ImportServiceClient::new(channel);
    let answer = client.import_scan(stream::iter(messages)).await;
    Ok(answer.map_err(aegis_mesh::Error::from)?.into_inner())
}

async fn reports_of_every_garak_are_read_as_scans(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    for version in VERSIONS {
        let report = sample(&format!("versions/{version}.report.jsonl"))?;
        let id = Uuid::new_v4();
        // So that its findings are its own.
        let model = format!("old-{}", id.simple());
        let header = ImportHeader {
            target: Some(aegis_proto::scan::v1::Target {
                r#type: "openai".to_owned(),
                name: model.clone(),
                ..Default::default()
            }),
            ..header(id)
        };
        let answer = import(mesh, header, &[("report.jsonl", &report)]).await?;
        ensure!(!answer.unchanged, "{version}");
        let scan = client.scan(&id.to_string()).await?;
        holds(scan["imported"] == true, version, &scan)?;
        holds(scan["state"] == "STATE_COMPLETED", version, &scan)?;
        holds(scan["garakVersion"] == version, version, &scan)?;
        let evaluated = scan["coverage"]["evaluated"] == 1;
        holds(evaluated, version, &scan)?;
        let files = json!(["report.jsonl", "hitlog.jsonl"]);
        holds(scan["report"]["artifacts"] == files, version, &scan)?;
        let started = text(&scan["startTime"]);
        holds(started.starts_with("2024-05-01T10:00:01"), version, &scan)?;
        reads(mesh, id, &model).await.context(version)?;
    }
    Ok(())
}

/// By everything that reads inside a report.
async fn reads(mesh: &Mesh, id: Uuid, model: &str) -> Result<()> {
    let client = mesh.client();
    let get = async |path: &str| client.get(&format!("/v1/scans/{id}/{path}")).await?.ok();
    let results = client.results(&id.to_string()).await?;
    ensure!(results.len() == 2, "{results:?}");
    let attempts = get("attempts?probe=dan.AntiDAN&pageSize=100").await?;
    let attempts = attempts["attempts"].as_array().context("attempts")?;
    ensure!(!attempts.is_empty(), "no attempts");
    let attempt = text(&attempts[0]["attemptId"]);
    let whole = get(&format!("attempts/{attempt}")).await?;
    ensure!(whole.to_string().contains("Hello DAN"), "{whole}");
    let found = get("attempts?text=hello").await?;
    ensure!(
        found["attempts"]
            .as_array()
            .is_some_and(|all| !all.is_empty()),
        "{found}"
    );
    let workflow = get("workflow?maxNodes=50").await?;
    ensure!(
        workflow["workflow"]["nodes"]
            .as_array()
            .is_some_and(|nodes| nodes.len() > 2),
        "{workflow}"
    );
    let findings = format!("/v1/findings?targetType=openai&targetName={model}&probe=dan.AntiDAN");
    let findings = client.get(&findings).await?.ok()?;
    ensure!(findings["findings"][0]["scanId"] == json!(id), "{findings}");
    let listed = format!("/v1/scans?filter.targetName={model}");
    let listed = client.get(&listed).await?.ok()?;
    ensure!(listed["scans"][0]["scanId"] == json!(id), "{listed}");
    Ok(())
}

/// A run of garak 0.17, with all that it left; two of them can be compared.
async fn a_whole_scan_comes_back_as_it_was(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let (report, hitlog) = (
        sample("plain.report.jsonl")?,
        sample("part-1.hitlog.jsonl")?,
    );
    let html = b"<!DOCTYPE html><script>alert(1)</script>".to_vec();
    let files = [
        ("report.jsonl", &report[..]),
        ("hitlog.jsonl", &hitlog),
        ("report.html", &html),
    ];
    let id = Uuid::new_v4();
    let header = ImportHeader {
        display_name: format!("As it was {id}"),
        labels: [("from".to_owned(), id.to_string())].into(),
        original_options: Some(object(json!({"generations": 5, "api_key": "k-1"}))?),
        ..header(id)
    };
    let answer = import(mesh, header, &files).await?;
    let warned = answer.warnings.iter().any(|line| line.contains("secret"));
    ensure!(warned, "{:?}", answer.warnings);
    let scan = client.scan(&id.to_string()).await?;
    holds(
        text(&scan["displayName"]).starts_with("As it was"),
        "name",
        &scan,
    )?;
    let options = json!({"generations": 5.0, "api_key": "***"});
    holds(scan["originalOptions"] == options, "options", &scan)?;
    holds(scan["defcon"].is_number(), "a grade", &scan)?;
    for (name, bytes) in files {
        let path = format!("/v1/scans/{id}/artifacts/{name}");
        let request = client.request(reqwest::Method::GET, &path);
        let response = request.send().await?.error_for_status()?;
        let disposition = response.headers()["content-disposition"]
            .to_str()?
            .to_owned();
        ensure!(
            disposition.contains(&format!("garak.{id}.{name}")),
            "{disposition}"
        );
        if name.ends_with(".html") {
            let policy = response.headers()["content-security-policy"].to_str()?;
            ensure!(policy.contains("sandbox"), "{policy}");
        }
        ensure!(response.bytes().await? == bytes, "{name}");
    }
    let listed = client
        .get(&format!("/v1/scans?filter.text={id}"))
        .await?
        .ok()?;
    ensure!(listed["scans"][0]["scanId"] == json!(id), "{listed}");
    ensure!(listed["scans"][0]["originalOptions"].is_null(), "{listed}");
    let twin = Uuid::new_v4();
    import(mesh, self::header(twin), &files).await?;
    let compared = format!("/v1/scans:compare?scanIds={id}&scanIds={twin}");
    let compared = client.get(&compared).await?.ok()?;
    ensure!(
        compared.to_string().contains("CHANGE_UNCHANGED"),
        "{compared}"
    );
    let events = client.get(&format!("/v1/scans/{id}/events")).await?;
    ensure!(events.status.is_success(), "{events:?}");
    ensure!(
        events.body.to_string().contains("reportReady"),
        "{events:?}"
    );
    Ok(())
}

async fn an_import_again_is_unchanged_and_nothing_of_it_runs(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let (report, other) = (
        sample("part-1.report.jsonl")?,
        sample("part-2.report.jsonl")?,
    );
    let id = Uuid::new_v4();
    let dry = ImportHeader {
        dry_run: true,
        ..header(id)
    };
    import(mesh, dry, &[("report.jsonl", &report)]).await?;
    ensure!(
        client.get(&format!("/v1/scans/{id}")).await?.status == 404,
        "a dry run kept it"
    );
    // Two at once: one makes it, the other finds it.
    let files = [("report.jsonl", &report[..])];
    let (one, two) = tokio::join!(
        import(mesh, header(id), &files),
        import(mesh, header(id), &files)
    );
    let (one, two) = (one?.unchanged, two?.unchanged);
    ensure!(one != two, "{one} {two}");
    ensure!(import(mesh, header(id), &files).await?.unchanged, "again");
    let refused = import(mesh, header(id), &[("report.jsonl", &other)]).await;
    let error = refused.err().context("another report was taken")?;
    ensure!(error.reason() == "SCAN_EXISTS", "{error:?}");
    let malformed = import(mesh, header(Uuid::new_v4()), &[("report.jsonl", b"nope\n")]).await;
    let error = malformed.err().context("no report was taken")?;
    ensure!(error.reason() == "REPORT_MALFORMED", "{error:?}");
    ensure!(error.metadata()["line"] == "1", "{error:?}");
    for action in ["retry", "cancel"] {
        let refused = client
            .post(&format!("/v1/scans/{id}:{action}"), &json!({}))
            .await?;
        ensure!(refused.reason() == "SCAN_IMPORTED", "{action} {refused:?}");
    }
    client.delete(&format!("/v1/scans/{id}")).await?.ok()?;
    let deleted = import(mesh, header(id), &files).await;
    let error = deleted.err().context("a deleted scan was taken")?;
    ensure!(error.reason() == "SCAN_DELETED", "{error:?}");
    client
        .post(&format!("/v1/scans/{id}:undelete"), &json!({}))
        .await?
        .ok()?;
    Ok(())
}

async fn a_scan_without_its_report_has_its_counts(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let id = Uuid::new_v4();
    let header = ImportHeader {
        original_counts: Some(object(json!({"dan": {"passed": 7, "failed": 3}}))?),
        ..header(id)
    };
    import(mesh, header, &[]).await?;
    let scan = client.scan(&id.to_string()).await?;
    holds(scan["totals"]["failed"] == "3", "its counts", &scan)?;
    holds(scan["report"].is_null(), "no report", &scan)?;
    let counts = json!({"dan": {"passed": 7.0, "failed": 3.0}});
    holds(scan["originalCounts"] == counts, "as they came", &scan)?;
    for path in ["artifacts", "attempts?probe=dan"] {
        let refused = client.get(&format!("/v1/scans/{id}/{path}")).await?;
        ensure!(refused.status == 404, "{path} {refused:?}");
        ensure!(refused.reason() == "REPORT_NOT_FOUND", "{path} {refused:?}");
    }
    let workflow = client.get(&format!("/v1/scans/{id}/workflow")).await?;
    ensure!(
        workflow.status.is_success() || workflow.status == 404,
        "{workflow:?}"
    );
    Ok(())
}
