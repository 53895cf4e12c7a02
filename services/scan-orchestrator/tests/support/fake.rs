//! The **fake** catalog: it remembers what reached it and plays watches from a script.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
};

use aegis_mesh::{Error, MeshServer, Principal, ServerConfig, principal_of, sized};
use aegis_proto::{
    internal::{
        catalog::v1::{
            self as pb,
            custom_probe_store_service_server::CustomProbeStoreServiceServer,
            plugin_catalogue_service_server::{
                PluginCatalogueService, PluginCatalogueServiceServer,
            },
            scan_store_service_server::{ScanStoreService, ScanStoreServiceServer},
            task_queue_service_server::{TaskQueueService, TaskQueueServiceServer},
            template_store_service_server::TemplateStoreServiceServer,
        },
        task::v1 as task,
    },
    scan::v1::Scan,
    template::v1::Template,
};
use futures_util::{Stream, StreamExt, stream};
use prost_types::Duration;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status, service::Routes};

/// One step of a watch.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Send(Box<pb::WatchScanResponse>),
    Fail(Error),
    /// Nothing more, and no end.
    Hang,
}

/// What reached the catalog, and what it is to do.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) created: Vec<pb::CreateScanRequest>,
    pub(crate) cancelled: Vec<pb::CancelScanRequest>,
    pub(crate) paused: Vec<pb::PauseScanRequest>,
    pub(crate) resumed: Vec<pb::ResumeScanRequest>,
    pub(crate) retried: Vec<pb::RetryScanRequest>,
    /// With whom they were asked for.
    pub(crate) watches: Vec<(pb::WatchScanRequest, Principal)>,
    /// The steps of each watch to come; a watch without any is refused.
    pub(crate) scripts: VecDeque<Vec<Step>>,
    pub(crate) published: Vec<pb::PutPluginCatalogueRequest>,
    pub(crate) polls: Vec<pb::LeaseTaskRequest>,
    pub(crate) reports: Vec<pb::ReportTaskRequest>,
    pub(crate) awaited: Vec<pb::AwaitDirectiveRequest>,
    pub(crate) finished: Vec<pb::FinishTaskRequest>,
    pub(crate) expiries: Vec<pb::ExpireLeasesRequest>,
    /// Messages that watches took.
    pub(crate) taken: usize,
    /// The answers of ExpireLeases to come, then zero.
    pub(crate) expired: VecDeque<i32>,
    /// The known checksum of each question for a catalogue.
    pub(crate) known: Vec<String>,
    pub(crate) catalogue: Option<Vec<u8>>,
    /// Catalogues that runners came with, the one published last first.
    pub(crate) present: Vec<Vec<u8>>,
    pub(crate) next_lease: Option<task::LeasedTask>,
    /// Custom probes and sources.
    pub(crate) custom: super::custom::Custom,
    /// Every version of every template, in the order they were made.
    pub(crate) templates: Vec<Template>,
    /// Every queue call ends so.
    pub(crate) queue_error: Option<Error>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Seen>>);

impl Fake {
    pub(crate) fn with_catalogue(json: &[u8]) -> Self {
        let fake = Self::default();
        fake.seen().catalogue = Some(json.to_vec());
        fake
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("not poisoned")
    }

    pub(crate) fn routes(&self) -> Routes {
        let config = ServerConfig::on_port(0);
        let store = ScanStoreServiceServer::new(self.clone());
        let queue = TaskQueueServiceServer::new(self.clone());
        let plugins = PluginCatalogueServiceServer::new(self.clone());
        let custom = CustomProbeStoreServiceServer::new(self.clone());
        let templates = TemplateStoreServiceServer::new(self.clone());
        MeshServer::builder("fake-catalog", &config)
            .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
            .add_service(sized!(store, &config))
            .add_service(sized!(queue, &config))
            .add_service(sized!(plugins, &config))
            .add_service(sized!(custom, &config))
            .add_service(sized!(templates, &config))
            .into_routes()
            .expect("routes")
    }

    fn queue(&self) -> Result<MutexGuard<'_, Seen>, Status> {
        let seen = self.seen();
        match &seen.queue_error {
            Some(error) => Err(error.clone().into()),
            None => Ok(seen),
        }
    }
}

fn scan(scan_id: String) -> Option<Scan> {
    Some(Scan {
        scan_id,
        ..Scan::default()
    })
}

#[tonic::async_trait]
impl ScanStoreService for Fake {
    type WatchScanStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchScanResponse, Status>> + Send>>;

    async fn find_scan_by_request(
        &self,
        request: Request<pb::FindScanByRequestRequest>,
    ) -> Result<Response<pb::FindScanByRequestResponse>, Status> {
        let key = request.into_inner().key.unwrap_or_default();
        let seen = self.seen();
        let keys = seen.created.iter().filter_map(|one| one.key.as_ref());
        let same = keys.into_iter().find(|k| k.request_id == key.request_id);
        if same.is_some_and(|same| same.request_sha256 != key.request_sha256) {
            return Err(Error::invalid_argument("REQUEST_ID_REUSED", "other content").into());
        }
        let scan = same.and_then(|same| scan(same.request_id.clone()));
        Ok(Response::new(pb::FindScanByRequestResponse { scan }))
    }

    async fn create_scan(
        &self,
        request: Request<pb::CreateScanRequest>,
    ) -> Result<Response<pb::CreateScanResponse>, Status> {
        let request = request.into_inner();
        let scan = scan(request.key.clone().unwrap_or_default().request_id);
        self.seen().created.push(request);
        Ok(Response::new(pb::CreateScanResponse { scan }))
    }

    async fn cancel_scan(
        &self,
        request: Request<pb::CancelScanRequest>,
    ) -> Result<Response<pb::CancelScanResponse>, Status> {
        let request = request.into_inner();
        let scan = scan(request.scan_id.clone());
        self.seen().cancelled.push(request);
        Ok(Response::new(pb::CancelScanResponse { scan }))
    }

    async fn pause_scan(
        &self,
        request: Request<pb::PauseScanRequest>,
    ) -> Result<Response<pb::PauseScanResponse>, Status> {
        let request = request.into_inner();
        let scan = scan(request.scan_id.clone());
        self.seen().paused.push(request);
        Ok(Response::new(pb::PauseScanResponse { scan }))
    }

    async fn resume_scan(
        &self,
        request: Request<pb::ResumeScanRequest>,
    ) -> Result<Response<pb::ResumeScanResponse>, Status> {
        let request = request.into_inner();
        let scan = scan(request.scan_id.clone());
        self.seen().resumed.push(request);
        Ok(Response::new(pb::ResumeScanResponse { scan }))
    }

    async fn retry_scan(
        &self,
        request: Request<pb::RetryScanRequest>,
    ) -> Result<Response<pb::RetryScanResponse>, Status> {
        let request = request.into_inner();
        self.seen().retried.push(request);
        let error = Error::failed_precondition("SCAN_NOT_TERMINAL", "the scan runs")
            .precondition("STATE", "scan", "RUNNING")
            .hint("cancel it first");
        Err(error.into())
    }

    async fn watch_scan(
        &self,
        request: Request<pb::WatchScanRequest>,
    ) -> Result<Response<Self::WatchScanStream>, Status> {
        let principal = principal_of(&request)?;
        let request = request.into_inner();
        let scan_id = request.scan_id.clone();
        let mut seen = self.seen();
        seen.watches.push((request, principal));
        let Some(script) = seen.scripts.pop_front() else {
            return Err(Error::not_found("scan", scan_id).into());
        };
        let fake = self.clone();
        let steps = stream::iter(script).then(move |step| {
            fake.seen().taken += 1;
            async {
                match step {
                    Step::Send(message) => Ok(*message),
                    Step::Fail(error) => Err(error.into()),
                    Step::Hang => std::future::pending().await,
                }
            }
        });
        Ok(Response::new(Box::pin(steps)))
    }
}

#[tonic::async_trait]
impl TaskQueueService for Fake {
    async fn lease_task(
        &self,
        request: Request<pb::LeaseTaskRequest>,
    ) -> Result<Response<pb::LeaseTaskResponse>, Status> {
        let mut seen = self.queue()?;
        seen.polls.push(request.into_inner());
        let task = seen.next_lease.take();
        Ok(Response::new(pb::LeaseTaskResponse { task }))
    }

    async fn report_task(
        &self,
        request: Request<pb::ReportTaskRequest>,
    ) -> Result<Response<pb::ReportTaskResponse>, Status> {
        let request = request.into_inner();
        let mut seen = self.queue()?;
        let answer = pb::ReportTaskResponse {
            lease: request.lease.clone(),
            directive: task::Directive::Stop.into(),
            committed_source_sequence: request.events.last().map_or(0, |e| e.source_sequence),
        };
        seen.reports.push(request);
        Ok(Response::new(answer))
    }

    async fn await_directive(
        &self,
        request: Request<pb::AwaitDirectiveRequest>,
    ) -> Result<Response<pb::AwaitDirectiveResponse>, Status> {
        self.queue()?.awaited.push(request.into_inner());
        Ok(Response::new(pb::AwaitDirectiveResponse {
            directive: task::Directive::Continue.into(),
        }))
    }

    async fn finish_task(
        &self,
        request: Request<pb::FinishTaskRequest>,
    ) -> Result<Response<pb::FinishTaskResponse>, Status> {
        self.queue()?.finished.push(request.into_inner());
        Ok(Response::new(pb::FinishTaskResponse {}))
    }

    async fn expire_leases(
        &self,
        request: Request<pb::ExpireLeasesRequest>,
    ) -> Result<Response<pb::ExpireLeasesResponse>, Status> {
        self.seen().expiries.push(request.into_inner());
        let mut seen = self.queue()?;
        let expired = seen.expired.pop_front().unwrap_or_default();
        Ok(Response::new(pb::ExpireLeasesResponse { expired }))
    }
}

#[tonic::async_trait]
impl PluginCatalogueService for Fake {
    async fn put_plugin_catalogue(
        &self,
        request: Request<pb::PutPluginCatalogueRequest>,
    ) -> Result<Response<pb::PutPluginCatalogueResponse>, Status> {
        self.seen().published.push(request.into_inner());
        Ok(Response::new(pb::PutPluginCatalogueResponse {}))
    }

    async fn get_plugin_catalogue(
        &self,
        request: Request<pb::GetPluginCatalogueRequest>,
    ) -> Result<Response<pb::GetPluginCatalogueResponse>, Status> {
        let request = request.into_inner();
        let known = request.known_sha256;
        let mut seen = self.seen();
        seen.known.push(known.clone());
        let named = |json: &&Vec<u8>| hex::encode(Sha256::digest(json)) == request.sha256;
        let named = seen.present.iter().find(named).cloned();
        let Some(json) = named.or_else(|| seen.catalogue.clone()) else {
            let message = "no runner has published a plugin catalogue";
            return Err(Error::failed_precondition("NO_PLUGIN_CATALOGUE", message).into());
        };
        let sha256 = hex::encode(Sha256::digest(&json));
        Ok(Response::new(pb::GetPluginCatalogueResponse {
            catalogue_json: if known == sha256 { Vec::new() } else { json },
            sha256,
            garak_version: "0.17.1".to_owned(),
            allowance: Some(allowance()),
        }))
    }

    async fn list_present_plugin_catalogues(
        &self,
        _: Request<pb::ListPresentPluginCataloguesRequest>,
    ) -> Result<Response<pb::ListPresentPluginCataloguesResponse>, Status> {
        let seen = self.seen();
        let sha256 = seen
            .present
            .iter()
            .map(|json| hex::encode(Sha256::digest(json)));
        let sha256 = sha256.collect();
        Ok(Response::new(pb::ListPresentPluginCataloguesResponse {
            sha256,
        }))
    }
}

/// What the runners of these tests allow.
pub(crate) fn allowance() -> task::Allowance {
    let allow = |name: &str, keys: &[&str]| task::AllowedGenerator {
        name: name.to_owned(),
        option_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    };
    task::Allowance {
        generators: vec![
            allow("test.Repeat", &[]),
            allow("openai.OpenAICompatible", &["uri", "max_tokens"]),
        ],
        secrets: vec!["OPENAICOMPATIBLE_API_KEY".to_owned()],
    }
}

/// So many seconds.
pub(crate) fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}
