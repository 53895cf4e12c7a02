//! One trace over a network hop and an in-process hop, exported to a collector over OTLP.
//! One test in this binary: telemetry is set up once for a process.

mod support;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use aegis_mesh::{MeshChannel, TelemetryConfig, telemetry};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use support::*;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};
use tracing::Instrument;

#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<Span>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut spans = self.0.lock().expect("not poisoned");
        for resource in request.into_inner().resource_spans {
            for scope in resource.scope_spans {
                spans.extend(scope.spans);
            }
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn collect() -> (Collector, String) {
    let collector = Collector::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let serving = tonic::transport::Server::builder()
        .add_service(TraceServiceServer::new(collector.clone()))
        .serve_with_incoming(TcpListenerStream::new(listener));
    aegis_mesh::spawn("collector", serving).detach();
    (collector, endpoint)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_over_both_kinds_of_hop_reaches_the_collector() {
    let (collector, endpoint) = collect().await;
    let config = TelemetryConfig {
        log_filter: "warn".to_owned(),
        otlp_endpoint: Some(endpoint),
        ..TelemetryConfig::default()
    };
    let guard = telemetry::init("test", &config).expect("set up");
    let again = telemetry::init("test", &config).expect("changes nothing");
    drop(again);

    let back = server(TestService::default())
        .into_routes()
        .expect("routes");
    let front = start(server(TestService::relaying_to(MeshChannel::local(back)))).await;
    let root = tracing::info_span!(target: "aegis::test", "root");
    let call = as_local(unary(front.channel(), RELAY, "")).instrument(root);
    let seen = call.await.expect("answered");
    // 00-<trace id>-<span id>-01
    let parent = seen.split(' ').nth(2).expect("a traceparent").to_owned();
    let trace_id = parent.split('-').nth(1).expect("a trace id").to_owned();
    assert_eq!(trace_id.len(), 32, "{parent}");

    front.shutdown.trigger();
    assert_eq!(front.task.await, Ok(Ok(())));
    tokio::task::block_in_place(|| drop(guard));

    let spans = collector.0.lock().expect("not poisoned").clone();
    let ours: HashMap<Vec<u8>, Span> = spans
        .into_iter()
        .filter(|span| hex::encode(&span.trace_id) == trace_id)
        .map(|span| (span.span_id.clone(), span))
        .collect();
    // From the innermost span back to the root.
    let mut chain = Vec::new();
    let last = parent.split('-').nth(2).expect("a span id");
    let mut next = hex::decode(last).expect("hex");
    while let Some(span) = ours.get(&next) {
        chain.push((span.name.as_str(), span.kind().as_str_name()));
        next = span.parent_span_id.clone();
    }
    let client = "SPAN_KIND_CLIENT";
    let server = "SPAN_KIND_SERVER";
    assert_eq!(
        chain,
        [
            ("aegis.test.v1.TestService/Metadata", client),
            ("aegis.test.v1.TestService/Relay", server),
            ("aegis.test.v1.TestService/Relay", client),
            ("root", "SPAN_KIND_INTERNAL"),
        ]
    );
    let inner = ours
        .values()
        .find(|s| s.name.ends_with("Metadata") && s.kind().as_str_name() == server);
    let inner = inner.expect("the in-process server's span");
    assert_eq!(hex::encode(&inner.parent_span_id), last);
}
