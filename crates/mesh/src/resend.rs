//! A call that nobody has begun to work on is sent again, to another replica if there is one: its
//! connection was just being replaced, or the replica refused it unseen. The caller cannot do so
//! by itself: it cannot know that nothing was done, and a connection is replaced every few
//! minutes. Whatever may have been worked on is never sent twice here.

use std::{
    error::Error as StdError,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use h2::Reason;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, body::Body};

use crate::balance::Balance;

const MAX_RESENDS: usize = 3;
/// A request that was read further than this cannot be sent again.
const KEPT_BYTES: usize = 256 * 1024;

/// Sends a request, again if nobody saw it. The permit is to be kept as long as the answer.
pub(crate) async fn send(
    balance: Balance,
    request: http::Request<Body>,
) -> Result<(http::Response<Incoming>, Option<OwnedSemaphorePermit>), Status> {
    let (mut parts, body) = request.into_parts();
    parts.uri = balance.target().uri(&parts.uri)?;
    let kept = Kept::new(body);
    let mut tried = Vec::new();
    loop {
        let mut picked = balance.pick(&tried).await?;
        let request = http::Request::from_parts(parts.clone(), Body::new(kept.lend()));
        let error = match picked.sender.send_request(request).await {
            Ok(response) => return Ok((response, picked.call)),
            Err(error) => error,
        };
        if tried.len() == MAX_RESENDS || !kept.may_be_sent_again(&error) {
            return Err(Status::from_error(Box::new(error)));
        }
        tried.push(picked.address);
    }
}

/// Whether a peer says that it has not looked at the request: it refused the stream, or its
/// GOAWAY names an earlier one as the last that it works on (RFC 9113, sections 6.8 and 8.7).
fn is_refused(error: &hyper::Error) -> bool {
    let source = error.source().and_then(|e| e.downcast_ref::<h2::Error>());
    source.is_some_and(|error| {
        let refused = error.is_reset() && error.reason() == Some(Reason::REFUSED_STREAM);
        let gone = error.is_go_away() && error.reason() == Some(Reason::NO_ERROR);
        error.is_remote() && (refused || gone)
    })
}

/// A body that can be lent out again from its beginning, as long as not much was read of it.
#[derive(Clone)]
struct Kept(Arc<Mutex<Slot>>);

struct Slot {
    body: Body,
    /// What was read of it; none once that was too much.
    read: Vec<Bytes>,
    bytes: usize,
    whole: bool,
    ended: bool,
}

impl Kept {
    fn new(body: Body) -> Self {
        Self(Arc::new(Mutex::new(Slot {
            body,
            read: Vec::new(),
            bytes: 0,
            whole: true,
            ended: false,
        })))
    }

    fn lend(&self) -> Lent {
        Lent {
            kept: self.clone(),
            next: 0,
        }
    }

    fn may_be_sent_again(&self, error: &hyper::Error) -> bool {
        let slot = self.lock();
        // hyper cancels what it has not yet written to a connection that ends.
        slot.whole && (is_refused(error) || (error.is_canceled() && slot.bytes == 0))
    }

    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(None) => self.ended = true,
            Poll::Ready(Some(Ok(frame))) => self.keep(frame.data_ref()),
            Poll::Ready(Some(Err(_))) => self.keep(None),
        }
        polled
    }

    fn keep(&mut self, data: Option<&Bytes>) {
        let Some(data) = data.filter(|data| self.bytes + data.len() <= KEPT_BYTES) else {
            self.whole = false;
            self.read.clear();
            return;
        };
        if self.whole {
            self.bytes += data.len();
            self.read.push(data.clone());
        }
    }
}

struct Lent {
    kept: Kept,
    /// The next of what was read before.
    next: usize,
}

impl http_body::Body for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let next = self.next;
        self.next += 1;
        let kept = self.kept.clone();
        let mut slot = kept.lock();
        if let Some(data) = slot.read.get(next) {
            return Poll::Ready(Some(Ok(Frame::data(data.clone()))));
        }
        let polled = slot.poll(cx);
        if polled.is_pending() {
            self.next = next;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let slot = self.kept.lock();
        self.next >= slot.read.len() && (slot.ended || slot.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let slot = self.kept.lock();
        match slot.bytes {
            0 => slot.body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn of_parts(sizes: &[usize]) -> Kept {
        let frame = |size: &usize| Ok::<_, Status>(Frame::data(Bytes::from(vec![7; *size])));
        let frames: Vec<_> = sizes.iter().map(frame).collect();
        Kept::new(Body::new(StreamBody::new(stream::iter(frames))))
    }

    async fn read(lent: Lent) -> usize {
        lent.collect().await.expect("read").to_bytes().len()
    }

    #[tokio::test]
    async fn a_body_is_the_same_when_it_is_lent_again() {
        let kept = of_parts(&[3, 1000, 5]);
        let mut half = kept.lend();
        half.frame().await.expect("a frame").expect("read");
        drop(half);
        for _ in 0..2 {
            assert_eq!(read(kept.lend()).await, 1008);
            assert!(kept.lock().whole);
        }
    }

    #[tokio::test]
    async fn a_body_is_kept_up_to_a_bound() {
        let kept = of_parts(&[KEPT_BYTES, 1, 9]);
        assert_eq!(read(kept.lend()).await, KEPT_BYTES + 10);
        let slot = kept.lock();
        assert!(!slot.whole && slot.read.is_empty());
    }
}
