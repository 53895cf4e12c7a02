//! StoreKeepingService: the rows' share of the store's jobs.

use aegis_mesh::{Error, Result, principal_of};
use aegis_proto::{
    internal::catalog::v1::{
        self as proto, SweepKind, store_keeping_service_server::StoreKeepingService,
    },
    json,
};
use prost_types::Duration;
use tonic::{Request, Response, Status};

use super::{check, view};
use crate::{
    domain::{
        keeping::{Claimed, JobClaim, JobEnd, JobState, KeepLabels, Step, Sweep},
        refusal::invalid_field,
    },
    store::{Committed, Garbage, Orphan, Store},
};

/// Rows of a step, unless the caller says otherwise.
const DEFAULT_LIMIT: i32 = 200;
const MAX_LIMIT: i32 = 1_000;
/// Longest position, in characters.
const MAX_POSITION: usize = 4_000;
/// Rules about labels at most.
const MAX_LABELS: usize = 100;

/// StoreKeepingService on a store.
pub(crate) struct Keeping {
    pub(crate) store: Store,
}

#[tonic::async_trait]
impl StoreKeepingService for Keeping {
    async fn list_job_states(
        &self,
        request: Request<proto::ListJobStatesRequest>,
    ) -> Result<Response<proto::ListJobStatesResponse>, Status> {
        let project = principal_of(&request)?.project;
        let jobs = self.store.job_states(&project).await?;
        let jobs = jobs.into_iter().map(job_state);
        let jobs = jobs.collect::<Result<_>>()?;
        Ok(Response::new(proto::ListJobStatesResponse { jobs }))
    }

    async fn claim_job(
        &self,
        request: Request<proto::ClaimJobRequest>,
    ) -> Result<Response<proto::ClaimJobResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let claim = JobClaim {
            name: check::required("name", &request.name, 63)?,
            holder: check::required("holder", &request.holder, 100)?,
            period_ms: positive("period", request.period)?,
            ttl_ms: positive("ttl", request.ttl)?,
            when_due: request.when_due,
        };
        let answer = match self.store.claim_job(&project, &claim).await? {
            Claimed::Ours(position) => proto::ClaimJobResponse {
                claimed: true,
                position,
                ..Default::default()
            },
            Claimed::Running => proto::ClaimJobResponse {
                running: true,
                ..Default::default()
            },
            Claimed::NotDue(ms) => proto::ClaimJobResponse {
                wait: Some(duration(ms)),
                ..Default::default()
            },
        };
        Ok(Response::new(answer))
    }

    async fn renew_job(
        &self,
        request: Request<proto::RenewJobRequest>,
    ) -> Result<Response<proto::RenewJobResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let ttl = positive("ttl", request.ttl)?;
        let (name, holder) = (&request.name, &request.holder);
        self.store.renew_job(&project, name, holder, ttl).await?;
        Ok(Response::new(proto::RenewJobResponse {}))
    }

    async fn end_job(
        &self,
        request: Request<proto::EndJobRequest>,
    ) -> Result<Response<proto::EndJobResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let run = request.run.as_ref().map(json::to_json).transpose();
        let end = JobEnd {
            run: run.map_err(Error::internal)?,
            position: check::optional("position", &request.position, MAX_POSITION)?,
            wait_ms: not_negative("wait", request.wait)?,
        };
        let (name, holder) = (&request.name, &request.holder);
        self.store.end_job(&project, name, holder, &end).await?;
        Ok(Response::new(proto::EndJobResponse {}))
    }

    async fn sweep(
        &self,
        request: Request<proto::SweepRequest>,
    ) -> Result<Response<proto::SweepResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let step = Step {
            dry_run: request.dry_run,
            ..step(&request.after, request.limit)?
        };
        let sweep = sweep(&request)?;
        let swept = self.store.sweep(&project, &sweep, &step).await?;
        let counts = swept.counts.into_iter();
        Ok(Response::new(proto::SweepResponse {
            next: swept.next,
            counts: counts
                .map(|(what, number)| (what.to_owned(), number))
                .collect(),
            details: swept.details,
        }))
    }

    async fn list_garbage(
        &self,
        request: Request<proto::ListGarbageRequest>,
    ) -> Result<Response<proto::ListGarbageResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let grace = not_negative("grace", request.grace)?;
        let step = step(&request.after, request.limit)?;
        let page = self.store.garbage(&project, grace, &step).await?;
        let objects = page.objects.into_iter().map(|object| proto::GarbageObject {
            object_key: object.object_key,
            size_bytes: object.size,
        });
        Ok(Response::new(proto::ListGarbageResponse {
            objects: objects.collect(),
            next: page.next,
        }))
    }

    async fn forget_garbage(
        &self,
        request: Request<proto::ForgetGarbageRequest>,
    ) -> Result<Response<proto::ForgetGarbageResponse>, Status> {
        let project = principal_of(&request)?.project;
        let keys = request.into_inner().object_keys;
        at_most("object_keys", keys.len())?;
        let forgotten = self.store.forget_garbage(&project, &keys).await?;
        let forgotten = i32::try_from(forgotten).unwrap_or(i32::MAX);
        Ok(Response::new(proto::ForgetGarbageResponse { forgotten }))
    }

    async fn find_orphans(
        &self,
        request: Request<proto::FindOrphansRequest>,
    ) -> Result<Response<proto::FindOrphansResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        at_most("objects", request.objects.len())?;
        let objects = request.objects.into_iter().map(|object| Garbage {
            object_key: object.object_key,
            size: object.size_bytes.max(0),
        });
        let objects: Vec<Garbage> = objects.collect();
        let found = self.store.orphans(&project, &objects, request.dry_run);
        let orphans = found.await?.into_iter().map(orphan).collect();
        Ok(Response::new(proto::FindOrphansResponse { orphans }))
    }

    async fn list_committed(
        &self,
        request: Request<proto::ListCommittedRequest>,
    ) -> Result<Response<proto::ListCommittedResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let step = step(&request.after, request.limit)?;
        let page = self.store.committed(&project, &step).await?;
        Ok(Response::new(proto::ListCommittedResponse {
            objects: page.objects.into_iter().map(committed).collect(),
            last: page.last,
            more: page.more,
        }))
    }
}

fn step(after: &str, limit: i32) -> Result<Step> {
    let limit = check::within("limit", limit, 0..=MAX_LIMIT)?;
    let limit = if limit == 0 { DEFAULT_LIMIT } else { limit };
    Ok(Step {
        after: check::optional("after", after, MAX_POSITION)?,
        // At least 1.
        limit: limit.unsigned_abs(),
        dry_run: false,
    })
}

fn sweep(request: &proto::SweepRequest) -> Result<Sweep> {
    let age = || positive("min_age", request.min_age);
    let keep = || {
        if request.keep_labels.len() > MAX_LABELS {
            return Err(invalid_field("keep_labels", "has more than 100 rules"));
        }
        Ok(KeepLabels::new(
            request.keep_labels.iter().map(String::as_str),
        ))
    };
    Ok(match request.kind() {
        SweepKind::Unfinished => Sweep::Unfinished,
        SweepKind::Parts => Sweep::Parts,
        SweepKind::Sources => Sweep::Sources(not_negative("min_age", request.min_age)?),
        SweepKind::Purge => Sweep::Purge,
        SweepKind::Age => Sweep::Age(age()?, keep()?),
        SweepKind::Count => {
            let number = request.keep_per_target;
            let number = check::within("keep_per_target", number, 1..=i32::MAX)?;
            Sweep::Count(number.into(), keep()?)
        }
        SweepKind::Requests => Sweep::Requests,
        SweepKind::Trials => Sweep::Trials,
        SweepKind::Runs => Sweep::Runs(age()?),
        SweepKind::Events => Sweep::Events(age()?),
        SweepKind::Unspecified => return Err(invalid_field("kind", "must be set")),
    })
}

fn at_most(field: &str, number: usize) -> Result<()> {
    match number <= MAX_LIMIT.unsigned_abs() as usize {
        true => Ok(()),
        false => Err(invalid_field(field, "must have at most 1,000")),
    }
}

fn not_negative(field: &str, duration: Option<Duration>) -> Result<i64> {
    let duration = duration.unwrap_or_default();
    // A minute or ten years: any length goes.
    let ms = duration.seconds.checked_mul(1_000);
    let ms = ms.and_then(|ms| ms.checked_add(i64::from(duration.nanos / 1_000_000)));
    ms.filter(|ms| *ms >= 0)
        .ok_or_else(|| invalid_field(field, "must not be negative"))
}

fn positive(field: &str, duration: Option<Duration>) -> Result<i64> {
    match not_negative(field, duration)? {
        0 => Err(invalid_field(field, "must be set")),
        ms => Ok(ms),
    }
}

fn duration(ms: i64) -> Duration {
    Duration {
        seconds: ms.div_euclid(1_000),
        // Less than 1,000 million: it fits.
        nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32,
    }
}

fn job_state(job: JobState) -> Result<proto::JobState> {
    let last_run = job.last_run.map(json::from_json).transpose();
    Ok(proto::JobState {
        name: job.name,
        next_time: Some(view::timestamp(job.next_at)),
        running: job.running,
        last_run: last_run.map_err(Error::internal)?,
    })
}

fn orphan(orphan: Orphan) -> proto::Orphan {
    proto::Orphan {
        object_key: orphan.object_key,
        size_bytes: orphan.size,
        known_for: orphan.known_for_ms.map(duration),
    }
}

fn committed(object: Committed) -> proto::CommittedObject {
    proto::CommittedObject {
        object_key: object.object_key,
        size_bytes: object.size,
        sha256: object.sha256,
        owner: object.owner,
        imported: object.imported,
    }
}
