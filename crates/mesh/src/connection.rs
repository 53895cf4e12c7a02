//! Connections: HTTP/2 alone, with keepalive and a largest age, and a shutdown that is over in
//! time.
//!
//! hyper is used directly, for three things that tonic 0.14.9's own server does: it ends calls
//! by `grpc-timeout` with CANCELLED from outside of any layer; with `max_connection_age_grace` it
//! cuts connections without having sent GOAWAY; and its shutdown waits for open streams for ever.

use std::{io, pin::pin, sync::Arc, time::Duration};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use crate::{
    Shutdown,
    network::{Listener, Wire},
};

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// As many as the server takes in all: how many there may be is its own bound.
const MAX_STREAMS: u32 = 16 * 1024;
const MAX_CONNECTIONS: usize = 1024;
/// How long to wait after an accept that failed (no file descriptors left, mostly).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long tasks get to notice that they were cut off.
const CUT_BOUND: Duration = Duration::from_secs(1);
/// Far enough to be never: an `Instant` that cannot overflow.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// After this age a connection gets GOAWAY; zero is never.
    pub(crate) max_age: Duration,
    /// After GOAWAY, on age or shutdown, a connection has this long to finish its calls.
    pub(crate) grace: Duration,
}

/// Accepts connections until `shutdown`, then lets the calls under way finish within the grace,
/// then cuts them off. Returns with no task left.
pub(crate) async fn serve(
    listener: impl Listener,
    routes: axum::Router,
    bounds: Bounds,
    shutdown: Shutdown,
) {
    let server = Server {
        routes,
        bounds,
        shutdown,
        tasks: TaskTracker::new(),
    };
    server.accept(listener).await;
    server.drain().await;
}

#[derive(Clone)]
struct Server {
    routes: axum::Router,
    bounds: Bounds,
    shutdown: Shutdown,
    /// A task for each connection and each call. A call's task ends with its connection: hyper
    /// drops the handler when the stream is reset.
    tasks: TaskTracker,
}

impl Server {
    /// Returns when it is time to stop; the listener is closed then.
    async fn accept(&self, listener: impl Listener) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let next = self.shutdown.until(next(&listener, &room)).await;
            match next {
                None => return,
                Some(Ok((stream, permit))) => self.spawn(stream, permit),
                Some(Err(error)) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, stream: Box<dyn Wire>, permit: OwnedSemaphorePermit) {
        let server = self.clone();
        let connection = async move {
            server.connection(stream).await;
            drop(permit);
        };
        self.tasks.spawn(connection);
    }

    async fn connection(self, stream: Box<dyn Wire>) {
        let mut builder = http2::Builder::new(Executor(self.tasks.clone()));
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES);
        let service = TowerToHyperService::new(self.routes.clone());
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);

        let age = match self.bounds.max_age {
            Duration::ZERO => NEVER,
            // Connections that were made together end one by one.
            age => age.mul_f64(rand::random_range(0.9..1.1)),
        };
        let end = tokio::select! {
            ended = &mut connection => return log(ended),
            () = self.shutdown.triggered() => Instant::now(),
            () = sleep_until(Instant::now() + age) => Instant::now(),
        };
        connection.as_mut().graceful_shutdown();
        match tokio::time::timeout_at(end + self.bounds.grace, connection).await {
            Ok(ended) => log(ended),
            Err(_) => tracing::warn!("cutting off calls that did not end in time"),
        }
    }

    /// Every connection ends by itself within the grace.
    async fn drain(&self) {
        self.tasks.close();
        let bound = self.bounds.grace + CUT_BOUND;
        if timeout(bound, self.tasks.wait()).await.is_err() {
            tracing::error!(tasks = self.tasks.len(), "handlers block their threads");
        }
    }
}

async fn next(
    listener: &impl Listener,
    room: &Arc<Semaphore>,
) -> io::Result<(Box<dyn Wire>, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    Ok((Listener::accept(listener).await?, permit))
}

fn log(ended: hyper::Result<()>) {
    if let Err(error) = ended {
        // A peer that vanished or spoke no HTTP/2; its calls say it themselves.
        tracing::debug!(%error, "a connection broke");
    }
}

/// Runs what hyper spawns, where a shutdown waits for it.
#[derive(Clone)]
struct Executor(TaskTracker);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        self.0.spawn(work);
    }
}
