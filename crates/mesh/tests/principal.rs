//! Nobody gets in without saying for whom, nor off loopback without a token.

mod support;

use aegis_mesh::{
    CallContext, ClientConfig, Code, MeshChannel, Principal, Secret, ServerConfig, with_context,
};
use aegis_proto::ids::ProjectId;
use support::*;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

fn guarded() -> ServerConfig {
    ServerConfig {
        token: Some(Secret::new("correct-horse")),
        ..ServerConfig::default()
    }
}

#[tokio::test]
async fn a_call_without_a_principal_is_refused() {
    let running = start(server(TestService::default())).await;
    let routes = server(TestService::default())
        .into_routes()
        .expect("routes");
    for channel in [running.channel(), MeshChannel::local(routes)] {
        for path in [ECHO, "/aegis.test.v1.Nothing/Here"] {
            let error = unary(channel.clone(), path, "")
                .await
                .expect_err("for whom?");
            assert_eq!(error.code(), Code::Unauthenticated);
            assert_eq!(error.reason(), "PRINCIPAL_MISSING");
            assert!(error.hint_text().is_some());
        }
    }
}

#[tokio::test]
async fn the_principal_arrives_at_the_second_hop() {
    let back = server(TestService::default())
        .into_routes()
        .expect("routes");
    let front = start(server(TestService::relaying_to(MeshChannel::local(back)))).await;
    let principal = Principal {
        project: "team-7".parse::<ProjectId>().expect("an id"),
        subject: "alice".to_owned(),
    };
    let context = CallContext::new(principal);
    let seen = with_context(context, unary(front.channel(), RELAY, "")).await;
    assert!(seen.expect("answered").starts_with("team-7/alice "));
}

#[tokio::test]
async fn only_the_right_token_gets_in() {
    let running = start(server_with(TestService::default(), &guarded())).await;
    let routes = server_with(TestService::default(), &guarded())
        .into_routes()
        .expect("routes");
    let with = |token: Option<&str>| {
        let mut config = ClientConfig::at(format!("http://{}", running.address));
        config.token = token.map(Secret::new);
        let network = MeshChannel::connect(&config).expect("an address");
        let local = MeshChannel::local(routes.clone());
        let local = match token {
            Some(token) => local.with_token(Secret::new(token)),
            None => local,
        };
        [network, local]
    };
    for (token, reason) in [
        (None, Some("TOKEN_MISSING")),
        (Some("correct-horsf"), Some("TOKEN_INVALID")),
        (Some("correct-horse"), None),
    ] {
        for channel in with(token) {
            let answer = as_local(unary(channel, ECHO, "x")).await;
            match (answer, reason) {
                (Ok(answer), None) => assert_eq!(answer, "x"),
                (Err(error), Some(reason)) => {
                    assert_eq!(error.code(), Code::Unauthenticated);
                    assert_eq!(error.reason(), reason);
                }
                (answer, _) => panic!("{token:?}: {answer:?}"),
            }
        }
    }
}

#[tokio::test]
async fn probes_need_neither_token_nor_principal() {
    let running = start(server_with(TestService::default(), &guarded())).await;
    let mut health = HealthClient::new(running.channel());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}

#[test]
fn off_loopback_a_token_is_demanded() {
    let mut config = ServerConfig {
        listen: "0.0.0.0:7000".parse().expect("an address"),
        ..ServerConfig::default()
    };
    let error = config.validate().expect_err("others can reach it");
    assert!(error.to_string().contains("server.token"), "{error}");
    config.token = Some(Secret::new("x"));
    assert!(config.validate().is_ok());
    assert!(ServerConfig::on_port(7000).validate().is_ok());
}

#[tokio::test]
async fn a_listener_off_loopback_is_refused_whatever_was_configured() {
    let listener = tokio::net::TcpListener::bind("0.0.0.0:0")
        .await
        .expect("a free port");
    let server = server(TestService::default());
    let error = server.serve(listener, aegis_mesh::Shutdown::new()).await;
    assert_eq!(error.expect_err("no token").reason(), "TOKEN_REQUIRED");
}
