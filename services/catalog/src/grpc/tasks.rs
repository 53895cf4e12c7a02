//! TaskQueueService: leases, fenced writes, and what ends a task.

use aegis_mesh::{Result, Shutdown, principal_of};
use aegis_proto::{
    ids::ProjectId,
    internal::{
        catalog::v1::{
            AwaitDirectiveRequest, AwaitDirectiveResponse, ExpireLeasesRequest,
            ExpireLeasesResponse, FinishTaskRequest, FinishTaskResponse, LeaseTaskRequest,
            LeaseTaskResponse, ReportTaskRequest, ReportTaskResponse, RetryPolicy as ProtoPolicy,
            task_queue_service_server::TaskQueueService,
        },
        task::v1::{self as proto, leased_task, task_event},
    },
};
use tonic::{Request, Response, Status};

use super::{
    check,
    checks::{self, AnyLease},
    view,
};
use crate::{
    domain::{
        check::CheckLease,
        policy::RetryPolicy,
        refusal::invalid_field,
        task::{Directive, LeaseProof, Outcome, OutcomeKind, TaskProgress},
        waiting::WaitingReason,
    },
    store::{Granted, LeaseCall, Leased, ReportCall, Store, Work},
};

/// Events of one report.
const MAX_EVENTS: usize = 1_000;
/// Artifacts of one outcome; a run has four names to give.
const MAX_ARTIFACTS: usize = 16;

/// TaskQueueService on a store.
pub(crate) struct Tasks {
    pub(crate) store: Store,
    pub(crate) shutdown: Shutdown,
}

#[tonic::async_trait]
impl TaskQueueService for Tasks {
    async fn lease_task(
        &self,
        request: Request<LeaseTaskRequest>,
    ) -> Result<Response<LeaseTaskResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let wait = check::wait(request.wait)?;
        let call = LeaseCall {
            runner_id: check::required("runner_id", &request.runner_id, 200)?,
            request_id: check::required("request_id", &request.request_id, 64)?,
            plugin_catalogue: check::sha256("plugin_catalogue", &request.plugin_catalogue)?,
            slots: check::within("slots", request.slots, 1..=10_000)?,
            ttl_ms: check::ttl_ms(request.ttl)?,
            max_running_scans: check::within(
                "max_running_scans",
                request.max_running_scans,
                0..=100_000,
            )?,
        };
        let lease = self.store.lease(&project, &call, wait);
        // A poll that the shutdown ends is answered like one that found nothing.
        let task = match self.shutdown.until(lease).await.transpose()?.flatten() {
            Some(Leased::Task(granted)) => Some(leased(granted, call.ttl_ms)?),
            Some(Leased::Check(grant)) => Some(checks::leased(grant, call.ttl_ms)),
            None => None,
        };
        Ok(Response::new(LeaseTaskResponse { task }))
    }

    async fn report_task(
        &self,
        request: Request<ReportTaskRequest>,
    ) -> Result<Response<ReportTaskResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let lease_of_task = match checks::lease(request.lease.clone())? {
            AnyLease::Task(lease) => lease,
            AnyLease::Check(lease) => return self.report_check(&project, lease, request).await,
        };
        let waits_for = request.progress.as_ref().map(|p| p.waits_for.as_str());
        let call = ReportCall {
            waits_for: waits_for.and_then(WaitingReason::of_run),
            lease: lease_of_task,
            progress: request.progress.map(progress).transpose()?,
            detectors_finished: detectors_finished(request.events)?,
            ttl_ms: check::ttl_ms(request.ttl)?,
        };
        let reported = self.store.report(&project, &call).await?;
        Ok(Response::new(ReportTaskResponse {
            lease: Some(lease(call.lease, call.ttl_ms)),
            directive: directive(reported.directive).into(),
            committed_source_sequence: reported.committed_source_sequence,
        }))
    }

    async fn await_directive(
        &self,
        request: Request<AwaitDirectiveRequest>,
    ) -> Result<Response<AwaitDirectiveResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let wait = check::wait(request.wait)?;
        let waiting = async {
            match checks::lease(request.lease)? {
                AnyLease::Task(lease) => self.store.await_directive(&project, &lease, wait).await,
                AnyLease::Check(lease) => {
                    let waiting = self.store.await_check_directive(&project, &lease, wait);
                    waiting.await
                }
            }
        };
        let found = self.shutdown.until(waiting).await.transpose()?;
        Ok(Response::new(AwaitDirectiveResponse {
            directive: directive(found.unwrap_or(Directive::Continue)).into(),
        }))
    }

    async fn finish_task(
        &self,
        request: Request<FinishTaskRequest>,
    ) -> Result<Response<FinishTaskResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let lease = match checks::lease(request.lease)? {
            AnyLease::Task(lease) => lease,
            AnyLease::Check(lease) => {
                let (sent, policy) = (checks::outcome(request.outcome)?, policy(request.policy)?);
                let finish = self.store.finish_check(&project, &lease, &sent, &policy);
                finish.await?;
                return Ok(Response::new(FinishTaskResponse {}));
            }
        };
        let outcome = outcome(request.outcome)?;
        let progress = request.progress.map(progress).transpose()?;
        let policy = policy(request.policy)?;
        self.store
            .finish(&project, &lease, &outcome, progress, &policy)
            .await?;
        Ok(Response::new(FinishTaskResponse {}))
    }

    async fn expire_leases(
        &self,
        request: Request<ExpireLeasesRequest>,
    ) -> Result<Response<ExpireLeasesResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let limit = check::within("limit", request.limit, 1..=1_000)?;
        let policy = policy(request.policy)?;
        let expired = self
            .store
            .expire(&project, &policy, limit.unsigned_abs())
            .await?;
        Ok(Response::new(ExpireLeasesResponse {
            // At most the limit, which is an i32.
            expired: expired as i32,
        }))
    }
}

impl Tasks {
    async fn report_check(
        &self,
        project: &ProjectId,
        lease: CheckLease,
        request: ReportTaskRequest,
    ) -> Result<Response<ReportTaskResponse>, Status> {
        check::within("events", request.events.len(), 0..=MAX_EVENTS)?;
        let ttl_ms = check::ttl_ms(request.ttl)?;
        self.store.report_check(project, &lease, ttl_ms).await?;
        Ok(Response::new(ReportTaskResponse {
            lease: Some(checks::lease_message(lease, ttl_ms)),
            directive: proto::Directive::Continue.into(),
            committed_source_sequence: checks::last_sequence(&request.events),
        }))
    }
}

fn leased(granted: Granted, ttl_ms: i64) -> Result<proto::LeasedTask> {
    let work = match granted.work {
        Work::Report {
            revision,
            custom_probes,
        } => leased_task::Work::Report(proto::ReportTask {
            revision,
            custom_probes: custom_probes.into_iter().map(view::custom_probe).collect(),
        }),
        Work::Probe(grant) => leased_task::Work::Probe(proto::ProbeTask {
            probe: grant.task.probe,
            shard_index: grant.task.shard_index,
            shard_count: grant.task.shard_count,
            spec: Some(view::spec(grant.spec)?),
            detectors: grant.task.detectors,
            max_in_flight: grant.task.granted,
            effective_seed: grant.effective_seed,
            effective_eval_threshold: grant.effective_eval_threshold,
            // Policy, which the caller adds.
            target_patience: None,
            custom_probes: grant
                .custom_probes
                .into_iter()
                .map(view::custom_probe)
                .collect(),
        }),
    };
    Ok(proto::LeasedTask {
        lease: Some(lease(granted.lease, ttl_ms)),
        work: Some(work),
    })
}

fn lease(proof: LeaseProof, ttl_ms: i64) -> proto::Lease {
    proto::Lease {
        task_id: proof.task.to_string(),
        scan_id: proof.scan.to_string(),
        epoch: proof.epoch.0,
        token: proof.token,
        ttl: Some(ttl(ttl_ms)),
    }
}

pub(super) fn ttl(ttl_ms: i64) -> prost_types::Duration {
    prost_types::Duration {
        seconds: ttl_ms / 1_000,
        // Less than 1,000 million: it fits.
        nanos: (ttl_ms % 1_000 * 1_000_000) as i32,
    }
}

fn directive(directive: Directive) -> proto::Directive {
    match directive {
        Directive::Continue => proto::Directive::Continue,
        Directive::Stop => proto::Directive::Stop,
    }
}

fn progress(progress: proto::TaskProgress) -> Result<TaskProgress> {
    let count = |field, value| check::within(field, value, 0..=i64::from(u32::MAX));
    Ok(TaskProgress {
        attempts_done: count("progress.attempts_done", progress.attempts_done)?,
        attempts_total: count("progress.attempts_total", progress.attempts_total)?,
        target_retries: count("progress.target_retries", progress.target_retries)?,
    })
}

fn detectors_finished(events: Vec<proto::TaskEvent>) -> Result<Vec<(i64, String)>> {
    check::within("events", events.len(), 0..=MAX_EVENTS)?;
    let mut finished = Vec::with_capacity(events.len());
    for (index, event) in events.into_iter().enumerate() {
        let field = format!("events[{index}]");
        let sequence = check::within(&field, event.source_sequence, 1..=i64::MAX)?;
        match event.kind {
            Some(task_event::Kind::DetectorFinished(event)) => {
                finished.push((sequence, check::required(&field, &event.detector, 200)?));
            }
            None => return Err(invalid_field(&field, "has no kind that is known here")),
        }
    }
    Ok(finished)
}

pub(super) fn outcome(outcome: Option<proto::TaskOutcome>) -> Result<Outcome> {
    let outcome = outcome.ok_or_else(|| invalid_field("outcome", "must be set"))?;
    check::within(
        "outcome.artifact_ids",
        outcome.artifact_ids.len(),
        0..=MAX_ARTIFACTS,
    )?;
    let kind = match outcome.outcome() {
        proto::Outcome::Done => OutcomeKind::Done,
        proto::Outcome::FailedRetryable => OutcomeKind::Retryable,
        proto::Outcome::Backpressure => OutcomeKind::Backpressure,
        proto::Outcome::FailedPermanent => OutcomeKind::Permanent,
        proto::Outcome::Cancelled => OutcomeKind::Cancelled,
        proto::Outcome::Released => OutcomeKind::Released,
        proto::Outcome::Unspecified => {
            return Err(invalid_field("outcome.outcome", "must be set"));
        }
    };
    let failed = matches!(
        kind,
        OutcomeKind::Retryable | OutcomeKind::Backpressure | OutcomeKind::Permanent
    );
    let reason = if failed {
        check::reason("outcome.reason", &outcome.reason)?
    } else {
        check::optional("outcome.reason", &outcome.reason, 63)?
    };
    let mut artifacts = Vec::new();
    for id in &outcome.artifact_ids {
        artifacts.push(check::artifact_id("outcome.artifact_ids", id)?);
    }
    Ok(Outcome {
        kind,
        reason,
        message: check::optional("outcome.message", &outcome.message, 500)?,
        retry_after_ms: outcome
            .retry_after
            .map(|after| check::millis("outcome.retry_after", after))
            .transpose()?,
        artifacts,
    })
}

fn policy(policy: Option<ProtoPolicy>) -> Result<RetryPolicy> {
    let standard = RetryPolicy::default();
    let policy = policy.unwrap_or_default();
    let or = |field: &str, duration: Option<prost_types::Duration>, standard: i64| {
        duration.map_or(Ok(standard), |duration| check::millis(field, duration))
    };
    let max_backpressure_ms = or(
        "policy.max_backpressure",
        policy.max_backpressure,
        standard.max_backpressure_ms,
    )?;
    Ok(RetryPolicy {
        backoff_ms: or("policy.backoff", policy.backoff, standard.backoff_ms)?,
        max_backoff_ms: or(
            "policy.max_backoff",
            policy.max_backoff,
            standard.max_backoff_ms,
        )?,
        lane_pause_ms: or(
            "policy.lane_pause",
            policy.lane_pause,
            standard.lane_pause_ms,
        )?,
        max_backpressure_ms,
        max_outage_ms: or("policy.max_outage", policy.max_outage, max_backpressure_ms)?,
    })
}
