//! Server streams over HTTP: as server-sent events or as lines of JSON.
//!
//! Pulled by the connection: a reader that does not read stops the upstream stream, and one
//! that goes away ends it. Nothing is kept in between but the message being written.

use std::time::Duration;

use aegis_mesh::{Error, Result, Shutdown, json::error_body};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http::{HeaderValue, header};
use prost_reflect::DynamicMessage;

use super::events::{self, EventNames};
use crate::transcode::{Answers, body::to_json};

/// How a stream is written.
#[derive(Debug, Clone, Copy)]
pub enum Format {
    /// `text/event-stream` (WHATWG HTML, server-sent events).
    Events(Option<&'static EventNames>),
    /// `application/x-ndjson`: `{"result":…}` a line; the last may be `{"error":…}`.
    Lines,
}

impl Format {
    /// The answer that writes this stream.
    pub fn response(self, answers: Answers, shutdown: Shutdown) -> Response {
        let mut response = Response::new(Body::from_stream(self.chunks(answers, shutdown)));
        let media_type = match self {
            Self::Events(_) => "text/event-stream",
            Self::Lines => "application/x-ndjson",
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
        // nginx: do not collect the stream before passing it on.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        response
    }

    fn chunks(self, answers: Answers, shutdown: Shutdown) -> impl Stream<Item = Result<Bytes>> {
        let Answers { first, rest } = answers;
        stream::unfold(Some((first, rest, true)), move |state| {
            let shutdown = shutdown.clone();
            async move {
                let (first, mut rest, beginning) = state?;
                let next = match (first, beginning) {
                    (Some(first), _) => Ok(Some(first)),
                    (None, true) => Ok(None),
                    (None, false) => tokio::select! {
                        biased;
                        () = shutdown.triggered() => return Some((Ok(self.drained()), None)),
                        next = rest.message() => next.map_err(Error::from),
                    },
                };
                let (chunk, goes_on) = match next.map(|m| m.map(|m| self.message(&m))) {
                    Ok(Some(Ok(chunk))) => (chunk, true),
                    Ok(Some(Err(error))) | Err(error) => (self.error(&error), false),
                    Ok(None) => (self.ended(), false),
                };
                Some((
                    Ok(self.opened(beginning, chunk)),
                    goes_on.then_some((None, rest, false)),
                ))
            }
        })
    }

    /// How long a browser waits before it reconnects.
    fn opened(self, beginning: bool, chunk: String) -> Bytes {
        match self {
            Self::Events(_) if beginning => Bytes::from(format!("retry: 2000\n\n{chunk}")),
            _ => Bytes::from(chunk),
        }
    }

    fn message(self, message: &DynamicMessage) -> Result<String> {
        let text = |json: Vec<u8>| String::from_utf8(json).map_err(Error::internal);
        let json = text(to_json(message, None)?)?;
        Ok(match self {
            Self::Events(names) => events::event(names, message, &json),
            Self::Lines => format!("{{\"result\":{json}}}\n"),
        })
    }

    fn error(self, error: &Error) -> String {
        let body = error_body(error);
        match self {
            Self::Events(_) => format!("event: error\ndata: {body}\n\n"),
            Self::Lines => format!("{body}\n"),
        }
    }

    fn ended(self) -> String {
        match self {
            Self::Events(_) => "event: end\ndata: {\"reason\":\"ENDED\"}\n\n".to_owned(),
            Self::Lines => String::new(),
        }
    }

    fn drained(self) -> Bytes {
        match self {
            Self::Events(_) => {
                Bytes::from_static(b"event: end\ndata: {\"reason\":\"DRAINING\"}\nretry: 2000\n\n")
            }
            Self::Lines => Bytes::from(self.error(&draining())),
        }
    }
}

/// What a stream ends with when the gateway stops: come back, to another replica or a moment later.
pub fn draining() -> Error {
    let text = "the gateway is stopping; reconnect with the last sequence number seen";
    Error::unavailable("DRAINING", text, Duration::from_secs(2))
}
