//! Reflection lists what this server has, nothing else, and only to who has the token.

mod support;

use aegis_mesh::{ClientConfig, Error, MeshChannel, MeshServer, Secret, ServerConfig};
use support::start;
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

async fn ask(channel: MeshChannel, request: MessageRequest) -> Result<MessageResponse, Error> {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let mut client = ServerReflectionClient::new(channel);
    let requests = futures_util::stream::iter([request]);
    let mut answers = client.server_reflection_info(requests).await?.into_inner();
    let answer = answers.message().await?.expect("an answer");
    Ok(answer.message_response.expect("an answer"))
}

async fn listed(channel: MeshChannel) -> Result<Vec<String>, Error> {
    let answer = ask(channel, MessageRequest::ListServices(String::new())).await?;
    let MessageResponse::ListServicesResponse(list) = answer else {
        panic!("{answer:?}");
    };
    let mut names: Vec<_> = list.service.into_iter().map(|s| s.name).collect();
    names.sort();
    Ok(names)
}

#[tokio::test]
async fn it_lists_what_is_there_and_describes_it() {
    let server = MeshServer::builder("test", &ServerConfig::default());
    let running = start(server.descriptors(aegis_proto::FILE_DESCRIPTOR_SET)).await;
    let names = listed(running.channel()).await.expect("listed");
    let own = [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
    ];
    assert_eq!(names, own);
    let symbol = MessageRequest::FileContainingSymbol("grpc.health.v1.Health".to_owned());
    let answer = ask(running.channel(), symbol).await.expect("described");
    assert!(
        matches!(answer, MessageResponse::FileDescriptorResponse(_)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn it_can_be_switched_off_and_wants_the_token() {
    let mut config = ServerConfig {
        reflection: false,
        ..ServerConfig::default()
    };
    let off = start(MeshServer::builder("test", &config)).await;
    let error = listed(off.channel()).await.expect_err("off");
    assert_eq!(error.code(), aegis_mesh::Code::Unimplemented);

    config.reflection = true;
    config.token = Some(Secret::new("correct-horse"));
    let on = start(MeshServer::builder("test", &config)).await;
    let error = listed(on.channel()).await.expect_err("no token");
    assert_eq!(error.reason(), "TOKEN_MISSING");
    let mut client = ClientConfig::at(format!("http://{}", on.address));
    client.token = config.token;
    let channel = MeshChannel::connect(&client).expect("an address");
    assert!(listed(channel).await.is_ok());
}
