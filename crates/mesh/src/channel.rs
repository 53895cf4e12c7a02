//! How one service calls another: over the network, or in the same process through the same
//! layers. Generated clients take a [`MeshChannel`] as they take tonic's own channel.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use http::header::AUTHORIZATION;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, body::Body, service::Routes};
use tower::{Service, ServiceExt};
use tracing::Instrument;

use crate::{
    CallContext, ConfigError, Error, Result, Secret,
    balance::Balance,
    call::{CallBody, Deadline, Record},
    clock, deadline,
    error::is_tonics_expiry,
    limit, methods,
    network::{Network, SystemNetwork},
    principal, resend,
    resolve::Target,
    telemetry,
};

/// Longest time between two lookups of a name.
const MAX_RESOLVE_SECONDS: u64 = 3600;
/// How soon to come back to a service that has not started yet.
const STARTING_DELAY: Duration = Duration::from_millis(200);

/// Where another service is, and how to call it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClientConfig {
    /// The address, such as `http://catalog:7102`. Calls are spread over all addresses that the
    /// name has.
    pub address: String,
    /// The token that the other side's `server.token` demands.
    pub token: Option<Secret>,
    /// The most bytes of one message, in and out; 4 MiB.
    pub max_message_bytes: usize,
    /// The budget of a unary call when nothing else sets one, in seconds; 30.
    pub unary_deadline_seconds: u64,
    /// How often the name is looked up again while there are calls, in seconds, give or take a
    /// quarter; also at once when a connection is lost. 10.
    pub resolve_seconds: u64,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            address: String::new(),
            token: None,
            max_message_bytes: limit::DEFAULT_MESSAGE_BYTES,
            unary_deadline_seconds: deadline::DEFAULT_UNARY.as_secs(),
            resolve_seconds: 10,
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

    /// Refuses an address that is no `http://host:port`, a deadline of zero, and lookups that
    /// never or always run. `key` is the
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
        if !(1..=MAX_RESOLVE_SECONDS).contains(&self.resolve_seconds) {
            return Err(ConfigError::invalid(format!(
                "{key}.resolve_seconds is {}, and must be 1 to {MAX_RESOLVE_SECONDS}",
                self.resolve_seconds
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
    Network(Balance),
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
    /// Over the network, to all replicas behind a name. Connects at the first call and again after
    /// each loss; never blocks here. Fails if `uri` is not `http://HOST[:PORT]`.
    ///
    /// When no replica can be reached, a call ends with UNAVAILABLE as soon as that is known. One
    /// that no replica has begun to work on is sent to another; nothing is sent twice otherwise.
    pub fn network(uri: &str, options: &ClientConfig) -> Result<Self> {
        Self::over(Arc::new(SystemNetwork), uri, options)
    }

    /// The same over another network than the system's.
    pub fn over(network: Arc<dyn Network>, uri: &str, options: &ClientConfig) -> Result<Self> {
        let period = Duration::from_secs(options.resolve_seconds);
        let balance = Balance::new(Target::parse(uri)?, network, period)?;
        Ok(Self {
            transport: Transport::Network(balance),
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
        let at = clock::now().checked_add(budget);
        Ok(at.map(|at| Deadline { at, budget }))
    }
}

impl Transport {
    async fn send(self, request: http::Request<Body>) -> Result<Answer, Status> {
        match self {
            Self::Network(balance) => {
                let (response, call) = resend::send(balance, request).await?;
                Ok((response.map(Body::new), call))
            }
            Self::Local(slot) => {
                let routes = slot.get().cloned().ok_or_else(starting)?;
                match routes.oneshot(request).await {
                    Ok(response) => Ok((response, None)),
                    Err(never) => match never {},
                }
            }
        }
    }
}

/// A response, and what counts the call until its body is over.
type Answer = (http::Response<Body>, Option<OwnedSemaphorePermit>);

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
            let answer = bounded(deadline, transport.send(request)).await;
            let (response, call) = answer.inspect_err(|s| record.end(s.code().into()))?;
            record.read(response.headers());
            let body = |body| CallBody::new(body, record).deadline(deadline).permit(call);
            Ok(response.map(|inner| Body::new(body(inner))))
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
        // A peer behind tonic's own server has a timer for the header, which may be first.
        Ok(Err(status)) if is_tonics_expiry(&status) => Err(deadline.error().into()),
        Ok(result) => result,
        Err(_) => Err(deadline.error().into()),
    }
}
