//! ScanStoreService: the orchestrator's intents on scans.

use std::collections::HashSet;

use aegis_mesh::{Error, Result, Shutdown, principal_of};
use aegis_proto::internal::catalog::v1::{
    self as proto, CancelScanRequest, CancelScanResponse, CreateScanRequest, CreateScanResponse,
    FindScanByRequestRequest, FindScanByRequestResponse, PauseScanRequest, PauseScanResponse,
    ResumeScanRequest, ResumeScanResponse, RetryScanRequest, RetryScanResponse, WatchScanRequest,
    scan_store_service_server::ScanStoreService,
};
use aegis_proto::scan::v1::CustomProbeVersion;
use tonic::{Request, Response, Status};

use super::{
    check, view,
    watch::{self, WatchStream},
};
use crate::{
    domain::{
        lane::NewLane,
        refusal::invalid_field,
        scan::{self, IdempotencyKey, NewScan},
        task::NewTask,
    },
    store::Store,
};

/// More than garak has probes, with shards.
const MAX_TASKS: usize = 10_000;
/// Custom probes of one scan.
const MAX_CUSTOM_PROBES: usize = 32;
/// garak's probes have ten or so.
const MAX_TAGS: usize = 64;
/// garak's default for outputs per prompt.
const DEFAULT_GENERATIONS: i32 = 5;

/// ScanStoreService on a store.
pub(crate) struct Scans {
    pub(crate) store: Store,
    pub(crate) shutdown: Shutdown,
}

#[tonic::async_trait]
impl ScanStoreService for Scans {
    async fn find_scan_by_request(
        &self,
        request: Request<FindScanByRequestRequest>,
    ) -> Result<Response<FindScanByRequestResponse>, Status> {
        let project = principal_of(&request)?.project;
        let key = key(request.into_inner().key)?;
        let found = self.store.find_by_request(&project, &key).await?;
        let scan = found.map(view::scan).transpose()?;
        Ok(Response::new(FindScanByRequestResponse { scan }))
    }

    async fn create_scan(
        &self,
        request: Request<CreateScanRequest>,
    ) -> Result<Response<CreateScanResponse>, Status> {
        let principal = principal_of(&request)?;
        let new = new_scan(request.into_inner(), principal.subject)?;
        let scan = self.store.create(&principal.project, &new).await?;
        let scan = Some(view::scan(scan)?);
        Ok(Response::new(CreateScanResponse { scan }))
    }

    async fn cancel_scan(
        &self,
        request: Request<CancelScanRequest>,
    ) -> Result<Response<CancelScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let id = check::scan_id(&request.scan_id)?;
        let reason = check::optional("reason", &request.reason, 200)?;
        let scan = self.store.cancel(&project, id, &reason).await?;
        let scan = Some(view::scan(scan)?);
        Ok(Response::new(CancelScanResponse { scan }))
    }

    async fn pause_scan(
        &self,
        request: Request<PauseScanRequest>,
    ) -> Result<Response<PauseScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let id = check::scan_id(&request.scan_id)?;
        let reason = check::optional("reason", &request.reason, 200)?;
        let scan = self.store.pause(&project, id, &reason).await?;
        let scan = Some(view::scan(scan)?);
        Ok(Response::new(PauseScanResponse { scan }))
    }

    async fn resume_scan(
        &self,
        request: Request<ResumeScanRequest>,
    ) -> Result<Response<ResumeScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        let id = check::scan_id(&request.get_ref().scan_id)?;
        let scan = Some(view::scan(self.store.resume(&project, id).await?)?);
        Ok(Response::new(ResumeScanResponse { scan }))
    }

    async fn retry_scan(
        &self,
        request: Request<RetryScanRequest>,
    ) -> Result<Response<RetryScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        let id = check::scan_id(&request.get_ref().scan_id)?;
        let scan = Some(view::scan(self.store.retry(&project, id).await?)?);
        Ok(Response::new(RetryScanResponse { scan }))
    }

    type WatchScanStream = WatchStream;

    async fn watch_scan(
        &self,
        request: Request<WatchScanRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let id = check::scan_id(&request.scan_id)?;
        let watch = self.store.watch(&project, id, request.after_sequence);
        let (snapshot, watch) = watch.await?;
        let stream = watch::stream(id, view::scan(snapshot)?, watch, self.shutdown.clone());
        Ok(Response::new(stream))
    }
}

fn key(key: Option<proto::IdempotencyKey>) -> Result<IdempotencyKey> {
    let Some(key) = key.filter(|key| !key.request_id.is_empty()) else {
        return Ok(IdempotencyKey::default());
    };
    Ok(IdempotencyKey {
        method: check::required("key.method", &key.method, 200)?,
        request_id: check::optional("key.request_id", &key.request_id, 64)?,
        request_sha256: check::sha256("key.request_sha256", &key.request_sha256)?,
    })
}

fn new_scan(request: CreateScanRequest, created_by: String) -> Result<NewScan> {
    let spec = request
        .spec
        .ok_or_else(|| invalid_field("spec", "must be set"))?;
    let target = spec
        .target
        .as_ref()
        .ok_or_else(|| invalid_field("spec.target", "must be set"))?;
    let lane = request
        .lane
        .ok_or_else(|| invalid_field("lane", "must be set"))?;
    let generations = spec.generations.unwrap_or(DEFAULT_GENERATIONS).max(1);
    let threshold = request.effective_eval_threshold;
    Ok(NewScan {
        key: key(request.key)?,
        display_name: check::optional("display_name", &request.display_name, 200)?,
        target_type: check::required("spec.target.type", &target.r#type, 256)?,
        target_name: check::optional("spec.target.name", &target.name, 256)?,
        priority: check::within("spec.priority", spec.priority.unwrap_or(50), 0..=100)?,
        spec: spec_json(&spec)?,
        labels: check::labels(request.labels)?,
        garak_version: check::required("garak_version", &request.garak_version, 64)?,
        plugin_catalogue: check::sha256("plugin_catalogue", &request.plugin_catalogue)?,
        effective_seed: check::within("effective_seed", request.effective_seed, 0..=0xffff_ffff)?,
        effective_eval_threshold: check::within("effective_eval_threshold", threshold, 0.0..=1.0)?,
        max_in_flight: check::within("max_in_flight", request.max_in_flight, 1..=10_000)?,
        lane: NewLane {
            key: check::required("lane.key", &lane.key, 200)?,
            max_in_flight: check::within("lane.max_in_flight", lane.max_in_flight, 1..=100_000)?,
        },
        tasks: new_tasks(request.tasks, generations)?,
        max_failures: check::within("max_failures", request.max_failures, 1..=100)?,
        created_by,
        template: check::optional("template", &request.template, 63)?,
        template_version: check::within(
            "template_version",
            request.template_version,
            0..=i32::MAX,
        )?,
        custom_probes: custom_probes(request.custom_probes)?,
    })
}

fn custom_probes(probes: Vec<CustomProbeVersion>) -> Result<Vec<scan::CustomProbeVersion>> {
    check::within("custom_probes", probes.len(), 0..=MAX_CUSTOM_PROBES)?;
    let checked = probes.into_iter().enumerate().map(|(index, probe)| {
        let field = |name: &str| format!("custom_probes[{index}].{name}");
        Ok(scan::CustomProbeVersion {
            name: check::required(&field("name"), &probe.name, 63)?,
            version: check::within(&field("version"), probe.version, 1..=i32::MAX)?,
            sha256: check::sha256(&field("sha256"), &probe.sha256)?,
        })
    });
    checked.collect()
}

/// PostgreSQL stores no NUL, not even escaped.
pub(super) fn spec_json(spec: &aegis_proto::scan::v1::ScanSpec) -> Result<serde_json::Value> {
    let json = aegis_proto::json::to_json(spec).map_err(Error::internal)?;
    if json.to_string().contains("\\u0000") {
        return Err(invalid_field("spec", "must not contain NUL"));
    }
    Ok(json)
}

fn new_tasks(tasks: Vec<proto::NewTask>, generations: i32) -> Result<Vec<NewTask>> {
    check::within("tasks", tasks.len(), 1..=MAX_TASKS)?;
    let mut seen = HashSet::new();
    let mut checked = Vec::with_capacity(tasks.len());
    for (index, task) in tasks.into_iter().enumerate() {
        let task = new_task(index, task, generations)?;
        if !seen.insert((task.probe.clone(), task.shard_index)) {
            let field = format!("tasks[{index}].probe");
            return Err(invalid_field(&field, "is there twice"));
        }
        checked.push(task);
    }
    Ok(checked)
}

fn tags(field: &str, tags: Vec<String>) -> Result<Vec<String>> {
    check::within(field, tags.len(), 0..=MAX_TAGS)?;
    let checked = tags.iter().map(|tag| check::required(field, tag, 200));
    checked.collect()
}

fn new_task(index: usize, task: proto::NewTask, generations: i32) -> Result<NewTask> {
    let field = |name: &str| format!("tasks[{index}].{name}");
    let shard_count = task.shard_count.max(1);
    let calls = check::within(&field("planned_calls"), task.planned_calls, 0..=i64::MAX)?;
    let not_evaluated = task.not_evaluated.map(|not_evaluated| {
        let reason = check::reason(&field("not_evaluated.reason"), &not_evaluated.reason)?;
        let message = check::optional(
            &field("not_evaluated.message"),
            &not_evaluated.message,
            1_000,
        )?;
        Ok::<_, Error>((reason, message))
    });
    Ok(NewTask {
        probe: check::required(&field("probe"), &task.probe, 200)?,
        shard_index: check::within(&field("shard_index"), task.shard_index, 0..=shard_count - 1)?,
        shard_count,
        ordinal: check::within(&field("ordinal"), task.ordinal, 0..=i32::MAX)?,
        planned_calls: calls,
        // garak makes one attempt of a prompt, with all its outputs.
        planned_attempts: calls / i64::from(generations),
        detectors: task.detectors,
        not_evaluated: not_evaluated.transpose()?,
        tags: tags(&field("tags"), task.tags)?,
    })
}
