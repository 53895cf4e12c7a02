//! `/healthz`, `/readyz`, and a mesh that is not there.

use aegis_gateway::Deps;
use aegis_mesh::{ClientConfig, MeshChannel};
use serde_json::{Value, json};

use crate::{
    fake::Fake,
    world::{World, deps, error, eventually, reason},
};

#[tokio::test]
async fn a_mesh_that_serves_is_ready() {
    let world = World::new().await;
    let response = world.get("/readyz").await;
    assert_eq!(response.status(), 200);
    let body: Value = response.json().await.unwrap();
    let services =
        json!({"scan-orchestrator": "SERVING", "catalog": "SERVING", "artifact": "SERVING"});
    assert_eq!(body, json!({"ready": true, "services": services}));
}

#[tokio::test]
async fn what_is_not_ready_is_named_and_noticed_when_it_is() {
    let fake = Fake::default();
    let (catalog, slot) = MeshChannel::local_late();
    let deps = Deps {
        catalog,
        ..deps(&fake)
    };
    let world = World::over(fake.clone(), deps, |_| {}).await;
    let response = world.get("/readyz").await;
    assert_eq!(response.status(), 503);
    let body: Value = response.json().await.unwrap();
    assert_eq!(
        (&body["ready"], &body["services"]["artifact"]),
        (&json!(false), &json!("SERVING"))
    );
    assert_eq!(body["services"]["catalog"], "STARTING");
    assert_eq!(
        world.get("/healthz").await.status(),
        200,
        "the process itself is fine"
    );

    slot.set(fake.catalog());
    let (url, http) = (world.url("/readyz"), world.http.clone());
    let (sender, ready) = tokio::sync::watch::channel(false);
    let asking = aegis_mesh::spawn("asking", async move {
        while http.get(&url).send().await.unwrap().status() != 200 {
            tokio::task::yield_now().await;
        }
        sender.send_replace(true);
    });
    eventually("it is ready", || *ready.borrow()).await;
    asking.await.unwrap();
}

#[tokio::test]
async fn a_service_that_is_down_is_unavailable() {
    let fake = Fake::default();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let config = ClientConfig::at(format!("http://{nobody}"));
    let deps = Deps {
        catalog: MeshChannel::connect(&config).unwrap(),
        ..deps(&fake)
    };
    let world = World::over(fake, deps, |_| {}).await;
    let refused = error(world.get("/v1/scans/id").await, 503).await;
    assert_eq!(refused["status"], "UNAVAILABLE");
    let metadata = &refused["details"][0]["metadata"];
    assert_eq!(metadata["service"], "catalog");
    assert!(
        metadata["hint"].as_str().unwrap().contains("/readyz"),
        "{refused}"
    );
    assert!(
        !refused.to_string().contains(&nobody.to_string()),
        "addresses stay inside: {refused}"
    );
    let body: Value = world.get("/readyz").await.json().await.unwrap();
    assert_eq!(body["services"]["catalog"], "UNREACHABLE");
    // The others still answer.
    assert_eq!(world.get("/v1/plugins/probes").await.status(), 200);
}

#[tokio::test]
async fn an_upstream_that_hangs_is_given_up() {
    let world = World::with(|config| config.unary_deadline_seconds = 1).await;
    let late = error(world.get("/v1/scans/hangs").await, 504).await;
    assert_eq!(
        (late["status"].as_str(), reason(&late)),
        (Some("DEADLINE_EXCEEDED"), "DEADLINE_EXCEEDED")
    );
}
