//! What is sent again, and what never is.

mod support;
#[path = "support/replicas.rs"]
mod world;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aegis_mesh::{Code, spawn};
use h2::Reason;
use support::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::codegen::http::{Request, Response};
use world::*;

/// A peer that resets every call.
struct Resetting {
    address: SocketAddr,
    calls: Arc<AtomicUsize>,
    _task: aegis_mesh::TaskHandle<()>,
}

impl Resetting {
    async fn with(reason: Reason) -> Self {
        let listener = TcpListener::bind("127.0.0.3:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let calls = Arc::new(AtomicUsize::new(0));
        let count = calls.clone();
        let task = spawn("resetting", async move {
            loop {
                let (peer, _) = listener.accept().await.expect("a client");
                let reset = reset_all(peer, reason, count.clone());
                spawn("connection", reset).detach();
            }
        });
        Self {
            address,
            calls,
            _task: task,
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn reset_all(peer: TcpStream, reason: Reason, calls: Arc<AtomicUsize>) {
    let mut connection = h2::server::handshake(peer).await.expect("HTTP/2");
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        if is_health(&request) {
            let unimplemented = Response::builder()
                .header("content-type", "application/grpc")
                .header("grpc-status", "12")
                .body(());
            let answer = unimplemented.expect("a response");
            respond.send_response(answer, true).expect("sent");
        } else {
            calls.fetch_add(1, Ordering::SeqCst);
            respond.send_reset(reason);
        }
    }
}

fn is_health<B>(request: &Request<B>) -> bool {
    request.uri().path().starts_with("/grpc.health.v1.Health/")
}

#[tokio::test]
async fn what_a_replica_refuses_is_sent_to_another() {
    let good = Replica::start(1);
    let refusing = Resetting::with(Reason::REFUSED_STREAM).await;
    let channel = Book::of([good.address, refusing.address]).channel();
    let mut sent = 0;
    while refusing.calls() < 20 {
        // Small and large: a request's bytes are there for the second time, too.
        let text = "x".repeat(sent * 1000);
        let answer = as_local(unary(channel.clone(), ECHO, text.clone())).await;
        assert_eq!(answer, Ok(text));
        sent += 1;
        assert_eq!(good.calls(), sent, "each was worked on once");
    }
}

#[tokio::test]
async fn what_may_have_been_worked_on_is_not() {
    let good = Replica::start(1);
    for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::NO_ERROR] {
        let breaking = Resetting::with(reason).await;
        let channel = Book::of([good.address, breaking.address]).channel();
        let (before, mut sent, mut failed) = (good.calls(), 0, 0);
        while breaking.calls() < 10 {
            let answer = as_local(unary(channel.clone(), ECHO, "x")).await;
            sent += 1;
            failed += usize::from(answer.is_err());
        }
        assert_eq!(failed, 10, "{reason:?}");
        assert_eq!(good.calls() - before, sent - failed, "{reason:?}");
    }
}

/// HTTP/2: an empty SETTINGS frame.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
/// GOAWAY without error, and with stream 0 as the last that is worked on.
const NONE_OF_THEM: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0";
const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const DATA: u8 = 0;

/// Reads frames until one of this kind has been read.
async fn read_until(peer: &mut TcpStream, kind: u8) {
    loop {
        let mut head = [0; 9];
        peer.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        peer.read_exact(&mut payload).await.expect("its payload");
        if head[3] == kind {
            return;
        }
    }
}

#[tokio::test]
async fn what_a_leaving_replica_says_it_will_not_begin_is_sent_to_another() {
    for read in [HEADERS, DATA] {
        let good = Replica::start(1);
        let listener = TcpListener::bind("127.0.0.2:0").await.expect("a free port");
        let leaving = listener.local_addr().expect("an address");
        let book = Book::of([leaving]);
        let channel = book.channel();
        let call = spawn("call", as_local(unary(channel, ECHO, "x")));
        let (mut peer, _) = listener.accept().await.expect("a client");
        let mut preface = [0; PREFACE];
        peer.read_exact(&mut preface).await.expect("the preface");
        peer.write_all(SETTINGS).await.expect("sent");
        read_until(&mut peer, read).await;
        book.write([good.address]);
        drop(listener);
        peer.write_all(NONE_OF_THEM).await.expect("sent");
        let answer = call.await.expect("not ours to end");
        assert_eq!(answer, Ok("x".to_owned()));
        assert_eq!(good.calls(), 1);
    }
}

#[tokio::test]
async fn a_replica_that_refuses_everything_is_not_asked_for_ever() {
    let refusing = Resetting::with(Reason::REFUSED_STREAM).await;
    let channel = Book::of([refusing.address]).channel();
    let error = as_local(unary(channel, ECHO, "x"))
        .await
        .expect_err("refused");
    assert_eq!(error.code(), Code::Unavailable);
    assert_eq!(refusing.calls(), 4);
}
