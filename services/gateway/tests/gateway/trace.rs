//! A trace that a client began goes on behind the gateway.

use aegis_mesh::{TelemetryConfig, TelemetryGuard, telemetry};
use aegis_proto::scan::v1::{GetScanRequest, history_service_client::HistoryServiceClient};
use tonic::Request;

use crate::world::World;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// Until the process ends: other tests run beside this one.
fn telemetry_on() {
    static ON: std::sync::OnceLock<TelemetryGuard> = std::sync::OnceLock::new();
    ON.get_or_init(|| telemetry::init("gateway", &TelemetryConfig::default()).unwrap());
}

fn went_on(world: &World) {
    let metadata = world.fake.only_call().metadata;
    let traceparent = metadata.get("traceparent").unwrap().to_str().unwrap();
    assert!(
        traceparent.starts_with(&format!("00-{TRACE}-")),
        "{traceparent}"
    );
    assert!(
        !traceparent.contains(SPAN),
        "the gateway has a span of its own: {traceparent}"
    );
}

#[tokio::test]
async fn over_http_and_over_grpc() {
    telemetry_on();
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    let world = World::new().await;
    let request = world
        .request("GET", "/v1/scans/id")
        .header("traceparent", &traceparent);
    assert_eq!(request.send().await.unwrap().status(), 200);
    went_on(&world);

    let world = World::new().await;
    let mut request = Request::new(GetScanRequest {
        scan_id: "id".into(),
    });
    request
        .metadata_mut()
        .insert("traceparent", traceparent.parse().unwrap());
    HistoryServiceClient::new(world.channel().await)
        .get_scan(request)
        .await
        .unwrap();
    went_on(&world);
}
