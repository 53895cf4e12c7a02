//! A body that holds something until it is written or dropped.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body, Frame, SizeHint};

pin_project_lite::pin_project! {
    /// `body`, holding `what`.
    pub struct Held<B, T> {
        #[pin]
        body: B,
        what: T,
    }
}

impl<B, T> Held<B, T> {
    /// Holds `what` as long as there is something of `body` to write.
    pub fn new(body: B, what: T) -> Self {
        Self { body, what }
    }
}

impl<B: Body, T> Body for Held<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
