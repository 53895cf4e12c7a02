//! Connections end in time: at shutdown, by age, and when the peer is gone.

mod support;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use aegis_mesh::{Code, Error, ServerConfig, spawn};
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Request;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

fn grace(seconds: u64) -> ServerConfig {
    ServerConfig {
        shutdown_grace_seconds: seconds,
        ..ServerConfig::default()
    }
}

#[tokio::test]
async fn shutdown_is_bounded_with_an_open_stream_and_a_hanging_call() {
    let service = TestService::default();
    let running = start(server_with(service.clone(), &grace(1))).await;
    let mut ticks = as_local(stream(running.channel(), Request::new(String::new())))
        .await
        .expect("a stream");
    let call = spawn("call", as_local(unary(running.channel(), HANG, "")));
    let hanging = service.hanging.clone();
    eventually("the handler runs", || hanging.load(Ordering::SeqCst) == 1).await;

    let start = Instant::now();
    running.shutdown.trigger();
    let reader = spawn("reader", async move {
        loop {
            match ticks.message().await {
                Ok(Some(_)) => {}
                other => return other,
            }
        }
    });
    assert_eq!(running.task.await, Ok(Ok(())));
    let took = start.elapsed();
    assert!(
        took >= Duration::from_millis(900),
        "calls get their grace: {took:?}"
    );
    assert!(took < Duration::from_millis(2_500), "and no more: {took:?}");
    assert_eq!(
        hanging.load(Ordering::SeqCst),
        0,
        "handlers are gone when serve returns"
    );

    // What was cut off is a lost connection to the caller: safe to try elsewhere.
    let cut = call.await.expect("not ours to end").expect_err("cut");
    assert_eq!(cut.code(), Code::Unavailable, "{cut:?}");
    let cut = reader.await.expect("not ours to end").expect_err("cut");
    assert_eq!(Error::from(cut).code(), Code::Unavailable);
}

#[tokio::test]
async fn shutdown_is_quick_when_nothing_is_under_way_and_ends_health_watches() {
    let running = start(server_with(TestService::default(), &grace(60))).await;
    let mut client = HealthClient::new(running.channel());
    let watch = client
        .watch(HealthCheckRequest::default())
        .await
        .expect("a watch");
    let mut watch = watch.into_inner();
    watch
        .message()
        .await
        .expect("the state")
        .expect("the state");
    let start = Instant::now();
    running.shutdown.trigger();
    while watch.message().await.expect("ends well").is_some() {}
    assert_eq!(running.task.await, Ok(Ok(())));
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn an_old_connection_is_replaced_without_a_failing_call() {
    let config = ServerConfig {
        max_connection_age_seconds: 1,
        ..grace(60)
    };
    let running = start(server_with(TestService::default(), &config)).await;
    let channel = running.channel();
    let mut ticks = as_local(stream(channel.clone(), Request::new(String::new())))
        .await
        .expect("a stream");
    let limit = Instant::now() + Duration::from_millis(2_500);
    while Instant::now() < limit {
        // The stream stays on the old connection, within the grace; calls move to new ones.
        ticks.message().await.expect("goes on").expect("goes on");
        let answer = as_local(unary(channel.clone(), ECHO, "x")).await;
        assert_eq!(answer, Ok("x".to_owned()));
    }
}

#[tokio::test]
async fn an_old_connection_is_cut_after_its_grace() {
    let config = ServerConfig {
        max_connection_age_seconds: 1,
        ..grace(1)
    };
    let running = start(server_with(TestService::default(), &config)).await;
    let mut ticks = as_local(stream(running.channel(), Request::new(String::new())))
        .await
        .expect("a stream");
    let start = Instant::now();
    while ticks.message().await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(6), "never cut");
    }
    assert!(
        start.elapsed() > Duration::from_millis(1_500),
        "{:?}",
        start.elapsed()
    );
}

/// The preface and an empty SETTINGS frame: a client that then falls silent.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test(start_paused = true)]
async fn the_server_notices_a_silent_client() {
    let running = start(server(TestService::default())).await;
    let mut peer = tokio::net::TcpStream::connect(running.address)
        .await
        .expect("connected");
    peer.write_all(HELLO).await.expect("sent");
    let start = tokio::time::Instant::now();
    let mut sink = Vec::new();
    // Ends when the server closes; answers no ping. The clock jumps whenever all wait.
    let ended = tokio::time::timeout(Duration::from_secs(120), peer.read_to_end(&mut sink)).await;
    assert!(ended.is_ok(), "the connection is still open");
    let took = start.elapsed();
    assert!(
        (Duration::from_secs(30)..Duration::from_secs(60)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_client_notices_a_silent_server() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = silent.local_addr().expect("an address");
    let server = spawn("silent", async move {
        let (mut peer, _) = silent.accept().await.expect("a client");
        peer.write_all(b"\0\0\0\x04\0\0\0\0\0")
            .await
            .expect("settings");
        let mut sink = Vec::new();
        peer.read_to_end(&mut sink).await
    });
    let uri = format!("http://{address}");
    let channel = aegis_mesh::MeshChannel::network(&uri, &Default::default()).expect("lazy");
    let start = tokio::time::Instant::now();
    let mut client = HealthClient::new(channel);
    let watch = client.watch(HealthCheckRequest::default());
    let watch = tokio::time::timeout(Duration::from_secs(120), watch).await;
    let status = watch
        .expect("the client still waits")
        .expect_err("nobody answered");
    assert_eq!(Error::from(status).code(), Code::Unavailable);
    assert!(
        start.elapsed() < Duration::from_secs(60),
        "{:?}",
        start.elapsed()
    );
    drop(server);
}
