//! A **fake** catalog: the promises of the real one, kept in memory. The real one works on
//! threads of its own, which a simulated clock does not wait for; its own promises are shown by
//! its conformance suite.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use aegis_mesh::{Error, MeshServer, ServerConfig, sized};
use aegis_proto::{
    ids::{ScanId, TaskId},
    internal::{
        catalog::v1::{
            self as pb,
            plugin_catalogue_service_server::{
                PluginCatalogueService, PluginCatalogueServiceServer,
            },
            scan_store_service_server::{ScanStoreService, ScanStoreServiceServer},
            task_queue_service_server::{TaskQueueService, TaskQueueServiceServer},
            watch_scan_response::Update,
        },
        task::v1::{self as task, leased_task::Work, task_event::Kind},
    },
    json::from_json,
    scan::v1::{Scan, ScanEvent},
};
use futures_util::{Stream, stream};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};
use tonic::{Request, Response, Status, service::Routes};

use crate::fault::Fault;

/// How often a poll that is held looks again.
const LOOK: Duration = Duration::from_millis(100);

/// The catalog; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Catalog(Arc<Mutex<Store>>);

/// All that it knows, and what happens to the network when it knows it.
#[derive(Default)]
pub(crate) struct Store {
    pub(crate) scans: Vec<(pb::IdempotencyKey, Scan)>,
    pub(crate) tasks: Vec<Task>,
    /// Of the scan that is watched, in order; its last one is the end.
    pub(crate) events: Vec<i64>,
    pub(crate) events_end: bool,
    plugins: Option<pb::PutPluginCatalogueRequest>,
    /// Answers that were prepared for a caller who had asked before.
    pub(crate) repeated_leases: usize,
    /// Writes of a lease that is another's by now.
    pub(crate) stale: usize,
    /// What may never be.
    pub(crate) violations: Vec<String>,
    /// After the next lease is granted, before it is answered.
    pub(crate) on_lease: Option<Fault>,
    pub(crate) on_finish: Option<Fault>,
    pub(crate) on_create: Option<Fault>,
    /// After each of the next reports.
    pub(crate) on_report: Vec<Fault>,
    /// When leases were granted, in the simulation's time.
    pub(crate) granted: Vec<Duration>,
}

/// A probe's task.
#[derive(Debug, Clone)]
pub(crate) struct Task {
    id: String,
    scan_id: String,
    pub(crate) epoch: i64,
    request_id: String,
    /// Of a lease that runs.
    expires: Option<Instant>,
    pub(crate) outcome: Option<task::TaskOutcome>,
    /// How often the end was told again.
    pub(crate) repeats: usize,
    /// By source sequence, of the last epoch.
    pub(crate) events: BTreeMap<i64, String>,
    /// Events that came more than once.
    pub(crate) doubled: usize,
}

impl Catalog {
    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().expect("whole")
    }

    pub(crate) fn with_tasks(count: usize) -> Self {
        let catalog = Self::default();
        catalog.store().tasks = (0..count).map(|_| Task::new()).collect();
        catalog
    }

    /// As a runner does at its start.
    pub(crate) fn publish(&self, catalogue: &[u8]) {
        let allowed = task::AllowedGenerator {
            name: "test.Repeat".to_owned(),
            ..task::AllowedGenerator::default()
        };
        self.store().plugins = Some(pb::PutPluginCatalogueRequest {
            sha256: hex::encode(Sha256::digest(catalogue)),
            garak_version: "0.17.1".to_owned(),
            catalogue_json: catalogue.to_vec(),
            allowance: Some(task::Allowance {
                generators: vec![allowed],
                secrets: Vec::new(),
            }),
        });
    }

    pub(crate) fn routes(&self) -> Routes {
        let config = ServerConfig::default();
        let server = MeshServer::builder("fake-catalog", &config)
            .descriptors(aegis_proto::FILE_DESCRIPTOR_SET)
            .add_service(sized!(ScanStoreServiceServer::new(self.clone()), &config))
            .add_service(sized!(TaskQueueServiceServer::new(self.clone()), &config))
            .add_service(sized!(
                PluginCatalogueServiceServer::new(self.clone()),
                &config
            ))
            .deadline(
                "/aegis.internal.catalog.v1.TaskQueueService/LeaseTask",
                Some(Duration::from_secs(40)),
            )
            .deadline(
                "/aegis.internal.catalog.v1.TaskQueueService/AwaitDirective",
                Some(Duration::from_secs(40)),
            );
        server.health().set_serving();
        server.into_routes().expect("routes")
    }
}

impl Task {
    fn new() -> Self {
        Self {
            id: TaskId::generate().to_string(),
            scan_id: ScanId::generate().to_string(),
            epoch: 0,
            request_id: String::new(),
            expires: None,
            outcome: None,
            repeats: 0,
            events: BTreeMap::new(),
            doubled: 0,
        }
    }

    fn leased(&self, ttl: Option<prost_types::Duration>) -> task::LeasedTask {
        let lease = task::Lease {
            task_id: self.id.clone(),
            scan_id: self.scan_id.clone(),
            epoch: self.epoch,
            token: b"token".to_vec(),
            ttl,
        };
        let spec = from_json(json!({"target": {"type": "test.Blank"}}));
        task::LeasedTask {
            lease: Some(lease),
            work: Some(Work::Probe(task::ProbeTask {
                probe: "test.Test".to_owned(),
                shard_count: 1,
                spec: Some(spec.expect("a specification")),
                max_in_flight: 1,
                ..task::ProbeTask::default()
            })),
        }
    }
}

impl Store {
    /// The lease that this poll has, or gets.
    fn grant(&mut self, request: &pb::LeaseTaskRequest) -> Option<task::LeasedTask> {
        let same = |t: &&mut Task| t.request_id == request.request_id && t.expires.is_some();
        if let Some(task) = self.tasks.iter_mut().find(same) {
            self.repeated_leases += 1;
            task.expires = Some(Instant::now() + ttl(request.ttl));
            return Some(task.leased(request.ttl));
        }
        let waits = |t: &&mut Task| t.expires.is_none() && t.outcome.is_none();
        let task = self.tasks.iter_mut().find(waits)?;
        task.epoch += 1;
        task.events.clear();
        task.request_id.clone_from(&request.request_id);
        task.expires = Some(Instant::now() + ttl(request.ttl));
        let leased = task.leased(request.ttl);
        self.granted
            .push(turmoil::sim_elapsed().unwrap_or_default());
        if let Some(fault) = self.on_lease.take() {
            fault.begin();
        }
        Some(leased)
    }

    /// The task of a lease that still holds.
    fn held(&mut self, lease: Option<&task::Lease>) -> Result<&mut Task, Status> {
        let lease = lease.cloned().unwrap_or_default();
        let holds = |t: &&mut Task| t.id == lease.task_id && t.epoch == lease.epoch;
        let running = |t: &&mut Task| t.expires.is_some();
        let found = self.tasks.iter_mut().filter(running).find(holds);
        found.ok_or_else(|| {
            self.stale += 1;
            Error::aborted("LEASE_LOST", "the lease is lost").into()
        })
    }

    fn take_events(&mut self, lease: Option<&task::Lease>, events: Vec<task::TaskEvent>) -> i64 {
        let mut violations = Vec::new();
        let Ok(task) = self.held(lease) else {
            return 0;
        };
        for event in events {
            let last = task.events.keys().last().copied().unwrap_or_default();
            let name = match event.kind {
                Some(Kind::DetectorFinished(finished)) => finished.detector,
                None => String::new(),
            };
            let sequence = event.source_sequence;
            match task.events.get(&sequence) {
                Some(known) if *known == name => task.doubled += 1,
                Some(known) => violations.push(format!("{sequence} is {known} and {name}")),
                None if sequence != last + 1 => {
                    violations.push(format!("{sequence} came after {last}"));
                }
                None => {
                    task.events.insert(sequence, name);
                }
            }
        }
        let last = task.events.keys().last().copied().unwrap_or_default();
        self.violations.append(&mut violations);
        last
    }
}

fn ttl(ttl: Option<prost_types::Duration>) -> Duration {
    let ttl = ttl.and_then(|ttl| Duration::try_from(ttl).ok());
    ttl.expect("a time to live")
}

#[tonic::async_trait]
impl TaskQueueService for Catalog {
    async fn lease_task(
        &self,
        request: Request<pb::LeaseTaskRequest>,
    ) -> Result<Response<pb::LeaseTaskResponse>, Status> {
        let request = request.into_inner();
        let until = Instant::now() + ttl(request.wait);
        loop {
            let task = self.store().grant(&request);
            if task.is_some() || Instant::now() >= until {
                return Ok(Response::new(pb::LeaseTaskResponse { task }));
            }
            sleep(LOOK).await;
        }
    }

    async fn report_task(
        &self,
        request: Request<pb::ReportTaskRequest>,
    ) -> Result<Response<pb::ReportTaskResponse>, Status> {
        let request = request.into_inner();
        let mut store = self.store();
        let expires = Instant::now() + ttl(request.ttl);
        store.held(request.lease.as_ref())?.expires = Some(expires);
        let committed = store.take_events(request.lease.as_ref(), request.events);
        if let Some(fault) = store.on_report.pop() {
            fault.begin();
        }
        let lease = request.lease.map(|lease| task::Lease {
            ttl: request.ttl,
            ..lease
        });
        Ok(Response::new(pb::ReportTaskResponse {
            lease,
            directive: task::Directive::Continue.into(),
            committed_source_sequence: committed,
        }))
    }

    async fn await_directive(
        &self,
        request: Request<pb::AwaitDirectiveRequest>,
    ) -> Result<Response<pb::AwaitDirectiveResponse>, Status> {
        let request = request.into_inner();
        let until = Instant::now() + ttl(request.wait);
        while Instant::now() < until {
            self.store().held(request.lease.as_ref())?;
            sleep(LOOK).await;
        }
        Ok(Response::new(pb::AwaitDirectiveResponse {
            directive: task::Directive::Continue.into(),
        }))
    }

    async fn finish_task(
        &self,
        request: Request<pb::FinishTaskRequest>,
    ) -> Result<Response<pb::FinishTaskResponse>, Status> {
        let request = request.into_inner();
        let lease = request.lease.clone().unwrap_or_default();
        let mut store = self.store();
        let told = |t: &&mut Task| t.id == lease.task_id && t.epoch == lease.epoch;
        let known = store.tasks.iter_mut().find(told);
        if let Some(task) = known.filter(|task| task.outcome.is_some()) {
            task.repeats += 1;
            let same = task.outcome == request.outcome;
            if !same {
                store.violations.push("another end was told".to_owned());
            }
            return Ok(Response::new(pb::FinishTaskResponse {}));
        }
        let task = store.held(request.lease.as_ref())?;
        task.outcome = request.outcome;
        task.expires = None;
        if let Some(fault) = store.on_finish.take() {
            fault.begin();
        }
        Ok(Response::new(pb::FinishTaskResponse {}))
    }

    async fn expire_leases(
        &self,
        _: Request<pb::ExpireLeasesRequest>,
    ) -> Result<Response<pb::ExpireLeasesResponse>, Status> {
        let now = Instant::now();
        let mut expired = 0;
        for task in &mut self.store().tasks {
            if task.expires.is_some_and(|expires| expires <= now) {
                task.expires = None;
                expired += 1;
            }
        }
        Ok(Response::new(pb::ExpireLeasesResponse { expired }))
    }
}

#[tonic::async_trait]
impl PluginCatalogueService for Catalog {
    async fn put_plugin_catalogue(
        &self,
        request: Request<pb::PutPluginCatalogueRequest>,
    ) -> Result<Response<pb::PutPluginCatalogueResponse>, Status> {
        self.store().plugins = Some(request.into_inner());
        Ok(Response::new(pb::PutPluginCatalogueResponse {}))
    }

    async fn get_plugin_catalogue(
        &self,
        request: Request<pb::GetPluginCatalogueRequest>,
    ) -> Result<Response<pb::GetPluginCatalogueResponse>, Status> {
        let known = request.into_inner().known_sha256;
        let plugins = self.store().plugins.clone();
        let plugins = plugins.ok_or_else(|| {
            Error::failed_precondition("NO_PLUGIN_CATALOGUE", "none was published")
        })?;
        let json = plugins.catalogue_json;
        Ok(Response::new(pb::GetPluginCatalogueResponse {
            catalogue_json: if known == plugins.sha256 {
                Vec::new()
            } else {
                json
            },
            sha256: plugins.sha256,
            garak_version: plugins.garak_version,
            allowance: plugins.allowance,
        }))
    }

    async fn list_present_plugin_catalogues(
        &self,
        _: Request<pb::ListPresentPluginCataloguesRequest>,
    ) -> Result<Response<pb::ListPresentPluginCataloguesResponse>, Status> {
        let plugins = self.store().plugins.clone();
        let sha256 = plugins.into_iter().map(|plugins| plugins.sha256).collect();
        Ok(Response::new(pb::ListPresentPluginCataloguesResponse {
            sha256,
        }))
    }
}

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not asked"))
}

type Watch = Pin<Box<dyn Stream<Item = Result<pb::WatchScanResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ScanStoreService for Catalog {
    type WatchScanStream = Watch;

    async fn find_scan_by_request(
        &self,
        request: Request<pb::FindScanByRequestRequest>,
    ) -> Result<Response<pb::FindScanByRequestResponse>, Status> {
        let key = request.into_inner().key.unwrap_or_default();
        let store = self.store();
        let scan = store.scans.iter().find(|(known, _)| *known == key);
        let scan = scan.map(|(_, scan)| scan.clone());
        Ok(Response::new(pb::FindScanByRequestResponse { scan }))
    }

    async fn create_scan(
        &self,
        request: Request<pb::CreateScanRequest>,
    ) -> Result<Response<pb::CreateScanResponse>, Status> {
        let key = request.into_inner().key.unwrap_or_default();
        let mut store = self.store();
        let same =
            |(known, _): &&(pb::IdempotencyKey, Scan)| !key.request_id.is_empty() && *known == key;
        let known = store.scans.iter().find(same).map(|(_, scan)| scan.clone());
        let scan = known.unwrap_or_else(|| Scan {
            scan_id: ScanId::generate().to_string(),
            ..Scan::default()
        });
        if store.scans.iter().all(|(_, s)| s.scan_id != scan.scan_id) {
            store.scans.push((key, scan.clone()));
        }
        if let Some(fault) = store.on_create.take() {
            fault.begin();
        }
        let scan = Some(scan);
        Ok(Response::new(pb::CreateScanResponse { scan }))
    }

    async fn cancel_scan(
        &self,
        _: Request<pb::CancelScanRequest>,
    ) -> Result<Response<pb::CancelScanResponse>, Status> {
        not_asked()
    }

    async fn pause_scan(
        &self,
        _: Request<pb::PauseScanRequest>,
    ) -> Result<Response<pb::PauseScanResponse>, Status> {
        not_asked()
    }

    async fn resume_scan(
        &self,
        _: Request<pb::ResumeScanRequest>,
    ) -> Result<Response<pb::ResumeScanResponse>, Status> {
        not_asked()
    }

    async fn retry_scan(
        &self,
        _: Request<pb::RetryScanRequest>,
    ) -> Result<Response<pb::RetryScanResponse>, Status> {
        not_asked()
    }

    async fn watch_scan(
        &self,
        request: Request<pb::WatchScanRequest>,
    ) -> Result<Response<Watch>, Status> {
        let after = request.into_inner().after_sequence;
        let snapshot = update(Update::Snapshot(Scan::default()));
        let events = stream::unfold((self.clone(), after), |(catalog, after)| async move {
            let sequence = catalog.event_after(after).await?;
            let event = ScanEvent {
                sequence,
                ..ScanEvent::default()
            };
            Some((update(Update::Event(event)), (catalog, sequence)))
        });
        let all = futures_util::StreamExt::chain(stream::iter([snapshot]), events);
        Ok(Response::new(Box::pin(all)))
    }
}

impl Catalog {
    /// The next event, once there is one; None after the last.
    async fn event_after(&self, after: i64) -> Option<i64> {
        loop {
            {
                let store = self.store();
                let next = store.events.iter().copied().find(|event| *event > after);
                if next.is_some() || store.events_end {
                    return next;
                }
            }
            sleep(LOOK).await;
        }
    }
}

fn update(update: Update) -> Result<pb::WatchScanResponse, Status> {
    Ok(pb::WatchScanResponse {
        update: Some(update),
    })
}
