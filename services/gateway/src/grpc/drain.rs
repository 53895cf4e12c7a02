//! Ends a passed-on stream when the gateway stops, with a status that says why.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use aegis_mesh::Shutdown;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame};
use tonic::Status;

use crate::http::draining;

pin_project_lite::pin_project! {
    /// A stream's body that ends with UNAVAILABLE / DRAINING on shutdown.
    pub(super) struct Draining<B> {
        #[pin]
        body: B,
        stop: Pin<Box<dyn Future<Output = ()> + Send>>,
        ended: bool,
    }
}

impl<B> Draining<B> {
    pub(super) fn new(body: B, shutdown: Shutdown) -> Self {
        Self {
            body,
            stop: Box::pin(async move { shutdown.triggered().await }),
            ended: false,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for Draining<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if *this.ended {
            return Poll::Ready(None);
        }
        if this.stop.as_mut().poll(cx).is_ready() {
            *this.ended = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers()))));
        }
        let frame = ready!(this.body.poll_frame(cx));
        *this.ended = frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.body.is_end_stream()
    }
}

fn trailers() -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let status = Status::from(draining());
    if let Err(error) = status.add_header(&mut trailers) {
        // Then the stream ends without a status, which a client takes for a broken one.
        tracing::warn!(%error, "no trailers for a stream that is drained");
    }
    trailers
}
