//! A task is leased: one short transaction that raises its epoch.

use std::time::Duration;

use aegis_proto::ids::{Epoch, ProjectId, ScanId, TaskId};
use sea_orm::Value;

use super::{
    Store,
    checks::Leased,
    entity::task,
    fault::{Fault, Result},
    hub::POLL,
    key,
    pick::{self, Pick, pick_task, repeated},
    rows, scans, tasks,
    tx::Tx,
};
use crate::domain::{
    event::Log,
    ledger,
    scan::{CustomProbeVersion, Scan},
    task::{LeaseProof, Task, TaskKind},
};

/// The grant. The old epoch in the condition is the fence against a lease that came between.
const LEASE: &str = "
    UPDATE tasks SET
        state = 'RUNNING', epoch = epoch + 1, granted = $4,
        lease_runner = $5, lease_request_id = $6, lease_token_hash = $7,
        lease_expires_at = {now} + $8,
        attempts_done = 0, attempts_total = planned_attempts, target_retries = 0,
        last_source_sequence = 0, waits_for = ''
    WHERE project_id = $1 AND id = $2 AND epoch = $3 AND state = 'QUEUED'";

const RUN: &str = "
    INSERT INTO task_runs (project_id, task_id, epoch, runner, token_hash, started_at)
    VALUES ($1, $2, $3, $4, $5, {now})";

/// A repeated answer is a fresh one: its time counts from its arrival.
const RENEW: &str = "
    UPDATE tasks SET lease_expires_at = {now} + $4
    WHERE project_id = $1 AND id = $2 AND epoch = $3 AND state = 'RUNNING'";

/// A poll for work.
#[derive(Debug, Clone)]
pub struct LeaseCall {
    /// Who asks.
    pub runner_id: String,
    /// One per poll.
    pub request_id: String,
    /// SHA-256 of the plugin catalogue that the runner has.
    pub plugin_catalogue: String,
    /// Tasks that the runner runs at once, at least 1.
    pub slots: i32,
    /// How long the lease holds without a report.
    pub ttl_ms: i64,
    /// Scans whose probes may run at once; 0 is no limit.
    pub max_running_scans: i32,
}

impl LeaseCall {
    /// Whether one more scan may begin to run when so many do.
    pub(super) fn may_start(&self, running: i64) -> bool {
        self.max_running_scans == 0 || running < i64::from(self.max_running_scans)
    }
}

/// A lease and what it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Granted {
    /// The proof.
    pub lease: LeaseProof,
    /// What is to be done.
    pub work: Work,
}

/// What a lease is for.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Run one probe.
    Probe(Box<Grant>),
    /// Make this revision of the report.
    Report {
        /// Its number.
        revision: i32,
        /// The custom probes that the scan ran with: the report describes them.
        custom_probes: Vec<CustomProbeVersion>,
    },
}

/// One probe of one scan.
#[derive(Debug, Clone, PartialEq)]
pub struct Grant {
    /// The task.
    pub task: Task,
    /// The scan's specification as proto3 JSON.
    pub spec: serde_json::Value,
    /// The seed.
    pub effective_seed: i64,
    /// The threshold, 0 to 1.
    pub effective_eval_threshold: f64,
    /// The custom probes that the scan runs with.
    pub custom_probes: Vec<CustomProbeVersion>,
}

impl Store {
    /// Leases a task or a check; waits up to `wait` for one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lease(
        &self,
        project: &ProjectId,
        call: &LeaseCall,
        wait: Duration,
    ) -> aegis_mesh::Result<Option<Leased>> {
        let deadline = tokio::time::Instant::now() + wait;
        self.saw_runner(project, call).await?;
        let mut queue = self.inner.hub.queue();
        loop {
            queue.mark_unchanged();
            if let Some(granted) = self.lease_now(project, call).await? {
                return Ok(Some(granted));
            }
            // Time alone makes work, too: a pause that is over.
            if !super::watch::wait(queue.changed(), POLL, deadline).await {
                return Ok(None);
            }
        }
    }

    /// Several may pick the same scan and only one find its last task: the others look again.
    async fn lease_now(
        &self,
        project: &ProjectId,
        call: &LeaseCall,
    ) -> aegis_mesh::Result<Option<Leased>> {
        const PICKS: usize = 16;
        for _ in 0..PICKS {
            match self.writing(|| self.try_lease(project, call)).await? {
                Attempt::Granted(leased) => return Ok(Some(*leased)),
                Attempt::Nothing => return Ok(None),
                Attempt::Lost => {}
            }
        }
        Ok(None)
    }

    async fn try_lease(&self, project: &ProjectId, call: &LeaseCall) -> Result<Attempt> {
        let Some(pick) = self.pick(project, call).await? else {
            return Ok(Attempt::Nothing);
        };
        if let Pick::Check(found) = pick {
            let grant = self.lease_check(project, call, found).await?;
            return Ok(grant.map_or(Attempt::Lost, |grant| {
                Attempt::Granted(Box::new(Leased::Check(grant)))
            }));
        }
        let mut tx = self.write().await?;
        if let Some(row) = repeated(&tx, project, call).await? {
            return self.repeat(tx, project, call, row).await;
        }
        let (scan, slots) = match pick {
            Pick::Repeat | Pick::Check(_) => return Ok(Attempt::Lost),
            Pick::Probe { scan, slots } => (scan, Some(slots)),
            Pick::Report(scan) => (scan, None),
        };
        let Some(scan) = scans::lock(&tx, project, scan).await? else {
            return Ok(Attempt::Lost);
        };
        let granted = match slots {
            Some(slots) => self.lease_probe(&mut tx, scan, slots, call).await?,
            None => self.lease_report(&mut tx, scan, call).await?,
        };
        let Some(granted) = granted else {
            return Ok(Attempt::Lost);
        };
        aegis_mesh::failpoint!(LEASE_WRITTEN);
        tx.commit().await?;
        aegis_mesh::failpoint!(LEASED);
        Ok(Attempt::Granted(Box::new(Leased::Task(granted))))
    }

    async fn repeat(
        &self,
        mut tx: Tx,
        project: &ProjectId,
        call: &LeaseCall,
        row: task::Model,
    ) -> Result<Attempt> {
        let renew = key(project, row.id)
            .into_iter()
            .chain([row.epoch.into(), call.ttl_ms.into()]);
        tx.execute(RENEW, renew).await?;
        let scan = scans::lock(&tx, project, ScanId(row.scan_id))
            .await?
            .ok_or_else(|| Fault::Corrupt(format!("task {} has no scan", row.id)))?;
        tx.wake_scan(scan.id);
        tx.commit().await?;
        let granted = self.granted(&scan, rows::task_of(row)?, call);
        Ok(Attempt::Granted(Box::new(Leased::Task(granted))))
    }

    async fn lease_probe(
        &self,
        tx: &mut Tx,
        mut scan: Scan,
        slots: i32,
        call: &LeaseCall,
    ) -> Result<Option<Granted>> {
        if scan.queued == 0 || scan.in_flight >= scan.max_in_flight || scan.is_paused() {
            return Ok(None);
        }
        let (mut lane, now) = scans::lock_lane_now(tx, &scan).await?;
        if lane.room() == 0 || lane.is_paused(now) {
            return Ok(None);
        }
        let Some(mut task) = pick_task(tx, &scan, TaskKind::Probe).await? else {
            return Ok(None);
        };
        if scan.in_flight == 0 && !pick::may_start(tx, &scan.project, call).await? {
            return Ok(None);
        }
        let share = ledger::share(&scan, &lane, slots);
        self.grant(tx, &scan.project, &mut task, share, call)
            .await?;
        let mut log = Log::default();
        ledger::lease(
            &mut scan,
            Some(&mut lane),
            &mut task,
            share,
            &call.runner_id,
            now,
            &mut log,
        );
        scans::save_lane(tx, &scan.project, &lane).await?;
        scans::save(tx, &mut scan, now, log).await?;
        Ok(Some(self.granted(&scan, task, call)))
    }

    async fn lease_report(
        &self,
        tx: &mut Tx,
        mut scan: Scan,
        call: &LeaseCall,
    ) -> Result<Option<Granted>> {
        let Some(mut task) = pick_task(tx, &scan, TaskKind::Report).await? else {
            return Ok(None);
        };
        let now = tx.now().await?;
        self.grant(tx, &scan.project, &mut task, 0, call).await?;
        let mut log = Log::default();
        ledger::lease(
            &mut scan,
            None,
            &mut task,
            0,
            &call.runner_id,
            now,
            &mut log,
        );
        scans::save(tx, &mut scan, now, log).await?;
        Ok(Some(self.granted(&scan, task, call)))
    }

    /// Raises the epoch, in the row and in `task`.
    async fn grant(
        &self,
        tx: &Tx,
        project: &ProjectId,
        task: &mut Task,
        granted: i32,
        call: &LeaseCall,
    ) -> Result<()> {
        let old = task.epoch;
        task.epoch = Epoch(old.0 + 1);
        let hash = tasks::token_hash(&self.token(project, task.id, task.epoch, call));
        let lease: [Value; 6] = [
            old.0.into(),
            granted.into(),
            call.runner_id.as_str().into(),
            call.request_id.as_str().into(),
            hash.clone().into(),
            call.ttl_ms.into(),
        ];
        let leased = tx
            .execute(LEASE, key(project, task.id.0).into_iter().chain(lease))
            .await?;
        if leased != 1 {
            return Err(Fault::Corrupt(format!(
                "task {} changed under its lock",
                task.id
            )));
        }
        let run: [Value; 3] = [
            task.epoch.0.into(),
            call.runner_id.as_str().into(),
            hash.into(),
        ];
        tx.execute(RUN, key(project, task.id.0).into_iter().chain(run))
            .await?;
        Ok(())
    }

    fn token(&self, project: &ProjectId, task: TaskId, epoch: Epoch, call: &LeaseCall) -> Vec<u8> {
        let request = format!("{}|{}", call.runner_id, call.request_id);
        self.inner
            .secrets
            .lease_token(project, task, epoch, &request)
    }

    fn granted(&self, scan: &Scan, task: Task, call: &LeaseCall) -> Granted {
        let lease = LeaseProof {
            task: task.id,
            scan: scan.id,
            epoch: task.epoch,
            token: self.token(&scan.project, task.id, task.epoch, call),
        };
        let work = match task.kind {
            TaskKind::Report => Work::Report {
                revision: task.revision,
                custom_probes: scan.custom_probes.clone(),
            },
            TaskKind::Probe => Work::Probe(Box::new(Grant {
                task,
                spec: scan.spec.clone(),
                effective_seed: scan.effective_seed,
                effective_eval_threshold: scan.effective_eval_threshold,
                custom_probes: scan.custom_probes.clone(),
            })),
        };
        Granted { lease, work }
    }
}

/// What came of one look.
enum Attempt {
    Granted(Box<Leased>),
    Nothing,
    /// Somebody else was faster.
    Lost,
}
