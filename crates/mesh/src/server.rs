//! The server that every service is behind.

use std::{collections::HashMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::response::IntoResponse;
use http::Request;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tonic::{body::Body, server::NamedService, service::Routes};
use tower::Service;

use crate::{
    ConfigError, Error, Health, Listener, Result, Secret, Shutdown,
    connection::{self, Bounds},
    layer::{self, Rules},
    limit, methods,
};

/// How a service listens.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Where to listen. Loopback by default, with a free port: listening to others is a decision.
    pub listen: SocketAddr,
    /// What callers must show as `authorization: Bearer`. Demanded off loopback.
    pub token: Option<Secret>,
    /// The most bytes of one message, in and out; 4 MiB.
    pub max_message_bytes: usize,
    /// The deadline of unary calls, in seconds; callers may ask for less. 30.
    pub unary_deadline_seconds: u64,
    /// How long calls under way may go on after a shutdown began, in seconds. 10.
    pub shutdown_grace_seconds: u64,
    /// When a connection is asked to reconnect, in seconds, give or take a tenth, so that load
    /// spreads over new replicas; 0 is never. 600.
    pub max_connection_age_seconds: u64,
    /// The most calls at once; more are refused with RESOURCE_EXHAUSTED. 1024.
    pub max_calls: usize,
    /// The most server streams at once, which are not among those: a watcher costs little and stays
    /// for hours. 8192.
    pub max_streams: usize,
    /// Whether to describe the services to tools such as `buf curl`.
    pub reflection: bool,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: None,
            max_message_bytes: limit::DEFAULT_MESSAGE_BYTES,
            unary_deadline_seconds: 30,
            shutdown_grace_seconds: 10,
            max_connection_age_seconds: 600,
            max_calls: 1024,
            max_streams: 8192,
            reflection: true,
        }
    }
}

impl ServerConfig {
    /// The defaults, listening on this port of loopback.
    pub fn on_port(port: u16) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], port)),
            ..Self::default()
        }
    }

    /// Refuses values that do not go together: a listener off loopback without a token, bounds
    /// of zero.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !self.listen.ip().is_loopback() && self.token.is_none() {
            return Err(ConfigError::invalid(format!(
                "server.listen is {}, which others can reach: set server.token, or listen on 127.0.0.1",
                self.listen
            )));
        }
        let bounds = [
            ("max_message_bytes", self.max_message_bytes as u64),
            ("unary_deadline_seconds", self.unary_deadline_seconds),
            ("max_calls", self.max_calls as u64),
            ("max_streams", self.max_streams as u64),
        ];
        match bounds.iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(ConfigError::invalid(format!("server.{key} must not be 0"))),
            None => Ok(()),
        }
    }
}

/// A server under construction: services, then [`MeshServer::serve`] or
/// [`MeshServer::into_routes`]. Health and (if configured) reflection are added by themselves.
pub struct MeshServer {
    service: &'static str,
    config: ServerConfig,
    routes: Routes,
    names: Vec<&'static str>,
    descriptors: Vec<&'static [u8]>,
    deadlines: HashMap<&'static str, Option<Duration>>,
    health: Health,
}

impl MeshServer {
    /// A server of `service` (its name in logs) without methods.
    pub fn builder(service: &'static str, config: &ServerConfig) -> Self {
        Self {
            service,
            config: config.clone(),
            routes: Routes::default(),
            names: Vec::new(),
            descriptors: Vec::new(),
            deadlines: HashMap::new(),
            health: Health::new(),
        }
    }

    /// Adds a generated server; bound its messages with [`crate::sized!`].
    pub fn add_service<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Error = Infallible>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.names.push(S::NAME);
        self.routes = self.routes.add_service(service);
        self
    }

    /// Adds an encoded `FileDescriptorSet`, for reflection, and to know which methods stream.
    /// That of `aegis_proto` describes every contract of Aegis; reflection lists only what this
    /// server has.
    pub fn descriptors(mut self, descriptors: &'static [u8]) -> Self {
        self.descriptors.push(descriptors);
        self
    }

    /// The deadline of one method, such as `/aegis.internal.task.v1.TaskService/LeaseTask`;
    /// `None` leaves it to the caller. Without this, unary methods have the configured deadline,
    /// streaming ones none. The caller's own `grpc-timeout` holds in any case, if it is sooner.
    pub fn deadline(mut self, method_path: &'static str, deadline: Option<Duration>) -> Self {
        self.deadlines.insert(method_path, deadline);
        self
    }

    /// The server's health: NOT_SERVING until told otherwise.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// The services with all layers, health and reflection, as [`crate::MeshChannel::local`]
    /// takes them. Fails if the descriptors cannot be decoded.
    pub fn into_routes(mut self) -> Result<Routes> {
        let health = self.health.service(self.names.clone());
        self.routes = self.routes.add_service(health);
        if self.config.reflection {
            self = self.with_reflection()?;
        }
        let mut streaming = methods::streaming().clone();
        for descriptors in &self.descriptors {
            streaming.extend(methods::streaming_in(descriptors));
        }
        let rules = Arc::new(Rules {
            token: self.config.token,
            unary_deadline: Duration::from_secs(self.config.unary_deadline_seconds),
            deadlines: self.deadlines,
            streaming,
            calls: Arc::new(Semaphore::new(self.config.max_calls)),
            streams: Arc::new(Semaphore::new(self.config.max_streams)),
        });
        let layer = axum::middleware::from_fn_with_state(rules, layer::handle);
        let router = self.routes.prepare().into_axum_router();
        Ok(Routes::from(router.layer(layer)))
    }

    fn with_reflection(mut self) -> Result<Self> {
        let mut builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        for descriptors in &self.descriptors {
            builder = builder.register_encoded_file_descriptor_set(descriptors);
        }
        let built_in = [
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
        ];
        for name in self.names.iter().copied().chain(built_in) {
            builder = builder.with_service_name(name);
        }
        let reflection = builder.build_v1().map_err(Error::internal)?;
        self.routes = self.routes.add_service(reflection);
        Ok(self)
    }

    /// Serves until `shutdown`, then lets calls under way finish for `shutdown_grace_seconds`,
    /// then cuts them off; returns a second later at the latest. Health turns NOT_SERVING when the
    /// shutdown begins, and its watches end; a service ends its own streams on the same token.
    pub async fn serve(self, listener: impl Listener, shutdown: Shutdown) -> Result<()> {
        let config = &self.config;
        let bounds = bounds(config);
        let (service, health) = (self.service, self.health());
        let address = listener.local_addr().map_err(Error::internal)?;
        // What is true counts, not what was configured.
        if !address.ip().is_loopback() && config.token.is_none() {
            return Err(Error::failed_precondition(
                "TOKEN_REQUIRED",
                "a listener off loopback needs a token",
            ));
        }
        let router = self.into_routes()?.into_axum_router();
        tracing::info!(service, %address, "listening");

        let ending = async {
            shutdown.triggered().await;
            health.end();
        };
        let serving = connection::serve(listener, router, bounds, shutdown.clone());
        tokio::join!(ending, serving);
        tracing::info!(service, %address, "stopped");
        Ok(())
    }
}

/// Serves the routes of a service that runs in this process, until `shutdown`, as
/// [`MeshServer::serve`] serves its own.
pub async fn serve_routes(
    routes: Routes,
    listener: impl Listener,
    config: &ServerConfig,
    shutdown: Shutdown,
) {
    let router = routes.into_axum_router();
    connection::serve(listener, router, bounds(config), shutdown).await;
}

fn bounds(config: &ServerConfig) -> Bounds {
    Bounds {
        max_age: Duration::from_secs(config.max_connection_age_seconds),
        grace: Duration::from_secs(config.shutdown_grace_seconds),
    }
}
