//! The connections: HTTP/1.1 and HTTP/2 (prior knowledge) on one port, each bounded in how long it
//! may dawdle, all of them bounded in number and in how long they outlive a shutdown.

mod patient;

use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use aegis_mesh::Shutdown;
use axum::body::Body;
use http::Request;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use self::patient::Patient;
use crate::http::App;

const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams of one HTTP/2 connection: more than a browser opens, fewer than would starve others.
const MAX_STREAMS: u32 = 200;
const MAX_HEADER_BYTES: u32 = 64 << 10;
/// After accept fails (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long dropping the last handlers may take.
const CUT_BOUND: Duration = Duration::from_secs(1);

/// What connections may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// How many at once.
    pub connections: usize,
    /// For a request's headers.
    pub header: Duration,
    /// For a client to take anything that is written to it.
    pub write: Duration,
    /// For requests under way when the shutdown begins.
    pub grace: Duration,
}

/// Accepts connections until `shutdown`, lets requests under way finish within the grace, then cuts
/// them off. Returns with nothing left running.
pub async fn serve(listener: TcpListener, app: App, bounds: Bounds, shutdown: Shutdown) {
    let server = Server {
        app,
        bounds,
        shutdown,
        tasks: TaskTracker::new(),
        cut: CancellationToken::new(),
    };
    server.accept(listener).await;
    server.drain().await;
}

#[derive(Clone)]
struct Server {
    app: App,
    bounds: Bounds,
    shutdown: Shutdown,
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl Server {
    async fn accept(&self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(self.bounds.connections));
        while let Some(next) = self.shutdown.until(next(&listener, &room)).await {
            match next {
                Ok((stream, permit)) => self.begin(stream, permit),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn begin(&self, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let server = self.clone();
        self.executor().spawn(async move {
            server.connection(stream).await;
            drop(permit);
        });
    }

    async fn connection(self, stream: TcpStream) {
        let mut builder = auto::Builder::new(self.executor());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.bounds.header)
            .max_buf_size(MAX_HEADER_BYTES as usize)
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES);
        let app = self.app.clone();
        let service = tower::service_fn(move |request: Request<_>| {
            let answer = app.clone().answer(request.map(Body::new));
            async move { Ok::<_, Infallible>(answer.await) }
        });
        let stream = Patient::new(stream, self.bounds.header, self.bounds.write);
        let connection =
            builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let mut connection = pin!(connection);
        tokio::select! {
            ended = &mut connection => return log(ended),
            () = self.shutdown.triggered() => connection.as_mut().graceful_shutdown(),
        }
        log(connection.await);
    }

    fn executor(&self) -> Executor {
        Executor {
            tasks: self.tasks.clone(),
            cut: self.cut.clone(),
        }
    }

    async fn drain(&self) {
        self.tasks.close();
        if timeout(self.bounds.grace, self.tasks.wait()).await.is_ok() {
            return;
        }
        tracing::warn!(
            tasks = self.tasks.len(),
            "cutting off what did not end in time"
        );
        self.cut.cancel();
        if timeout(CUT_BOUND, self.tasks.wait()).await.is_err() {
            tracing::error!(tasks = self.tasks.len(), "handlers block their threads");
        }
    }
}

async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let permit = room.clone().acquire_owned().await;
    let permit = permit.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, permit))
}

fn log(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        // A client that vanished, dawdled, or spoke something else.
        tracing::debug!(%error, "a connection broke");
    }
}

/// Runs what hyper spawns (a task for each HTTP/2 request), so that a cut reaches the handlers too.
#[derive(Clone)]
struct Executor {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl Executor {
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, work: F) {
        let cut = self.cut.clone();
        let work = async move {
            cut.run_until_cancelled(work).await;
        };
        self.tasks.spawn(work.in_current_span());
    }
}

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, work: F) {
        self.spawn(async move {
            work.await;
        });
    }
}
