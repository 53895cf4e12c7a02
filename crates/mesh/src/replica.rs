//! One address of a service: its connection, whether it wants calls, and how many it has.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, ready},
};
use http::Uri;
use hyper::{
    client::conn::http2::{Builder, SendRequest},
    rt::Executor,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tonic::body::Body;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tower::service_fn;

use crate::network::{Network, Wire};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A peer that is gone without a word is noticed within the sum of both.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A replica that does not say within this time that it serves gets no calls while others do.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Far more than a server takes: only there to be counted.
const COUNTED_CALLS: usize = 1 << 20;

/// What connecting needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Dial {
    pub(crate) network: Arc<dyn Network>,
    /// What the health of a peer is asked at.
    pub(crate) origin: Uri,
}

/// The way to one address.
#[derive(Debug)]
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    link: Mutex<Link>,
    /// A permit in use is a call under way.
    calls: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct Link {
    sender: Option<SendRequest<Body>>,
    serving: bool,
    attempt: Option<Attempt>,
}

/// Connecting, for all who wait for it; why it failed.
pub(crate) type Attempt = Shared<BoxFuture<'static, Result<(), String>>>;

/// What a replica is good for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Connected, and it wants calls.
    Serving,
    /// Connected, and says or shows that it wants none.
    Draining,
    /// The connection was lost, or is about to end: said once.
    Lost,
    /// Not connected.
    Away,
}

/// A replica that was chosen for a call.
pub(crate) struct Picked {
    pub(crate) address: SocketAddr,
    pub(crate) sender: SendRequest<Body>,
    /// Counts the call until it is dropped.
    pub(crate) call: Option<OwnedSemaphorePermit>,
}

impl Replica {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            link: Mutex::default(),
            calls: Arc::new(Semaphore::new(COUNTED_CALLS)),
        }
    }

    pub(crate) fn state(&self) -> State {
        let mut link = self.link();
        match &link.sender {
            None => State::Away,
            // Also when the peer has said GOAWAY and a call met it.
            Some(sender) if sender.is_closed() => {
                link.sender = None;
                State::Lost
            }
            Some(_) if link.serving => State::Serving,
            Some(_) => State::Draining,
        }
    }

    /// How many calls are under way.
    pub(crate) fn load(&self) -> usize {
        COUNTED_CALLS - self.calls.available_permits()
    }

    /// Takes it for a call; `None` if it is no longer connected.
    pub(crate) fn pick(&self) -> Option<Picked> {
        let sender = self.link().sender.clone()?;
        Some(Picked {
            address: self.address,
            sender,
            call: self.calls.clone().try_acquire_owned().ok(),
        })
    }

    /// Connects, unless it is connected; an attempt under way is joined. It goes on without those
    /// who wait for it. One `of_several` is asked whether it serves before it counts as such.
    pub(crate) fn connect(self: &Arc<Self>, dial: &Dial, of_several: bool) -> Attempt {
        let mut link = self.link();
        if let Some(attempt) = &link.attempt {
            return attempt.clone();
        }
        if link.sender.as_ref().is_some_and(|s| !s.is_closed()) {
            return ready(Ok(())).boxed().shared();
        }
        let (replica, dial) = (self.clone(), dial.clone());
        let attempt = async move {
            let made = replica.establish(&dial, of_several).await;
            let mut link = replica.link();
            link.attempt = None;
            let (sender, serving) = made?;
            link.sender = Some(sender);
            link.serving = serving;
            Ok(())
        };
        let attempt = attempt.boxed().shared();
        link.attempt = Some(attempt.clone());
        background(attempt.clone().map(drop));
        attempt
    }

    async fn establish(
        &self,
        dial: &Dial,
        of_several: bool,
    ) -> Result<(SendRequest<Body>, bool), String> {
        let connecting = dial.network.connect(self.address);
        let wire = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(wire)) => wire,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("nobody answered".to_owned()),
        };
        let sender = handshake(wire).await.map_err(|e| e.to_string())?;
        let serving = !of_several || serves(sender.clone(), dial.origin.clone()).await;
        if sender.is_closed() {
            return Err("the connection broke at once".to_owned());
        }
        Ok((sender, serving))
    }

    /// Asks whether it serves, in the background.
    pub(crate) fn check(self: &Arc<Self>, dial: &Dial) {
        let Some(sender) = self.link().sender.clone() else {
            return;
        };
        let (replica, origin) = (self.clone(), dial.origin.clone());
        background(async move {
            let serving = serves(sender, origin).await;
            replica.link().serving = serving;
        });
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn handshake(wire: Box<dyn Wire>) -> hyper::Result<SendRequest<Body>> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let (sender, connection) = builder.handshake(TokioIo::new(wire)).await?;
    background(connection.map(|ended| {
        if let Err(error) = ended {
            // The calls on it say it themselves.
            tracing::debug!(%error, "a connection broke");
        }
    }));
    Ok(sender)
}

/// Whether a peer says that it wants calls. One that knows no such question is taken to.
async fn serves(sender: SendRequest<Body>, origin: Uri) -> bool {
    let service = service_fn(move |request| sender.clone().send_request(request));
    let mut client = HealthClient::with_origin(service, origin);
    let asked = client.check(HealthCheckRequest::default());
    match timeout(HEALTH_TIMEOUT, asked).await {
        Ok(Ok(answer)) => answer.get_ref().status() == ServingStatus::Serving,
        Ok(Err(status)) => matches!(
            status.code(),
            tonic::Code::Unimplemented | tonic::Code::NotFound
        ),
        Err(_) => false,
    }
}

/// Runs what belongs to a connection, not to the call that needed it first: outside of its span,
/// until it ends by itself. A connection does when its last call is over and nobody holds it.
pub(crate) fn background<F>(work: F)
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    TokioExecutor::new().execute(work);
}
