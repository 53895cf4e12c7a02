//! A runner without garak: for what the mesh costs by itself.

use std::time::Duration;

use aegis_mesh::{CallContext, ClientConfig, Error, MeshChannel, Principal, with_context};
use aegis_proto::internal::task::v1::{self as pb, task_service_client::TaskServiceClient};
use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::catalogue::Catalogue;

/// As the orchestrator takes a catalogue.
const MESSAGE_BYTES: usize = 9 << 20;

/// Speaks to one orchestrator.
#[derive(Clone)]
pub(crate) struct Runner {
    tasks: TaskServiceClient<MeshChannel>,
    id: String,
    slots: i32,
    catalogue: String,
}

impl Runner {
    /// Publishes the catalogue.
    pub(crate) async fn new(orchestrator: &str, slots: i32, catalogue: &Catalogue) -> Result<Self> {
        let config = ClientConfig {
            max_message_bytes: MESSAGE_BYTES,
            ..ClientConfig::at(orchestrator)
        };
        let mut tasks = TaskServiceClient::new(MeshChannel::connect(&config)?);
        let sha256 = hex::encode(Sha256::digest(&catalogue.json));
        let request = pb::PublishPluginCatalogueRequest {
            garak_version: catalogue.garak_version.clone(),
            catalogue_json: catalogue.json.clone(),
            sha256: sha256.clone(),
            allowance: Some(pb::Allowance {
                generators: vec![pb::AllowedGenerator {
                    name: "openai.OpenAICompatible".to_owned(),
                    option_keys: vec!["uri".to_owned()],
                }],
                secrets: Vec::new(),
            }),
        };
        said(tasks.publish_plugin_catalogue(request)).await?;
        Ok(Self {
            tasks,
            id: format!("bench-{}", Uuid::new_v4().simple()),
            slots,
            catalogue: sha256,
        })
    }

    /// Checksum of its catalogue.
    pub(crate) fn catalogue(&self) -> &str {
        &self.catalogue
    }

    /// A task, if there is one now.
    pub(crate) async fn lease(&self) -> Result<Option<pb::Lease>> {
        let request = pb::LeaseTaskRequest {
            runner_id: self.id.clone(),
            request_id: Uuid::new_v4().to_string(),
            plugin_catalogue: self.catalogue.clone(),
            slots: self.slots,
            ..pb::LeaseTaskRequest::default()
        };
        let answer = said(self.tasks.clone().lease_task(request)).await?;
        let lease = answer.task.map(|task| task.lease.context("a lease"));
        lease.transpose()
    }

    /// Tells of detectors that are through, from this number on.
    pub(crate) async fn report(
        &self,
        lease: &pb::Lease,
        first: i64,
        detectors: Vec<String>,
    ) -> Result<()> {
        let events = (first..).zip(detectors);
        let events = events.map(|(source_sequence, detector)| pb::TaskEvent {
            source_sequence,
            kind: Some(pb::task_event::Kind::DetectorFinished(
                pb::DetectorFinished { detector },
            )),
        });
        let request = pb::ReportTaskRequest {
            lease: Some(lease.clone()),
            progress: None,
            events: events.collect(),
        };
        said(self.tasks.clone().report_task(request)).await?;
        Ok(())
    }

    /// Ends the run without results.
    pub(crate) async fn give_up(&self, lease: pb::Lease) -> Result<()> {
        let outcome = pb::TaskOutcome {
            outcome: pb::Outcome::FailedPermanent.into(),
            reason: "BENCH".to_owned(),
            ..pb::TaskOutcome::default()
        };
        self.finish(lease, outcome).await
    }

    /// Says that the target pushes back, for so long.
    pub(crate) async fn push_back(&self, lease: pb::Lease, time: Duration) -> Result<()> {
        let outcome = pb::TaskOutcome {
            outcome: pb::Outcome::Backpressure.into(),
            reason: "TARGET_BUSY".to_owned(),
            retry_after: Some(time.try_into()?),
            ..pb::TaskOutcome::default()
        };
        self.finish(lease, outcome).await
    }

    async fn finish(&self, lease: pb::Lease, outcome: pb::TaskOutcome) -> Result<()> {
        let request = pb::FinishTaskRequest {
            lease: Some(lease),
            outcome: Some(outcome),
            progress: None,
        };
        said(self.tasks.clone().finish_task(request)).await?;
        Ok(())
    }
}

async fn said<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Error> {
    let answer = with_context(CallContext::new(Principal::local()), call).await;
    Ok(answer?.into_inner())
}
