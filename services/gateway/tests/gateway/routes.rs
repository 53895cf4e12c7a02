//! Every HTTP route leads to the right method with the right fields.

use serde_json::{Value, json};

use crate::world::World;

/// The routes that scripts rely on: method, path, body, the call, and the fields that it must have.
fn table() -> Vec<(
    &'static str,
    &'static str,
    Option<Value>,
    &'static str,
    Value,
)> {
    let spec = json!({"target": {"type": "test.Repeat"}, "include": ["probes.dan"], "generations": 0, "seed": "4294967295"});
    let create = json!({"displayName": "n", "spec": spec, "labels": {"a": "b"}});
    vec![
        (
            "POST",
            "/v1/scans",
            Some(create.clone()),
            "CreateScan",
            create,
        ),
        (
            "POST",
            "/v1/scans:plan",
            Some(json!({"spec": spec})),
            "PlanScan",
            json!({"spec": spec}),
        ),
        (
            "GET",
            "/v1/scans",
            None,
            "ListScans",
            json!({"pageSize": 0}),
        ),
        (
            "GET",
            "/v1/scans?pageSize=3&pageToken=t%2B%2F&filter.states=STATE_RUNNING&filter.states=STATE_FAILED&filter.targetName=m",
            None,
            "ListScans",
            json!({"pageSize": 3, "pageToken": "t+/", "filter": {"states": ["STATE_RUNNING", "STATE_FAILED"], "targetName": "m"}}),
        ),
        (
            "GET",
            "/v1/scans/a%2Fb",
            None,
            "GetScan",
            json!({"scanId": "a/b"}),
        ),
        (
            "DELETE",
            "/v1/scans/id",
            None,
            "DeleteScan",
            json!({"scanId": "id"}),
        ),
        (
            "POST",
            "/v1/scans/id:cancel",
            None,
            "CancelScan",
            json!({"scanId": "id", "reason": ""}),
        ),
        (
            "POST",
            "/v1/scans/id:cancel",
            Some(json!({"reason": "r"})),
            "CancelScan",
            json!({"scanId": "id", "reason": "r"}),
        ),
        (
            "POST",
            "/v1/scans/id:pause",
            Some(json!({"reason": "r"})),
            "PauseScan",
            json!({"scanId": "id", "reason": "r"}),
        ),
        (
            "POST",
            "/v1/scans/id:resume",
            None,
            "ResumeScan",
            json!({"scanId": "id"}),
        ),
        (
            "POST",
            "/v1/scans/id:retry",
            Some(json!({})),
            "RetryScan",
            json!({"scanId": "id"}),
        ),
        (
            "GET",
            "/v1/scans/id/results?page_size=2",
            None,
            "ListProbeResults",
            json!({"scanId": "id", "pageSize": 2}),
        ),
        (
            "GET",
            "/v1/scans/id/events?afterSequence=2",
            None,
            "WatchScan",
            json!({"scanId": "id", "afterSequence": "2"}),
        ),
        (
            "GET",
            "/v1/scans/id/attempts?probe=dan.AntiDAN&detector=d&outcome=OUTCOME_HIT",
            None,
            "ListAttempts",
            json!({"scanId": "id", "probe": "dan.AntiDAN", "detector": "d", "outcome": "OUTCOME_HIT"}),
        ),
        (
            "GET",
            "/v1/scans/id/artifacts",
            None,
            "ListArtifacts",
            json!({"scanId": "id", "revision": 0}),
        ),
        (
            "GET",
            "/v1/scans/id/artifacts/report.jsonl",
            None,
            "ReadArtifact",
            json!({"scanId": "id", "name": "report.jsonl", "revision": 0, "readOffset": "0", "readLimit": "0"}),
        ),
        (
            "GET",
            "/v1/scans/id/artifacts/hitlog.jsonl",
            None,
            "ReadArtifact",
            json!({"name": "hitlog.jsonl"}),
        ),
        (
            "GET",
            "/v1/scans/id/artifacts/report.html?revision=1",
            None,
            "ReadArtifact",
            json!({"name": "report.html", "revision": 1}),
        ),
        (
            "GET",
            "/v1/plugins/probes?pageSize=1",
            None,
            "ListProbes",
            json!({"pageSize": 1}),
        ),
        (
            "GET",
            "/v1/plugins/detectors",
            None,
            "ListDetectors",
            json!({}),
        ),
        (
            "GET",
            "/v1/plugins/generators",
            None,
            "ListGenerators",
            json!({}),
        ),
        ("GET", "/v1/plugins/buffs", None, "ListBuffs", json!({})),
        (
            "HEAD",
            "/v1/scans/id",
            None,
            "GetScan",
            json!({"scanId": "id"}),
        ),
    ]
}

#[tokio::test]
async fn each_route_leads_to_its_method() {
    for (method, path, body, call, fields) in table() {
        let world = World::new().await;
        let mut request = world.request(method, path);
        if let Some(body) = &body {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{method} {path}");
        response.bytes().await.unwrap();
        let seen = world.fake.only_call();
        assert_eq!(seen.method, call, "{method} {path}");
        includes(&seen.request, &fields, path);
    }
}

/// Whether `all` has at least the values of `some`.
fn includes(all: &Value, some: &Value, context: &str) {
    match (all, some) {
        (Value::Object(all), Value::Object(some)) => {
            for (name, value) in some {
                let found = all
                    .get(name)
                    .unwrap_or_else(|| panic!("{context}: no {name} in {all:?}"));
                includes(found, value, context);
            }
        }
        _ => assert_eq!(all, some, "{context}"),
    }
}

#[tokio::test]
async fn answers_are_proto3_json() {
    let world = World::new().await;
    let response = world.get("/v1/plugins/probes").await;
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    let probe = &body["probes"][0];
    assert_eq!(
        probe["prompts"], "9007199254740993",
        "64-bit integers are text"
    );
    assert_eq!(
        probe["primaryDetector"], "",
        "defaults are written, in lowerCamelCase"
    );
    assert_eq!(body["nextPageToken"], "");
    let scan: Value = world.get("/v1/scans/id").await.json().await.unwrap();
    assert_eq!(scan["scan"]["state"], "STATE_UNSPECIFIED");
    assert!(
        scan["scan"].get("failure").is_none(),
        "an unset message is not there: {scan}"
    );
}

#[tokio::test]
async fn an_idempotency_key_is_the_request_id() {
    for (key, body, expected) in [
        (Some("k-1"), json!({}), "k-1"),
        (Some("k-1"), json!({"requestId": "r-1"}), "r-1"),
        (None, json!({}), ""),
    ] {
        let world = World::new().await;
        let mut request = world.request("POST", "/v1/scans").json(&body);
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        assert_eq!(request.send().await.unwrap().status(), 200);
        assert_eq!(world.fake.only_call().request["requestId"], expected);
    }
    // A method without a request id takes no notice.
    let world = World::new().await;
    let request = world
        .request("POST", "/v1/scans/id:retry")
        .header("Idempotency-Key", "k-1");
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn the_same_over_http2() {
    let world = World::new().await;
    let http2 = reqwest::Client::builder()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    let response = http2.get(world.url("/v1/scans/id")).send().await.unwrap();
    assert_eq!(response.version(), reqwest::Version::HTTP_2);
    let size = response.headers()["content-length"].clone();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["scan"]["scanId"], "id");
    let head = http2.head(world.url("/v1/scans/id")).send().await.unwrap();
    assert_eq!(head.status(), 200);
    assert_eq!(head.headers()["content-length"], size);
}
