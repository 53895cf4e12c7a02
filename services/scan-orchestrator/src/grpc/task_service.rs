//! `aegis.internal.task.v1.TaskService`: what runners call. The rules are catalog's; the policy is here.

use std::time::Duration;

use aegis_mesh::{Error, MeshChannel, Result};
use aegis_proto::internal::{
    catalog::v1::{
        self as catalog, plugin_catalogue_service_client::PluginCatalogueServiceClient,
        task_queue_service_client::TaskQueueServiceClient,
    },
    task::v1::{
        AwaitDirectiveRequest, AwaitDirectiveResponse, FinishTaskRequest, FinishTaskResponse,
        LeaseTaskRequest, LeaseTaskResponse, LeasedTask, Outcome, PublishPluginCatalogueRequest,
        PublishPluginCatalogueResponse, ReportTaskRequest, ReportTaskResponse, TaskOutcome,
        leased_task::Work, task_service_server::TaskService,
    },
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};

use super::convert::{duration, to_duration};
use crate::{config::Config, domain::catalogue::Catalogue};

/// Longest poll that is held.
const MAX_WAIT: Duration = Duration::from_secs(30);
const MAX_MESSAGE: usize = 500;
const MAX_REASON: usize = 63;
/// Events in one report; a runner says more in the next.
const MAX_EVENTS: usize = 500;
const MAX_SLOTS: i32 = 256;

/// Serves runners.
pub(crate) struct TaskApi {
    pub(crate) config: Config,
    pub(crate) queue: TaskQueueServiceClient<MeshChannel>,
    pub(crate) catalogues: PluginCatalogueServiceClient<MeshChannel>,
}

impl TaskApi {
    async fn publish(&self, request: PublishPluginCatalogueRequest) -> Result<()> {
        if hex::encode(Sha256::digest(&request.catalogue_json)) != request.sha256 {
            let message = "sha256 is not that of catalogue_json";
            return Err(Error::invalid_argument("CHECKSUM_MISMATCH", message).field("sha256", message));
        }
        let catalogue = Catalogue::parse(&request.catalogue_json)
            .map_err(|error| Error::invalid_field("catalogue_json", error.to_string()))?;
        if catalogue.garak_version != request.garak_version {
            let what = format!("is not the catalogue's, {:?}", catalogue.garak_version);
            return Err(Error::invalid_field("garak_version", what));
        }
        let put = catalog::PutPluginCatalogueRequest {
            sha256: request.sha256,
            garak_version: request.garak_version,
            catalogue_json: request.catalogue_json,
            allowance: request.allowance,
        };
        self.catalogues.clone().put_plugin_catalogue(put).await?;
        Ok(())
    }

    async fn lease(&self, request: LeaseTaskRequest) -> Result<LeaseTaskResponse> {
        required("runner_id", &request.runner_id)?;
        required("request_id", &request.request_id)?;
        required("plugin_catalogue", &request.plugin_catalogue)?;
        if !(1..=MAX_SLOTS).contains(&request.slots) {
            return Err(Error::invalid_field("slots", format!("must be from 1 to {MAX_SLOTS}")));
        }
        let lease = catalog::LeaseTaskRequest {
            runner_id: request.runner_id,
            request_id: request.request_id,
            plugin_catalogue: request.plugin_catalogue,
            slots: request.slots,
            wait: wait(request.wait),
            ttl: to_duration(self.config.lease()),
        };
        let task = self.queue.clone().lease_task(lease).await?.into_inner().task;
        Ok(LeaseTaskResponse {
            task: task.map(|task| self.with_patience(task)),
        })
    }

    fn with_patience(&self, mut task: LeasedTask) -> LeasedTask {
        if let Some(Work::Probe(probe)) = &mut task.work {
            probe.target_patience = to_duration(self.config.target_patience());
        }
        task
    }

    async fn report(&self, request: ReportTaskRequest) -> Result<ReportTaskResponse> {
        if request.events.len() > MAX_EVENTS {
            return Err(Error::invalid_field("events", format!("must be at most {MAX_EVENTS}")));
        }
        let report = catalog::ReportTaskRequest {
            lease: request.lease,
            progress: request.progress,
            events: request.events,
            ttl: to_duration(self.config.lease()),
        };
        let answer = self.queue.clone().report_task(report).await?.into_inner();
        Ok(ReportTaskResponse {
            lease: answer.lease,
            directive: answer.directive,
            committed_source_sequence: answer.committed_source_sequence,
        })
    }

    async fn directive(&self, request: AwaitDirectiveRequest) -> Result<AwaitDirectiveResponse> {
        let ask = catalog::AwaitDirectiveRequest {
            lease: request.lease,
            wait: wait(request.wait),
        };
        let answer = self.queue.clone().await_directive(ask).await?.into_inner();
        Ok(AwaitDirectiveResponse { directive: answer.directive })
    }

    async fn finish(&self, request: FinishTaskRequest) -> Result<()> {
        let outcome = request.outcome.ok_or_else(|| Error::invalid_field("outcome", "is required"))?;
        let finish = catalog::FinishTaskRequest {
            lease: request.lease,
            outcome: Some(checked(outcome)?),
            progress: request.progress,
            policy: Some(self.config.retry_policy()),
        };
        self.queue.clone().finish_task(finish).await?;
        Ok(())
    }
}

/// A runner's word is narrow: a reason code, and a bounded message.
fn checked(mut outcome: TaskOutcome) -> Result<TaskOutcome> {
    let needs_reason = !matches!(outcome.outcome(), Outcome::Done | Outcome::Released);
    if outcome.outcome() == Outcome::Unspecified {
        return Err(Error::invalid_field("outcome.outcome", "is required"));
    }
    let is_word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    let reason = outcome.reason.as_bytes();
    let fits = reason.len() <= MAX_REASON && reason.iter().copied().all(is_word);
    if !fits || (needs_reason && reason.is_empty()) {
        return Err(Error::invalid_field("outcome.reason", "must be UPPER_SNAKE, at most 63 characters"));
    }
    let message = outcome.message.chars().filter(|c| !c.is_control());
    outcome.message = message.take(MAX_MESSAGE).collect();
    Ok(outcome)
}

fn required(field: &str, value: &str) -> Result<()> {
    if value.is_empty() || value.len() > 256 {
        return Err(Error::invalid_field(field, "must be 1 to 256 bytes"));
    }
    Ok(())
}

fn wait(asked: Option<prost_types::Duration>) -> Option<prost_types::Duration> {
    to_duration(duration(asked).unwrap_or_default().min(MAX_WAIT))
}

#[tonic::async_trait]
impl TaskService for TaskApi {
    async fn publish_plugin_catalogue(
        &self,
        request: Request<PublishPluginCatalogueRequest>,
    ) -> Result<Response<PublishPluginCatalogueResponse>, Status> {
        self.publish(request.into_inner()).await?;
        Ok(Response::new(PublishPluginCatalogueResponse {}))
    }

    async fn lease_task(
        &self,
        request: Request<LeaseTaskRequest>,
    ) -> Result<Response<LeaseTaskResponse>, Status> {
        Ok(Response::new(self.lease(request.into_inner()).await?))
    }

    async fn report_task(
        &self,
        request: Request<ReportTaskRequest>,
    ) -> Result<Response<ReportTaskResponse>, Status> {
        Ok(Response::new(self.report(request.into_inner()).await?))
    }

    async fn await_directive(
        &self,
        request: Request<AwaitDirectiveRequest>,
    ) -> Result<Response<AwaitDirectiveResponse>, Status> {
        Ok(Response::new(self.directive(request.into_inner()).await?))
    }

    async fn finish_task(
        &self,
        request: Request<FinishTaskRequest>,
    ) -> Result<Response<FinishTaskResponse>, Status> {
        self.finish(request.into_inner()).await?;
        Ok(Response::new(FinishTaskResponse {}))
    }
}
