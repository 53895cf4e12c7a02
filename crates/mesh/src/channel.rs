//! How one service calls another: over the network, or in the same process through the same
//! layers. Generated clients take a [`MeshChannel`] as they take tonic's own channel.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use tonic::{
    Status,
    body::Body,
    service::Routes,
    transport::{Channel, Endpoint},
};
use tower::{Service, ServiceExt};
use tracing::Instrument;

use crate::{
    CallContext, ConfigError, Error, Result, Secret,
    call::{CallBody, Deadline, Record},
    deadline,
    error::is_tonics_expiry,
    limit, methods, principal, resend, telemetry,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How soon to come back to a service that has not started yet.
const STARTING_DELAY: Duration = Duration::from_millis(200);

/// Where another service is, and how to call it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// The address, such as `http://catalog:7102`.
    pub address: String,
    /// The token that the other side's `server.token` demands.
    pub token: Option<Secret>,
    /// The most bytes of one message, in and out; 4 MiB.
    pub max_message_bytes: usize,
    /// The budget of a unary call when nothing else sets one, in seconds; 30.
    pub unary_deadline_seconds: u64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            token: None,
            max_message_bytes: limit::DEFAULT_MESSAGE_BYTES,
            unary_deadline_seconds: deadline::DEFAULT_UNARY.as_secs(),
        }
    }
}

impl ClientConfig {
    /// The defaults, for this address.
    pub fn at(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            ..Self::default()
        }
    }

    /// Refuses an address that is no `http://host:port`, and a deadline of zero. `key` is the
    /// name of this table in the configuration, such as `catalog`.
    pub fn validate(&self, key: &str) -> Result<(), ConfigError> {
        let uri = self.address.parse::<http::Uri>();
        let fine = uri.is_ok_and(|uri| uri.scheme_str() == Some("http") && uri.port().is_some());
        if !fine {
            return Err(ConfigError::invalid(format!(
                "{key}.address must be http://HOST:PORT"
            )));
        }
        if self.unary_deadline_seconds == 0 {
            return Err(ConfigError::invalid(format!(
                "{key}.unary_deadline_seconds must not be 0"
            )));
        }
        Ok(())
    }
}

/// A way to another service; cheap to clone.
///
/// Each call carries the context's principal, the token, the trace, and a `grpc-timeout`: what
/// `Request::set_timeout` asks for, or else, for unary methods, the configured default; never
/// more than is left of the context's time. When it is over, the call ends with
/// DEADLINE_EXCEEDED here too, whatever the other side does.
#[derive(Debug, Clone)]
pub struct MeshChannel {
    transport: Transport,
    settings: Arc<Settings>,
}

#[derive(Debug, Clone)]
enum Transport {
    Network(Channel),
    Local(Arc<OnceLock<Routes>>),
}

#[derive(Debug)]
struct Settings {
    token: Option<Secret>,
    unary_deadline: Duration,
}

/// Where the routes of [`MeshChannel::local_late`] go once they exist.
#[derive(Debug, Clone)]
pub struct LocalSlot(Arc<OnceLock<Routes>>);

impl LocalSlot {
    /// Connects the channel; only the first call counts.
    pub fn set(&self, routes: Routes) {
        if self.0.set(routes).is_err() {
            tracing::warn!("a local channel was connected twice; the first connection stays");
        }
    }
}

impl MeshChannel {
    /// Over the network. Connects at the first call and again after each loss; never blocks here.
    /// Fails if `uri` is not an address.
    pub fn network(uri: &str, options: &ClientConfig) -> Result<Self> {
        let endpoint = Endpoint::from_shared(uri.to_owned()).map_err(|e| {
            Error::invalid_argument("INVALID_ADDRESS", format!("{uri:?} is no address: {e}"))
        })?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true)
            .connect_lazy();
        Ok(Self {
            transport: Transport::Network(channel),
            settings: Arc::new(Settings {
                token: options.token.clone(),
                unary_deadline: Duration::from_secs(options.unary_deadline_seconds),
            }),
        })
    }

    /// [`MeshChannel::network`] to the configured address.
    pub fn connect(config: &ClientConfig) -> Result<Self> {
        Self::network(&config.address, config)
    }

    /// In the same process, through the routes that [`crate::MeshServer::into_routes`] gave.
    pub fn local(routes: Routes) -> Self {
        let (channel, slot) = Self::local_late();
        slot.set(routes);
        channel
    }

    /// In the same process, to routes that come later: services that call each other can start in
    /// any order. Until then calls end with UNAVAILABLE.
    pub fn local_late() -> (Self, LocalSlot) {
        let slot = Arc::new(OnceLock::new());
        let channel = Self {
            transport: Transport::Local(slot.clone()),
            settings: Arc::new(Settings {
                token: None,
                unary_deadline: deadline::DEFAULT_UNARY,
            }),
        };
        (channel, LocalSlot(slot))
    }

    /// The same, showing this token: for a local channel to routes that demand one.
    pub fn with_token(self, token: Secret) -> Self {
        let settings = Settings {
            token: Some(token),
            unary_deadline: self.settings.unary_deadline,
        };
        Self {
            settings: Arc::new(settings),
            ..self
        }
    }

    /// Adds what every call carries; answers when it must be over.
    fn prepare(&self, request: &mut http::Request<Body>) -> Result<Option<Deadline>> {
        let context = CallContext::current();
        let inherited = context.as_ref().and_then(CallContext::remaining);
        let asked = deadline::read(request.headers())?;
        let default = || {
            let streams = methods::streaming().contains(request.uri().path());
            (!streams).then_some(self.settings.unary_deadline)
        };
        let own = asked.or_else(default);
        let budget = [own, inherited].into_iter().flatten().min();

        let headers = request.headers_mut();
        if let Some(context) = &context {
            context.principal.write_to(headers)?;
        }
        if let Some(token) = &self.settings.token {
            headers.insert(AUTHORIZATION, principal::bearer(token)?);
        }
        let Some(budget) = budget else {
            return Ok(None);
        };
        if budget.is_zero() {
            return Err(deadline::exceeded(budget));
        }
        deadline::write(headers, budget);
        let at = Instant::now().checked_add(budget);
        Ok(at.map(|at| Deadline { at, budget }))
    }
}

impl Transport {
    async fn send(self, request: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        match self {
            Self::Network(channel) => resend::send(channel, request).await,
            Self::Local(slot) => {
                let routes = slot.get().cloned().ok_or_else(starting)?;
                match routes.oneshot(request).await {
                    Ok(response) => Ok(response),
                    Err(never) => match never {},
                }
            }
        }
    }
}

fn starting() -> Error {
    Error::unavailable(
        "STARTING",
        "the service has not started yet",
        STARTING_DELAY,
    )
}

impl Service<http::Request<Body>> for MeshChannel {
    type Response = http::Response<Body>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        // Each call takes a clone and waits for that one to be ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let span = telemetry::client_span(request.uri().path());
        let prepared = self.prepare(&mut request);
        telemetry::inject(&span, request.headers_mut());
        let transport = self.transport.clone();
        let mut record = Record::new(span.clone());
        let call = async move {
            let deadline = prepared.inspect_err(|e| record.end(e.code().grpc()))?;
            let response = bounded(deadline, transport.send(request)).await;
            let response = response.inspect_err(|s| record.end(s.code().into()))?;
            record.read(response.headers());
            Ok(response.map(|body| Body::new(CallBody::new(body, record).deadline(deadline))))
        };
        Box::pin(call.instrument(span))
    }
}

async fn bounded<T>(
    deadline: Option<Deadline>,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let Some(deadline) = deadline else {
        return work.await;
    };
    match tokio::time::timeout_at(deadline.at.into(), work).await {
        // tonic's channel has a timer of its own for the header, which may be first.
        Ok(Err(status)) if is_tonics_expiry(&status) => Err(deadline.error().into()),
        Ok(result) => result,
        Err(_) => Err(deadline.error().into()),
    }
}
