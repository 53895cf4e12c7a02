//! One request: let in, led to what answers it, and its answer made safe for browsers.

use std::{sync::Arc, time::Duration};

use aegis_mesh::{Error, Principal, Result, Shutdown, telemetry::continue_trace};
use axum::{
    Json,
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header, request::Parts,
};
use http_body::Body as _;
use prost_reflect::DynamicMessage;
use serde_json::json;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use tracing::{Instrument, Span, field::Empty};

use super::{
    artifact::{self, Downloads},
    content, events,
    failure::Failure,
    guard::Guard,
    held::Held,
    ready::{Readiness, healthz},
    stream::Format,
};
use crate::{
    grpc::Grpc,
    public::Deps,
    transcode::{
        Said, Transcoder, bind,
        routes::{Found, Route, allow},
        template::{PathParts, Template},
        too_late,
    },
};

/// What one request may cost.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For a body, a unary call, the first message of a stream.
    pub deadline: Duration,
    /// A request body's largest size in bytes.
    pub body_bytes: u64,
    /// Requests under way at once, streams and downloads among them.
    pub requests: usize,
}

/// Answers requests; clones share everything.
#[derive(Clone)]
pub struct App(Arc<Inner>);

struct Inner {
    guard: Guard,
    transcoder: Transcoder,
    artifact_path: Template,
    downloads: Downloads,
    readiness: Readiness,
    grpc: Grpc,
    limits: Limits,
    room: Arc<Semaphore>,
    shutdown: Shutdown,
}

impl App {
    /// Over these parts; `shutdown` ends streams.
    ///
    /// # Errors
    /// CONTRACT_MISMATCH, when the artifact path is no template.
    pub fn new(
        guard: Guard,
        transcoder: Transcoder,
        grpc: Grpc,
        deps: &Deps,
        limits: Limits,
        shutdown: Shutdown,
    ) -> Result<Self> {
        let artifact_path = Template::parse(artifact::PATH)
            .map_err(|error| Error::failed_precondition("CONTRACT_MISMATCH", error.to_string()))?;
        let downloads = Downloads {
            channel: deps.artifact.clone(),
            deadline: limits.deadline,
        };
        Ok(Self(Arc::new(Inner {
            guard,
            transcoder,
            artifact_path,
            downloads,
            readiness: Readiness::new(deps.clone()),
            grpc,
            limits,
            room: Arc::new(Semaphore::new(limits.requests)),
            shutdown,
        })))
    }

    /// Answers one request.
    pub async fn answer(self, request: Request<Body>) -> Response {
        let span = span(&request);
        let answer = self.answer_in_span(request).instrument(span.clone());
        let response = answer.await;
        span.record("http.response.status_code", response.status().as_u16());
        response
    }

    async fn answer_in_span(self, request: Request<Body>) -> Response {
        let this = &*self.0;
        let (parts, body) = request.into_parts();
        if is_grpc(&parts.headers) {
            return this.grpc(parts, body).await;
        }
        let head = parts.method == Method::HEAD;
        let answered = this.http(parts, body).await;
        let mut response = answered.unwrap_or_else(IntoResponse::into_response);
        make_safe(response.headers_mut());
        match head {
            true => without_body(response),
            false => response,
        }
    }
}

impl Inner {
    async fn grpc(&self, parts: Parts, body: Body) -> Response {
        let caller = self.guard.check_origin(&parts);
        let caller = caller.and_then(|()| self.guard.principal(&parts.headers));
        let admitted = caller.and_then(|principal| Ok((principal, self.admit()?)));
        let (caller, permit) = match admitted {
            Ok((principal, permit)) => (Ok(principal), Some(permit)),
            Err(error) => (Err(error), None),
        };
        let request = Request::from_parts(parts, body);
        holding(permit, self.grpc.answer(caller, request).await)
    }

    async fn http(&self, parts: Parts, body: Body) -> Result<Response, Failure> {
        self.guard.check_origin(&parts)?;
        if matches!(parts.method, Method::GET | Method::HEAD) {
            match parts.uri.path() {
                "/" => return Ok(index()),
                "/healthz" => return Ok(healthz().await),
                "/readyz" => return Ok(self.readiness.readyz().await),
                _ => {}
            }
        }
        let principal = self.guard.caller(&parts)?;
        let permit = self.admit()?;
        let response = self.api(principal, &parts, body).await?;
        Ok(holding(Some(permit), response))
    }

    /// What the contracts describe, and the artifacts' bytes.
    async fn api(
        &self,
        principal: Principal,
        parts: &Parts,
        body: Body,
    ) -> Result<Response, Failure> {
        let path = PathParts::of(parts.uri.path());
        if self.artifact_path.matches(&path) {
            return self.artifact(principal, parts, &path).await;
        }
        match self.transcoder.find(&parts.method, &path) {
            Found::Route(route) => self.call(principal, parts, body, route, &path).await,
            Found::OtherMethods(methods) => Err(wrong_method(&methods)),
            Found::Nothing => Err(no_route(parts.uri.path()).into()),
        }
    }

    async fn artifact(
        &self,
        principal: Principal,
        parts: &Parts,
        path: &PathParts<'_>,
    ) -> Result<Response, Failure> {
        if !matches!(parts.method, Method::GET | Method::HEAD) {
            return Err(wrong_method(&[Method::GET, Method::HEAD]));
        }
        let variables = self
            .artifact_path
            .capture(path)
            .map_err(|field| bind::invalid(field, "the path is not percent-encoded UTF-8"))?;
        let name = artifact::Name::of(variables, parts.uri.query().unwrap_or_default())?;
        let head = parts.method == Method::HEAD;
        self.downloads
            .answer(principal, name, &parts.headers, head)
            .await
    }

    async fn call(
        &self,
        principal: Principal,
        parts: &Parts,
        body: Body,
        route: &Route,
        path: &PathParts<'_>,
    ) -> Result<Response, Failure> {
        Span::current().record("http.route", route.template.to_string());
        let reading = content::read(&parts.headers, body, self.limits.body_bytes);
        let read = timeout(self.limits.deadline, reading).await;
        let body = read.unwrap_or_else(|_| Err(too_late(self.limits.deadline).into()))?;
        if !body.is_empty() {
            content::must_be_json(&parts.headers)?;
        }
        let said = Said {
            query: parts.uri.query().unwrap_or_default(),
            body: &body,
            idempotency_key: text(&parts.headers, "idempotency-key")?,
        };
        let mut message = self.transcoder.message(route, path, said)?;
        if !route.method.descriptor.is_server_streaming() {
            let json = self.transcoder.unary(principal, route, message).await?;
            return Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response());
        }
        let format = match content::wants_events(&parts.headers) {
            true => Format::Events(events::of(route.path.path())),
            false => Format::Lines,
        };
        if let Format::Events(Some(names)) = format {
            resume(&mut message, names.resume_field, &parts.headers)?;
        }
        let answers = self.transcoder.stream(principal, route, message).await?;
        Ok(format.response(answers, self.shutdown.clone()))
    }

    fn admit(&self) -> Result<OwnedSemaphorePermit> {
        let full = |_| {
            let text = "too many requests are under way";
            Error::unavailable("OVERLOADED", text, Duration::from_secs(1))
        };
        self.room.clone().try_acquire_owned().map_err(full)
    }
}

/// A span of the trace that the request belongs to.
fn span(request: &Request<Body>) -> Span {
    let span = tracing::info_span!(
        target: "aegis::http",
        "http",
        otel.name = %request.method(),
        otel.kind = "server",
        http.request.method = %request.method(),
        http.route = Empty,
        http.response.status_code = Empty,
    );
    continue_trace(&span, request.headers());
    span
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The request counts as under way until its answer is written.
fn holding(permit: Option<OwnedSemaphorePermit>, response: Response) -> Response {
    response.map(|body| Body::new(Held::new(body, permit)))
}

/// After a broken connection a browser repeats the URL as it was and says how far it got,
/// so the header is newer than the query.
fn resume(message: &mut DynamicMessage, field: &str, headers: &HeaderMap) -> Result<()> {
    let Some(id) = text(headers, "last-event-id")?.filter(|id| !id.is_empty()) else {
        return Ok(());
    };
    message.clear_field_by_name(field);
    bind::set(message, field, id)
        .map_err(|_| bind::invalid("Last-Event-ID", format!("is no {field}")))
}

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>> {
    let value = headers.get(name).map(HeaderValue::to_str).transpose();
    value.map_err(|_| bind::invalid(name, "the header is not visible ASCII"))
}

fn index() -> Response {
    let version = env!("CARGO_PKG_VERSION");
    let body =
        json!({"service": "aegis", "version": version, "api": "/v1/scans", "ready": "/readyz"});
    Json(body).into_response()
}

fn wrong_method(methods: &[Method]) -> Failure {
    let allow = allow(methods);
    let text = format!("this path takes {allow}");
    let error = Error::unimplemented("METHOD_NOT_ALLOWED", text).with("allow", &allow);
    let failure = Failure::with_status(StatusCode::METHOD_NOT_ALLOWED, error);
    match HeaderValue::try_from(allow) {
        Ok(allow) => failure.header(header::ALLOW, allow),
        Err(_) => failure,
    }
}

fn no_route(path: &str) -> Error {
    let path: String = path.chars().take(200).collect();
    Error::not_found("route", path)
}

/// Headers for answers that a browser may get to see. What an answer says itself stays.
fn make_safe(headers: &mut HeaderMap) {
    const SAFE: [(HeaderName, &str); 4] = [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in SAFE {
        headers
            .entry(name)
            .or_insert(HeaderValue::from_static(value));
    }
}

/// The answer to HEAD: GET's, less its body.
fn without_body(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(size) = body
        .size_hint()
        .exact()
        .filter(|_| parts.status != StatusCode::NOT_MODIFIED)
    {
        parts
            .headers
            .entry(header::CONTENT_LENGTH)
            .or_insert(HeaderValue::from(size));
    }
    Response::from_parts(parts, Body::empty())
}
