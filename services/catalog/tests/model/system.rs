//! The catalog's store on a SQLite file, two replicas of it, asked for what the steps say.

use std::{path::Path, time::Duration};

use aegis_catalog::{
    domain::{
        artifact::ArtifactName,
        keeping::{Step as SweepStep, Sweep},
        policy::RetryPolicy,
        scan::{IdempotencyKey, NewScan},
        tally::Tally,
        task::{Directive, LeaseProof, Outcome, OutcomeKind},
    },
    store::{Granted, LeaseCall, Leased, ReportCall, Retention, Store, Work as Task},
};
use aegis_mesh::Result;
use aegis_proto::ids::{ArtifactId, ScanId};

use crate::{
    reference::{Model, names},
    step::{Answer, Content, How, MAX_FAILURES, Plan, SLOTS, Step, Wish, Work, minutes},
    time::Times,
    world::{CATALOGUE, World, checksum, new_scan, outcome, tally},
};

const POLICY: RetryPolicy = RetryPolicy {
    backoff_ms: ms(minutes::BACKOFF),
    max_backoff_ms: ms(minutes::BACKOFF),
    lane_pause_ms: ms(minutes::LANE_PAUSE),
    max_backpressure_ms: ms(minutes::MAX_BACKPRESSURE),
    max_outage_ms: ms(minutes::MAX_OUTAGE),
};

const fn ms(minutes: i64) -> i64 {
    minutes * 60_000
}

const fn retention() -> Retention {
    const fn lasting(minutes: i64) -> Duration {
        Duration::from_secs(minutes as u64 * 60)
    }
    Retention {
        deleted_scan: lasting(minutes::DELETED_SCAN),
        request: lasting(minutes::REQUEST),
        upload: lasting(minutes::LEASE),
    }
}

/// The store, and what its users and runners know.
pub(crate) struct System {
    pub(crate) world: World,
    pub(crate) scans: Vec<ScanId>,
    replicas: [Store; 2],
    times: Times,
    leases: Vec<Run>,
    listed: Vec<String>,
    steps: usize,
}

/// What a runner was given.
struct Run {
    granted: Granted,
    call: LeaseCall,
    uploaded: Vec<ArtifactId>,
}

/// What a replica answered.
enum Reply {
    Told(Answer),
    Made(ScanId),
    Granted(Option<Box<Granted>>, LeaseCall),
    Uploaded(usize, Vec<ArtifactId>),
    Listed(Vec<String>),
}

impl Reply {
    fn number(number: impl TryInto<i64>) -> Self {
        Self::Told(Answer::Number(number.try_into().unwrap_or(i64::MAX)))
    }
}

impl System {
    pub(crate) async fn new() -> Self {
        // Thousands of commits: where there is a disk in memory they wait for none.
        let memory = Path::new("/dev/shm");
        let above = match memory.is_dir() {
            true => memory.to_owned(),
            false => std::env::temp_dir(),
        };
        let world = World::sqlite_in(&above, retention()).await;
        Self {
            scans: Vec::new(),
            replicas: [world.store.clone(), world.replica().await],
            times: Times::of(&world).await,
            leases: Vec::new(),
            listed: Vec::new(),
            steps: 0,
            world,
        }
    }

    /// Does a step, and gives what its actor is told. The model has done it already.
    pub(crate) async fn apply(&mut self, step: &Step, model: &Model) -> Answer {
        self.steps += 1;
        match step {
            Step::Pass { tens } => self.pass(*tens).await,
            Step::Restart { replica } => {
                self.replicas[*replica] = self.world.replica().await;
                Answer::Accepted
            }
            Step::Together(one, other) => self.together(one, other, model).await,
            Step::Lost(step) => {
                drop(self.ask(step, self.steps % 2).await);
                let reply = self.ask(step, (self.steps + 1) % 2).await;
                self.take(reply, model)
            }
            _ => {
                let reply = self.ask(step, self.steps % 2).await;
                self.take(reply, model)
            }
        }
    }

    pub(crate) async fn pass(&self, tens: i64) -> Answer {
        self.times.pass(&self.world, ms(tens * minutes::TEN)).await;
        Answer::Accepted
    }

    pub(crate) async fn expire(&self) {
        let expire = self.world.store.expire(&self.world.project, &POLICY, 1_000);
        expire.await.unwrap();
    }

    /// Who was first is seen by what was granted.
    async fn together(&mut self, one: &Step, other: &Step, model: &Model) -> Answer {
        let (one, other) = tokio::join!(self.ask(one, 0), self.ask(other, 1));
        let next = model.leases.get(self.leases.len());
        let is_next = |reply: &Result<Reply>| match (reply, next) {
            (Ok(Reply::Granted(Some(granted), _)), Some(next)) => {
                self.is(granted, model, next.scan, next.task, next.epoch)
            }
            _ => false,
        };
        let (one, other) = if is_next(&other) {
            let other = self.take(other, model);
            (self.take(one, model), other)
        } else {
            (self.take(one, model), self.take(other, model))
        };
        Answer::Both(Box::new(one), Box::new(other))
    }

    /// Whether a lease is of this task and epoch.
    fn is(&self, granted: &Granted, model: &Model, scan: usize, task: usize, epoch: i64) -> bool {
        let probes = model.scans[scan].plan.probes;
        let same = match &granted.work {
            Task::Probe(grant) => grant.task.probe == format!("test.Probe{task}"),
            Task::Report { revision, .. } => probes + *revision as usize - 1 == task,
        };
        same && granted.lease.scan == self.scans[scan] && granted.lease.epoch.0 == epoch
    }

    /// Keeps what a replica answered.
    fn take(&mut self, reply: Result<Reply>, model: &Model) -> Answer {
        match reply {
            Err(error) => Answer::Refused(error.reason().to_owned()),
            Ok(Reply::Told(answer)) => answer,
            Ok(Reply::Made(id)) => Answer::Scan(place(&mut self.scans, id, |scan| *scan == id)),
            Ok(Reply::Granted(None, _)) => Answer::Lease(None),
            Ok(Reply::Granted(Some(granted), call)) => {
                let lease = granted.lease.clone();
                let run = Run {
                    granted: *granted,
                    call,
                    uploaded: Vec::new(),
                };
                let index = place(&mut self.leases, run, |run| {
                    (run.granted.lease.task, run.granted.lease.epoch) == (lease.task, lease.epoch)
                });
                let granted = &self.leases[index].granted;
                assert_eq!(granted.lease, lease, "a repeated lease has another proof");
                let is = model.leases.get(index);
                let is = is.filter(|is| self.is(granted, model, is.scan, is.task, is.epoch));
                assert!(is.is_some(), "{granted:?} was granted");
                Answer::Lease(Some(index))
            }
            Ok(Reply::Uploaded(lease, files)) => {
                self.leases[lease].uploaded = files;
                Answer::Accepted
            }
            Ok(Reply::Listed(keys)) => {
                self.listed = keys;
                Answer::Number(self.listed.len() as i64)
            }
        }
    }

    /// Asks a replica; nothing is kept here.
    async fn ask(&self, step: &Step, replica: usize) -> Result<Reply> {
        let (store, project) = (&self.replicas[replica], &self.world.project);
        match *step {
            Step::Create { request, ref plan } => {
                let view = store.create(project, &new(request, plan)).await?;
                Ok(Reply::Made(view.scan.id))
            }
            Step::Wish { scan, wish } => self.wish(store, self.scans[scan], wish).await,
            Step::Poll { runner } => self.poll(store, self.new_call(runner)).await,
            Step::PollAgain { lease } => self.poll(store, self.leases[lease].call.clone()).await,
            Step::Report { lease, detectors } => {
                let call = ReportCall {
                    lease: self.proof(lease).clone(),
                    progress: None,
                    waits_for: None,
                    detectors_finished: (1..=detectors)
                        .map(|number| (number, format!("test.Detector{number}")))
                        .collect(),
                    ttl_ms: ms(minutes::LEASE),
                };
                let told = store.report(project, &call).await?;
                Ok(Reply::Told(Answer::Directive {
                    stop: told.directive == Directive::Stop,
                    heard: told.committed_source_sequence,
                }))
            }
            Step::Stage { lease } => {
                let proof = self.proof(lease);
                store.stage(project, proof, ArtifactName::Report).await?;
                Ok(Reply::Told(Answer::Accepted))
            }
            Step::Upload { lease, content } => self.upload(store, lease, content).await,
            Step::Finish { lease, how } => {
                let outcome = self.outcome(lease, how);
                let finish = store.finish(project, self.proof(lease), &outcome, None, &POLICY);
                finish.await?;
                Ok(Reply::Told(Answer::Accepted))
            }
            Step::Expire => Ok(Reply::number(store.expire(project, &POLICY, 1_000).await?)),
            Step::Sweep { work, dry_run } => {
                let (sweep, what) = sweep_of(work);
                let swept = self.world.sweep_on(store, &sweep, 2, dry_run).await?;
                Ok(Reply::number(swept.counted(what)))
            }
            Step::ListGarbage => self.list_garbage(store).await,
            Step::ForgetGarbage => {
                let forgotten = store.forget_garbage(project, &self.listed).await?;
                Ok(Reply::number(forgotten))
            }
            Step::Pass { .. } | Step::Restart { .. } | Step::Lost(_) | Step::Together(..) => {
                unreachable!("nothing that a replica is asked for")
            }
        }
    }

    fn proof(&self, lease: usize) -> &LeaseProof {
        &self.leases[lease].granted.lease
    }

    async fn wish(&self, store: &Store, id: ScanId, wish: Wish) -> Result<Reply> {
        let project = &self.world.project;
        let view = match wish {
            Wish::Cancel => store.cancel(project, id, "").await,
            Wish::Pause => store.pause(project, id, "").await,
            Wish::Resume => store.resume(project, id).await,
            Wish::Retry => store.retry(project, id).await,
            Wish::Delete => store.delete(project, id).await,
            Wish::Undelete => store.undelete(project, id).await,
        };
        Ok(Reply::Told(Answer::State(view?.scan.state)))
    }

    /// The same within a step: it is sent again when its answer is lost.
    fn new_call(&self, runner: usize) -> LeaseCall {
        LeaseCall {
            runner_id: format!("runner-{runner}"),
            request_id: format!("poll-{}", self.steps),
            plugin_catalogue: CATALOGUE.to_owned(),
            slots: SLOTS as i32,
            ttl_ms: ms(minutes::LEASE),
            max_running_scans: 0,
        }
    }

    async fn poll(&self, store: &Store, call: LeaseCall) -> Result<Reply> {
        let lease = store.lease(&self.world.project, &call, Duration::ZERO);
        let granted = lease.await?.and_then(Leased::task).map(Box::new);
        Ok(Reply::Granted(granted, call))
    }

    /// Results tell of which run they are.
    async fn upload(&self, store: &Store, lease: usize, content: Content) -> Result<Reply> {
        let run = &self.leases[lease];
        let (project, proof) = (&self.world.project, &run.granted.lease);
        let (probe, tally) = match (&run.granted.work, content) {
            (Task::Report { .. }, _) => (false, Tally::default()),
            (Task::Probe(grant), Content::Results) => {
                (true, tally(&grant.task.probe, proof.epoch.0, 1))
            }
            (Task::Probe(grant), Content::Nothing) => (true, tally(&grant.task.probe, 0, 0)),
        };
        let (mut files, checksum) = (Vec::new(), checksum());
        for name in names(probe) {
            let id = store.stage(project, proof, *name).await?.artifact.id;
            let complete = store.complete(project, proof, id, &checksum, Some(&tally));
            complete.await?;
            files.push(id);
        }
        Ok(Reply::Uploaded(lease, files))
    }

    fn outcome(&self, lease: usize, how: How) -> Outcome {
        let reason = "SOME_REASON";
        match how {
            How::Done => Outcome {
                artifacts: self.leases[lease].uploaded.clone(),
                ..outcome(OutcomeKind::Done, "")
            },
            How::Retryable => outcome(OutcomeKind::Retryable, reason),
            How::Permanent => outcome(OutcomeKind::Permanent, reason),
            How::Backpressure { asked } => Outcome {
                retry_after_ms: asked.then_some(ms(minutes::ASKED)),
                ..outcome(OutcomeKind::Backpressure, reason)
            },
            How::Released => outcome(OutcomeKind::Released, ""),
            How::Cancelled => outcome(OutcomeKind::Cancelled, ""),
        }
    }

    async fn list_garbage(&self, store: &Store) -> Result<Reply> {
        let mut keys = Vec::new();
        let mut step = SweepStep {
            limit: 2,
            ..SweepStep::default()
        };
        loop {
            let project = &self.world.project;
            let page = store.garbage(project, ms(minutes::GRACE), &step).await?;
            keys.extend(page.objects.into_iter().map(|object| object.object_key));
            if page.next.is_empty() {
                return Ok(Reply::Listed(keys));
            }
            step.after = page.next;
        }
    }
}

/// Where it is; at the end when it was not there.
fn place<T>(all: &mut Vec<T>, new: T, same: impl Fn(&T) -> bool) -> usize {
    if let Some(index) = all.iter().position(same) {
        return index;
    }
    all.push(new);
    all.len() - 1
}

fn sweep_of(work: Work) -> (Sweep, &'static str) {
    match work {
        Work::Unfinished => (Sweep::Unfinished, "marked"),
        Work::Parts => (Sweep::Parts, "marked"),
        Work::Purge => (Sweep::Purge, "purged"),
        Work::Requests => (Sweep::Requests, "requests"),
        Work::Runs => (Sweep::Runs(ms(minutes::KEPT)), "runs"),
        Work::Events => (Sweep::Events(ms(minutes::KEPT)), "events"),
    }
}

fn new(request: usize, plan: &Plan) -> NewScan {
    let mut new = new_scan(plan.probes);
    if let Some(hopeless) = plan.hopeless {
        let why = ("UNLOADABLE".to_owned(), "it cannot be loaded".to_owned());
        new.tasks[hopeless].not_evaluated = Some(why);
    }
    new.key = IdempotencyKey {
        method: "Create".to_owned(),
        request_id: format!("request-{request}"),
        request_sha256: format!("{plan:?}"),
    };
    new.lane.key = format!("target-{}", plan.lane);
    new.lane.max_in_flight = plan.lane_calls as i32;
    new.max_in_flight = plan.calls as i32;
    new.priority = plan.priority;
    new.max_failures = MAX_FAILURES as i32;
    new
}
