//! ScanService: public intents on scans.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use aegis_mesh::{CallContext, Error, MeshChannel, Principal, Result, Shutdown, principal_of};
use aegis_proto::{
    internal::catalog::v1::{self as store, scan_store_service_client::ScanStoreServiceClient},
    scan::v1::{
        CancelScanRequest, CancelScanResponse, CreateScanRequest, CreateScanResponse,
        PauseScanRequest, PauseScanResponse, PlanScanRequest, PlanScanResponse, ResumeScanRequest,
        ResumeScanResponse, RetryScanRequest, RetryScanResponse, Scan, ScanSpec, WatchScanRequest,
        scan_service_server::ScanService,
    },
    template::v1::Template,
};
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::{
    check::{self, scan_id},
    convert, relay,
    watch::{WatchStream, Watcher},
};
use crate::{
    catalogues::{Catalogues, Current},
    config::Config,
    customs::Customs,
    domain::{
        creation,
        custom::{self, CustomModule},
        lane::lane_key,
        plan::{Plan, plan_collecting},
        spec::Spec,
        template::TemplateRef,
        violation::Violations,
    },
    templates::Templates,
};

const CREATE_SCAN: &str = "aegis.scan.v1.ScanService/CreateScan";

/// Serves ScanService.
pub(crate) struct ScanApi {
    store: ScanStoreServiceClient<MeshChannel>,
    catalogues: Arc<Catalogues>,
    customs: Customs,
    templates: Templates,
    lane_max_in_flight: i32,
    max_failures: i32,
    heartbeat: Duration,
    shutdown: Shutdown,
}

/// A specification that was understood, and what it becomes.
struct Planned {
    message: ScanSpec,
    template: Option<Template>,
    spec: Spec,
    plan: Plan,
    current: Current,
    /// The custom probes that it is pinned to.
    custom: Vec<CustomModule>,
}

/// A plan for one of the kinds of runners that there are.
struct Candidate {
    plan: Plan,
    current: Current,
    custom: Vec<CustomModule>,
    violations: Violations,
}

impl Candidate {
    /// Runners that take the specification come before those that do not, then those that can
    /// evaluate more of it: what needs torch goes to runners that have it.
    fn is_better_than(&self, other: &Self) -> bool {
        let rank = |one: &Self| {
            let is_valid = one.violations.count() == 0;
            (
                is_valid,
                if is_valid {
                    one.plan.evaluable_count()
                } else {
                    0
                },
            )
        };
        rank(self) > rank(other)
    }
}

impl ScanApi {
    pub(crate) fn new(
        store: ScanStoreServiceClient<MeshChannel>,
        catalogues: Arc<Catalogues>,
        customs: Customs,
        templates: Templates,
        config: &Config,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            store,
            catalogues,
            customs,
            templates,
            lane_max_in_flight: config.lane_max_in_flight,
            max_failures: config.max_failures,
            heartbeat: config.heartbeat(),
            shutdown,
        }
    }

    async fn create(&self, principal: &Principal, request: CreateScanRequest) -> Result<Scan> {
        creation::check_request_id(&request.request_id)?;
        let key = idempotency_key(&request);
        // A replay needs nothing else: it works with no runner up, and after defaults changed.
        if let Some(scan) = self.find(&key).await? {
            return Ok(scan);
        }
        let mut violations = Violations::new();
        let labels: BTreeMap<String, String> = request.labels.clone().into_iter().collect();
        creation::check(&request.display_name, &labels, &mut violations);
        let planned = self.plan(&request.template, request.spec, violations);
        let planned = planned.await?;
        let lane = store::Lane {
            key: lane_key(&principal.project, &planned.spec.target),
            max_in_flight: self.lane_max_in_flight,
        };
        let Planned {
            message,
            template,
            plan,
            current,
            custom,
            ..
        } = planned;
        let template = template.unwrap_or_default();
        let intent = store::CreateScanRequest {
            key: Some(key),
            display_name: request.display_name,
            labels: request.labels,
            garak_version: current.catalogue.garak_version.clone(),
            plugin_catalogue: current.sha256,
            effective_seed: i64::from(plan.seed.unwrap_or_else(rand::random)),
            effective_eval_threshold: plan.eval_threshold,
            max_in_flight: plan.max_in_flight,
            lane: Some(lane),
            tasks: convert::new_tasks(&plan, &current.catalogue),
            max_failures: self.max_failures,
            custom_probes: convert::pinned(custom),
            spec: Some(ScanSpec {
                // The runner hands them to garak, which needs their category.
                buffs: plan.buffs,
                ..message
            }),
            template: template.name,
            template_version: template.version,
        };
        aegis_mesh::failpoint!(PLANNED);
        let answer = self.store.clone().create_scan(intent).await?;
        required(answer.into_inner().scan)
    }

    async fn find(&self, key: &store::IdempotencyKey) -> Result<Option<Scan>> {
        if key.request_id.is_empty() {
            return Ok(None);
        }
        let request = store::FindScanByRequestRequest {
            key: Some(key.clone()),
        };
        let answer = self.store.clone().find_scan_by_request(request).await?;
        Ok(answer.into_inner().scan)
    }

    async fn plan(
        &self,
        template: &str,
        message: Option<ScanSpec>,
        mut violations: Violations,
    ) -> Result<Planned> {
        let wanted = TemplateRef::parse(template, &mut violations);
        let message = message.unwrap_or_default();
        let (message, template) = self.templates.apply(wanted.as_ref(), message).await?;
        let spec = convert::spec(&message, &mut violations);
        let mut best: Option<Candidate> = None;
        for current in self.catalogues.present().await? {
            let candidate = self.candidate(&spec, current, violations.clone()).await?;
            if best
                .as_ref()
                .is_none_or(|best| candidate.is_better_than(best))
            {
                best = Some(candidate);
            }
        }
        let best = best.ok_or_else(|| Error::internal("there is always a catalogue"))?;
        best.violations.into_result()?;
        best.plan.require_evaluable()?;
        Ok(Planned {
            message,
            template,
            spec,
            plan: best.plan,
            current: best.current,
            custom: best.custom,
        })
    }

    /// The plan for the runners that have this catalogue.
    async fn candidate(
        &self,
        spec: &Spec,
        mut current: Current,
        mut violations: Violations,
    ) -> Result<Candidate> {
        let own = &current.catalogue;
        let custom = self.customs.of_spec(spec, own, &mut violations).await?;
        if !custom.is_empty() {
            current.catalogue = custom::extended(own, &custom).into();
        }
        let plan = plan_collecting(
            spec,
            &current.catalogue,
            &current.allowance,
            &mut violations,
        );
        Ok(Candidate {
            plan,
            current,
            custom,
            violations,
        })
    }
}

/// The same content gives the same hash, in whichever order the labels came.
fn idempotency_key(request: &CreateScanRequest) -> store::IdempotencyKey {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    for (key, value) in request.labels.iter().collect::<BTreeMap<_, _>>() {
        part(key.as_bytes());
        part(value.as_bytes());
    }
    // A map is the one thing that protobuf may encode in any order; Struct has its keys sorted.
    let rest = CreateScanRequest {
        labels: Default::default(),
        ..request.clone()
    };
    part(&rest.encode_to_vec());
    store::IdempotencyKey {
        method: CREATE_SCAN.to_owned(),
        request_id: request.request_id.to_ascii_lowercase(),
        request_sha256: hex::encode(hash.finalize()),
    }
}

fn required(scan: Option<Scan>) -> Result<Scan> {
    scan.ok_or_else(|| Error::internal("catalog answered without the scan"))
}

#[tonic::async_trait]
impl ScanService for ScanApi {
    async fn create_scan(
        &self,
        request: Request<CreateScanRequest>,
    ) -> Result<Response<CreateScanResponse>, Status> {
        let principal = principal_of(&request)?;
        let scan = self.create(&principal, request.into_inner()).await?;
        Ok(Response::new(CreateScanResponse { scan: Some(scan) }))
    }

    async fn plan_scan(
        &self,
        request: Request<PlanScanRequest>,
    ) -> Result<Response<PlanScanResponse>, Status> {
        let request = request.into_inner();
        let planned = self
            .plan(&request.template, request.spec, Violations::new())
            .await?;
        let answer = convert::plan_response(&planned.plan, &planned.current);
        Ok(Response::new(PlanScanResponse {
            effective_spec: Some(planned.message),
            ..answer
        }))
    }

    async fn cancel_scan(
        &self,
        request: Request<CancelScanRequest>,
    ) -> Result<Response<CancelScanResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        scan_id(&request.scan_id, &mut violations);
        creation::text(
            "reason",
            &request.reason,
            check::MAX_REASON,
            &mut violations,
        );
        violations.into_result()?;
        let intent = store::CancelScanRequest {
            scan_id: request.scan_id,
            reason: request.reason,
        };
        let answer = self
            .store
            .clone()
            .cancel_scan(intent)
            .await
            .map_err(relay)?;
        let scan = Some(required(answer.into_inner().scan)?);
        Ok(Response::new(CancelScanResponse { scan }))
    }

    async fn pause_scan(
        &self,
        request: Request<PauseScanRequest>,
    ) -> Result<Response<PauseScanResponse>, Status> {
        let PauseScanRequest {
            scan_id: id,
            reason,
        } = request.into_inner();
        let mut violations = Violations::new();
        scan_id(&id, &mut violations);
        creation::text("reason", &reason, check::MAX_REASON, &mut violations);
        violations.into_result()?;
        let intent = store::PauseScanRequest {
            scan_id: id,
            reason,
        };
        let answer = self.store.clone().pause_scan(intent).await.map_err(relay)?;
        let scan = Some(required(answer.into_inner().scan)?);
        Ok(Response::new(PauseScanResponse { scan }))
    }

    async fn resume_scan(
        &self,
        request: Request<ResumeScanRequest>,
    ) -> Result<Response<ResumeScanResponse>, Status> {
        let ResumeScanRequest { scan_id: id } = request.into_inner();
        let mut violations = Violations::new();
        scan_id(&id, &mut violations);
        violations.into_result()?;
        let intent = store::ResumeScanRequest { scan_id: id };
        let answer = self
            .store
            .clone()
            .resume_scan(intent)
            .await
            .map_err(relay)?;
        let scan = Some(required(answer.into_inner().scan)?);
        Ok(Response::new(ResumeScanResponse { scan }))
    }

    async fn retry_scan(
        &self,
        request: Request<RetryScanRequest>,
    ) -> Result<Response<RetryScanResponse>, Status> {
        let RetryScanRequest { scan_id: id } = request.into_inner();
        let mut violations = Violations::new();
        scan_id(&id, &mut violations);
        violations.into_result()?;
        let intent = store::RetryScanRequest { scan_id: id };
        let answer = self.store.clone().retry_scan(intent).await.map_err(relay)?;
        let scan = Some(required(answer.into_inner().scan)?);
        Ok(Response::new(RetryScanResponse { scan }))
    }

    type WatchScanStream = WatchStream;

    async fn watch_scan(
        &self,
        request: Request<WatchScanRequest>,
    ) -> Result<Response<WatchStream>, Status> {
        let context = CallContext::new(principal_of(&request)?);
        let request = request.into_inner();
        let mut violations = Violations::new();
        scan_id(&request.scan_id, &mut violations);
        check::not_negative("after_sequence", request.after_sequence, &mut violations);
        violations.into_result()?;
        let watcher = Watcher::begin(
            self.store.clone(),
            request,
            context,
            self.heartbeat,
            self.shutdown.clone(),
        );
        Ok(Response::new(watcher.await?.into_stream()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(labels: &[(&str, &str)]) -> CreateScanRequest {
        CreateScanRequest {
            display_name: "x".to_owned(),
            labels: labels
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect(),
            ..CreateScanRequest::default()
        }
    }

    #[test]
    fn the_same_request_has_the_same_hash_in_any_order() {
        let pairs: Vec<(String, String)> = (0..50)
            .map(|n| (format!("k{n}"), format!("v{n}")))
            .collect();
        let pairs: Vec<(&str, &str)> = pairs
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        let reversed: Vec<(&str, &str)> = pairs.iter().rev().copied().collect();
        let hash = |labels: &[_]| idempotency_key(&request(labels)).request_sha256;
        assert_eq!(hash(&pairs), hash(&reversed));
        assert_ne!(hash(&pairs), hash(&pairs[1..]));
        assert_ne!(hash(&[("a", "bc")]), hash(&[("ab", "c")]));
    }
}
