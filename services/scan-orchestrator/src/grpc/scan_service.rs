//! `aegis.scan.v1.ScanService`.

use aegis_mesh::{Error, MeshChannel, Result, Shutdown, principal_of};
use aegis_proto::{
    ids::{ProjectId, ScanId},
    internal::catalog::v1::{
        self as catalog, scan_store_service_client::ScanStoreServiceClient,
    },
    json,
    scan::v1::{
        CancelScanRequest, CancelScanResponse, CreateScanRequest, CreateScanResponse,
        PlanScanRequest, PlanScanResponse, RetryScanRequest, RetryScanResponse, ScanSpec,
        WatchScanRequest, scan_service_server::ScanService,
    },
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::{
    Catalogues, convert,
    watch::{self, Watch},
};
use crate::{
    config::Config,
    domain::{
        plan::{Plan, plan},
        spec::{Spec, defaults},
        validate::Violations,
    },
    grpc::catalogues::Published,
};

const CREATE_SCAN: &str = "/aegis.scan.v1.ScanService/CreateScan";
const MAX_DISPLAY_NAME: usize = 200;
const MAX_LABELS: usize = 64;
const MAX_REASON: usize = 200;

/// Starts, stops and follows scans.
pub(crate) struct ScanApi {
    pub(crate) config: Config,
    pub(crate) catalogues: Catalogues,
    pub(crate) store: ScanStoreServiceClient<MeshChannel>,
    pub(crate) shutdown: Shutdown,
}

impl ScanApi {
    async fn create(&self, project: &ProjectId, request: CreateScanRequest) -> Result<CreateScanResponse> {
        check_request(&request)?;
        let key = idempotency_key(&request)?;
        let mut store = self.store.clone();
        if !key.request_id.is_empty() {
            let find = catalog::FindScanByRequestRequest { key: Some(key.clone()) };
            let found = store.find_scan_by_request(find).await?.into_inner().scan;
            if found.is_some() {
                return Ok(CreateScanResponse { scan: found });
            }
        }
        let published = self.catalogues.newest().await?;
        let (spec, plan) = planned(request.spec.as_ref(), &published)?;
        let intent = catalog::CreateScanRequest {
            key: Some(key),
            display_name: request.display_name,
            labels: request.labels,
            garak_version: published.catalogue.garak_version.clone(),
            plugin_catalogue: published.sha256,
            effective_seed: spec.seed.unwrap_or_else(|| i64::from(rand::random::<u32>())),
            effective_eval_threshold: spec.eval_threshold.unwrap_or(defaults::EVAL_THRESHOLD),
            max_in_flight: spec.max_in_flight.unwrap_or(defaults::MAX_IN_FLIGHT),
            lane: Some(catalog::Lane {
                key: lane_key(project, &spec),
                max_in_flight: self.config.lane_max_in_flight,
            }),
            tasks: convert::new_tasks(&plan),
            max_failures: self.config.max_failures,
            spec: request.spec,
        };
        let scan = store.create_scan(intent).await?.into_inner().scan;
        Ok(CreateScanResponse { scan })
    }

    async fn plan(&self, request: PlanScanRequest) -> Result<PlanScanResponse> {
        no_template(&request.template)?;
        let published = self.catalogues.newest().await?;
        let (_, plan) = planned(request.spec.as_ref(), &published)?;
        Ok(PlanScanResponse {
            prompts_total: plan.prompts(),
            calls_total: plan.calls(),
            probes: convert::planned_probes(&plan),
            garak_version: published.catalogue.garak_version.clone(),
            plugin_catalogue: published.sha256,
        })
    }

    async fn cancel(&self, request: CancelScanRequest) -> Result<CancelScanResponse> {
        scan_id(&request.scan_id)?;
        if request.reason.chars().count() > MAX_REASON || request.reason.chars().any(char::is_control) {
            let what = format!("must be at most {MAX_REASON} characters, none of them control characters");
            return Err(Error::invalid_field("reason", what));
        }
        let intent = catalog::CancelScanRequest {
            scan_id: request.scan_id,
            reason: request.reason,
        };
        let scan = self.store.clone().cancel_scan(intent).await?.into_inner().scan;
        Ok(CancelScanResponse { scan })
    }

    async fn retry(&self, request: RetryScanRequest) -> Result<RetryScanResponse> {
        scan_id(&request.scan_id)?;
        let intent = catalog::RetryScanRequest { scan_id: request.scan_id };
        let scan = self.store.clone().retry_scan(intent).await?.into_inner().scan;
        Ok(RetryScanResponse { scan })
    }
}

#[tonic::async_trait]
impl ScanService for ScanApi {
    type WatchScanStream = Watch;

    async fn create_scan(
        &self,
        request: Request<CreateScanRequest>,
    ) -> Result<Response<CreateScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        Ok(Response::new(self.create(&project, request.into_inner()).await?))
    }

    async fn plan_scan(
        &self,
        request: Request<PlanScanRequest>,
    ) -> Result<Response<PlanScanResponse>, Status> {
        Ok(Response::new(self.plan(request.into_inner()).await?))
    }

    async fn cancel_scan(
        &self,
        request: Request<CancelScanRequest>,
    ) -> Result<Response<CancelScanResponse>, Status> {
        Ok(Response::new(self.cancel(request.into_inner()).await?))
    }

    async fn retry_scan(
        &self,
        request: Request<RetryScanRequest>,
    ) -> Result<Response<RetryScanResponse>, Status> {
        Ok(Response::new(self.retry(request.into_inner()).await?))
    }

    async fn watch_scan(
        &self,
        request: Request<WatchScanRequest>,
    ) -> Result<Response<Self::WatchScanStream>, Status> {
        let request = request.into_inner();
        scan_id(&request.scan_id)?;
        let watch = watch::start(self.store.clone(), request, self.shutdown.clone()).await?;
        Ok(Response::new(watch))
    }
}

fn planned(spec: Option<&ScanSpec>, published: &Published) -> Result<(Spec, Plan)> {
    let spec = convert::spec(spec.ok_or_else(|| Error::invalid_field("spec", "is required"))?);
    let plan = plan(&spec, &published.catalogue, &published.allowance)?;
    Ok((spec, plan))
}

fn check_request(request: &CreateScanRequest) -> Result<()> {
    no_template(&request.template)?;
    let mut found = Violations::default();
    let name = &request.display_name;
    if name.chars().count() > MAX_DISPLAY_NAME || name.chars().any(char::is_control) {
        let what = format!("must be at most {MAX_DISPLAY_NAME} characters, none of them control characters");
        found.add("display_name", what);
    }
    if request.labels.len() > MAX_LABELS {
        found.add("labels", format!("must be at most {MAX_LABELS}"));
    }
    for (key, value) in &request.labels {
        let fits = (1..=63).contains(&key.chars().count()) && value.chars().count() <= 255;
        if !fits || key.chars().chain(value.chars()).any(char::is_control) {
            let what = "keys are 1 to 63 characters, values at most 255, none of them control characters";
            found.add(format!("labels[{:?}]", key.chars().take(63).collect::<String>()), what);
        }
    }
    if !request.request_id.is_empty() && uuid::Uuid::try_parse(&request.request_id).is_err() {
        found.add("request_id", "must be a UUID");
    }
    found.into_result()
}

fn no_template(template: &str) -> Result<()> {
    if template.is_empty() {
        return Ok(());
    }
    let what = "config templates are not supported by this version";
    Err(Error::invalid_argument("UNSUPPORTED_OPTION", format!("template: {what}"))
        .field("template", what)
        .hint("leave template out and give the whole spec"))
}

/// The request as sent, digested; JSON, because its keys are in order.
fn idempotency_key(request: &CreateScanRequest) -> Result<catalog::IdempotencyKey> {
    let content = CreateScanRequest {
        request_id: String::new(),
        ..request.clone()
    };
    let text = json::to_json(&content).map_err(Error::internal)?.to_string();
    Ok(catalog::IdempotencyKey {
        method: CREATE_SCAN.to_owned(),
        request_id: request.request_id.to_lowercase(),
        request_sha256: hex::encode(Sha256::digest(text)),
    })
}

/// Names the target: what is called at which address. Options that say how to call it do not count.
fn lane_key(project: &ProjectId, spec: &Spec) -> String {
    let mut hash = Sha256::new();
    hash.update(project.as_str());
    if let Some(target) = &spec.target {
        for part in [&target.kind, &target.name] {
            hash.update([0]);
            hash.update(part);
        }
        for (key, value) in &target.options {
            if matches!(key.as_str(), "uri" | "url" | "host" | "base_url" | "endpoint") {
                hash.update([0]);
                hash.update(value.to_string());
            }
        }
    }
    hex::encode(hash.finalize())
}

fn scan_id(text: &str) -> Result<ScanId> {
    text.parse()
        .map_err(|error| Error::invalid_field("scan_id", format!("{error}")))
}
