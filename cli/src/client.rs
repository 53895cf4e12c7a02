//! The public services, through the gateway.

use std::time::Duration;

use aegis_mesh::{
    ClientConfig, Error, MeshChannel, Principal, Result, Secret,
    context::{CallContext, with_context},
};
use aegis_proto::{
    admin::v1::job_service_client::JobServiceClient,
    plugin::v1::plugin_service_client::PluginServiceClient,
    probe::v1::custom_probe_service_client::CustomProbeServiceClient,
    report::v1::{
        import_service_client::ImportServiceClient, report_service_client::ReportServiceClient,
    },
    scan::v1::{
        GetScanRequest, Scan, comparison_service_client::ComparisonServiceClient,
        history_service_client::HistoryServiceClient, scan_service_client::ScanServiceClient,
    },
    statistics::v1::statistics_service_client::StatisticsServiceClient,
    template::v1::template_service_client::TemplateServiceClient,
};

use crate::args::ClientArgs;

/// Longest wait for garak to warm up and, the first time, to be surveyed.
const WARM_UP: Duration = Duration::from_secs(600);

/// Clients of one gateway.
#[derive(Clone)]
pub(crate) struct Client {
    channel: MeshChannel,
    server: String,
}

impl Client {
    pub(crate) fn connect(args: &ClientArgs) -> anyhow::Result<Self> {
        Ok(Self::at(&args.server, token(args)?)?)
    }

    /// Clients of the gateway at this address.
    pub(crate) fn at(server: &str, token: Option<Secret>) -> Result<Self> {
        let config = ClientConfig {
            address: server.to_owned(),
            token,
            ..ClientConfig::default()
        };
        Ok(Self {
            channel: MeshChannel::network(server, &config)?,
            server: server.trim_end_matches('/').to_owned(),
        })
    }

    pub(crate) fn scans(&self) -> ScanServiceClient<MeshChannel> {
        ScanServiceClient::new(self.channel.clone())
    }

    pub(crate) fn history(&self) -> HistoryServiceClient<MeshChannel> {
        HistoryServiceClient::new(self.channel.clone())
    }

    pub(crate) fn reports(&self) -> ReportServiceClient<MeshChannel> {
        ReportServiceClient::new(self.channel.clone())
    }

    pub(crate) fn imports(&self) -> ImportServiceClient<MeshChannel> {
        ImportServiceClient::new(self.channel.clone())
    }

    pub(crate) fn plugins(&self) -> PluginServiceClient<MeshChannel> {
        PluginServiceClient::new(self.channel.clone())
    }

    pub(crate) fn templates(&self) -> TemplateServiceClient<MeshChannel> {
        TemplateServiceClient::new(self.channel.clone())
    }

    pub(crate) fn custom_probes(&self) -> CustomProbeServiceClient<MeshChannel> {
        CustomProbeServiceClient::new(self.channel.clone())
    }

    pub(crate) fn statistics(&self) -> StatisticsServiceClient<MeshChannel> {
        StatisticsServiceClient::new(self.channel.clone())
    }

    pub(crate) fn comparisons(&self) -> ComparisonServiceClient<MeshChannel> {
        ComparisonServiceClient::new(self.channel.clone())
    }

    pub(crate) fn jobs(&self) -> JobServiceClient<MeshChannel> {
        JobServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn get_scan(&self, scan_id: &str) -> Result<Scan> {
        let request = GetScanRequest {
            scan_id: scan_id.to_owned(),
        };
        let response = self.history().get_scan(request).await?.into_inner();
        response
            .scan
            .ok_or_else(|| Error::internal("no scan in the answer"))
    }

    /// Where a browser finds a file of a scan.
    pub(crate) fn artifact_url(&self, scan_id: &str, name: &str) -> String {
        format!("{}/v1/scans/{scan_id}/artifacts/{name}", self.server)
    }
}

fn token(args: &ClientArgs) -> anyhow::Result<Option<Secret>> {
    if let Some(file) = &args.token_file {
        let text = std::fs::read_to_string(file)
            .map_err(|error| anyhow::anyhow!("reading {}: {error}", file.display()))?;
        return Ok(Some(Secret::new(text.trim().to_owned())));
    }
    Ok(std::env::var("AEGIS_TOKEN").ok().map(Secret::new))
}

/// Repeats a call while no runner has published what its garak can do.
///
/// # Errors
/// The call's own, and `NO_PLUGIN_CATALOGUE` when garak does not warm up in ten minutes.
pub(crate) async fn once_warm<T, F>(mut call: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let until = tokio::time::Instant::now() + WARM_UP;
    let mut told = false;
    loop {
        match call().await {
            Err(error)
                if error.reason() == "NO_PLUGIN_CATALOGUE"
                    && tokio::time::Instant::now() < until =>
            {
                if !told {
                    eprintln!(
                        "waiting for garak to warm up (the first time it is surveyed, about a minute)"
                    );
                    told = true;
                }
                let pause = error.retry_delay().unwrap_or(Duration::from_secs(2));
                tokio::time::sleep(pause.min(Duration::from_secs(5))).await;
            }
            other => return other,
        }
    }
}

/// Runs a command with the deadline that its calls inherit.
pub(crate) async fn in_context<T>(work: impl Future<Output = T>) -> T {
    with_context(CallContext::new(Principal::local()), work).await
}
