//! What tonic does otherwise than one would think, and what we do about it; a test each.

mod support;

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use aegis_mesh::{
    CallContext, Code, Error, MeshChannel, Principal, ServerConfig, health::LIVENESS, sized,
    with_context,
};
use support::*;
use tonic::Request;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Both ways to a server: whatever holds must hold for each.
async fn both_ways(config: &ServerConfig) -> (Server, [MeshChannel; 2], TestService) {
    let service = TestService::default();
    let running = start(server_with(service.clone(), config)).await;
    let routes = server_with(service.clone(), config).into_routes();
    let local = MeshChannel::local(routes.expect("routes"));
    let ways = [running.channel(), local];
    (running, ways, service)
}

/// The timeout that `Metadata` saw, in milliseconds.
fn timeout_ms(described: &str) -> u64 {
    let text = described.split(' ').nth(1).expect("three words");
    let (count, unit) = text.split_at(text.len() - 1);
    let count: u64 = count.parse().expect("a number");
    match unit {
        "u" => count / 1000,
        "m" => count,
        "S" => count * 1000,
        other => panic!("unit {other}"),
    }
}

#[tokio::test]
async fn every_unary_call_says_how_long_it_will_wait() {
    let (_running, ways, _) = both_ways(&ServerConfig::default()).await;
    for channel in ways {
        let seen = as_local(unary(channel.clone(), METADATA, ""))
            .await
            .expect("answered");
        assert_eq!(timeout_ms(&seen), 30_000, "the default");

        let mut request = Request::new(String::new());
        request.set_timeout(Duration::from_millis(700));
        let seen = as_local(unary_request(channel, METADATA, request)).await;
        assert_eq!(
            timeout_ms(&seen.expect("answered")),
            700,
            "what was asked for"
        );
    }
}

#[tokio::test]
async fn a_call_from_a_handler_has_what_is_left() {
    let (_running, [_, local], _) = both_ways(&ServerConfig::default()).await;
    let front = start(server(TestService::relaying_to(local))).await;
    let context = CallContext::new(Principal::local()).within(Duration::from_secs(5));
    let seen = with_context(context, unary(front.channel(), RELAY, ""))
        .await
        .expect("answered");
    assert!(seen.starts_with("default/local "), "{seen}");
    let left = timeout_ms(&seen);
    assert!((1..=5_000).contains(&left), "{left}");
}

#[tokio::test]
async fn a_call_without_time_is_not_sent() {
    let (_running, ways, _) = both_ways(&ServerConfig::default()).await;
    for channel in ways {
        let context = CallContext::new(Principal::local()).within(Duration::ZERO);
        let error = with_context(context, unary(channel, ECHO, ""))
            .await
            .expect_err("no time");
        assert_eq!(error.code(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn the_servers_own_deadline_is_deadline_exceeded_and_drops_the_handler() {
    let config = ServerConfig {
        unary_deadline_seconds: 1,
        ..ServerConfig::default()
    };
    let (_running, ways, service) = both_ways(&config).await;
    for channel in ways {
        let start = Instant::now();
        let error = as_local(unary(channel, HANG, ""))
            .await
            .expect_err("it hangs");
        assert_eq!(error.code(), Code::DeadlineExceeded);
        // The server's word: the client would have waited for 30 s.
        assert_eq!(error.metadata()["budget_ms"], "1000");
        assert!(start.elapsed() < Duration::from_secs(5));
        let hanging = &service.hanging;
        eventually("the handler is dropped", || {
            hanging.load(Ordering::SeqCst) == 0
        })
        .await;
    }
}

#[tokio::test]
async fn the_callers_timeout_is_deadline_exceeded_on_both_sides() {
    let (running, ways, service) = both_ways(&ServerConfig::default()).await;
    for channel in ways {
        let mut request = Request::new(String::new());
        request.set_timeout(Duration::from_millis(100));
        let error = as_local(unary_request(channel, HANG, request))
            .await
            .expect_err("it hangs");
        assert_eq!(error.code(), Code::DeadlineExceeded);
        let hanging = &service.hanging;
        eventually("the handler is dropped", || {
            hanging.load(Ordering::SeqCst) == 0
        })
        .await;
    }
    // A client without any timer of its own, which takes what the server says.
    for _ in 0..20 {
        let status = bare_call(running.address, HANG, "30m").await;
        assert_eq!(status, Code::DeadlineExceeded.grpc().to_string());
    }
}

/// One call by bare HTTP/2; answers the `grpc-status` of the response's head.
async fn bare_call(address: std::net::SocketAddr, path: &str, timeout: &str) -> String {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("connected");
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let handshake = hyper::client::conn::http2::handshake(executor, io).await;
    let (mut sender, connection) = handshake.expect("HTTP/2");
    let _connection = aegis_mesh::spawn("connection", connection);
    let empty_message = tonic::codegen::Bytes::from_static(&[0; 5]);
    let request = tonic::codegen::http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .header("x-aegis-project", "default")
        .header("x-aegis-subject", "local")
        .body(http_body_util::Full::new(empty_message))
        .expect("a request");
    let response = sender.send_request(request).await.expect("a response");
    let status = response.headers()["grpc-status"].to_str();
    status.expect("text").to_owned()
}

#[tokio::test]
async fn a_caller_who_leaves_drops_the_handler() {
    let (_running, ways, service) = both_ways(&ServerConfig::default()).await;
    for channel in ways {
        let hanging = service.hanging.clone();
        let call = aegis_mesh::spawn("call", as_local(unary(channel, HANG, "")));
        eventually("the handler runs", || hanging.load(Ordering::SeqCst) == 1).await;
        drop(call);
        eventually("the handler is dropped", || {
            hanging.load(Ordering::SeqCst) == 0
        })
        .await;
    }
}

#[tokio::test]
async fn a_stream_outlives_the_unary_deadline_and_keeps_its_context() {
    let config = ServerConfig {
        unary_deadline_seconds: 1,
        ..ServerConfig::default()
    };
    let (_running, ways, _) = both_ways(&config).await;
    for channel in ways {
        let mut ticks = as_local(stream(channel, Request::new(String::new())))
            .await
            .expect("a stream");
        let limit = Instant::now() + Duration::from_millis(1_500);
        while Instant::now() < limit {
            let subject = ticks.message().await.expect("goes on").expect("goes on");
            assert_eq!(subject, "local");
        }
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_own_timeout() {
    let (_running, ways, _) = both_ways(&ServerConfig::default()).await;
    for channel in ways {
        let mut request = Request::new(String::new());
        request.set_timeout(Duration::from_millis(150));
        let mut ticks = as_local(stream(channel, request)).await.expect("a stream");
        let status = loop {
            match ticks.message().await {
                Ok(tick) => assert!(tick.is_some(), "a stream without end ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!(Error::from(status).code(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn a_streaming_method_gets_no_timeout_by_itself() {
    let config = ServerConfig {
        unary_deadline_seconds: 1,
        ..ServerConfig::default()
    };
    let (_running, ways, _) = both_ways(&config).await;
    for channel in ways {
        let mut client = HealthClient::new(channel);
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
        // Known to stream by its descriptor alone: still open when unary calls are long over.
        let next = tokio::time::timeout(Duration::from_millis(1_500), watch.message()).await;
        assert!(next.is_err(), "{next:?}");
    }
}

#[tokio::test]
async fn health_is_not_serving_until_told_otherwise() {
    let server = server(TestService::default());
    let health = server.health();
    let running = start(server).await;
    let mut client = HealthClient::new(running.channel());
    let mut check = async |name: &str| {
        let service = name.to_owned();
        let answer = client.check(HealthCheckRequest { service }).await;
        answer.map(|a| a.into_inner().status()).map_err(Error::from)
    };
    for name in ["", "aegis.test.v1.TestService"] {
        assert_eq!(check(name).await, Ok(ServingStatus::NotServing), "{name:?}");
    }
    health.set_serving();
    assert_eq!(check("").await, Ok(ServingStatus::Serving));
    assert_eq!(
        check("aegis.test.v1.TestService").await,
        Ok(ServingStatus::Serving)
    );
    let unknown = check("nobody").await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound);
    health.set_not_serving();
    assert_eq!(check("").await, Ok(ServingStatus::NotServing));
    // The process has not failed with what it depends on: to end it would help nobody.
    assert_eq!(check(LIVENESS).await, Ok(ServingStatus::Serving));
}

#[tokio::test]
async fn messages_are_bounded_in_both_directions_on_both_sides() {
    let small = ServerConfig {
        max_message_bytes: 1024,
        ..ServerConfig::default()
    };
    let (_running, ways, _) = both_ways(&small).await;
    let large = "x".repeat(2048);
    for channel in ways {
        let error = as_local(unary(channel.clone(), ECHO, large.clone())).await;
        assert_eq!(
            error.expect_err("decoding on the server").code(),
            Code::OutOfRange
        );
    }
    // A server that takes the request but must not encode the answer.
    let lopsided = TestService::default()
        .max_decoding_message_size(1 << 20)
        .max_encoding_message_size(1024);
    let builder = aegis_mesh::MeshServer::builder("test", &ServerConfig::default());
    let routes = builder.add_service(lopsided).into_routes().expect("routes");
    let error = as_local(unary(MeshChannel::local(routes), ECHO, large.clone())).await;
    assert_eq!(
        error.expect_err("encoding on the server").code(),
        Code::OutOfRange
    );

    // A client, against a server without bounds.
    let routes = aegis_mesh::MeshServer::builder("test", &ServerConfig::default())
        .add_service(TestService::default())
        .into_routes();
    let channel = MeshChannel::local(routes.expect("routes"));
    let codec = tonic_prost::ProstCodec::<String, String>::default;
    let path = || tonic::codegen::http::uri::PathAndQuery::from_static(ECHO);
    let mut client = sized!(tonic::client::Grpc::new(channel.clone()), small);
    let request = Request::new(large.clone());
    let encoded = as_local(client.unary(request, path(), codec())).await;
    let encoded = encoded.expect_err("encoding");
    assert!(encoded.message().contains("encoded message"), "{encoded:?}");
    let mut client = tonic::client::Grpc::new(channel).max_decoding_message_size(1024);
    let decoded = as_local(client.unary(Request::new(large), path(), codec())).await;
    assert_eq!(
        decoded.expect_err("decoding").code(),
        tonic::Code::OutOfRange
    );
}

#[tokio::test]
async fn an_error_arrives_with_all_its_details() {
    let (_running, ways, _) = both_ways(&ServerConfig::default()).await;
    for channel in ways {
        let error = as_local(unary(channel, FAIL, "")).await;
        assert_eq!(error, Err(every_detail()));
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_an_internal_error_and_no_more() {
    let (_running, ways, _) = both_ways(&ServerConfig::default()).await;
    for channel in ways {
        let error = as_local(unary(channel.clone(), PANIC, ""))
            .await
            .expect_err("a panic");
        assert_eq!(error.reason(), "INTERNAL");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        let answer = as_local(unary(channel, ECHO, "x")).await;
        assert_eq!(answer, Ok("x".to_owned()));
    }
}

#[tokio::test]
async fn too_many_calls_are_refused_and_room_comes_back() {
    let config = ServerConfig {
        max_calls: 1,
        ..ServerConfig::default()
    };
    let (_running, ways, service) = both_ways(&config).await;
    for channel in ways {
        let hanging = service.hanging.clone();
        let call = aegis_mesh::spawn("call", as_local(unary(channel.clone(), HANG, "")));
        eventually("the handler runs", || hanging.load(Ordering::SeqCst) == 1).await;
        let error = as_local(unary(channel.clone(), ECHO, ""))
            .await
            .expect_err("no room");
        assert_eq!(error.reason(), "OVERLOADED");
        assert!(error.is_retryable());
        drop(call);
        eventually("the handler is dropped", || {
            hanging.load(Ordering::SeqCst) == 0
        })
        .await;
        let again = || as_local(unary(channel.clone(), ECHO, "x"));
        let answer = aegis_mesh::retry(aegis_mesh::RetryPolicy::default(), again).await;
        assert_eq!(answer, Ok("x".to_owned()));
    }
}

#[tokio::test]
async fn a_service_that_has_not_started_is_unavailable() {
    let (channel, slot) = MeshChannel::local_late();
    let error = as_local(unary(channel.clone(), ECHO, ""))
        .await
        .expect_err("not yet");
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Unavailable, "STARTING")
    );
    slot.set(
        server(TestService::default())
            .into_routes()
            .expect("routes"),
    );
    assert_eq!(
        as_local(unary(channel, ECHO, "x")).await,
        Ok("x".to_owned())
    );

    let nobody = MeshChannel::network("http://127.0.0.1:1", &Default::default()).expect("lazy");
    let error = as_local(unary(nobody, ECHO, ""))
        .await
        .expect_err("nobody there");
    assert_eq!(error.code(), Code::Unavailable);
}
