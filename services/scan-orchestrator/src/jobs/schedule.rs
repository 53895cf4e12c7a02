//! Each job runs by its period, on whichever replica gets its lease, and when somebody asks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use aegis_mesh::{CallContext, Error, Result, Shutdown, TaskHandle, spawn, with_context};
use aegis_proto::{admin::v1::JobRun, internal::catalog::v1 as pb};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::{
    Job,
    run::{Clients, Run, STEP, TTL, stopping},
};
use crate::config::JobsConfig;

/// Longest pause between two looks whether a job is due, and the pause after a failure.
const LOOK: Duration = Duration::from_secs(60);
/// Replicas part by up to this share of a period.
const JITTER: f64 = 0.1;

/// Somebody wants a run now.
struct Wanted {
    dry_run: bool,
    answer: oneshot::Sender<Result<JobRun>>,
}

/// What became of a try.
enum Tried {
    Ran(JobRun),
    Running,
    NotDue(Duration),
}

/// Runs jobs, and takes wishes.
#[derive(Clone)]
pub(crate) struct Scheduler {
    inner: Arc<Inner>,
}

struct Inner {
    clients: Clients,
    config: JobsConfig,
    shutdown: Shutdown,
    lines: Vec<(Job, mpsc::Sender<Wanted>, AtomicBool)>,
}

impl Scheduler {
    /// Starts all jobs; they end with `shutdown`.
    pub(crate) fn start(
        clients: Clients,
        config: JobsConfig,
        shutdown: Shutdown,
    ) -> (Self, Vec<TaskHandle<()>>) {
        let (lines, wishes): (Vec<_>, Vec<_>) = Job::ALL
            .map(|job| {
                let (wish, wishes) = mpsc::channel(1);
                ((job, wish, AtomicBool::new(false)), (job, wishes))
            })
            .into_iter()
            .unzip();
        let inner = Inner {
            clients,
            config,
            shutdown: shutdown.clone(),
            lines,
        };
        let scheduler = Self {
            inner: Arc::new(inner),
        };
        let mut handles: Vec<TaskHandle<()>> = wishes
            .into_iter()
            .map(|(job, wishes)| spawn(job.name(), scheduler.clone().keep_running(job, wishes)))
            .collect();
        handles.push(super::fold::fold(scheduler.clone(), shutdown));
        (scheduler, handles)
    }

    pub(super) fn clients(&self) -> &Clients {
        &self.inner.clients
    }

    pub(crate) fn period(&self, job: Job) -> Duration {
        job.period(&self.inner.config)
    }

    /// Runs a job now.
    ///
    /// # Errors
    /// ABORTED / JOB_RUNNING; UNAVAILABLE / SHUTTING_DOWN.
    pub(crate) async fn run_now(&self, job: Job, dry_run: bool) -> Result<JobRun> {
        let (answer, run) = oneshot::channel();
        let line = self.inner.lines.iter().find(|(of, ..)| *of == job);
        let (_, wish, busy) = line.ok_or_else(|| Error::internal("a job without a line"))?;
        let wanted = Wanted { dry_run, answer };
        if busy.load(Ordering::Acquire) || wish.try_send(wanted).is_err() {
            return Err(match self.inner.shutdown.is_triggered() {
                true => stopping(),
                false => running(job),
            });
        }
        run.await.unwrap_or_else(|_| Err(stopping()))
    }

    async fn keep_running(self, job: Job, mut wishes: mpsc::Receiver<Wanted>) {
        let shutdown = self.inner.shutdown.clone();
        let mut failing = false;
        let mut pause = jittered(Duration::from_secs(2));
        loop {
            // The fold runs by itself.
            let due = async {
                match job {
                    Job::Fold => std::future::pending().await,
                    _ => tokio::time::sleep(pause).await,
                }
            };
            let wanted = tokio::select! {
                () = shutdown.triggered() => return,
                () = due => None,
                Some(wanted) = wishes.recv() => Some(wanted),
            };
            let line = self.inner.lines.iter().find(|(of, ..)| *of == job);
            let busy = |is: bool| {
                if let Some((_, _, busy)) = line {
                    busy.store(is, Ordering::Release);
                }
            };
            busy(true);
            match wanted {
                Some(Wanted { dry_run, answer }) => {
                    let ran = match self.run(job, false, dry_run).await {
                        Ok(Tried::Ran(run)) => Ok(run),
                        Ok(Tried::Running | Tried::NotDue(_)) => Err(running(job)),
                        Err(error) => Err(error),
                    };
                    busy(false);
                    // Whoever asked may be gone; the job's row says how it went.
                    drop(answer.send(ran));
                }
                None => {
                    let tried = self.run(job, true, false).await;
                    busy(false);
                    pause = self.after(job, tried, &mut failing);
                }
            }
        }
    }

    /// How long to wait after a try; a failure is told once.
    fn after(&self, job: Job, tried: Result<Tried>, failing: &mut bool) -> Duration {
        match tried {
            Ok(tried) => {
                *failing = false;
                match tried {
                    Tried::Ran(_) => LOOK.min(self.period(job)),
                    Tried::Running => LOOK,
                    Tried::NotDue(wait) => LOOK.min(wait).max(Duration::from_millis(100)),
                }
            }
            Err(error) => {
                if !*failing && !self.inner.shutdown.is_triggered() {
                    let (job, reason) = (job.name(), error.reason());
                    tracing::warn!(job, reason, %error, "the job could not be tried");
                }
                *failing = true;
                jittered(LOOK)
            }
        }
    }

    /// Takes the lease, works, and gives it back.
    async fn run(&self, job: Job, when_due: bool, dry_run: bool) -> Result<Tried> {
        let holder = Uuid::new_v4().to_string();
        let claimed = self.claim(job, &holder, when_due).await?;
        if claimed.running {
            return Ok(Tried::Running);
        }
        if !claimed.claimed {
            let wait = claimed.wait.unwrap_or_default();
            return Ok(Tried::NotDue(wait.try_into().unwrap_or(LOOK)));
        }
        let Inner {
            clients,
            config,
            shutdown,
            ..
        } = &*self.inner;
        let with = (clients, config, shutdown);
        let mut run = Run::new(job, with, holder.clone(), claimed.position, dry_run);
        let result = run.work().await;
        let (position, did) = (run.position.clone(), run.did());
        let ran = run.end(&result);
        let name = job.name();
        match &result {
            Ok(()) if did => tracing::info!(job = name, dry_run, result = ?counts(&ran), "job ran"),
            Ok(()) => tracing::debug!(job = name, dry_run, "job ran"),
            Err(error) => {
                tracing::warn!(job = name, dry_run, reason = error.reason(), %error, "job failed");
            }
        }
        self.end(job, holder, position, &ran).await?;
        Ok(Tried::Ran(ran))
    }

    async fn claim(&self, job: Job, holder: &str, when_due: bool) -> Result<pb::ClaimJobResponse> {
        let period = self.period(job);
        let request = pb::ClaimJobRequest {
            name: job.name().to_owned(),
            holder: holder.to_owned(),
            period: Some(period.try_into().map_err(Error::internal)?),
            ttl: Some((TTL + STEP).try_into().map_err(Error::internal)?),
            when_due,
        };
        let mut keeping = self.inner.clients.keeping.clone();
        let context = CallContext::for_job(job.name(), STEP);
        let claim = with_context(context, keeping.claim_job(request));
        match self.inner.shutdown.until(claim).await {
            Some(claimed) => Ok(claimed?.into_inner()),
            None => Err(stopping()),
        }
    }

    async fn end(&self, job: Job, holder: String, position: String, ran: &JobRun) -> Result<()> {
        let wait = jittered(self.period(job));
        let request = pb::EndJobRequest {
            name: job.name().to_owned(),
            holder,
            run: (!ran.dry_run).then(|| ran.clone()),
            position,
            wait: Some(wait.try_into().map_err(Error::internal)?),
        };
        let mut keeping = self.inner.clients.keeping.clone();
        let context = CallContext::for_job(job.name(), STEP);
        let end = with_context(context, keeping.end_job(request));
        // A lease that is not given back runs out by itself.
        if let Some(ended) = self.inner.shutdown.until(end).await {
            ended?;
        }
        Ok(())
    }

    /// Notes what was done without a lease.
    pub(super) async fn note(&self, job: Job, what: &str, number: i64) {
        let noted = async {
            let holder = Uuid::new_v4().to_string();
            if !self.claim(job, &holder, false).await?.claimed {
                return Ok(());
            }
            let Inner {
                clients,
                config,
                shutdown,
                ..
            } = &*self.inner;
            let with = (clients, config, shutdown);
            let mut run = Run::new(job, with, holder.clone(), String::new(), false);
            run.count(what, number);
            self.end(job, holder, String::new(), &run.end(&Ok(())))
                .await
        };
        if let Err(error) = noted.await {
            tracing::debug!(job = job.name(), %error, "what was done is not noted");
        }
    }
}

fn counts(run: &JobRun) -> Vec<String> {
    let fields = run.result.iter().flat_map(|result| &result.fields);
    fields
        .filter_map(|(what, value)| match value.kind {
            Some(prost_types::value::Kind::NumberValue(number)) => Some(format!("{what} {number}")),
            _ => None,
        })
        .collect()
}

fn running(job: Job) -> Error {
    let name = job.name();
    Error::aborted("JOB_RUNNING", format!("the job {name} runs already"))
        .with("job", name)
        .hint("wait until it is through; `aegis admin jobs` shows what it did")
}

fn jittered(period: Duration) -> Duration {
    let share: f64 = rand::random();
    period.mul_f64(1.0 - JITTER * share)
}
