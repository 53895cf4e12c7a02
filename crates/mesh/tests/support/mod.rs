//! A service for tests, written by hand over tonic, and ways to call it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary includes it and uses a part"
)]

use std::{
    convert::Infallible,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use aegis_mesh::{
    CallContext, ClientConfig, Error, MeshChannel, MeshServer, Principal, ServerConfig, Shutdown,
    TaskHandle, principal_of, spawn, with_context,
};
use futures_util::StreamExt;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, body::Body, codegen::http, server::NamedService};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

pub const ECHO: &str = "/aegis.test.v1.TestService/Echo";
pub const METADATA: &str = "/aegis.test.v1.TestService/Metadata";
pub const HANG: &str = "/aegis.test.v1.TestService/Hang";
pub const FAIL: &str = "/aegis.test.v1.TestService/Fail";
pub const PANIC: &str = "/aegis.test.v1.TestService/Panic";
pub const RELAY: &str = "/aegis.test.v1.TestService/Relay";
pub const STREAM: &str = "/aegis.test.v1.TestService/Stream";

type Codec = ProstCodec<String, String>;

/// What the tests see of the service.
#[derive(Clone, Default)]
pub struct TestService {
    /// Calls that came, streams among them.
    pub calls: Arc<AtomicUsize>,
    /// Handlers of `Hang` that are running.
    pub hanging: Arc<AtomicUsize>,
    /// Where `Relay` goes, to `Metadata` there.
    pub next: Option<MeshChannel>,
    decode: Option<usize>,
    encode: Option<usize>,
}

impl NamedService for TestService {
    const NAME: &'static str = "aegis.test.v1.TestService";
}

impl TestService {
    pub fn relaying_to(next: MeshChannel) -> Self {
        let next = Some(next);
        Self {
            next,
            ..Self::default()
        }
    }

    pub fn max_decoding_message_size(mut self, limit: usize) -> Self {
        self.decode = Some(limit);
        self
    }

    pub fn max_encoding_message_size(mut self, limit: usize) -> Self {
        self.encode = Some(limit);
        self
    }

    async fn unary(
        self,
        path: String,
        request: Request<String>,
    ) -> Result<Response<String>, Status> {
        match path.as_str() {
            ECHO => Ok(Response::new(request.into_inner())),
            METADATA => Ok(Response::new(described(&request)?)),
            HANG => {
                let _running = Running::begin(&self.hanging);
                std::future::pending().await
            }
            PANIC => panic!("hunter2"),
            FAIL => Err(every_detail().into()),
            RELAY => {
                let next = self.next.expect("a test that relays says where to");
                Ok(Response::new(unary(next, METADATA, String::new()).await?))
            }
            _ => Err(Status::unimplemented("")),
        }
    }
}

/// `project/subject timeout traceparent`.
fn described(request: &Request<String>) -> Result<String, Error> {
    let principal = principal_of(request)?;
    let get = |key| request.metadata().get(key).and_then(|v| v.to_str().ok());
    let timeout = get("grpc-timeout").unwrap_or("-");
    let parent = get("traceparent").unwrap_or("-");
    let context = CallContext::current().expect("a handler runs in a context");
    assert_eq!(context.principal, principal);
    let Principal { project, subject } = principal;
    Ok(format!("{project}/{subject} {timeout} {parent}"))
}

pub fn every_detail() -> Error {
    Error::invalid_argument("INVALID_FIELD", "a field is wrong")
        .field("spec.probes[0]", "unknown probe")
        .precondition("STATE", "scan 7", "is running")
        .with("limit", 100)
        .hint("list them")
        .retry_after(Duration::from_millis(1500))
}

struct Running(Arc<AtomicUsize>);

impl Running {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The subject that the stream runs for, again and again.
fn ticks() -> impl futures_util::Stream<Item = Result<String, Status>> + Send {
    let interval = tokio::time::interval(Duration::from_millis(20));
    tokio_stream::wrappers::IntervalStream::new(interval).map(|_| {
        let context = CallContext::current();
        Ok(context.map_or_else(String::new, |c| c.principal.subject))
    })
}

impl Service<http::Request<Body>> for TestService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        self.calls.fetch_add(1, Ordering::SeqCst);
        let path = request.uri().path().to_owned();
        let mut grpc = tonic::server::Grpc::new(Codec::default())
            .apply_max_message_size_config(self.decode, self.encode);
        Box::pin(async move {
            if path == STREAM {
                let handler = service_fn(|_: Request<String>| async {
                    Ok::<_, Status>(Response::new(ticks().boxed()))
                });
                return Ok(grpc.server_streaming(handler, request).await);
            }
            let handler = service_fn(move |r| service.clone().unary(path.clone(), r));
            Ok(grpc.unary(handler, request).await)
        })
    }
}

/// A server that runs until dropped.
pub struct Server {
    pub address: SocketAddr,
    pub shutdown: Shutdown,
    pub task: TaskHandle<aegis_mesh::Result<()>>,
}

pub async fn start(server: MeshServer) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let shutdown = Shutdown::new();
    let task = spawn("server", server.serve(listener, shutdown.clone()));
    Server {
        address,
        shutdown,
        task,
    }
}

impl Server {
    pub fn channel(&self) -> MeshChannel {
        let config = ClientConfig::at(format!("http://{}", self.address));
        MeshChannel::connect(&config).expect("an address")
    }
}

pub fn server(service: TestService) -> MeshServer {
    server_with(service, &ServerConfig::default())
}

pub fn server_with(service: TestService, config: &ServerConfig) -> MeshServer {
    MeshServer::builder("test", config)
        .add_service(aegis_mesh::sized!(service, config))
        .deadline(STREAM, None)
}

pub async fn unary(
    channel: MeshChannel,
    path: &'static str,
    message: impl Into<String>,
) -> Result<String, Error> {
    unary_request(channel, path, Request::new(message.into())).await
}

pub async fn unary_request(
    channel: MeshChannel,
    path: &'static str,
    request: Request<String>,
) -> Result<String, Error> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await?;
    let path = http::uri::PathAndQuery::from_static(path);
    let response = grpc.unary(request, path, Codec::default()).await?;
    Ok(response.into_inner())
}

pub async fn stream(
    channel: MeshChannel,
    request: Request<String>,
) -> Result<tonic::Streaming<String>, Error> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await?;
    let path = http::uri::PathAndQuery::from_static(STREAM);
    let response = grpc
        .server_streaming(request, path, Codec::default())
        .await?;
    Ok(response.into_inner())
}

/// Runs `work` for the local principal.
pub async fn as_local<F: Future>(work: F) -> F::Output {
    with_context(CallContext::new(Principal::local()), work).await
}

/// Waits until `holds`, 10 s at most.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < limit, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
