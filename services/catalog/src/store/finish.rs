//! A run ends: one fenced transaction commits its outcome, its files and their counts.

use aegis_proto::ids::{ArtifactId, ProjectId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    Store,
    conclude::Ending,
    entity::{artifact, task_run},
    fault::Result,
    key, results, rows, scans, tasks,
    tx::Tx,
};
use crate::domain::{
    artifact::{Artifact, ArtifactName, ArtifactState},
    event::Log,
    ledger,
    policy::RetryPolicy,
    refusal,
    tally::Tally,
    task::{LeaseProof, Outcome, OutcomeKind, Task, TaskKind, TaskProgress},
    verdict::{RunEnd, Verdict},
};

/// The run's files become part of the scan, or of this revision of its report.
const COMMIT_ARTIFACT: &str = "
    UPDATE artifacts SET state = 'COMMITTED', committed_at = $3, revision = $4
    WHERE project_id = $1 AND id = $2 AND state = 'UPLOADED'";

/// From now on the attempts of these probes are found in this revision. A later one has them
/// too, but not at once: readers go by the first.
const COMPOSED: &str = "
    UPDATE tasks SET composed_revision = $3
    WHERE project_id = $1 AND scan_id = $2 AND kind = 'PROBE' AND state = 'DONE'
      AND composed_revision = 0";

/// The parts that it took in are collected later.
const PARTS_TAKEN_IN: &str = "
    UPDATE scans SET parts_taken_in = TRUE WHERE project_id = $1 AND id = $2";

impl Store {
    /// Ends a run. The same end sent again is accepted again.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST when the run is not held, or ended otherwise;
    /// FAILED_PRECONDITION / ARTIFACT_NOT_UPLOADED when a file is missing.
    pub async fn finish(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
        outcome: &Outcome,
        progress: Option<TaskProgress>,
        policy: &RetryPolicy,
    ) -> aegis_mesh::Result<()> {
        self.writing(|| self.try_finish(project, lease, outcome, progress, policy))
            .await
    }

    async fn try_finish(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
        outcome: &Outcome,
        progress: Option<TaskProgress>,
        policy: &RetryPolicy,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        let scan = scans::lock(&tx, project, lease.scan).await?;
        let scan = scan.ok_or_else(refusal::lease_lost)?;
        let (lane, now) = scans::lock_lane_now(&tx, &scan).await?;
        let Some(row) = tasks::fenced(&tx, project, lease).await? else {
            return repeated(&tx, project, lease, outcome).await;
        };
        let mut task = rows::task_of(row)?;
        if let Some(progress) = progress {
            take(&mut task, progress);
        }
        let ending = Ending {
            scan,
            lane,
            task,
            log: Log::default(),
            now,
        };
        match (outcome.kind, ending.task.kind) {
            (OutcomeKind::Done, TaskKind::Probe) => {
                probe_done(&mut tx, ending, outcome, policy).await?;
            }
            (OutcomeKind::Done, TaskKind::Report) => {
                report_done(&mut tx, ending, outcome).await?;
            }
            _ => not_done(&mut tx, ending, outcome, outcome, policy).await?,
        }
        aegis_mesh::failpoint!(FINISH_WRITTEN);
        tx.commit().await?;
        aegis_mesh::failpoint!(FINISHED);
        Ok(())
    }
}

fn take(task: &mut Task, progress: TaskProgress) {
    task.progress.attempts_done = progress.attempts_done;
    task.progress.target_retries = progress.target_retries;
    if progress.attempts_total > 0 {
        task.progress.attempts_total = progress.attempts_total;
    }
}

/// The fence did not hold. Only the repeat of what this very run said last is accepted.
async fn repeated(
    tx: &Tx,
    project: &ProjectId,
    lease: &LeaseProof,
    outcome: &Outcome,
) -> Result<()> {
    let id = (project.to_string(), lease.task.0, lease.epoch.0);
    let run = task_run::Entity::find_by_id(id).one(tx.conn()).await?;
    let sent = run
        .filter(|run| run.token_hash == tasks::token_hash(&lease.token))
        .and_then(|run| run.sent)
        .map(serde_json::from_value::<Outcome>)
        .transpose()?;
    if sent.as_ref() == Some(outcome) {
        return Ok(());
    }
    Err(refusal::lease_lost().into())
}

/// `sent` is what the runner said, `outcome` what holds.
async fn not_done(
    tx: &mut Tx,
    mut ending: Ending,
    outcome: &Outcome,
    sent: &Outcome,
    policy: &RetryPolicy,
) -> Result<()> {
    let verdict = ending.judge(RunEnd::Finished(outcome), policy);
    ending.conclude(tx, verdict, None, Some(sent)).await
}

async fn probe_done(
    tx: &mut Tx,
    ending: Ending,
    outcome: &Outcome,
    policy: &RetryPolicy,
) -> Result<()> {
    let files = uploaded(tx, &ending, outcome).await?;
    let tally = report_tally(&files)?;
    if let Some((reason, message)) = useless(&tally, &ending.task.probe) {
        let failed = Outcome {
            kind: OutcomeKind::Permanent,
            reason: reason.to_owned(),
            message,
            ..outcome.clone()
        };
        return not_done(tx, ending, &failed, outcome, policy).await;
    }
    commit(tx, &ending, &files).await?;
    let tags = &ending.task.tags;
    results::add(tx, &ending.scan, tags, &tally, ending.now).await?;
    ending
        .conclude(tx, Verdict::Done, Some(&tally), Some(outcome))
        .await
}

async fn report_done(tx: &mut Tx, mut ending: Ending, outcome: &Outcome) -> Result<()> {
    let files = uploaded(tx, &ending, outcome).await?;
    let tally = report_tally(&files)?;
    commit(tx, &ending, &files).await?;
    results::grade(tx, &mut ending.scan, &tally).await?;
    let composed = [ending.task.revision.into()];
    let of_scan = key(&ending.scan.project, ending.scan.id.0);
    tx.execute(COMPOSED, of_scan.clone().into_iter().chain(composed))
        .await?;
    tx.execute(PARTS_TAKEN_IN, of_scan).await?;
    let mut names: Vec<ArtifactName> = files.iter().map(|file| file.name).collect();
    names.retain(|name| name.is_public());
    names.sort_by_key(|name| *name as u8);
    let names = names.iter().map(|name| name.as_str().to_owned()).collect();
    ledger::publish_report(&mut ending.scan, &ending.task, names, &mut ending.log);
    ending
        .conclude(tx, Verdict::Done, None, Some(outcome))
        .await
}

/// The files that the outcome names, all uploaded by this run.
async fn uploaded(tx: &Tx, ending: &Ending, outcome: &Outcome) -> Result<Vec<Artifact>> {
    let found = artifact::Entity::find()
        .filter(artifact::Column::ProjectId.eq(ending.scan.project.as_str()))
        .filter(artifact::Column::TaskId.eq(ending.task.id.0))
        .filter(artifact::Column::Epoch.eq(ending.task.epoch.0))
        .filter(artifact::Column::State.eq(ArtifactState::Uploaded.as_str()))
        .all(tx.conn())
        .await?;
    let mut files = Vec::new();
    for row in found {
        if outcome.artifacts.contains(&ArtifactId(row.id)) {
            files.push(rows::artifact_of(row)?);
        }
    }
    for id in &outcome.artifacts {
        if !files.iter().any(|file| file.id == *id) {
            return Err(refusal::artifact_not_uploaded(&id.to_string()).into());
        }
    }
    Ok(files)
}

/// Exactly artifact's tally, never the runner's word.
fn report_tally(files: &[Artifact]) -> Result<Tally> {
    let report = files
        .iter()
        .find(|file| file.name == ArtifactName::Report)
        .and_then(|file| file.tally.clone());
    Ok(report.ok_or_else(|| refusal::artifact_not_uploaded(ArtifactName::Report.as_str()))?)
}

/// Why a part is worth nothing although its runner called it done.
fn useless(tally: &Tally, probe: &str) -> Option<(&'static str, String)> {
    if tally.foreign_probe(probe).is_some() {
        let message = "the run's report has results of a probe that it did not run";
        return Some(("REPORT_MISMATCH", message.to_owned()));
    }
    if !tally.is_evaluated() {
        let message = format!("no output of {probe} could be scored by any detector");
        return Some(("NOTHING_EVALUATED", message));
    }
    None
}

async fn commit(tx: &Tx, ending: &Ending, files: &[Artifact]) -> Result<()> {
    for file in files {
        let values = [ending.now.into(), ending.task.revision.into()];
        let of_file = key(&ending.scan.project, file.id.0);
        let commit = of_file.into_iter().chain(values);
        // It was read before: that it is collected meanwhile must not happen.
        if tx.execute(COMMIT_ARTIFACT, commit).await? != 1 {
            return Err(refusal::artifact_not_uploaded(&file.id.to_string()).into());
        }
    }
    Ok(())
}
