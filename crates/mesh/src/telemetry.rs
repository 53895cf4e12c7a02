//! Logs to standard error and traces to an OTLP collector; trace context by W3C `traceparent`.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TracerProvider,
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{EnvFilter, Layer, layer::SubscriberExt};

use crate::ConfigError;

/// How long spans that were not yet sent may hold up the end of the process.
const FLUSH_BOUND: Duration = Duration::from_secs(2);
/// How long one export to the collector may take.
const EXPORT_BOUND: Duration = Duration::from_secs(5);

/// What is logged and where traces go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines there are, as `tracing_subscriber::EnvFilter` has it: `info`, or
    /// `warn,aegis_catalog=debug`.
    pub log_filter: String,
    /// The collector, such as `http://otel:4317` (OTLP over gRPC); without it no trace leaves.
    pub otlp_endpoint: Option<String>,
    /// `service.name` of the traces, `aegis-<service>` if unset.
    pub service_name: Option<String>,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            log_format: LogFormat::default(),
            log_filter: "info".to_owned(),
            otlp_endpoint: None,
            service_name: None,
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends what is left when dropped, within 2 s.
#[must_use = "dropping the guard ends the traces"]
#[derive(Debug)]
pub struct TelemetryGuard(Option<SdkTracerProvider>);

impl Drop for TelemetryGuard {
    fn drop(&mut self) {
        let Some(provider) = self.0.take() else {
            return;
        };
        if let Err(error) = provider.shutdown_with_timeout(FLUSH_BOUND) {
            tracing::warn!(%error, "the last traces may be lost");
        }
    }
}

/// Starts logging and tracing for the process. Called again (in tests, or by services that share
/// a process) it changes nothing. Needs a tokio runtime if there is an `otlp_endpoint`.
pub fn init(service: &str, config: &TelemetryConfig) -> Result<TelemetryGuard, ConfigError> {
    let filter = EnvFilter::try_new(&config.log_filter)
        .map_err(|e| ConfigError::invalid(format!("telemetry.log_filter: {e}")))?;
    let provider = provider(service, config)?;
    let tracer = provider.tracer("aegis");
    // Traces have a filter of their own: less logging must not tear the chain of spans.
    let traces = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_filter(tracing_subscriber::filter::filter_fn(|meta| {
            meta.is_span() && meta.target().starts_with("aegis")
        }));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match config.log_format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let registry = tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(traces);
    let first = tracing::subscriber::set_global_default(registry).is_ok();
    Ok(TelemetryGuard(first.then_some(provider)))
}

fn provider(service: &str, config: &TelemetryConfig) -> Result<SdkTracerProvider, ConfigError> {
    let name = config.service_name.clone();
    let resource = Resource::builder()
        .with_service_name(name.unwrap_or_else(|| format!("aegis-{service}")))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let builder = SdkTracerProvider::builder().with_resource(resource);
    let Some(endpoint) = &config.otlp_endpoint else {
        // Ids are made and passed on all the same.
        return Ok(builder.build());
    };
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_BOUND)
        .build()
        .map_err(|e| ConfigError::invalid(format!("telemetry.otlp_endpoint: {e}")))?;
    Ok(builder.with_batch_exporter(exporter).build())
}

/// The span of a call that comes in, a child of the caller's.
pub(crate) fn server_span<B>(request: &http::Request<B>) -> Span {
    let (service, method) = names(request.uri().path());
    let span = tracing::info_span!(
        target: "aegis::rpc",
        "rpc",
        otel.name = format!("{service}/{method}"),
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
    );
    continue_trace(&span, request.headers());
    span
}

/// The span of a call that goes out.
pub(crate) fn client_span(path: &str) -> Span {
    let (service, method) = names(path);
    tracing::info_span!(
        target: "aegis::rpc",
        "call",
        otel.name = format!("{service}/{method}"),
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
    )
}

fn names(path: &str) -> (&str, &str) {
    path.trim_start_matches('/')
        .split_once('/')
        .unwrap_or((path, ""))
}

/// Makes `span` a child of the span that the headers name, if they name one: for listeners that
/// are not a [`crate::MeshServer`]. Call it before the span is entered.
pub fn continue_trace(span: &Span, headers: &HeaderMap) {
    let parent =
        TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
    if let Err(error) = span.set_parent(parent) {
        // There is no tracing layer, or it left this span out: nothing to continue.
        tracing::trace!(%error, "the caller's trace is not continued");
    }
}

/// Writes the span's trace context into headers.
pub fn inject(span: &Span, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut HeadersMut(headers));
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        let name = HeaderName::try_from(key);
        if let (Ok(name), Ok(value)) = (name, HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}
