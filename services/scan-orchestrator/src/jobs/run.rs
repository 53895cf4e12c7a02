//! A run of a job: its steps, and what it has to tell.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

use aegis_mesh::{CallContext, Error, MeshChannel, Result, Shutdown, with_context};
use aegis_proto::{
    admin::v1::JobRun,
    internal::{
        artifact::v1::object_service_client::ObjectServiceClient,
        catalog::v1::{
            self as pb, SweepKind, statistics_fold_service_client::StatisticsFoldServiceClient,
            store_keeping_service_client::StoreKeepingServiceClient,
        },
    },
};
use prost_types::{Struct, Value, value::Kind};

use super::{Job, fold, gc, scrub};
use crate::config::{JobsConfig, jobs::days};

/// Lines that a run tells at most.
const MAX_DETAILS: usize = 100;
/// How long a job's lease holds without a renewal.
pub(super) const TTL: Duration = Duration::from_secs(60);
/// Longest step.
pub(super) const STEP: Duration = Duration::from_secs(30);

/// Whom jobs call.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) keeping: StoreKeepingServiceClient<MeshChannel>,
    pub(crate) objects: ObjectServiceClient<MeshChannel>,
    pub(crate) fold: StatisticsFoldServiceClient<MeshChannel>,
}

/// One run, which holds the job's lease.
pub(super) struct Run<'a> {
    pub(super) job: Job,
    pub(super) clients: &'a Clients,
    pub(super) config: &'a JobsConfig,
    pub(super) dry_run: bool,
    /// Where the run before left off, then where this one does.
    pub(super) position: String,
    shutdown: &'a Shutdown,
    holder: String,
    renewed: Instant,
    started: SystemTime,
    counts: BTreeMap<String, i64>,
    details: Vec<String>,
}

impl<'a> Run<'a> {
    pub(super) fn new(
        job: Job,
        (clients, config, shutdown): (&'a Clients, &'a JobsConfig, &'a Shutdown),
        holder: String,
        position: String,
        dry_run: bool,
    ) -> Self {
        Self {
            job,
            clients,
            config,
            dry_run,
            position,
            shutdown,
            holder,
            renewed: Instant::now(),
            started: SystemTime::now(),
            counts: BTreeMap::new(),
            details: Vec::new(),
        }
    }

    /// Does all of the job.
    pub(super) async fn work(&mut self) -> Result<()> {
        match self.job {
            Job::Gc => gc::collect(self).await,
            Job::Scrub => scrub::scrub(self).await,
            Job::Retention => self.retention().await,
            Job::Purge => self.sweep(SweepKind::Purge).await,
            Job::Fold => fold::fold_all(self).await,
            Job::Expire => {
                self.sweep(SweepKind::Requests).await?;
                self.sweep(SweepKind::Trials).await?;
                self.sweep_older(SweepKind::Runs, days(self.config.run_days))
                    .await
            }
            Job::Compact => {
                self.sweep_older(SweepKind::Events, days(self.config.event_days))
                    .await
            }
        }
    }

    async fn retention(&mut self) -> Result<()> {
        if self.config.retention_days > 0 {
            let age = days(self.config.retention_days);
            self.sweep_older(SweepKind::Age, age).await?;
        }
        if self.config.retention_per_target > 0 {
            self.sweep(SweepKind::Count).await?;
        }
        Ok(())
    }

    pub(super) async fn sweep(&mut self, kind: SweepKind) -> Result<()> {
        self.sweep_older(kind, Duration::ZERO).await
    }

    /// All steps of this work, on what is older than `min_age`.
    pub(super) async fn sweep_older(&mut self, kind: SweepKind, min_age: Duration) -> Result<()> {
        let mut request = pb::SweepRequest {
            kind: kind.into(),
            dry_run: self.dry_run,
            min_age: Some(min_age.try_into().map_err(Error::internal)?),
            keep_per_target: i32::try_from(self.config.retention_per_target).unwrap_or(i32::MAX),
            keep_labels: self.config.retention_keep_labels.clone(),
            ..pb::SweepRequest::default()
        };
        loop {
            let mut keeping = self.clients.keeping.clone();
            let asked = request.clone();
            let swept = self.step(async move { Ok(keeping.sweep(asked).await?.into_inner()) });
            let swept = swept.await?;
            for (what, number) in swept.counts {
                self.count(&what, number);
            }
            for line in swept.details {
                self.tell(line);
            }
            if swept.next.is_empty() {
                return Ok(());
            }
            request.after = swept.next;
        }
    }

    /// A bounded step. Between two of them the lease is renewed, and a shutdown is heard.
    pub(super) async fn step<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.step_within(STEP, work).await
    }

    pub(super) async fn step_within<T>(
        &mut self,
        budget: Duration,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.renew(budget).await?;
        let context = CallContext::for_job(self.job.name(), budget);
        let done = self.shutdown.until(with_context(context, work)).await;
        done.unwrap_or_else(|| Err(stopping()))
    }

    async fn renew(&mut self, budget: Duration) -> Result<()> {
        if self.renewed.elapsed() + budget.min(TTL) < TTL {
            return Ok(());
        }
        let request = pb::RenewJobRequest {
            name: self.job.name().to_owned(),
            holder: self.holder.clone(),
            ttl: Some((TTL + budget).try_into().map_err(Error::internal)?),
        };
        let mut keeping = self.clients.keeping.clone();
        let context = CallContext::for_job(self.job.name(), STEP);
        let renewal = with_context(context, keeping.renew_job(request));
        match self.shutdown.until(renewal).await {
            Some(renewed) => renewed?,
            None => return Err(stopping()),
        };
        self.renewed = Instant::now();
        Ok(())
    }

    pub(super) fn count(&mut self, what: &str, number: i64) {
        if number != 0 {
            *self.counts.entry(what.to_owned()).or_default() += number;
        }
    }

    pub(super) fn tell(&mut self, line: String) {
        if self.details.len() < MAX_DETAILS {
            self.details.push(line);
        }
    }

    /// What is said first, although others came before: alarms.
    pub(super) fn alarm(&mut self, line: String) {
        self.details.truncate(MAX_DETAILS - 1);
        self.details.insert(0, line);
    }

    /// Whether it did anything, or would.
    pub(super) fn did(&self) -> bool {
        !self.counts.is_empty()
    }

    /// What is kept of it.
    pub(super) fn end(self, result: &Result<()>) -> JobRun {
        let number = |number: i64| Value {
            kind: Some(Kind::NumberValue(number as f64)),
        };
        let counts = self.counts.into_iter();
        let fields = counts.map(|(what, count)| (what, number(count)));
        JobRun {
            start_time: Some(self.started.into()),
            end_time: Some(SystemTime::now().into()),
            dry_run: self.dry_run,
            succeeded: result.is_ok(),
            reason: match result {
                Ok(()) => String::new(),
                Err(error) => error.reason().to_owned(),
            },
            result: Some(Struct {
                fields: fields.collect(),
            }),
            details: self.details,
        }
    }
}

/// The service stops: another replica goes on.
pub(crate) fn stopping() -> Error {
    const AGAIN: Duration = Duration::from_secs(1);
    Error::unavailable("SHUTTING_DOWN", "this replica stops", AGAIN)
}
