//! Replicas of a service on addresses of their own, and a network whose names a test writes.
#![allow(unreachable_pub, dead_code, reason = "as in support")]

use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use aegis_mesh::{
    ClientConfig, Health, MeshChannel, Network, ServerConfig, Shutdown, SystemNetwork, TaskHandle,
    network::Wire,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpListener,
    runtime::Runtime,
};

use super::{TestService, server_with};

/// What names are answered with, and addresses that swallow what is sent to them.
#[derive(Debug, Default)]
pub struct Book {
    answer: Mutex<Answer>,
    silent: Silent,
    pub lookups: AtomicUsize,
}

#[derive(Debug, Clone, Default)]
enum Answer {
    #[default]
    Failure,
    Silence,
    Addresses(Vec<SocketAddr>),
}

impl Book {
    pub fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Arc<Self> {
        let book = Self::default();
        book.write(addresses);
        Arc::new(book)
    }

    pub fn write(&self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let addresses = addresses.into_iter().collect();
        *self.answer.lock().unwrap() = Answer::Addresses(addresses);
    }

    pub fn fail(&self) {
        *self.answer.lock().unwrap() = Answer::Failure;
    }

    pub fn say_nothing(&self) {
        *self.answer.lock().unwrap() = Answer::Silence;
    }

    /// Nothing comes from this address from now on, on connections there are neither.
    pub fn silence(&self, address: SocketAddr) {
        self.silent.lock().unwrap().insert(address);
    }

    /// A way to `http://service:7000` that looks it up once a second.
    pub fn channel(self: &Arc<Self>) -> MeshChannel {
        self.channel_that_looks_every(1)
    }

    pub fn channel_that_looks_every(self: &Arc<Self>, resolve_seconds: u64) -> MeshChannel {
        let config = ClientConfig {
            resolve_seconds,
            ..ClientConfig::default()
        };
        MeshChannel::over(self.clone(), "http://service:7000", &config).expect("an address")
    }
}

#[tonic::async_trait]
impl Network for Book {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        assert_eq!((host, port), ("service", 7000));
        self.lookups.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Answer::Addresses(addresses) => Ok(addresses),
            Answer::Failure => Err(io::Error::other("no such name")),
            Answer::Silence => std::future::pending().await,
        }
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Wire>> {
        if self.silent.lock().unwrap().contains(&address) {
            return std::future::pending().await;
        }
        let inner = SystemNetwork.connect(address).await?;
        Ok(Box::new(Mutable {
            inner,
            address,
            silent: self.silent.clone(),
        }))
    }
}

type Silent = Arc<Mutex<BTreeSet<SocketAddr>>>;

/// A connection that falls silent with its address: it takes bytes, and gives none.
struct Mutable {
    inner: Box<dyn Wire>,
    address: SocketAddr,
    silent: Silent,
}

impl AsyncRead for Mutable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.silent.lock().unwrap().contains(&self.address) {
            return Poll::Pending;
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Mutable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.silent.lock().unwrap().contains(&self.address) {
            return Poll::Ready(Ok(bytes.len()));
        }
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A server in a runtime of its own: what ends it ends its connections, too, as a killed process
/// would.
pub struct Replica {
    pub address: SocketAddr,
    pub service: TestService,
    pub health: Health,
    pub shutdown: Shutdown,
    pub task: TaskHandle<aegis_mesh::Result<()>>,
    runtime: Option<Runtime>,
}

impl Replica {
    /// The `n`th one, on `127.0.0.n`.
    pub fn start(n: u8) -> Self {
        Self::start_with(n, &ServerConfig::default())
    }

    pub fn start_with(n: u8, config: &ServerConfig) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, n], 0)), config)
    }

    pub fn start_at(address: SocketAddr, config: &ServerConfig) -> Self {
        let listener = std::net::TcpListener::bind(address).expect("an address of loopback");
        listener.set_nonblocking(true).expect("a setting");
        let address = listener.local_addr().expect("an address");
        let (service, shutdown) = (TestService::default(), Shutdown::new());
        let server = server_with(service.clone(), config);
        let health = server.health();
        health.set_serving();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let stop = shutdown.clone();
        let task = {
            let _inside = runtime.enter();
            let listener = TcpListener::from_std(listener).expect("a listener");
            aegis_mesh::spawn("replica", server.serve(listener, stop))
        };
        Self {
            address,
            service,
            health,
            shutdown,
            task,
            runtime: Some(runtime),
        }
    }

    /// How many calls came.
    pub fn calls(&self) -> usize {
        self.service.calls.load(Ordering::SeqCst)
    }

    /// Ends it and its connections at once.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An address of loopback where nobody listens.
pub fn nobody() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.9:0").expect("a free port");
    listener.local_addr().expect("an address")
}

/// Long enough for the second between two lookups to be over, and what follows from it.
pub const SOON: Duration = Duration::from_secs(4);
