//! What every call meets on its way in, in the same order over a network and in-process: trace,
//! token, admission, principal, deadline, context.

use std::{collections::HashMap, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use futures_util::FutureExt;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout_at,
};
use tonic::{Status, body::Body};
use tracing::Instrument;

use crate::{
    CallContext, Error, Principal, Result, Secret,
    call::{CallBody, Deadline, Record},
    clock,
    context::with_context,
    deadline, methods, principal, telemetry,
};

/// How soon a refused caller may come back.
const OVERLOADED_DELAY: Duration = Duration::from_secs(1);

/// What the layer decides by.
pub(crate) struct Rules {
    pub(crate) token: Option<Secret>,
    pub(crate) unary_deadline: Duration,
    /// By path; `None` is no deadline but the caller's own.
    pub(crate) deadlines: HashMap<&'static str, Option<Duration>>,
    pub(crate) streaming: methods::Paths,
    pub(crate) calls: Arc<Semaphore>,
    pub(crate) streams: Arc<Semaphore>,
}

/// Who may call what.
enum Door {
    /// Probes know no secret: health.
    Open,
    /// Tools have a token, but no project: reflection.
    Token,
    /// Everything else.
    Principal,
}

fn door(path: &str) -> Door {
    if path.starts_with("/grpc.health.v1.Health/") {
        return Door::Open;
    }
    if path.starts_with("/grpc.reflection.v1.ServerReflection/") {
        return Door::Token;
    }
    Door::Principal
}

struct Admitted {
    context: Option<CallContext>,
    deadline: Option<Deadline>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Rules {
    fn admit(&self, request: &Request) -> Result<Admitted> {
        let headers = request.headers();
        let path = request.uri().path();
        let door = door(path);
        if !matches!(door, Door::Open) {
            principal::check_token(self.token.as_ref(), headers)?;
        }
        let deadline = self.deadline(path, deadline::read(headers)?);
        let (mut context, mut permit) = (None, None);
        if let Door::Principal = door {
            context = Some(CallContext {
                principal: Principal::from_headers(headers)?,
                deadline: deadline.map(|d| d.at),
            });
            permit = Some(self.permit(path)?);
        }
        Ok(Admitted {
            context,
            deadline,
            permit,
        })
    }

    fn permit(&self, path: &str) -> Result<OwnedSemaphorePermit> {
        let room = match self.streaming.contains(path) {
            true => &self.streams,
            false => &self.calls,
        };
        room.clone().try_acquire_owned().map_err(|_| {
            Error::resource_exhausted("OVERLOADED", "too many calls are under way")
                .retry_after(OVERLOADED_DELAY)
        })
    }

    fn deadline(&self, path: &str, asked: Option<Duration>) -> Option<Deadline> {
        let ours = match self.deadlines.get(path) {
            Some(set) => *set,
            None if self.streaming.contains(path) => None,
            None => Some(self.unary_deadline),
        };
        let budget = [ours, asked].into_iter().flatten().min()?;
        // A budget past the end of time is none.
        let at = clock::now().checked_add(budget)?;
        Some(Deadline { at, budget })
    }
}

/// The layer itself, for `axum::middleware::from_fn_with_state`.
///
/// When the time is over, or the caller leaves, the handler's future is **dropped** where it
/// awaits. What must not stop half-way is one database transaction (dropping it rolls back), or
/// runs in a task of its own ([`crate::spawn`]).
pub(crate) async fn handle(
    State(rules): State<Arc<Rules>>,
    request: Request,
    next: Next,
) -> Response {
    let span = telemetry::server_span(&request);
    let record = Record::new(span.clone());
    let answer = async {
        match rules.admit(&request) {
            Ok(admitted) => run(admitted, request, next, record).await,
            Err(error) => refuse(error, record),
        }
    };
    answer.instrument(span).await
}

async fn run(admitted: Admitted, mut request: Request, next: Next, mut record: Record) -> Response {
    let Admitted {
        context,
        deadline,
        permit,
    } = admitted;
    if let Some(context) = &context {
        request.extensions_mut().insert(context.principal.clone());
    }
    let handler = in_context(context.clone(), next.run(request));
    // A handler's panic must not become that of an in-process caller.
    let handler = AssertUnwindSafe(handler).catch_unwind();
    let answer = match deadline {
        None => Ok(handler.await),
        Some(deadline) => timeout_at(deadline.at.into(), handler)
            .await
            .map_err(|_| deadline.error()),
    };
    let response = match answer {
        Ok(Ok(response)) => response,
        // What it said may hold anything; the panic hook has written it to standard error.
        Ok(Err(_panic)) => return refuse(Error::internal("a handler panicked"), record),
        Err(late) => return refuse(late, record),
    };
    record.read(response.headers());
    response.map(|body| {
        let body = CallBody::new(Body::new(body), record)
            .deadline(deadline)
            .context(context)
            .permit(permit);
        axum::body::Body::new(body)
    })
}

async fn in_context<F: Future>(context: Option<CallContext>, work: F) -> F::Output {
    match context {
        Some(context) => with_context(context, work).await,
        None => work.await,
    }
}

fn refuse(error: Error, mut record: Record) -> Response {
    record.end(error.code().grpc());
    let response: http::Response<Body> = Status::from(error).into_http();
    response.map(axum::body::Body::new)
}
