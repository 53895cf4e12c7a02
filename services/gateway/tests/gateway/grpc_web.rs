//! gRPC-Web, as a browser sends it: HTTP/1.1, trailers in the body's last frame.

use aegis_proto::scan::v1::{GetScanRequest, GetScanResponse, WatchScanRequest, WatchScanResponse};
use prost::Message;
use reqwest::Response;

use crate::world::World;

/// The frames of a body: a flag and the bytes of each.
fn frames(mut body: &[u8]) -> Vec<(u8, &[u8])> {
    let mut frames = Vec::new();
    while let [flag, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        frames.push((*flag, &rest[..length]));
        body = &rest[length..];
    }
    frames
}

async fn call(world: &World, method: &str, message: impl Message) -> Response {
    let bytes = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend((bytes.len() as u32).to_be_bytes());
    frame.extend(bytes);
    let request = world
        .request("POST", method)
        .header("content-type", "application/grpc-web+proto");
    request
        .header("x-grpc-web", "1")
        .body(frame)
        .send()
        .await
        .unwrap()
}

const TRAILERS: u8 = 0x80;

#[tokio::test]
async fn a_unary_call() {
    let world = World::new().await;
    let request = GetScanRequest {
        scan_id: "id".into(),
    };
    let response = call(&world, "/aegis.scan.v1.HistoryService/GetScan", request).await;
    assert_eq!(response.version(), reqwest::Version::HTTP_11);
    assert_eq!(
        response.headers()["content-type"],
        "application/grpc-web+proto"
    );
    let body = response.bytes().await.unwrap();
    let frames = frames(&body);
    let (message, trailers) = (frames[0], frames[1]);
    let answer = GetScanResponse::decode(message.1).unwrap();
    assert_eq!(answer.scan.unwrap().scan_id, "id");
    assert_eq!(trailers.0, TRAILERS);
    assert!(String::from_utf8_lossy(trailers.1).contains("grpc-status:0"));
}

#[tokio::test]
async fn a_stream() {
    let world = World::new().await;
    let request = WatchScanRequest {
        scan_id: "id".into(),
        after_sequence: 2,
    };
    let response = call(&world, "/aegis.scan.v1.ScanService/WatchScan", request).await;
    let body = response.bytes().await.unwrap();
    let frames = frames(&body);
    let messages = frames.iter().filter(|frame| frame.0 == 0);
    let messages: Vec<_> = messages
        .map(|frame| WatchScanResponse::decode(frame.1).unwrap())
        .collect();
    assert_eq!(messages.len(), 4, "{messages:?}");
    assert_eq!(frames.last().unwrap().0, TRAILERS);
}

#[tokio::test]
async fn a_refusal_and_an_internal_method() {
    let world = World::new().await;
    let request = || GetScanRequest {
        scan_id: "missing".into(),
    };
    for (method, status) in [
        ("/aegis.scan.v1.HistoryService/GetScan", "5"),
        ("/aegis.internal.task.v1.TaskService/LeaseTask", "12"),
    ] {
        let response = call(&world, method, request()).await;
        let said = response
            .headers()
            .get("grpc-status")
            .map(|value| value.to_str().unwrap().to_owned());
        let body = response.bytes().await.unwrap();
        let in_body = String::from_utf8_lossy(&body).contains(&format!("grpc-status:{status}"));
        assert!(
            said.as_deref() == Some(status) || in_body,
            "{method}: {said:?} {body:?}"
        );
    }
}
