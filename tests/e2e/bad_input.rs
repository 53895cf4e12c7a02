//! What bad input gets over HTTP: a code, a reason, the field, a hint; and nothing is lost.

use aegis_proto::{
    internal::{
        catalog::v1::{CreateScanRequest, scan_store_service_client::ScanStoreServiceClient},
        task::v1::{LeaseTaskRequest, task_service_client::TaskServiceClient},
    },
    scan::v1::{ListScansRequest, history_service_client::HistoryServiceClient},
};
use aegis_tests::{client::Answer, mesh::Mesh};
use anyhow::{Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tonic::Code;

use crate::support::{spec, target, with};

crate::cases![
    each_wrong_field_is_named,
    bodies_that_are_no_request,
    ids_that_are_none,
    a_ten_megabyte_prompt,
    odd_names_are_only_names,
    internal_methods_are_out_of_reach,
];

fn refused(answer: &Answer, code: u64, reason: &str, field: &str) -> Result<()> {
    let error = &answer.body["error"];
    ensure!(
        answer.status.is_client_error() && error["code"] == code,
        "{answer:?}"
    );
    ensure!(answer.reason() == reason, "{reason}: {answer:?}");
    ensure!(
        field.is_empty() || answer.fields().iter().any(|f| f == field),
        "{field}: {answer:?}"
    );
    ensure!(
        !error["message"].as_str().unwrap_or_default().is_empty(),
        "{answer:?}"
    );
    Ok(())
}

async fn each_wrong_field_is_named(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let good = spec(&target, "", &["probes.goodside.ThreatenJSON"]);
    let kind = |kind: &str| json!({"target": {"type": kind, "name": "x"}});
    let cases: Vec<(Value, &str, &str)> = vec![
        (
            json!({"include": ["probes.nope"]}),
            "INVALID_FIELD",
            "spec.include[0]",
        ),
        (
            json!({"include": ["probes.dan.AntiDann"]}),
            "INVALID_FIELD",
            "spec.include[0]",
        ),
        (json!({"include": []}), "EMPTY_SELECTION", "spec.include"),
        (
            json!({"include": ["probes.lmrc.Bullying"]}),
            "PROBE_NOT_EVALUABLE",
            "spec.include[0]",
        ),
        (
            json!({"include": ["probes.../../etc"]}),
            "INVALID_FIELD",
            "spec.include[0]",
        ),
        (
            json!({"include": ["probes.\u{0}"]}),
            "INVALID_FIELD",
            "spec.include[0]",
        ),
        (
            json!({"include": ["probes.😀"]}),
            "INVALID_FIELD",
            "spec.include[0]",
        ),
        (kind("nope.Nope"), "INVALID_FIELD", "spec.target.type"),
        (
            kind("function.Single"),
            "GENERATOR_NOT_ALLOWED",
            "spec.target.type",
        ),
        (
            json!({"target": {"type": "openai.OpenAICompatible", "name": "x", "options": {"extra_params": {}}}}),
            "OPTION_NOT_ALLOWED",
            "spec.target.options.extra_params",
        ),
        (
            json!({"target": {"type": "test.Repeat", "secret": "env:PATH"}}),
            "SECRET_NOT_ALLOWED",
            "spec.target.secret",
        ),
        (
            json!({"generations": 0}),
            "INVALID_FIELD",
            "spec.generations",
        ),
        (
            json!({"generations": 1_000_000}),
            "INVALID_FIELD",
            "spec.generations",
        ),
    ];
    for (more, reason, field) in cases {
        let body = json!({"spec": with(good.clone(), more.clone())});
        for path in ["/v1/scans", "/v1/scans:plan"] {
            let answer = mesh.client().post(path, &body).await?;
            refused(&answer, 400, reason, field)
                .map_err(|e| e.context(format!("{more} {path}")))?;
        }
    }
    let nul = json!({"target": {"type": "test.Repeat", "name": "a\u{0}b"}});
    let answer = mesh
        .client()
        .post("/v1/scans", &json!({"spec": with(good.clone(), nul)}))
        .await?;
    refused(&answer, 400, "INVALID_FIELD", "spec.target.name")?;
    let named = json!({"spec": good, "displayName": "a\u{0}b"});
    refused(
        &mesh.client().post("/v1/scans", &named).await?,
        400,
        "INVALID_FIELD",
        "display_name",
    )?;
    ensure!(target.stats().calls == 0, "nothing was scanned");
    let template = mesh
        .client()
        .post("/v1/scans", &json!({"spec": good, "template": "Quick!"}))
        .await?;
    ensure!(
        template.status == 400 && !template.fields().is_empty(),
        "{template:?}"
    );
    Ok(())
}

async fn bodies_that_are_no_request(mesh: &Mesh) -> Result<()> {
    let post = |body: &'static str| {
        let request = mesh.client().request(Method::POST, "/v1/scans");
        request
            .header("content-type", "application/json")
            .body(body)
            .send()
    };
    for body in [
        "{",
        "[]",
        "{\"spec\": {\"generatoins\": 1}}",
        "{\"spec\": {\"generations\": \"many\"}}",
        "{\"nope\": 1}",
    ] {
        let answer = post(body).await?;
        ensure!(answer.status() == 400, "{body}: {}", answer.status());
        let error: Value = answer.json().await?;
        ensure!(
            error["error"]["status"] == "INVALID_ARGUMENT",
            "{body}: {error}"
        );
        ensure!(
            !error["error"]["details"][0]["reason"].is_null(),
            "{body}: {error}"
        );
    }
    let state = mesh
        .client()
        .get("/v1/scans?filter.states=STATE_NOPE")
        .await?;
    ensure!(state.status == 400, "{state:?}");
    let size = mesh.client().get("/v1/scans?pageSize=-1").await?;
    ensure!(size.status == 400, "{size:?}");
    let token = mesh.client().get("/v1/scans?pageToken=forged").await?;
    ensure!(token.reason() == "PAGE_TOKEN_INVALID", "{token:?}");
    Ok(())
}

async fn ids_that_are_none(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let stranger = "0198c0de-0000-7000-8000-000000000000";
    for (path, reason) in [
        (format!("/v1/scans/{stranger}"), "SCAN_NOT_FOUND"),
        (format!("/v1/scans/{stranger}/results"), "SCAN_NOT_FOUND"),
        ("/v1/scans/..%2F..%2Fetc".to_owned(), "INVALID_FIELD"),
        ("/v1/scans/%00".to_owned(), "INVALID_FIELD"),
        ("/v1/scans/%F0%9F%98%80".to_owned(), "INVALID_FIELD"),
    ] {
        let answer = client.get(&path).await?;
        ensure!(answer.reason() == reason, "{path}: {answer:?}");
    }
    Ok(())
}

async fn a_ten_megabyte_prompt(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    let spec = with(
        spec(&target, "", &["probes.dan"]),
        json!({"systemPrompt": "x".repeat(10 << 20)}),
    );
    let answer = mesh
        .client()
        .post("/v1/scans", &json!({"spec": spec}))
        .await?;
    ensure!(
        answer.status.is_client_error() && !answer.reason().is_empty(),
        "{} {}",
        answer.status,
        answer.reason()
    );
    Ok(())
}

async fn odd_names_are_only_names(mesh: &Mesh) -> Result<()> {
    let target = target().await?;
    for name in ["../../etc/passwd", "😀", "a b\"c'd;$(x)"] {
        let mut spec = spec(&target, "", &["probes.goodside.ThreatenJSON"]);
        spec["target"]["name"] = json!(name);
        let created = mesh
            .client()
            .post("/v1/scans", &json!({"spec": spec, "displayName": name}))
            .await?
            .ok()?;
        let id = created["scan"]["scanId"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let scan = mesh.client().ended(&id).await?;
        ensure!(
            scan["state"] == "STATE_COMPLETED" && scan["displayName"] == name,
            "{scan:#}"
        );
        ensure!(scan["report"]["state"] == "STATE_READY", "{scan:#}");
    }
    Ok(())
}

async fn internal_methods_are_out_of_reach(mesh: &Mesh) -> Result<()> {
    let endpoint = tonic::transport::Endpoint::from_shared(mesh.client().base().to_owned())?;
    let channel = endpoint.connect().await?;
    let mut tasks = TaskServiceClient::new(channel.clone());
    let status = tasks.lease_task(LeaseTaskRequest::default()).await.err();
    ensure!(
        status
            .as_ref()
            .is_some_and(|s| s.code() == Code::Unimplemented),
        "{status:?}"
    );
    let mut scans = ScanStoreServiceClient::new(channel.clone());
    let status = scans.create_scan(CreateScanRequest::default()).await.err();
    ensure!(
        status
            .as_ref()
            .is_some_and(|s| s.code() == Code::Unimplemented),
        "{status:?}"
    );
    // The public ones are there, on the same port.
    let mut history = HistoryServiceClient::new(channel);
    history.list_scans(ListScansRequest::default()).await?;
    Ok(())
}
