//! The server.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aegis_mesh::Shutdown;
use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{Behaviour, answer, behaviour::Fault};

/// Longest a `/hang` stays: beyond any test's patience, and still not for ever.
const HANG: Duration = Duration::from_secs(600);

/// What the server has seen since it started.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Calls for an answer.
    pub calls: u64,
    /// Calls in flight now.
    pub in_flight: u64,
    /// Most calls in flight at once.
    pub peak_in_flight: u64,
    /// Milliseconds from start to the first call.
    pub first_call_ms: Option<u64>,
}

/// A running demo target. It stops when dropped.
#[derive(Debug)]
pub struct DemoTarget {
    address: SocketAddr,
    state: Shared,
    shutdown: Shutdown,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Clone)]
struct Shared {
    started: Instant,
    stats: Arc<Mutex<Stats>>,
}

impl DemoTarget {
    /// Listens on `listen` (port 0 picks a free one) and answers until dropped.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(listen: SocketAddr) -> std::io::Result<Self> {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let state = Shared {
            started: Instant::now(),
            stats: Arc::default(),
        };
        let router = Router::new().fallback(serve).with_state(state.clone());
        let shutdown = Shutdown::new();
        let until = shutdown.clone();
        #[expect(
            clippy::disallowed_methods,
            reason = "a target is outside the mesh: no principal and no deadline to carry"
        )]
        let server = tokio::spawn(async move {
            tokio::select! {
                served = async { axum::serve(listener, router).await } => {
                    if let Err(error) = served {
                        tracing::error!(%error, "demo target ended");
                    }
                }
                () = until.triggered() => {}
            }
        });
        Ok(Self {
            address,
            state,
            shutdown,
            server,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base address for `openai.OpenAICompatible`, behaving as `behaviour` says:
    /// `uri("latency/50")` is `http://127.0.0.1:PORT/latency/50/v1/`.
    pub fn uri(&self, behaviour: &str) -> String {
        match behaviour.trim_matches('/') {
            "" => format!("http://{}/v1/", self.address),
            behaviour => format!("http://{}/{behaviour}/v1/", self.address),
        }
    }

    /// When the first call came.
    pub fn first_call(&self) -> Option<Instant> {
        let elapsed = self.state.lock().first_call_ms?;
        Some(self.state.started + Duration::from_millis(elapsed))
    }

    /// What it has seen so far.
    pub fn stats(&self) -> Stats {
        *self.state.lock()
    }

    /// Stops at once: calls in flight get no answer.
    pub async fn stop(mut self) {
        self.shutdown.trigger();
        if let Err(error) = (&mut self.server).await
            && error.is_panic()
        {
            tracing::error!(%error, "demo target panicked");
        }
    }
}

impl Drop for DemoTarget {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Stats> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call in; it is counted out when the guard is dropped, answered or not.
    fn enter(&self) -> (u64, InFlight) {
        let mut stats = self.lock();
        stats.calls += 1;
        stats.in_flight += 1;
        stats.peak_in_flight = stats.peak_in_flight.max(stats.in_flight);
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        stats.first_call_ms.get_or_insert(elapsed);
        (stats.calls, InFlight(self.clone()))
    }
}

struct InFlight(Shared);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.lock().in_flight -= 1;
    }
}

#[derive(Deserialize)]
struct ChatRequest {
    #[serde(default)]
    model: String,
    messages: Vec<Message>,
    #[serde(default = "one")]
    n: usize,
}

#[derive(Deserialize)]
struct Message {
    content: String,
}

fn one() -> usize {
    1
}

async fn serve(State(state): State<Shared>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path();
    if path == "/stats" {
        return Json(*state.lock()).into_response();
    }
    let behaviour = Behaviour::of_path(path);
    if !path.ends_with("/chat/completions") {
        return Json(json!({"object": "list", "data": [{"id": "demo", "object": "model"}]}))
            .into_response();
    }
    let (call, _in_flight) = state.enter();
    if !behaviour.latency.is_zero() {
        tokio::time::sleep(behaviour.latency).await;
    }
    if let Some(refused) = refuse(&behaviour, &headers) {
        return refused;
    }
    match behaviour.fault_at(call) {
        Some(fault) => fail(fault).await,
        None => complete(&body),
    }
}

fn refuse(behaviour: &Behaviour, headers: &HeaderMap) -> Option<Response> {
    let key = behaviour.key.as_ref()?;
    let given = headers.get(header::AUTHORIZATION).map(|v| v.as_bytes());
    let right = given == Some(format!("Bearer {key}").as_bytes());
    (!right).then(|| error(StatusCode::UNAUTHORIZED, "no such key"))
}

async fn fail(fault: &Fault) -> Response {
    match fault {
        Fault::Status(code) => {
            let code = StatusCode::from_u16(*code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            error(code, "as asked for by the path")
        }
        Fault::RetryAfter(seconds) => (
            [(header::RETRY_AFTER, seconds.to_string())],
            error(StatusCode::TOO_MANY_REQUESTS, "later"),
        )
            .into_response(),
        Fault::Garbage => "}{ this is no JSON".into_response(),
        Fault::Empty => StatusCode::OK.into_response(),
        Fault::Silent => chat("demo", vec![String::new()]),
        Fault::Hang => {
            tokio::time::sleep(HANG).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
    }
}

fn complete(body: &[u8]) -> Response {
    let request: ChatRequest = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(problem) => return error(StatusCode::BAD_REQUEST, &problem.to_string()),
    };
    let Some(last) = request.messages.last() else {
        return error(StatusCode::BAD_REQUEST, "no message");
    };
    let text = answer(&last.content);
    chat(&request.model, vec![text; request.n.clamp(1, 100)])
}

fn chat(model: &str, answers: Vec<String>) -> Response {
    let choices: Vec<_> = answers
        .iter()
        .enumerate()
        .map(|(index, text)| {
            json!({
                "index": index,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "stop",
            })
        })
        .collect();
    Json(json!({
        "id": "demo",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": choices,
        "usage": {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    }))
    .into_response()
}

fn error(code: StatusCode, message: &str) -> Response {
    (
        code,
        Json(json!({"error": {"message": message, "type": "demo"}})),
    )
        .into_response()
}
