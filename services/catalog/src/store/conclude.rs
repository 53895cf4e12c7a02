//! What follows the end of a run, whatever ended it; in its transaction.

use sea_orm::Value;

use super::{fault::Result, key, scans, settle, tasks, tx::Tx};
use crate::domain::{
    event::{Event, Log},
    lane::Lane,
    ledger,
    policy::RetryPolicy,
    scan::Scan,
    tally::Tally,
    task::{Outcome, OutcomeKind, Task, TaskKind, TaskState},
    verdict::{Circumstances, RunEnd, Verdict, judge},
    waiting::WaitingReason,
};

/// The run's own row. What the runner sent is kept, so that its repeat is known.
const END_RUN: &str = "
    UPDATE task_runs SET ended_at = $4, outcome = $5, reason = $6, sent = $7
    WHERE project_id = $1 AND task_id = $2 AND epoch = $3 AND ended_at IS NULL";

/// A run that ends: scan, lane and task are locked, in this order.
pub(crate) struct Ending {
    pub(crate) scan: Scan,
    pub(crate) lane: Lane,
    pub(crate) task: Task,
    pub(crate) log: Log,
    pub(crate) now: i64,
}

impl Ending {
    /// Decides what becomes of the task, and tells the lane of a push-back.
    pub(crate) fn judge(&mut self, end: RunEnd<'_>, policy: &RetryPolicy) -> Verdict {
        let pushed_back = matches!(end, RunEnd::Finished(outcome)
            if outcome.kind == OutcomeKind::Backpressure);
        let probe = self.task.kind == TaskKind::Probe;
        if let (true, true, RunEnd::Finished(outcome)) = (probe, pushed_back, end) {
            let had_answered = self.task.progress.attempts_done > 0;
            self.lane
                .push_back(self.now, had_answered, outcome.retry_after_ms, policy);
        }
        let at = Circumstances {
            lane: probe.then_some(&self.lane),
            cancel_requested: self.scan.is_cancel_requested(),
            policy,
            now: self.now,
            luck: rand::random(),
        };
        let verdict = judge(&self.task, end, &at);
        let waits = pushed_back && probe && matches!(verdict, Verdict::Requeue { .. });
        if waits && !self.scan.waiting_noted {
            self.scan.waiting_noted = true;
            self.log.of_scan(Event::Waiting {
                reason: WaitingReason::TargetNotAnswering.as_str().to_owned(),
            });
        }
        verdict
    }

    /// Writes it all, and lets the scan go on or end.
    pub(crate) async fn conclude(
        mut self,
        tx: &mut Tx,
        verdict: Verdict,
        tally: Option<&Tally>,
        sent: Option<&Outcome>,
    ) -> Result<()> {
        let outcome = sent.map_or("EXPIRED", |sent| sent.kind.as_str());
        let is_given_up = matches!(verdict, Verdict::GiveUp { .. })
            && sent.is_some_and(|sent| sent.kind == OutcomeKind::Backpressure);
        let lane = (self.task.kind == TaskKind::Probe).then_some(&mut self.lane);
        ledger::end_run(
            &mut self.scan,
            lane,
            &mut self.task,
            verdict,
            tally,
            &mut self.log,
        );
        let project = self.scan.project.clone();
        tasks::save(tx, &project, &self.task, TaskState::Running, self.now).await?;
        let run: [Value; 5] = [
            self.task.epoch.0.into(),
            self.now.into(),
            outcome.into(),
            self.task.reason.as_str().into(),
            sent.map(serde_json::to_value).transpose()?.into(),
        ];
        tx.execute(
            END_RUN,
            key(&project, self.task.id.0).into_iter().chain(run),
        )
        .await?;
        if is_given_up {
            self.give_up_queued(tx).await?;
        }
        if self.task.kind == TaskKind::Probe {
            scans::save_lane(tx, &project, &self.lane).await?;
        }
        let kind = self.task.kind;
        settle::settle(tx, &mut self.scan, kind, self.now, &mut self.log).await?;
        scans::save(tx, &mut self.scan, self.now, self.log).await?;
        // Room came free, a task waits again, or a report is to be made.
        tx.wake_queue();
        Ok(())
    }

    /// The target was waited for as long as it may be: the scan's other probes would find out the
    /// same, one after the other. Those of a paused scan wait for something else.
    async fn give_up_queued(&mut self, tx: &Tx) -> Result<()> {
        if self.task.kind != TaskKind::Probe || self.scan.is_paused() {
            return Ok(());
        }
        let mut queued = tasks::queued(tx, &self.scan).await?;
        for task in &mut queued {
            ledger::give_up_queued(
                &mut self.scan,
                &mut self.lane,
                task,
                &self.task.reason,
                &self.task.message,
                &mut self.log,
            );
        }
        tasks::end_queued(tx, &self.scan, queued.last(), self.now).await
    }
}
