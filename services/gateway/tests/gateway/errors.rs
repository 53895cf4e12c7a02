//! Every refusal has one shape, says which field, and what to do.

use serde_json::{Value, json};

use crate::world::{World, error, reason};

fn field(error: &Value) -> &str {
    let details = error["details"].as_array().unwrap();
    let bad_request = details
        .iter()
        .find(|d| d["@type"] == "type.googleapis.com/google.rpc.BadRequest");
    bad_request.unwrap_or_else(|| panic!("no BadRequest: {error}"))["fieldViolations"][0]["field"]
        .as_str()
        .unwrap()
}

#[tokio::test]
async fn an_upstreams_error_keeps_its_details() {
    let world = World::new().await;
    let missing = error(world.get("/v1/scans/missing").await, 404).await;
    assert_eq!(missing["status"], "NOT_FOUND");
    assert_eq!(reason(&missing), "SCAN_NOT_FOUND");
    assert_eq!(missing["details"][0]["metadata"]["hint"], "list the scans");

    let running = error(
        world
            .request("DELETE", "/v1/scans/running")
            .send()
            .await
            .unwrap(),
        400,
    )
    .await;
    assert_eq!(running["status"], "FAILED_PRECONDITION");
    let text = running.to_string();
    assert!(
        text.contains("google.rpc.PreconditionFailure") && text.contains("cancel it first"),
        "{text}"
    );
}

#[tokio::test]
async fn retry_info_is_a_retry_after_header_in_whole_seconds() {
    let world = World::new().await;
    let busy = world.get("/v1/scans/busy").await;
    assert_eq!(busy.headers()["retry-after"], "2");
    let busy = error(busy, 503).await;
    assert_eq!(busy["status"], "UNAVAILABLE");
}

#[tokio::test]
async fn an_internal_error_says_nothing_but_its_id() {
    let world = World::new().await;
    let secret = error(world.get("/v1/scans/secret").await, 500).await;
    assert!(!secret.to_string().contains("hunter2"), "{secret}");
    assert!(
        secret["details"][0]["metadata"]["error_id"].is_string(),
        "{secret}"
    );
}

#[tokio::test]
async fn a_field_that_is_wrong_is_named() {
    let world = World::new().await;
    let spec = |spec: Value| json!({ "spec": spec });
    for (body, name) in [
        (json!({"verbosity": 1}), "verbosity"),
        (spec(json!({"target": {"kind": "x"}})), "spec.target.kind"),
        (
            spec(json!({"generations": 1_000_000_000_000_u64})),
            "spec.generations",
        ),
        (spec(json!({"include": "probes.dan"})), "spec.include"),
        (spec(json!({"probeTimeout": "soon"})), "spec.probeTimeout"),
        (json!([]), "body"),
    ] {
        let refused = error(world.post("/v1/scans", body).await, 400).await;
        assert_eq!(refused["status"], "INVALID_ARGUMENT");
        assert_eq!((reason(&refused), field(&refused)), ("INVALID_FIELD", name));
    }
    for (path, name) in [
        ("/v1/scans?pagesize=1", "pagesize"),
        ("/v1/scans?filter.states=RUNNING", "filter.states"),
        ("/v1/scans?pageSize=x", "pageSize"),
        ("/v1/scans?pageToken=%zz", "pageToken"),
        ("/v1/scans/%ff", "scan_id"),
        ("/v1/scans/id?scanId=other", "scanId"),
        ("/v1/scans/id/artifacts/report.jsonl?revision=0", "revision"),
        (
            "/v1/scans/id/artifacts/report.jsonl?revision=1&revision=2",
            "revision",
        ),
        ("/v1/scans/id/artifacts/report.jsonl?offset=1", "offset"),
    ] {
        let refused = error(world.get(path).await, 400).await;
        assert_eq!(
            (reason(&refused), field(&refused)),
            ("INVALID_FIELD", name),
            "{path}"
        );
    }
    let cancel = error(
        world
            .post("/v1/scans/id:cancel", json!({"scanId": "other"}))
            .await,
        400,
    )
    .await;
    assert_eq!(field(&cancel), "scan_id");
    let query = error(world.post("/v1/scans?displayName=x", json!({})).await, 400).await;
    assert_eq!(field(&query), "displayName");
    assert!(
        world.fake.calls().is_empty(),
        "nothing of this reached the mesh"
    );
}

#[tokio::test]
async fn what_is_not_json_is_refused_with_line_and_column() {
    let world = World::new().await;
    let request = world
        .request("POST", "/v1/scans")
        .header("content-type", "application/json");
    let refused = error(
        request.body("{\n  \"spec\": oops}").send().await.unwrap(),
        400,
    )
    .await;
    assert_eq!(reason(&refused), "INVALID_JSON");
    let metadata = &refused["details"][0]["metadata"];
    assert_eq!(
        (&metadata["line"], &metadata["column"]),
        (&json!("2"), &json!("11"))
    );
}

#[tokio::test]
async fn paths_and_methods_that_there_are_not() {
    let world = World::new().await;
    for path in [
        "/v1",
        "/v1/",
        "/v1/scan",
        "/v1/scans/",
        "/v1/scans/a/b/c",
        "/v1/scans/id:archive",
        "/v1/scans/../../etc/passwd",
        "/aegis.scan.v1.HistoryService/GetScan",
        "/aegis.internal.task.v1.TaskService/LeaseTask",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    ] {
        let refused = error(world.get(path).await, 404).await;
        assert_eq!(reason(&refused), "ROUTE_NOT_FOUND", "{path}");
    }
    for (method, path, allow) in [
        ("PUT", "/v1/scans", "GET, HEAD, POST"),
        ("PUT", "/v1/scans/id", "DELETE, GET, HEAD, PATCH"),
        ("GET", "/v1/scans:plan", "POST"),
        ("GET", "/v1/scans/id:cancel", "POST"),
        ("OPTIONS", "/v1/scans/id/results", "GET, HEAD"),
        ("HEAD", "/v1/scans/id/events", "GET"),
        ("POST", "/v1/scans/id/artifacts/report.jsonl", "GET, HEAD"),
    ] {
        let response = world.request(method, path).send().await.unwrap();
        assert_eq!(response.headers()["allow"], allow, "{method} {path}");
        if method == "HEAD" {
            assert_eq!(response.status(), 405);
            continue;
        }
        let refused = error(response, 405).await;
        assert_eq!(reason(&refused), "METHOD_NOT_ALLOWED");
    }
    assert!(world.fake.calls().is_empty());
}

#[tokio::test]
async fn a_body_must_be_json_and_must_be_wanted() {
    let world = World::new().await;
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonp",
    ] {
        let request = world
            .request("POST", "/v1/scans")
            .header("content-type", content_type);
        let refused = error(request.body("{}").send().await.unwrap(), 415).await;
        assert_eq!(reason(&refused), "UNSUPPORTED_MEDIA_TYPE");
    }
    let without = world
        .request("POST", "/v1/scans")
        .body("{}")
        .send()
        .await
        .unwrap();
    error(without, 415).await;
    let unwanted = world
        .request("GET", "/v1/scans")
        .json(&json!({"pageSize": 1}))
        .send()
        .await
        .unwrap();
    assert_eq!(reason(&error(unwanted, 400).await), "UNEXPECTED_BODY");
    assert!(world.fake.calls().is_empty());
    let request = world
        .request("POST", "/v1/scans")
        .header("content-type", "Application/JSON; charset=utf-8");
    assert_eq!(request.body("{}").send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_in_words() {
    let world = World::new().await;
    let prompt = json!({"spec": {"systemPrompt": "x".repeat(10 << 20)}});
    let refused = error(world.post("/v1/scans", prompt).await, 413).await;
    assert_eq!(refused["status"], "RESOURCE_EXHAUSTED");
    assert_eq!(reason(&refused), "MESSAGE_TOO_LARGE");
    assert_eq!(refused["details"][0]["metadata"]["limit_bytes"], "4194304");
    assert!(world.fake.calls().is_empty());
    // The limit itself is not too large.
    let world = World::with(|config| config.max_body_bytes = 1024).await;
    let fitting = format!("{{\"displayName\": \"{}\"}}", "x".repeat(1024 - 19));
    for (body, status) in [(fitting.clone(), 200), (format!("{fitting} "), 413)] {
        let request = world
            .request("POST", "/v1/scans")
            .header("content-type", "application/json");
        assert_eq!(request.body(body).send().await.unwrap().status(), status);
    }
}
