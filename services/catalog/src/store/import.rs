//! A scan that ran elsewhere is taken in: its files announced, then all of it visible at once.

use aegis_proto::ids::{ProjectId, ScanId, TaskId};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set, Value};

use super::{
    Store, artifacts, create,
    entity::{artifact, task},
    fault::Result,
    results, rows, scan_keys, scans, settle, statistics,
    tx::Tx,
};
use crate::domain::{
    artifact::{Artifact, ArtifactName, ArtifactState, Checksum},
    import::{EPOCH, Import, LANE, Planned, Probe, REVISION, plan},
    refusal,
    scan::{NotEvaluated, Scan, ScanView},
    task::{TaskKind, TaskState},
};

/// The lane of scans that nothing runs of; tasks have one.
const JOIN_LANE: &str = "
    INSERT INTO lanes (project_id, id, max_in_flight, queued) VALUES ($1, $2, 1, 0)
    ON CONFLICT (project_id, id) DO NOTHING";

/// The file's bytes are stored, and become part of the scan.
const COMMIT_ARTIFACT: &str = "
    UPDATE artifacts SET
        state = 'COMMITTED', sha256 = $4, size = $5, tally = $6, committed_at = $7, revision = $8
    WHERE project_id = $1 AND id = $2 AND task_id = $3 AND state = 'STAGED'";

/// What there is of a scan that is to be taken in.
#[derive(Debug)]
pub enum StagedImport {
    /// It is there, with the same report.
    Existing(Box<ScanView>),
    /// Rows for its files, of a task of their own.
    Rows(TaskId, Vec<Artifact>),
}

/// What became of it.
#[derive(Debug)]
pub struct Imported {
    /// The scan.
    pub view: ScanView,
    /// It was there already.
    pub unchanged: bool,
    /// What was not taken over as it was.
    pub warnings: Vec<String>,
}

impl Store {
    /// Whether this scan may be taken in, as far as that can be told without its report.
    ///
    /// # Errors
    /// FAILED_PRECONDITION / SCAN_DELETED.
    pub async fn check_import(&self, project: &ProjectId, id: ScanId) -> aegis_mesh::Result<()> {
        let find = async {
            let tx = self.read().await?;
            there(&tx, project, id).await.map(drop)
        };
        Ok(find.await?)
    }

    /// Announces an import's files.
    ///
    /// # Errors
    /// ALREADY_EXISTS / SCAN_EXISTS when it is there with another report; FAILED_PRECONDITION /
    /// SCAN_DELETED.
    pub async fn stage_import(
        &self,
        project: &ProjectId,
        id: ScanId,
        report: Option<&Checksum>,
        names: &[ArtifactName],
    ) -> aegis_mesh::Result<StagedImport> {
        let staged = self
            .writing(|| self.try_stage_import(project, id, report, names))
            .await?;
        match staged {
            Some((task, artifacts)) => Ok(StagedImport::Rows(task, artifacts)),
            None => {
                let view = self.get(project, id).await?;
                Ok(StagedImport::Existing(Box::new(view)))
            }
        }
    }

    async fn try_stage_import(
        &self,
        project: &ProjectId,
        id: ScanId,
        report: Option<&Checksum>,
        names: &[ArtifactName],
    ) -> Result<Option<(TaskId, Vec<Artifact>)>> {
        let tx = self.write().await?;
        if let Some(scan) = there(&tx, project, id).await? {
            same_report(&tx, &scan, report).await?;
            return Ok(None);
        }
        let (task, now) = (TaskId::generate(), tx.now().await?);
        let of = (id, task, EPOCH);
        let rows = names.iter();
        let rows = rows.map(|name| self.new_artifact(project, of, *name, now));
        let artifacts: Vec<_> = rows.collect();
        for artifact in &artifacts {
            artifacts::insert(&tx, project, artifact).await?;
        }
        tx.commit().await?;
        Ok(Some((task, artifacts)))
    }

    /// Makes an import's scan visible with all that belongs to it, or nothing of it. Of two that
    /// take in the same scan at once, one does so and the other finds it.
    ///
    /// # Errors
    /// ALREADY_EXISTS / SCAN_EXISTS; FAILED_PRECONDITION / SCAN_DELETED; ABORTED / IMPORT_LOST when
    /// its files' rows were collected.
    pub async fn commit_import(
        &self,
        project: &ProjectId,
        import: &Import,
    ) -> aegis_mesh::Result<Imported> {
        match self
            .writing(|| self.try_commit_import(project, import))
            .await?
        {
            Made::New(planned) => Ok(Imported {
                warnings: planned.warnings.clone(),
                unchanged: false,
                view: view(*planned),
            }),
            Made::There { by_this } => Ok(Imported {
                view: self.get(project, import.id).await?,
                unchanged: !by_this,
                warnings: Vec::new(),
            }),
        }
    }

    async fn try_commit_import(&self, project: &ProjectId, import: &Import) -> Result<Made> {
        let mut tx = self.write().await?;
        if let Some(scan) = there(&tx, project, import.id).await? {
            let task = same_report(&tx, &scan, import.report_checksum()).await?;
            let by_this = task == Some(import.task) && !import.dry_run;
            return Ok(Made::There { by_this });
        }
        let now = tx.now().await?;
        let mut planned = plan(project, import, now);
        let ended_at = planned.scan.ended_at.unwrap_or(now);
        let scan = &mut planned.scan;
        tx.execute(JOIN_LANE, [project.as_str().into(), LANE.into()])
            .await?;
        let (began, ended) = (
            std::mem::take(&mut planned.began),
            std::mem::take(&mut planned.ended),
        );
        // Events refer to the scan, whose row says how many there are.
        scan.last_sequence = (began.events().len() + ended.events().len()) as i64;
        rows::new_scan(scan)?.insert(tx.conn()).await?;
        scan.last_sequence = 0;
        let began_at = scan.started_at.unwrap_or(scan.created_at);
        scans::append(&tx, scan, began_at, began).await?;
        scans::append(&tx, scan, ended_at, ended).await?;
        add_tasks(&tx, import, scan, &planned.probes, ended_at).await?;
        commit_files(&tx, project, import, now).await?;
        let names = planned.probes.iter().map(|probe| probe.name.as_str());
        scan_keys::add(&tx, scan, names).await?;
        results::add_all(&tx, scan, &planned.results, ended_at).await?;
        statistics::count(&tx, scan).await?;
        if !import.dry_run {
            tx.wake_scan(import.id);
            tx.commit().await?;
        }
        Ok(Made::New(Box::new(planned)))
    }
}

enum Made {
    New(Box<Planned>),
    There { by_this: bool },
}

/// The scan, if there is one.
async fn there(tx: &Tx, project: &ProjectId, id: ScanId) -> Result<Option<Scan>> {
    let row = super::entity::scan::Entity::find_by_id((project.to_string(), id.0));
    let row = row.one(tx.conn()).await?;
    let scan = row.map(rows::scan_of).transpose()?;
    match scan {
        Some(scan) if scan.deleted_at.is_some() => Err(refusal::scan_deleted(id).into()),
        scan => Ok(scan),
    }
}

/// Refuses another report than the scan has; the task that made that.
async fn same_report(tx: &Tx, scan: &Scan, report: Option<&Checksum>) -> Result<Option<TaskId>> {
    let row = artifact::Entity::find()
        .filter(artifact::Column::ProjectId.eq(scan.project.as_str()))
        .filter(artifact::Column::ScanId.eq(scan.id.0))
        .filter(artifact::Column::Revision.eq(scan.report.ready_revision))
        .filter(artifact::Column::Name.eq(ArtifactName::Report.as_str()))
        .filter(artifact::Column::State.eq(ArtifactState::Committed.as_str()))
        // Parts are of revision 0: no report.
        .filter(artifact::Column::Revision.gt(0))
        .one(tx.conn())
        .await?;
    let stored = row.map(rows::artifact_of).transpose()?;
    let checksum = stored.as_ref().and_then(|stored| stored.checksum.as_ref());
    let is_same = checksum == report && (report.is_some() || scan.imported);
    if is_same {
        return Ok(stored.map(|stored| stored.task));
    }
    Err(refusal::scan_exists(scan.id, scan.imported).into())
}

/// Its tasks are done: nothing runs of it, and whatever reads what ran reads it.
async fn add_tasks(
    tx: &Tx,
    import: &Import,
    scan: &Scan,
    probes: &[Probe],
    ended_at: i64,
) -> Result<()> {
    let probes = probes.iter().enumerate();
    let mut tasks: Vec<_> = probes
        .map(|(place, probe)| probe_task(scan, place, probe, ended_at))
        .collect();
    if import.report.is_some() {
        tasks.push(task::ActiveModel {
            id: Set(import.task.0),
            state: Set(TaskState::Done.as_str().to_owned()),
            epoch: Set(EPOCH.0),
            ended_at: Set(Some(ended_at)),
            ..settle::new_report_task(scan, REVISION, ended_at)
        });
    }
    create::insert_tasks(tx, tasks).await
}

fn probe_task(scan: &Scan, place: usize, probe: &Probe, ended_at: i64) -> task::ActiveModel {
    let (reason, message) = probe.not_evaluated.clone().unwrap_or_default();
    let state = match probe.not_evaluated {
        None => TaskState::Done,
        Some(_) => TaskState::Failed,
    };
    task::ActiveModel {
        id: Set(TaskId::generate().0),
        lane_id: Set(Some(scan.lane.clone())),
        kind: Set(TaskKind::Probe.as_str().to_owned()),
        probe: Set(probe.name.clone()),
        revision: Set(0),
        ordinal: Set(i32::try_from(place).unwrap_or(i32::MAX)),
        planned_attempts: Set(probe.attempts),
        // Nothing of it can ever be queued.
        planned_out: Set(true),
        state: Set(state.as_str().to_owned()),
        attempts_done: Set(probe.attempts),
        attempts_total: Set(probe.attempts),
        // Also when the report is lost: there is no part of it either.
        composed_revision: Set(REVISION),
        reason: Set(reason),
        message: Set(message),
        ended_at: Set(Some(ended_at)),
        ..settle::new_report_task(scan, 0, ended_at)
    }
}

async fn commit_files(tx: &Tx, project: &ProjectId, import: &Import, now: i64) -> Result<()> {
    for file in &import.files {
        let Some(artifact) = file.artifact else {
            continue;
        };
        let tally = import
            .report
            .as_ref()
            .filter(|_| file.name == ArtifactName::Report);
        let tally = tally.map(|report| serde_json::to_value(&report.tally));
        let values: [Value; 8] = [
            project.as_str().into(),
            artifact.0.into(),
            import.task.0.into(),
            file.checksum.sha256.as_str().into(),
            file.checksum.size.into(),
            tally.transpose()?.into(),
            now.into(),
            REVISION.into(),
        ];
        if tx.execute(COMMIT_ARTIFACT, values).await? != 1 {
            return Err(refusal::import_lost(import.id).into());
        }
    }
    Ok(())
}

/// The scan as [`Store::get`] gives it.
fn view(planned: Planned) -> ScanView {
    let not_evaluated = planned.probes.into_iter().filter_map(|probe| {
        let (reason, message) = probe.not_evaluated?;
        Some(NotEvaluated {
            probe: probe.name,
            reason,
            message,
        })
    });
    ScanView {
        waiting: None,
        attempts_done: planned.scan.attempts_done,
        attempts_total: planned.scan.attempts_total,
        probes: Vec::new(),
        not_evaluated: not_evaluated.collect(),
        scan: planned.scan,
    }
}
