//! A call whose request never left, because its connection was just being replaced, is sent
//! again on the next one. The caller cannot do so by itself: it cannot know that nothing was
//! done, and a connection is replaced every few minutes.

use std::{
    error::Error as StdError,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body, transport::Channel};
use tower::ServiceExt;

const MAX_RESENDS: usize = 3;

/// Sends a request, again if it never left.
pub(crate) async fn send(
    channel: Channel,
    request: http::Request<Body>,
) -> Result<http::Response<Body>, Status> {
    let (parts, body) = request.into_parts();
    let kept = Kept::new(body);
    let mut resends = 0;
    loop {
        let request = http::Request::from_parts(parts.clone(), Body::new(kept.lend()));
        let error = match channel.clone().oneshot(request).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        if resends == MAX_RESENDS || kept.is_used() || !never_left(&error) {
            return Err(Status::from_error(Box::new(error)));
        }
        resends += 1;
    }
}

/// hyper cancels what it has not yet written to a connection that ends.
fn never_left(error: &(dyn StdError + 'static)) -> bool {
    let mut source = Some(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<hyper::Error>() {
            return error.is_canceled();
        }
        source = error.source();
    }
    false
}

/// A body that can be lent out until somebody reads from it.
#[derive(Clone)]
struct Kept(Arc<Mutex<Slot>>);

struct Slot {
    body: Body,
    used: bool,
}

impl Kept {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Slot { body, used: false })))
    }

    fn lend(&self) -> Lent {
        Lent(self.clone())
    }

    fn is_used(&self) -> bool {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Lent(Kept);

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut slot = self.0.lock();
        slot.used = true;
        Pin::new(&mut slot.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().body.size_hint()
    }
}
