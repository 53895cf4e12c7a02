//! `aegis.admin.v1.JobService`.

use std::collections::HashMap;

use aegis_mesh::{Code, Error, Result};
use aegis_proto::{
    admin::v1::{self as pb, job_service_server::JobService},
    internal::catalog::v1::ListJobStatesRequest,
};
use tonic::{Request, Response, Status};

use super::relay;
use crate::jobs::{Clients, Job, Scheduler};

/// Longest part of a name that an error repeats.
const SHOWN: usize = 63;

/// The jobs, for operators.
pub(crate) struct JobApi {
    scheduler: Scheduler,
    clients: Clients,
}

impl JobApi {
    pub(crate) fn new(scheduler: Scheduler, clients: Clients) -> Self {
        Self { scheduler, clients }
    }
}

#[tonic::async_trait]
impl JobService for JobApi {
    async fn list_jobs(
        &self,
        _request: Request<pb::ListJobsRequest>,
    ) -> Result<Response<pb::ListJobsResponse>, Status> {
        let mut keeping = self.clients.keeping.clone();
        let states = keeping.list_job_states(ListJobStatesRequest {}).await;
        let states = states.map_err(relay)?.into_inner().jobs.into_iter();
        let mut states: HashMap<String, _> =
            states.map(|state| (state.name.clone(), state)).collect();
        let mut jobs = Vec::new();
        for job in Job::ALL {
            let state = states.remove(job.name()).unwrap_or_default();
            let period = self.scheduler.period(job);
            jobs.push(pb::Job {
                name: job.name().to_owned(),
                description: job.description().to_owned(),
                period: Some(period.try_into().map_err(Error::internal)?),
                next_time: state.next_time,
                last_run: state.last_run,
                running: state.running,
            });
        }
        Ok(Response::new(pb::ListJobsResponse { jobs }))
    }

    async fn run_job(
        &self,
        request: Request<pb::RunJobRequest>,
    ) -> Result<Response<pb::RunJobResponse>, Status> {
        let pb::RunJobRequest { name, dry_run } = request.into_inner();
        let job = Job::find(&name).ok_or_else(|| not_found(&name))?;
        let run = self.scheduler.run_now(job, dry_run).await?;
        Ok(Response::new(pb::RunJobResponse { run: Some(run) }))
    }
}

fn not_found(name: &str) -> Error {
    let name: String = name.chars().take(SHOWN).collect();
    let names: Vec<&str> = Job::ALL.map(Job::name).to_vec();
    Error::new(
        Code::NotFound,
        "JOB_NOT_FOUND",
        format!("there is no job {name:?}"),
    )
    .with("job", name)
    .hint(format!("one of {}", names.join(", ")))
}
