//! What a client may cost: time, connections, requests; and how the gateway stops.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::world::{World, error, eventually, reason};

/// Sends this, and nothing more; what is answered before the connection ends.
async fn dawdle(world: &World, bytes: &[u8]) -> String {
    let mut slow = TcpStream::connect(world.address).await.unwrap();
    slow.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let ended = timeout(Duration::from_secs(10), slow.read_to_end(&mut answer)).await;
    // Cut or closed: either way it is over.
    let _closed = ended.expect("the connection ends").is_ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_headers_is_cut() {
    let world = World::with(|config| config.header_timeout_seconds = 1).await;
    for bytes in [
        &b""[..],
        b"GET",
        b"PRI * HTTP/2.0\r\n",
        b"GET /v1/scans HTTP/1.1\r\nhost: localhost\r\nx-slow: ",
    ] {
        let answer = dawdle(&world, bytes).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    assert!(world.fake.calls().is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_body_is_answered() {
    let world = World::with(|config| config.unary_deadline_seconds = 1).await;
    let head = b"POST /v1/scans HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    let answer = dawdle(&world, head).await;
    assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused() {
    let world = World::new().await;
    let request = world
        .request("GET", "/v1/scans")
        .header("x-large", "x".repeat(100 << 10));
    let refused = request.send().await;
    assert!(refused.is_err() || refused.is_ok_and(|r| r.status() == 431));
    assert!(world.fake.calls().is_empty());
}

#[tokio::test]
async fn more_requests_than_fit_are_told_to_come_back() {
    let world = World::with(|config| config.max_requests = 1).await;
    let mut watch = world.get("/v1/scans/quiet/events").await;
    assert!(watch.chunk().await.unwrap().is_some());
    let full = world.get("/v1/scans").await;
    assert_eq!(full.headers()["retry-after"], "1");
    assert_eq!(reason(&error(full, 503).await), "OVERLOADED");
    assert_eq!(
        world.get("/healthz").await.status(),
        200,
        "health has room of its own"
    );
    drop(watch);
    let (url, http) = (world.url("/v1/scans"), world.http.clone());
    let (sender, free) = tokio::sync::watch::channel(false);
    let asking = aegis_mesh::spawn("asking", async move {
        while http.get(&url).send().await.unwrap().status() != 200 {
            tokio::task::yield_now().await;
        }
        sender.send_replace(true);
    });
    eventually("there is room again", || *free.borrow()).await;
    asking.await.unwrap();
}

#[tokio::test]
async fn more_connections_than_fit_wait() {
    let world = World::with(|config| config.max_connections = 1).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut answer = [0; 12];
    let mut first = TcpStream::connect(world.address).await.unwrap();
    first.write_all(request).await.unwrap();
    first.read_exact(&mut answer).await.unwrap();
    let mut second = TcpStream::connect(world.address).await.unwrap();
    second.write_all(request).await.unwrap();
    let waits = timeout(Duration::from_millis(200), second.read_exact(&mut answer)).await;
    assert!(waits.is_err(), "{waits:?}");
    drop(first);
    timeout(Duration::from_secs(10), second.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test]
async fn a_request_under_way_is_finished_and_one_that_hangs_is_cut() {
    let world = World::with(|config| config.shutdown_grace_seconds = 1).await;
    let hanging = world.request("GET", "/v1/scans/hangs").send();
    let hanging = aegis_mesh::spawn("hanging", hanging);
    eventually("the call arrives", || !world.fake.calls().is_empty()).await;
    let began = Instant::now();
    world.shutdown.trigger();
    world.running.stopped().await.unwrap();
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "it had its grace"
    );
    assert!(
        began.elapsed() < Duration::from_secs(4),
        "{:?}",
        began.elapsed()
    );
    assert!(hanging.await.unwrap().is_err());
    assert!(world.fake.dropped.load(std::sync::atomic::Ordering::SeqCst));
    assert!(
        TcpStream::connect(world.address).await.is_err(),
        "nobody listens any more"
    );
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let world = World::new().await;
    assert_eq!(world.get("/healthz").await.status(), 200);
    let idle = TcpStream::connect(world.address).await.unwrap();
    let began = Instant::now();
    world.shutdown.trigger();
    world.running.stopped().await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    drop(idle);
}
