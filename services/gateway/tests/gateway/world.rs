//! A gateway on a free port, in front of the fake, and ways to talk to it.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use aegis_gateway::{Config, Deps, Running, start};
use aegis_mesh::{MeshChannel, Shutdown};
use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;

use crate::fake::Fake;

pub(crate) struct World {
    pub(crate) fake: Fake,
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: Running,
    pub(crate) http: Client,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With changes to the configuration.
    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let fake = Fake::default();
        let deps = deps(&fake);
        Self::over(fake, deps, change).await
    }

    /// With a mesh of its own.
    pub(crate) async fn over(fake: Fake, deps: Deps, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            ..Config::default()
        };
        change(&mut config);
        let shutdown = Shutdown::new();
        let running = start(config, deps, shutdown.clone()).await.unwrap();
        Self {
            fake,
            address: running.address(),
            shutdown,
            running,
            http: Client::builder()
                .timeout(Duration::from_secs(30))
                .build()
                .unwrap(),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub(crate) fn request(&self, method: &str, path: &str) -> RequestBuilder {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        self.http.request(method, self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request("GET", path).send().await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Response {
        self.request("POST", path).json(&body).send().await.unwrap()
    }

    /// A channel to it as gRPC clients make one.
    pub(crate) async fn channel(&self) -> tonic::transport::Channel {
        let endpoint = tonic::transport::Endpoint::from_shared(self.url("")).unwrap();
        endpoint.connect().await.unwrap()
    }
}

pub(crate) fn deps(fake: &Fake) -> Deps {
    Deps {
        orchestrator: MeshChannel::local(fake.orchestrator()),
        catalog: MeshChannel::local(fake.catalog()),
        artifact: MeshChannel::local(fake.artifact()),
    }
}

/// Waits until it is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < deadline, "not within 10 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The error of an answer with this status, in the shape that all of them have.
pub(crate) async fn error(response: Response, status: u16) -> Value {
    assert_eq!(response.status().as_u16(), status);
    assert_eq!(response.headers()["content-type"], "application/json");
    let body: Value = response.json().await.unwrap();
    let error = body["error"].clone();
    assert_eq!(error["code"], status, "{body}");
    assert_eq!(
        error["details"][0]["@type"], "type.googleapis.com/google.rpc.ErrorInfo",
        "{body}"
    );
    error
}

pub(crate) fn reason(error: &Value) -> &str {
    error["details"][0]["reason"].as_str().unwrap()
}
