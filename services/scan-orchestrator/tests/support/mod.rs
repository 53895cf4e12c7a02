//! An orchestrator over a **fake** catalog: the real one is another service, and both together are
//! the end-to-end suite's job.

#![allow(dead_code, unused_imports, reason = "each test binary uses a part")]

mod custom;
mod fake;
mod fake_templates;

use std::{sync::MutexGuard, time::Duration};

use aegis_mesh::{CallContext, Error, MeshChannel, Principal, Shutdown, with_context};
use aegis_proto::{
    internal::{catalog::v1 as catalog, task::v1::task_service_client::TaskServiceClient},
    plugin::v1::plugin_service_client::PluginServiceClient,
    scan::v1::{
        CreateScanRequest, PlanScanRequest, PlanScanResponse, Scan, ScanSpec,
        scan_service_client::ScanServiceClient,
    },
    template::v1::template_service_client::TemplateServiceClient,
};
use aegis_scan_orchestrator::{Config, Deps, Running, start};
use tonic::Status;

pub(crate) use custom::version;
pub(crate) use fake::{Fake, Step, allowance, seconds};

/// A trimmed survey of a real garak 0.17.1 installation without torch.
pub(crate) const CATALOGUE: &[u8] = include_bytes!("../data/catalogue.json");

/// Longest wait for anything; the machine may be busy.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// An orchestrator at work.
pub(crate) struct Orchestrator {
    pub(crate) running: Running,
    pub(crate) fake: Fake,
    pub(crate) shutdown: Shutdown,
}

impl Orchestrator {
    pub(crate) async fn start() -> Self {
        Self::configured(|_| ()).await
    }

    pub(crate) async fn configured(change: impl FnOnce(&mut Config)) -> Self {
        let fake = Fake::with_catalogue(CATALOGUE);
        let mut config = Config::default();
        change(&mut config);
        let shutdown = Shutdown::new();
        let deps = Deps::new(
            MeshChannel::local(fake.routes()),
            MeshChannel::local(fake.artifact()),
        );
        let running = start(config, deps, shutdown.clone()).await.expect("starts");
        Self {
            running,
            fake,
            shutdown,
        }
    }

    pub(crate) fn tasks(&self) -> TaskServiceClient<MeshChannel> {
        TaskServiceClient::new(MeshChannel::local(self.running.routes()))
    }

    pub(crate) fn plugins(&self) -> PluginServiceClient<MeshChannel> {
        PluginServiceClient::new(MeshChannel::local(self.running.routes()))
    }

    pub(crate) fn templates(&self) -> TemplateServiceClient<MeshChannel> {
        TemplateServiceClient::new(MeshChannel::local(self.running.routes()))
    }

    pub(crate) fn client(&self) -> ScanServiceClient<MeshChannel> {
        ScanServiceClient::new(MeshChannel::local(self.running.routes()))
    }

    pub(crate) async fn plan(&self, spec: ScanSpec) -> Result<PlanScanResponse, Error> {
        let request = PlanScanRequest {
            spec: Some(spec),
            template: String::new(),
        };
        let answer = local(self.client().plan_scan(request)).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn create(&self, spec: ScanSpec) -> Result<Scan, Error> {
        self.create_with(CreateScanRequest {
            spec: Some(spec),
            ..CreateScanRequest::default()
        })
        .await
    }

    pub(crate) async fn create_with(&self, request: CreateScanRequest) -> Result<Scan, Error> {
        let answer = local(self.client().create_scan(request)).await?;
        Ok(answer.into_inner().scan.expect("a scan"))
    }

    /// The intents that reached the catalog.
    pub(crate) fn created(&self) -> Vec<catalog::CreateScanRequest> {
        self.seen().created.clone()
    }

    /// Everything that reached the catalog.
    pub(crate) fn seen(&self) -> MutexGuard<'_, fake::Seen> {
        self.fake.seen()
    }
}

/// A call as the local principal.
pub(crate) async fn local<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Error> {
    let context = CallContext::new(Principal::local());
    Ok(with_context(context, call).await?)
}

/// Waits until `check` has an answer.
pub(crate) async fn eventually<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(value) = check() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(LONG, waiting).await;
    waited.unwrap_or_else(|_| panic!("not in time: {what}"))
}
