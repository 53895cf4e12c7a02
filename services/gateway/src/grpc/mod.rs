//! gRPC and gRPC-Web: public methods are passed on as bytes, health is answered here.

mod drain;
mod proxy;

use std::convert::Infallible;

use aegis_mesh::{Principal, Result, health::LIVENESS};
use axum::{body::Body, response::Response};
use http::Request;
use tonic::server::NamedService;
use tonic_health::{ServingStatus, pb::health_server::HealthServer, server::HealthReporter};
use tonic_web::GrpcWebLayer;
use tower::{Layer, ServiceExt, util::BoxCloneSyncService};

pub use self::proxy::GrpcProxy;
use crate::public::PublicMethods;

type HealthService =
    BoxCloneSyncService<Request<tonic::body::Body>, http::Response<tonic::body::Body>, Infallible>;

/// Answers gRPC and gRPC-Web requests.
#[derive(Clone)]
pub struct Grpc {
    proxy: GrpcProxy,
    health: HealthService,
    reporter: HealthReporter,
}

impl Grpc {
    /// With this proxy; its health begins as NOT_SERVING.
    pub async fn new(proxy: GrpcProxy) -> Self {
        let (reporter, health) = tonic_health::server::health_reporter();
        let health = BoxCloneSyncService::new(health);
        let grpc = Self {
            proxy,
            health,
            reporter,
        };
        grpc.set_health(ServingStatus::NotServing).await;
        let process = grpc
            .reporter
            .set_service_status(LIVENESS, ServingStatus::Serving);
        process.await;
        grpc
    }

    /// What the gateway's own `grpc.health.v1` says of itself and of each public service.
    pub async fn set_health(&self, status: ServingStatus) {
        for service in PublicMethods::services().chain([""]) {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Answers one request of this caller, or refuses it. Health is answered to anyone: it is what a
    /// load balancer asks.
    pub async fn answer(&self, caller: Result<Principal>, request: Request<Body>) -> Response {
        let answer = match is_health(request.uri().path()) {
            true => {
                GrpcWebLayer::new()
                    .layer(self.health.clone())
                    .oneshot(request)
                    .await
            }
            false => {
                GrpcWebLayer::new()
                    .layer(self.proxy.of_caller(caller))
                    .oneshot(request)
                    .await
            }
        };
        match answer {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }
}

fn is_health(path: &str) -> bool {
    let name = HealthServer::<tonic_health::server::HealthService>::NAME;
    path.strip_prefix('/')
        .and_then(|path| path.strip_prefix(name))
        .is_some_and(|rest| rest.starts_with('/'))
}
