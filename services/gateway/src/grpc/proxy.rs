//! The pass-through: no message is decoded, so a client newer than this gateway loses nothing.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use aegis_mesh::{CallContext, Error, Principal, Result, Shutdown, with_context};
use http::{HeaderMap, HeaderName, Request, Response, header};
use tonic::{Status, body::Body};
use tower::{Service, ServiceExt};

use super::drain::Draining;
use crate::public::{Deps, PublicMethods};

/// Headers of one connection only (RFC 9110, section 7.6.1), and what was said to the gateway and not to
/// the mesh. `te` stays: gRPC demands it.
const NOT_PASSED_ON: [HeaderName; 8] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::COOKIE,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The mesh's own metadata: the gateway says it, never the client.
const MESH_PREFIX: &str = "x-aegis-";

/// Passes public gRPC methods on to their service.
#[derive(Clone)]
pub struct GrpcProxy {
    /// What may be called.
    pub methods: PublicMethods,
    /// Where.
    pub deps: Deps,
    /// How long a unary call may take; a client may ask for less.
    pub deadline: Duration,
    /// Ends streams.
    pub shutdown: Shutdown,
}

impl GrpcProxy {
    /// The proxy for one verified caller, or for one that is to be refused.
    pub fn of_caller(&self, caller: Result<Principal>) -> CallerProxy {
        CallerProxy {
            proxy: self.clone(),
            caller,
        }
    }

    async fn pass_on(
        self,
        principal: Principal,
        mut request: Request<Body>,
    ) -> Result<Response<Body>> {
        let path = request.uri().path();
        let Some(method) = self.methods.get(path) else {
            let text = format!("{} is no public method", shortened(path));
            return Err(Error::unimplemented("METHOD_NOT_PUBLIC", text));
        };
        let streaming = method.descriptor.is_server_streaming();
        // A stream may live for hours, whichever way it goes.
        let is_unary = !streaming && !method.descriptor.is_client_streaming();
        let upstream = method.upstream;
        let channel = self.deps.channel(upstream);
        clean(request.headers_mut());

        // What the client gives in `grpc-timeout` the channel reads, keeps and passes on.
        let context = CallContext::new(principal);
        let context = match is_unary {
            false => context,
            true => context.within(self.deadline),
        };
        let answered = with_context(context, channel.oneshot(request)).await;
        let response = answered.map_err(|status| upstream.explain(status.into()))?;
        match streaming {
            true => Ok(response.map(|body| Body::new(Draining::new(body, self.shutdown)))),
            false => Ok(response.map(Body::new)),
        }
    }
}

/// Takes out what is not for the mesh.
fn clean(headers: &mut HeaderMap) {
    let ours: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with(MESH_PREFIX) || NOT_PASSED_ON.contains(name))
        .cloned()
        .collect();
    for name in ours {
        headers.remove(name);
    }
}

fn shortened(path: &str) -> String {
    path.chars().take(200).collect()
}

/// A [`GrpcProxy`] for the caller of one request.
#[derive(Clone)]
pub struct CallerProxy {
    proxy: GrpcProxy,
    caller: Result<Principal>,
}

impl Service<Request<Body>> for CallerProxy {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Self { proxy, caller } = self.clone();
        Box::pin(async move {
            let answer = match caller {
                Ok(principal) => proxy.pass_on(principal, request).await,
                Err(error) => Err(error),
            };
            Ok(answer.unwrap_or_else(|error| Status::from(error).into_http()))
        })
    }
}
