//! gRPC, passed on as it is.

use std::{sync::atomic::Ordering, time::Duration};

use aegis_mesh::{Error, Secret};
use aegis_proto::{
    internal::task::v1::{LeaseTaskRequest, task_service_client::TaskServiceClient},
    report::v1::{
        ImportHeader, ImportScanRequest, ReadArtifactRequest, import_scan_request::Part,
        import_service_client::ImportServiceClient, report_service_client::ReportServiceClient,
    },
    scan::v1::{
        CreateScanRequest, GetScanRequest, WatchScanRequest,
        history_service_client::HistoryServiceClient, scan_service_client::ScanServiceClient,
    },
};
use futures_util::{StreamExt, stream};
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    fake::{NEWEST, content},
    world::{World, eventually},
};

fn get(scan_id: &str) -> GetScanRequest {
    GetScanRequest {
        scan_id: scan_id.into(),
    }
}

fn watch(scan_id: &str, after_sequence: i64) -> WatchScanRequest {
    WatchScanRequest {
        scan_id: scan_id.into(),
        after_sequence,
    }
}

#[tokio::test]
async fn unary_calls_reach_their_service() {
    let world = World::new().await;
    let channel = world.channel().await;
    let answer = HistoryServiceClient::new(channel.clone())
        .get_scan(get("id"))
        .await
        .unwrap();
    assert_eq!(answer.into_inner().scan.unwrap().last_sequence, 7);
    let create = CreateScanRequest::default();
    let answer = ScanServiceClient::new(channel)
        .create_scan(create)
        .await
        .unwrap();
    assert_eq!(answer.into_inner().scan.unwrap().scan_id, "created");
}

#[tokio::test]
async fn errors_keep_their_details() {
    let world = World::new().await;
    let status = HistoryServiceClient::new(world.channel().await)
        .get_scan(get("missing"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    let error = Error::from(status);
    assert_eq!(
        (error.reason(), error.hint_text()),
        ("SCAN_NOT_FOUND", Some("list the scans"))
    );
}

#[tokio::test]
async fn streams_and_their_endings_are_passed_on() {
    let world = World::new().await;
    let mut client = ScanServiceClient::new(world.channel().await);
    let mut stream = client
        .watch_scan(watch("id", 1))
        .await
        .unwrap()
        .into_inner();
    let mut count = 0;
    while stream.message().await.unwrap().is_some() {
        count += 1;
    }
    assert_eq!(count, 5, "snapshot, events 2 and 3, progress, heartbeat");
    let mut stream = client
        .watch_scan(watch("breaks", 0))
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let status = stream.message().await.unwrap_err();
    assert_eq!(Error::from(status).reason(), "DRAINING");
    assert!(client.watch_scan(watch("missing", 0)).await.is_err());
}

#[tokio::test]
async fn bytes_are_passed_on() {
    let world = World::new().await;
    let request = ReadArtifactRequest {
        scan_id: "id".into(),
        name: "report.jsonl".into(),
        ..ReadArtifactRequest::default()
    };
    let mut client = ReportServiceClient::new(world.channel().await);
    let mut stream = client.read_artifact(request).await.unwrap().into_inner();
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        bytes.extend_from_slice(&message.data);
    }
    assert_eq!(bytes, content(NEWEST));
}

#[tokio::test]
async fn internal_methods_cannot_be_reached() {
    let world = World::new().await;
    let channel = world.channel().await;
    let lease = TaskServiceClient::new(channel.clone())
        .lease_task(LeaseTaskRequest::default())
        .await;
    let status = lease.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert_eq!(Error::from(status).reason(), "METHOD_NOT_PUBLIC");
    for path in [
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/aegis.scan.v1.ScanService/NoSuchMethod",
        "/aegis.scan.v1.ScanService/CreateScan/",
        "//aegis.scan.v1.ScanService/CreateScan",
        "/aegis.internal.task.v1.TaskService/LeaseTask?x=/aegis.scan.v1.ScanService/CreateScan",
    ] {
        let http2 = reqwest::Client::builder()
            .http2_prior_knowledge()
            .build()
            .unwrap();
        let request = http2
            .post(world.url(path))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let response = request.body(vec![0; 5]).send().await.unwrap();
        assert_eq!(response.headers()["grpc-status"], "12", "{path}");
    }
    assert!(world.fake.calls().is_empty());
}

/// The principal and the credentials of the mesh are the gateway's to say.
#[tokio::test]
async fn what_a_client_says_about_itself_is_not_believed() {
    let world = World::with(|config| config.api_token = Some(Secret::new("t0ken"))).await;
    let mut request = Request::new(get("id"));
    for (name, value) in [
        ("x-aegis-project", "other"),
        ("x-aegis-subject", "admin"),
        ("x-aegis-anything", "at-all"),
        ("authorization", "Bearer t0ken"),
        ("cookie", "a=b"),
        ("x-client", "kept"),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    HistoryServiceClient::new(world.channel().await)
        .get_scan(request)
        .await
        .unwrap();
    let metadata = world.fake.only_call().metadata;
    let value = |name: &str| metadata.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(value("x-aegis-project"), Some("default"));
    assert_eq!(value("x-aegis-subject"), Some("local"));
    assert_eq!(value("x-client"), Some("kept"));
    for name in ["x-aegis-anything", "authorization", "cookie"] {
        assert_eq!(value(name), None, "{name}");
    }
}

#[tokio::test]
async fn a_token_is_demanded_in_grpc_too() {
    let world = World::with(|config| config.api_token = Some(Secret::new("t0ken"))).await;
    let status = HistoryServiceClient::new(world.channel().await)
        .get_scan(get("id"))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(Error::from(status).reason(), "UNAUTHENTICATED");
    assert!(world.fake.calls().is_empty());
}

#[tokio::test]
async fn a_clients_deadline_is_kept() {
    let world = World::new().await;
    let mut request = Request::new(get("hangs"));
    request.set_timeout(Duration::from_millis(300));
    let mut client = HistoryServiceClient::new(world.channel().await);
    let status = client.get_scan(request).await.unwrap_err();
    assert!(
        matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{status}"
    );
    eventually("the upstream call ends", || {
        world.fake.dropped.load(Ordering::SeqCst)
    })
    .await;
    let metadata = world.fake.only_call().metadata;
    assert!(metadata.contains_key("grpc-timeout"), "{metadata:?}");
}

#[tokio::test]
async fn without_a_deadline_the_gateways_holds() {
    let world = World::with(|config| config.unary_deadline_seconds = 1).await;
    let mut client = HistoryServiceClient::new(world.channel().await);
    let status = client.get_scan(get("hangs")).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

fn import(part: Part) -> ImportScanRequest {
    ImportScanRequest { part: Some(part) }
}

fn import_header() -> ImportScanRequest {
    import(Part::Header(ImportHeader {
        scan_id: "imported".into(),
        ..ImportHeader::default()
    }))
}

/// A gateway's deadline is for calls of one message: what streams in may take longer.
#[tokio::test]
async fn a_stream_of_the_clients_is_passed_on_for_as_long_as_it_takes() {
    let world = World::with(|config| config.unary_deadline_seconds = 1).await;
    let mut client = ImportServiceClient::new(world.channel().await);
    let data = vec![b'x'; 1 << 20];
    let first = vec![import_header(), import(Part::File("report.jsonl".into()))];
    let rest = (0..12).map(move |_| import(Part::Data(data.clone().into())));
    let longer = Duration::from_millis(1_500);
    let late =
        stream::once(tokio::time::sleep(longer)).flat_map(move |()| stream::iter(rest.clone()));
    let messages = stream::iter(first).chain(late);
    let answer = client.import_scan(messages).await.unwrap().into_inner();
    assert_eq!(answer.scan.unwrap().scan_id, "imported");
    assert_eq!(answer.warnings, [(12 << 20).to_string()]);
}

#[tokio::test]
async fn a_stream_of_a_client_that_dies_ends_upstream() {
    let world = World::new().await;
    let address = world.url("");
    // As a process that is killed: its tasks and its connection end where they are.
    let process = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    process.spawn(async move {
        let channel = tonic::transport::Endpoint::from_shared(address).unwrap();
        let mut client = ImportServiceClient::new(channel.connect().await.unwrap());
        let messages = stream::iter([import_header()]).chain(stream::pending());
        client.import_scan(messages).await
    });
    eventually("the header came", || {
        world.fake.produced.load(Ordering::SeqCst) == 1
    })
    .await;
    process.shutdown_background();
    eventually("the upstream call ends", || {
        world.fake.dropped.load(Ordering::SeqCst)
    })
    .await;
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_upstream_call() {
    let world = World::new().await;
    let mut client = ScanServiceClient::new(world.channel().await);
    let mut stream = client
        .watch_scan(watch("quiet", 0))
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_some());
    drop(stream);
    eventually("the upstream call ends", || {
        world.fake.dropped.load(Ordering::SeqCst)
    })
    .await;
}

#[tokio::test]
async fn streams_end_with_a_status_when_the_gateway_stops() {
    let world = World::new().await;
    let mut client = ScanServiceClient::new(world.channel().await);
    let mut stream = client
        .watch_scan(watch("quiet", 0))
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_some());
    world.shutdown.trigger();
    let error = Error::from(stream.message().await.unwrap_err());
    assert_eq!(error.reason(), "DRAINING");
    assert!(error.is_retryable() && error.retry_delay().is_some());
    let stopped = tokio::time::timeout(Duration::from_secs(5), world.running.stopped());
    stopped.await.unwrap().unwrap();
}

#[tokio::test]
async fn health_is_the_gateways_own() {
    let world = World::with(|config| config.api_token = Some(Secret::new("t0ken"))).await;
    let mut client = HealthClient::new(world.channel().await);
    for service in [
        "",
        "aegis.scan.v1.ScanService",
        "aegis.report.v1.ReportService",
        "liveness",
    ] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service:?}");
    }
    let internal = HealthCheckRequest {
        service: "aegis.internal.task.v1.TaskService".into(),
    };
    assert_eq!(
        client.check(internal).await.unwrap_err().code(),
        Code::NotFound
    );
}
