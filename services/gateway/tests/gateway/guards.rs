//! Who may speak to the gateway.

use aegis_mesh::{Secret, Shutdown};

use crate::world::{World, error, reason};

#[tokio::test]
async fn a_name_that_is_not_ours_is_not_answered() {
    let world = World::new().await;
    for path in [
        "/v1/scans",
        "/healthz",
        "/readyz",
        "/",
        "/v1/scans/id/artifacts/report.html",
    ] {
        let rebound = world
            .request("GET", path)
            .header("host", "evil.example")
            .send()
            .await
            .unwrap();
        assert_eq!(
            reason(&error(rebound, 403).await),
            "HOST_NOT_ALLOWED",
            "{path}"
        );
    }
    let request = world
        .request("POST", "/aegis.scan.v1.HistoryService/GetScan")
        .header("host", "evil.example");
    let request = request
        .header("content-type", "application/grpc-web+proto")
        .body(vec![0; 5]);
    assert_eq!(request.send().await.unwrap().headers()["grpc-status"], "7");
    assert!(world.fake.calls().is_empty());
}

#[tokio::test]
async fn further_names_can_be_allowed() {
    let world = World::with(|config| config.allowed_hosts = vec!["aegis.test".into()]).await;
    for (host, status) in [
        ("aegis.test:8080", 200),
        ("localhost", 200),
        ("evil.example", 403),
    ] {
        let request = world.request("GET", "/v1/scans").header("host", host);
        assert_eq!(request.send().await.unwrap().status(), status, "{host}");
    }
}

/// A page elsewhere can send this without asking: no body, no header of its own.
#[tokio::test]
async fn another_sites_page_cannot_cancel_a_scan() {
    let world = World::new().await;
    for origin in ["http://evil.example", "null", "http://localhost:1"] {
        let request = world
            .request("POST", "/v1/scans/id:cancel")
            .header("origin", origin);
        let refused = error(request.send().await.unwrap(), 403).await;
        assert_eq!(reason(&refused), "ORIGIN_NOT_ALLOWED");
    }
    assert!(world.fake.calls().is_empty());
    let own = format!("http://{}", world.address);
    let request = world
        .request("POST", "/v1/scans/id:cancel")
        .header("origin", own);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(
        !response
            .headers()
            .contains_key("access-control-allow-origin")
    );
}

#[tokio::test]
async fn a_token_opens_everything_but_health() {
    let world = World::with(|config| config.api_token = Some(Secret::new("t0ken"))).await;
    for (authorization, status) in [
        (None, 401),
        (Some("Bearer t0ke"), 401),
        (Some("Bearer t0kenn"), 401),
        (Some("t0ken"), 401),
        (Some("Basic t0ken"), 401),
        (Some("Bearer t0ken"), 200),
        (Some("bearer t0ken"), 200),
    ] {
        let mut request = world.request("GET", "/v1/scans");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{authorization:?}");
        if status == 401 {
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            let refused = error(response, 401).await;
            assert_eq!(
                (refused["status"].as_str(), reason(&refused)),
                (Some("UNAUTHENTICATED"), "UNAUTHENTICATED")
            );
        }
    }
    for path in ["/v1/scans/id/artifacts/report.jsonl", "/v1/no/such/route"] {
        error(world.get(path).await, 401).await;
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(world.get(path).await.status(), 200);
    }
}

#[tokio::test]
async fn the_queues_token_opens_its_depth_alone() {
    let world = World::with(|config| {
        config.api_token = Some(Secret::new("t0ken"));
        config.queue_token = Some(Secret::new("queue-t0ken"));
    })
    .await;
    for (method, path, token, status) in [
        ("GET", "/v1/admin/queue", "queue-t0ken", 200),
        ("GET", "/v1/admin/queue?slots=2", "queue-t0ken", 200),
        ("GET", "/v1/admin/queue", "t0ken", 200),
        ("GET", "/v1/admin/queue", "queue-t0ke", 401),
        ("POST", "/v1/admin/queue", "queue-t0ken", 401),
        ("GET", "/v1/admin/queue/", "queue-t0ken", 401),
        ("GET", "/v1/admin/jobs", "queue-t0ken", 401),
        ("GET", "/v1/scans", "queue-t0ken", 401),
    ] {
        let request = world.request(method, path).bearer_auth(token);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), status, "{method} {path} with {token}");
    }
    let asked = world.fake.calls();
    let slots = asked.iter().map(|call| call.request["slots"].clone());
    assert_eq!(slots.collect::<Vec<_>>(), [0, 2, 0]);
}

#[tokio::test]
async fn nothing_in_it_is_left_out() {
    let world = World::new().await;
    let depth: serde_json::Value = world.get("/v1/admin/queue").await.json().await.unwrap();
    let expected = serde_json::json!({"waiting": 0, "running": 0, "tasks": 0});
    assert_eq!(
        depth, expected,
        "a scaler that misses a number stops scaling"
    );
}

#[tokio::test]
async fn a_listener_that_others_reach_needs_a_token() {
    let config = aegis_gateway::Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..aegis_gateway::Config::default()
    };
    let deps = crate::world::deps(&crate::fake::Fake::default());
    let refused = aegis_gateway::start(config, deps, Shutdown::new())
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "INVALID_CONFIG");
    assert!(refused.message().contains("api_token"), "{refused}");
}

#[tokio::test]
async fn an_address_in_use_is_said_with_a_hint() {
    let world = World::new().await;
    let config = aegis_gateway::Config {
        listen: world.address,
        ..aegis_gateway::Config::default()
    };
    let refused = aegis_gateway::start(config, crate::world::deps(&world.fake), Shutdown::new())
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "LISTEN_FAILED");
    assert!(
        refused.message().contains(&world.address.to_string()),
        "{refused}"
    );
    assert!(refused.hint_text().is_some());
}

#[tokio::test]
async fn answers_are_safe_for_browsers() {
    let world = World::new().await;
    for path in [
        "/",
        "/healthz",
        "/v1/scans",
        "/v1/scans/missing",
        "/nowhere",
    ] {
        let response = world.get(path).await;
        let headers = response.headers();
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(headers["referrer-policy"], "no-referrer", "{path}");
        assert_eq!(headers["cache-control"], "no-store", "{path}");
        assert!(
            headers["content-security-policy"]
                .to_str()
                .unwrap()
                .contains("default-src 'none'"),
            "{path}"
        );
    }
}
