//! TaskService: what runners call. It checks what they say, adds policy, and hands it to catalog.

use std::{sync::Arc, time::Duration};

use aegis_mesh::MeshChannel;
use aegis_proto::internal::{
    catalog::v1::{
        self as queue, PutPluginCatalogueRequest, RetryPolicy,
        task_queue_service_client::TaskQueueServiceClient,
    },
    task::v1::{
        self as pb, Outcome, TaskOutcome, TaskProgress, leased_task::Work,
        task_service_server::TaskService,
    },
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{check, relay};
use crate::{
    catalogues::Catalogues,
    config::Config,
    domain::{
        catalogue::Catalogue,
        creation::text,
        violation::{INVALID_FIELD, Violations},
    },
};

const MAX_CATALOGUE: usize = 8 * 1024 * 1024;
const MAX_WAIT: Duration = Duration::from_secs(30);
/// What an upstream long poll may take beyond its wait.
const POLL_MARGIN: Duration = Duration::from_secs(5);
const MAX_SLOTS: i32 = 256;
const MAX_EVENTS: usize = 1000;
const MAX_ARTIFACTS: usize = 16;
const MAX_MESSAGE: usize = 500;
const MAX_NAME: usize = 256;
const MAX_ALLOWED: usize = 1000;
/// No target is waited for longer than a day.
const MAX_RETRY_AFTER_SECONDS: i64 = 24 * 3600;

/// What the orchestrator adds to runners' calls.
#[derive(Debug, Clone)]
pub(crate) struct TaskPolicy {
    /// How long a lease holds.
    lease: prost_types::Duration,
    /// How long a target may stay without a good answer.
    patience: prost_types::Duration,
    /// How long the check of a custom probe may take.
    check_timeout: prost_types::Duration,
    /// Scans whose probes run at once.
    max_running_scans: i32,
    /// When tasks run again.
    pub(crate) retry: RetryPolicy,
}

impl TaskPolicy {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            lease: seconds(config.lease_seconds),
            patience: seconds(config.target_patience_seconds),
            check_timeout: seconds(config.check_timeout_seconds),
            max_running_scans: config.max_running_scans,
            retry: RetryPolicy {
                backoff: Some(seconds(config.backoff_seconds)),
                max_backoff: Some(seconds(config.max_backoff_seconds)),
                lane_pause: Some(seconds(config.lane_pause_seconds)),
                max_backpressure: Some(seconds(config.max_backpressure_seconds)),
                max_outage: Some(seconds(config.max_outage_seconds)),
            },
        }
    }
}

impl TaskPolicy {
    /// How long a poll for work is held: a runner counts its lease from the question, and stops at
    /// three quarters of it. One that waited for longer than that would be over when it is granted.
    fn longest_poll(&self) -> Duration {
        let lease = Duration::try_from(self.lease).unwrap_or_default();
        MAX_WAIT.min(lease / 4)
    }
}

fn seconds(seconds: u64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(seconds).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

/// Serves TaskService.
pub(crate) struct TaskApi {
    queue: TaskQueueServiceClient<MeshChannel>,
    catalogues: Arc<Catalogues>,
    policy: TaskPolicy,
}

impl TaskApi {
    pub(crate) fn new(
        queue: TaskQueueServiceClient<MeshChannel>,
        catalogues: Arc<Catalogues>,
        policy: TaskPolicy,
    ) -> Self {
        Self {
            queue,
            catalogues,
            policy,
        }
    }
}

#[tonic::async_trait]
impl TaskService for TaskApi {
    async fn publish_plugin_catalogue(
        &self,
        request: Request<pb::PublishPluginCatalogueRequest>,
    ) -> Result<Response<pb::PublishPluginCatalogueResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        check_catalogue(&request, &mut violations);
        check_allowance(request.allowance.as_ref(), &mut violations);
        violations.into_result()?;
        let stored = PutPluginCatalogueRequest {
            sha256: request.sha256,
            garak_version: request.garak_version,
            catalogue_json: request.catalogue_json,
            allowance: request.allowance,
        };
        self.catalogues.publish(stored).await?;
        Ok(Response::new(pb::PublishPluginCatalogueResponse {}))
    }

    async fn lease_task(
        &self,
        request: Request<pb::LeaseTaskRequest>,
    ) -> Result<Response<pb::LeaseTaskResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        check_poll(&request, &mut violations);
        violations.into_result()?;
        let (wait, budget) = bounded_wait(request.wait, self.policy.longest_poll());
        let mut upstream = Request::new(queue::LeaseTaskRequest {
            runner_id: request.runner_id,
            request_id: request.request_id,
            plugin_catalogue: request.plugin_catalogue,
            slots: request.slots,
            wait: Some(wait),
            ttl: Some(self.policy.lease),
            max_running_scans: self.policy.max_running_scans,
        });
        upstream.set_timeout(budget);
        let answer = self
            .queue
            .clone()
            .lease_task(upstream)
            .await
            .map_err(relay)?;
        let mut task = answer.into_inner().task;
        match task.as_mut().and_then(|task| task.work.as_mut()) {
            Some(Work::Probe(probe)) => probe.target_patience = Some(self.policy.patience),
            Some(Work::Check(check)) => check.timeout = Some(self.policy.check_timeout),
            Some(Work::Report(_)) | None => {}
        }
        Ok(Response::new(pb::LeaseTaskResponse { task }))
    }

    async fn report_task(
        &self,
        request: Request<pb::ReportTaskRequest>,
    ) -> Result<Response<pb::ReportTaskResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        check::lease(request.lease.as_ref(), &mut violations);
        check_progress(request.progress.as_ref(), &mut violations);
        check_events(&request.events, &mut violations);
        violations.into_result()?;
        let upstream = queue::ReportTaskRequest {
            lease: request.lease,
            progress: request.progress,
            events: request.events,
            ttl: Some(self.policy.lease),
        };
        let answer = self
            .queue
            .clone()
            .report_task(upstream)
            .await
            .map_err(relay)?;
        let answer = answer.into_inner();
        Ok(Response::new(pb::ReportTaskResponse {
            lease: answer.lease,
            directive: answer.directive,
            committed_source_sequence: answer.committed_source_sequence,
        }))
    }

    async fn await_directive(
        &self,
        request: Request<pb::AwaitDirectiveRequest>,
    ) -> Result<Response<pb::AwaitDirectiveResponse>, Status> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        check::lease(request.lease.as_ref(), &mut violations);
        violations.into_result()?;
        let (wait, budget) = bounded_wait(request.wait, MAX_WAIT);
        let mut upstream = Request::new(queue::AwaitDirectiveRequest {
            lease: request.lease,
            wait: Some(wait),
        });
        upstream.set_timeout(budget);
        let answer = self
            .queue
            .clone()
            .await_directive(upstream)
            .await
            .map_err(relay)?;
        let directive = answer.into_inner().directive;
        Ok(Response::new(pb::AwaitDirectiveResponse { directive }))
    }

    async fn finish_task(
        &self,
        request: Request<pb::FinishTaskRequest>,
    ) -> Result<Response<pb::FinishTaskResponse>, Status> {
        let mut request = request.into_inner();
        let mut violations = Violations::new();
        check::lease(request.lease.as_ref(), &mut violations);
        check_progress(request.progress.as_ref(), &mut violations);
        match request.outcome.as_mut() {
            Some(outcome) => check_outcome(outcome, &mut violations),
            None => violations.add("outcome", INVALID_FIELD, "is missing"),
        }
        violations.into_result()?;
        let upstream = queue::FinishTaskRequest {
            lease: request.lease,
            outcome: request.outcome,
            progress: request.progress,
            policy: Some(self.policy.retry),
        };
        self.queue
            .clone()
            .finish_task(upstream)
            .await
            .map_err(relay)?;
        Ok(Response::new(pb::FinishTaskResponse {}))
    }
}

fn check_catalogue(request: &pb::PublishPluginCatalogueRequest, violations: &mut Violations) {
    const FIELD: &str = "catalogue_json";
    let json = &request.catalogue_json;
    if json.len() > MAX_CATALOGUE {
        let description = format!("must be at most 8 MiB, is {} bytes", json.len());
        return violations.add(FIELD, INVALID_FIELD, description);
    }
    if hex::encode(Sha256::digest(json)) != request.sha256 {
        let description = "is not the SHA-256 of catalogue_json in lower-case hexadecimal";
        return violations.add("sha256", "CHECKSUM_MISMATCH", description);
    }
    match Catalogue::parse(json) {
        Err(error) => violations.add(FIELD, "INVALID_CATALOGUE", format!("is no survey: {error}")),
        Ok(catalogue) if catalogue.garak_version != request.garak_version => {
            let description = format!("the catalogue is of garak {}", catalogue.garak_version);
            violations.add("garak_version", INVALID_FIELD, description);
        }
        Ok(_) => {}
    }
}

fn check_allowance(allowance: Option<&pb::Allowance>, violations: &mut Violations) {
    let Some(allowance) = allowance else {
        return violations.add("allowance", INVALID_FIELD, "is missing");
    };
    for (field, count) in [
        ("allowance.generators", allowance.generators.len()),
        ("allowance.secrets", allowance.secrets.len()),
    ] {
        if count > MAX_ALLOWED {
            let description = format!("must have at most {MAX_ALLOWED} entries, has {count}");
            violations.add(field, INVALID_FIELD, description);
        }
    }
}

fn check_poll(request: &pb::LeaseTaskRequest, violations: &mut Violations) {
    if request.runner_id.is_empty() {
        violations.add("runner_id", INVALID_FIELD, "must not be empty");
    }
    text("runner_id", &request.runner_id, 128, violations);
    if Uuid::try_parse(&request.request_id).is_err() {
        violations.add("request_id", INVALID_FIELD, "must be a UUID");
    }
    let sha256 = request.plugin_catalogue.as_bytes();
    let is_hex = |b: &u8| b.is_ascii_digit() || (b'a'..=b'f').contains(b);
    if sha256.len() != 64 || !sha256.iter().all(is_hex) {
        let description = "must be a SHA-256 in lower-case hexadecimal";
        violations.add("plugin_catalogue", INVALID_FIELD, description);
    }
    if !(1..=MAX_SLOTS).contains(&request.slots) {
        let description = format!("must be 1 to {MAX_SLOTS}, is {}", request.slots);
        violations.add("slots", INVALID_FIELD, description);
    }
}

/// The wait that is passed on, at most `longest`, and how long the call may take.
fn bounded_wait(
    wait: Option<prost_types::Duration>,
    longest: Duration,
) -> (prost_types::Duration, Duration) {
    let asked = Duration::try_from(wait.unwrap_or_default()).unwrap_or_default();
    let wait = asked.min(longest);
    let message = prost_types::Duration {
        // At most 30.
        seconds: wait.as_secs() as i64,
        nanos: wait.subsec_nanos() as i32,
    };
    (message, wait + POLL_MARGIN)
}

fn check_progress(progress: Option<&TaskProgress>, violations: &mut Violations) {
    let Some(progress) = progress else {
        return;
    };
    for (field, value) in [
        ("progress.attempts_done", progress.attempts_done),
        ("progress.attempts_total", progress.attempts_total),
        ("progress.target_retries", progress.target_retries),
    ] {
        check::not_negative(field, value, violations);
    }
    if !progress.waits_for.is_empty() && !check::is_reason(&progress.waits_for) {
        violations.add("progress.waits_for", INVALID_FIELD, "must be UPPER_SNAKE");
    }
}

fn check_events(events: &[pb::TaskEvent], violations: &mut Violations) {
    if events.len() > MAX_EVENTS {
        let description = format!("must be at most {MAX_EVENTS}, are {}", events.len());
        return violations.add("events", INVALID_FIELD, description);
    }
    let mut last = 0;
    for (index, event) in events.iter().enumerate() {
        if event.source_sequence <= last {
            let field = format!("events[{index}].source_sequence");
            violations.add(field, INVALID_FIELD, "must rise from 1");
        }
        last = event.source_sequence;
        match &event.kind {
            Some(pb::task_event::Kind::DetectorFinished(finished)) => {
                let field = format!("events[{index}].detector_finished.detector");
                text(&field, &finished.detector, MAX_NAME, violations);
            }
            None => violations.add(format!("events[{index}]"), INVALID_FIELD, "is of no kind"),
        }
    }
}

fn check_outcome(outcome: &mut TaskOutcome, violations: &mut Violations) {
    let is_done = match outcome.outcome() {
        Outcome::Unspecified => {
            let description = format!("{} is no outcome", outcome.outcome);
            return violations.add("outcome.outcome", INVALID_FIELD, description);
        }
        other => other == Outcome::Done,
    };
    if is_done && !outcome.reason.is_empty() {
        violations.add("outcome.reason", INVALID_FIELD, "must be empty when done");
    }
    if !is_done && !check::is_reason(&outcome.reason) {
        violations.add("outcome.reason", INVALID_FIELD, "must be UPPER_SNAKE");
    }
    if outcome.artifact_ids.len() > MAX_ARTIFACTS {
        violations.add("outcome.artifact_ids", INVALID_FIELD, "must be at most 16");
    }
    for (index, id) in outcome.artifact_ids.iter().enumerate() {
        if let Err(error) = id.parse::<aegis_proto::ids::ArtifactId>() {
            let field = format!("outcome.artifact_ids[{index}]");
            violations.add(field, INVALID_FIELD, error.to_string());
        }
    }
    outcome.message = cut(&outcome.message);
    if let Some(after) = &mut outcome.retry_after {
        let is_past = after.seconds < 0 || after.nanos < 0;
        *after = prost_types::Duration {
            seconds: after.seconds.clamp(0, MAX_RETRY_AFTER_SECONDS),
            nanos: if is_past {
                0
            } else {
                after.nanos.min(999_999_999)
            },
        };
    }
}

/// At most 500 characters, on one line.
fn cut(message: &str) -> String {
    let clean = message
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c });
    clean.take(MAX_MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_bounded_and_never_negative() {
        let asked = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let bound = |seconds| bounded_wait(asked(seconds), MAX_WAIT);
        assert_eq!(bound(10).0.seconds, 10);
        assert_eq!(bound(3600).0.seconds, 30);
        assert_eq!(bound(-5).0.seconds, 0);
        assert_eq!(bounded_wait(None, MAX_WAIT).1, POLL_MARGIN);
    }

    #[test]
    fn a_message_is_cut_by_characters() {
        assert_eq!(cut(&"é".repeat(600)).chars().count(), 500);
        assert_eq!(cut("a\nb"), "a b");
    }
}
