//! One call's body on its way out, on the server and in the client: polled within the call's
//! span and context, ended by its deadline, and recorded when it is over.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::time::{Sleep, sleep_until};
use tonic::{Status, body::Body};
use tracing::Span;

use crate::{CallContext, Code, Error, deadline};

/// When a call must be over, and the budget that it had, for the error's text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) budget: Duration,
}

impl Deadline {
    pub(crate) fn error(&self) -> Error {
        deadline::exceeded(self.budget)
    }
}

/// Records in the span how a call ended, once.
pub(crate) struct Record {
    span: Span,
    started: Instant,
    over: bool,
}

impl Record {
    pub(crate) fn new(span: Span) -> Self {
        let started = Instant::now();
        let over = false;
        Self {
            span,
            started,
            over,
        }
    }

    /// Reads `grpc-status` from headers or trailers, if it is there.
    pub(crate) fn read(&mut self, headers: &HeaderMap) {
        let status = headers.get(Status::GRPC_STATUS);
        let number = status.and_then(|v| v.to_str().ok()?.parse().ok());
        if let Some(number) = number {
            self.end(number);
        }
    }

    pub(crate) fn end(&mut self, number: i32) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        let status = match number {
            0 => "OK",
            _ => Code::from_grpc(number).map_or("UNKNOWN", Code::name),
        };
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.span.record("rpc.grpc.status_code", number);
        // No louder: an error is logged where it is made or handled, once.
        self.span
            .in_scope(|| tracing::debug!(status, elapsed_ms, "call ended"));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Nobody waited for the end.
        self.end(Code::Cancelled.grpc());
    }
}

/// A response's body, wrapped.
pub(crate) struct CallBody {
    /// `None` once the deadline has ended it.
    inner: Option<Body>,
    expiry: Option<(Pin<Box<Sleep>>, Deadline)>,
    context: Option<CallContext>,
    record: Record,
    /// Given back when the call is over: the server's admission.
    _permit: Option<tokio::sync::OwnedSemaphorePermit>,
}

impl CallBody {
    pub(crate) fn new(inner: Body, record: Record) -> Self {
        Self {
            inner: Some(inner),
            expiry: None,
            context: None,
            record,
            _permit: None,
        }
    }

    pub(crate) fn deadline(mut self, deadline: Option<Deadline>) -> Self {
        self.expiry = deadline.map(|d| (Box::pin(sleep_until(d.at.into())), d));
        self
    }

    pub(crate) fn context(mut self, context: Option<CallContext>) -> Self {
        self.context = context;
        self
    }

    pub(crate) fn permit(mut self, permit: Option<tokio::sync::OwnedSemaphorePermit>) -> Self {
        self._permit = permit;
        self
    }

    fn poll_inner(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = self.inner.as_mut() else {
            return Poll::Ready(None);
        };
        let span = self.record.span.clone();
        let poll = || span.in_scope(|| Pin::new(inner).poll_frame(cx));
        match &self.context {
            Some(context) => context.enter(poll),
            None => poll(),
        }
    }

    fn poll_expiry(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match &mut self.expiry {
            Some((sleep, deadline)) => sleep.as_mut().poll(cx).map(|()| deadline.error()),
            None => Poll::Pending,
        }
    }

    /// Ends the stream as a server ends one: with the status in the trailers.
    fn expire(&mut self, error: Error) -> Frame<Bytes> {
        self.inner = None;
        self.record.end(error.code().grpc());
        let mut trailers = HeaderMap::new();
        if Status::from(error).add_header(&mut trailers).is_err() {
            // A status that cannot be written: its code alone says enough.
            trailers.insert(Status::GRPC_STATUS, Code::DeadlineExceeded.grpc().into());
        }
        Frame::trailers(trailers)
    }
}

impl http_body::Body for CallBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.inner.is_none() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.poll_inner(cx) {
            if let Some(Ok(frame)) = &frame
                && let Some(trailers) = frame.trailers_ref()
            {
                this.record.read(trailers);
            }
            return Poll::Ready(frame);
        }
        match this.poll_expiry(cx) {
            Poll::Ready(error) => Poll::Ready(Some(Ok(this.expire(error)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner
            .as_ref()
            .is_none_or(|inner| inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner
            .as_ref()
            .map_or_else(SizeHint::default, |inner| inner.size_hint())
    }
}
