//! A connection whose patience ends: with a client that does not say what it speaks (hyper-util waits
//! for that without a limit), and with one that takes nothing of what is written to it.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// HTTP/2's preface has 24 bytes, and no request to a listener of ours is shorter.
const FIRST_BYTES: usize = 24;

/// A stream with limits on its beginning and on its stalls.
pub(super) struct Patient<S> {
    stream: S,
    /// Until the first bytes are there.
    beginning: Option<Pin<Box<Sleep>>>,
    seen: usize,
    /// While the other side takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    longest_stall: Duration,
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, beginning: Duration, longest_stall: Duration) -> Self {
        Self {
            stream,
            beginning: Some(Box::pin(sleep(beginning))),
            seen: 0,
            stall: None,
            longest_stall,
        }
    }

    /// What a write came to, unless it has been pending for too long.
    fn timed<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stall = None;
            return written;
        }
        let until = Instant::now() + self.longest_stall;
        let stall = self
            .stall
            .get_or_insert_with(|| Box::pin(sleep_until(until)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(too_slow("the client takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

fn too_slow(text: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, text)
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let Some(beginning) = &mut self.beginning else {
            return read;
        };
        if read.is_pending() && beginning.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(too_slow("the client says nothing")));
        }
        self.seen += buffer.filled().len() - before;
        if self.seen >= FIRST_BYTES {
            self.beginning = None;
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.timed(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.timed(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    const SOON: Duration = Duration::from_millis(20);
    const HOUR: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn a_client_must_say_what_it_speaks() {
        let (mut client, server) = duplex(1024);
        let mut server = Patient::new(server, SOON, HOUR);
        client.write_all(b"PRI * HTTP").await.unwrap();
        let mut bytes = Vec::new();
        let error = server.read_to_end(&mut bytes).await.unwrap_err();
        assert_eq!(
            (error.kind(), &*bytes),
            (io::ErrorKind::TimedOut, &b"PRI * HTTP"[..])
        );
    }

    #[tokio::test]
    async fn after_its_first_bytes_a_client_may_be_silent() {
        let (mut client, server) = duplex(1024);
        let mut server = Patient::new(server, SOON, HOUR);
        client.write_all(&[b'x'; FIRST_BYTES]).await.unwrap();
        let mut bytes = [0; FIRST_BYTES + 1];
        let waited = tokio::time::timeout(5 * SOON, server.read_exact(&mut bytes)).await;
        assert!(waited.is_err(), "{waited:?}");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (mut client, server) = duplex(8);
        let mut server = Patient::new(server, HOUR, SOON);
        server.write_all(&[b'x'; 8]).await.unwrap();
        let error = server.write_all(b"more").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let mut taken = [0; 8];
        client.read_exact(&mut taken).await.unwrap();
    }
}
