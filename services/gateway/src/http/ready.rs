//! `/healthz` says that the process answers; `/readyz` that the services behind it do.

use std::{sync::Arc, time::Duration};

use aegis_mesh::{CallContext, MeshChannel, with_context};
use axum::{
    Json,
    response::{IntoResponse, Response},
};
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Map, Value, json};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::public::{Deps, Upstream};

/// How old an answer may be that is given again.
const FRESH: Duration = Duration::from_secs(1);
/// How long a service may take to say that it serves.
const PATIENCE: Duration = Duration::from_secs(2);

/// `/healthz`.
pub async fn healthz() -> Response {
    Json(json!({"status": "SERVING"})).into_response()
}

/// `/readyz`: asks each service's `grpc.health.v1`, at most once a second whatever is asked of it.
#[derive(Clone)]
pub struct Readiness {
    deps: Deps,
    last: Arc<Mutex<Option<(Instant, Report)>>>,
}

#[derive(Clone)]
struct Report {
    ready: bool,
    body: Value,
}

impl Readiness {
    /// Over these channels.
    pub fn new(deps: Deps) -> Self {
        let last = Arc::default();
        Self { deps, last }
    }

    /// 200 when every service serves, else 503; the body says which does not.
    pub async fn readyz(&self) -> Response {
        let report = self.report().await;
        let status = match report.ready {
            true => StatusCode::OK,
            false => StatusCode::SERVICE_UNAVAILABLE,
        };
        (status, Json(report.body)).into_response()
    }

    async fn report(&self) -> Report {
        // Whoever comes meanwhile waits for the answer that is under way.
        let mut last = self.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < FRESH
        {
            return report.clone();
        }
        let checks = Upstream::ALL.map(|upstream| async move {
            let health = health(self.deps.channel(upstream)).await;
            (upstream.name().to_owned(), health)
        });
        let services: Map<String, Value> = join_all(checks)
            .await
            .into_iter()
            .map(|(name, health)| (name, Value::String(health)))
            .collect();
        let serving = ServingStatus::Serving.as_str_name();
        let ready = services.values().all(|health| health == serving);
        let body = json!({"ready": ready, "services": services});
        let report = Report { ready, body };
        *last = Some((Instant::now(), report.clone()));
        report
    }
}

/// The service's own word, or why there is none.
async fn health(channel: MeshChannel) -> String {
    let asking = async move {
        let mut client = HealthClient::new(channel);
        client.check(HealthCheckRequest::default()).await
    };
    let asking = with_context(CallContext::for_job("readyz", PATIENCE), asking);
    match timeout(PATIENCE, asking).await {
        Ok(Ok(answer)) => answer.get_ref().status().as_str_name().to_owned(),
        Ok(Err(status)) => aegis_mesh::Error::from(status).reason().to_owned(),
        Err(_) => "DEADLINE_EXCEEDED".to_owned(),
    }
}
