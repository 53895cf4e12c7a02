//! Rows of files: announced, then uploaded. Both are fenced by the lease of their run.

use aegis_proto::ids::{ArtifactId, Epoch, ProjectId, ScanId, TaskId};
use sea_orm::{ActiveModelTrait, ColumnTrait, EntityTrait, QueryFilter, Set, Value};

use super::{Store, entity::artifact, fault::Result, key, results, rows, tasks, tx::Tx};
use crate::domain::{
    artifact::{Artifact, ArtifactName, ArtifactState, Checksum, object_key},
    refusal,
    tally::Tally,
    task::{LeaseProof, Task, TaskKind},
};

/// The bytes are stored and verified.
const UPLOADED: &str = "
    UPDATE artifacts SET state = 'UPLOADED', sha256 = $3, size = $4, tally = $5
    WHERE project_id = $1 AND id = $2 AND state = 'STAGED'";

/// A file that was announced.
#[derive(Debug, Clone, PartialEq)]
pub struct Staged {
    /// Its row.
    pub artifact: Artifact,
    /// Its bytes are stored already.
    pub complete: bool,
    /// The threshold that its scores are held against.
    pub eval_threshold: f64,
}

impl Store {
    /// Announces a run's file. The same lease and name give the same row.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST.
    pub async fn stage(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
        name: ArtifactName,
    ) -> aegis_mesh::Result<Staged> {
        self.writing(|| self.try_stage(project, lease, name)).await
    }

    async fn try_stage(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
        name: ArtifactName,
    ) -> Result<Staged> {
        let tx = self.write().await?;
        let task = tasks::fenced_shared(&tx, project, lease).await?;
        let eval_threshold = results::visible(&tx, project, task.scan)
            .await?
            .effective_eval_threshold;
        let before = artifact::Entity::find()
            .filter(artifact::Column::ProjectId.eq(project.as_str()))
            .filter(artifact::Column::TaskId.eq(task.id.0))
            .filter(artifact::Column::Epoch.eq(task.epoch.0))
            .filter(artifact::Column::Name.eq(name.as_str()))
            .one(tx.conn())
            .await?;
        if let Some(row) = before {
            let artifact = rows::artifact_of(row)?;
            not_marked(&artifact)?;
            return Ok(Staged {
                complete: artifact.state != ArtifactState::Staged,
                artifact,
                eval_threshold,
            });
        }
        let of = (task.scan, task.id, task.epoch);
        let artifact = self.new_artifact(project, of, name, tx.now().await?);
        insert(&tx, project, &artifact).await?;
        tx.commit().await?;
        Ok(Staged {
            artifact,
            complete: false,
            eval_threshold,
        })
    }

    /// A file of a run, to be announced.
    pub(crate) fn new_artifact(
        &self,
        project: &ProjectId,
        (scan, task, epoch): (ScanId, TaskId, Epoch),
        name: ArtifactName,
        now: i64,
    ) -> Artifact {
        let upload_ms = self.inner.retention.upload.as_millis();
        Artifact {
            id: ArtifactId::generate(),
            scan,
            task,
            epoch,
            name,
            object_key: object_key(project, scan, task, epoch, name),
            state: ArtifactState::Staged,
            checksum: None,
            tally: None,
            revision: 0,
            created_at: now,
            upload_deadline: now.saturating_add(i64::try_from(upload_ms).unwrap_or(i64::MAX)),
        }
    }

    /// The bytes of a file are stored and verified. Repeatable with the same checksum.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST; NOT_FOUND / ARTIFACT_NOT_FOUND when it is not of this run;
    /// INVALID_ARGUMENT / CHECKSUM_MISMATCH when it is stored with another checksum.
    pub async fn complete(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
        id: ArtifactId,
        checksum: &Checksum,
        tally: Option<&Tally>,
    ) -> aegis_mesh::Result<Artifact> {
        self.writing(|| self.try_complete(project, lease, id, checksum, tally))
            .await
    }

    async fn try_complete(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
        id: ArtifactId,
        checksum: &Checksum,
        tally: Option<&Tally>,
    ) -> Result<Artifact> {
        let tx = self.write().await?;
        let task = tasks::fenced_shared(&tx, project, lease).await?;
        let row = artifact::Entity::find_by_id((project.to_string(), id.0))
            .filter(artifact::Column::TaskId.eq(task.id.0))
            .filter(artifact::Column::Epoch.eq(task.epoch.0))
            .one(tx.conn())
            .await?
            .ok_or_else(|| aegis_mesh::Error::not_found("artifact", id))?;
        let mut artifact = rows::artifact_of(row)?;
        not_marked(&artifact)?;
        if let Some(stored) = &artifact.checksum {
            return match stored == checksum {
                true => Ok(artifact),
                false => Err(checksum_mismatch(id).into()),
            };
        }
        if artifact.name == ArtifactName::Report && tally.is_none() {
            return Err(refusal::invalid_field("tally", "must be set for a report").into());
        }
        let values: [Value; 3] = [
            checksum.sha256.as_str().into(),
            checksum.size.into(),
            tally.map(serde_json::to_value).transpose()?.into(),
        ];
        let uploaded = key(project, id.0).into_iter().chain(values);
        if tx.execute(UPLOADED, uploaded).await? != 1 {
            return Err(refusal::lease_lost().into());
        }
        tx.commit().await?;
        artifact.state = ArtifactState::Uploaded;
        artifact.checksum = Some(checksum.clone());
        artifact.tally = tally.cloned();
        Ok(artifact)
    }
}

/// A file that is marked is of no run that holds its task: nobody sees it again.
fn not_marked(artifact: &Artifact) -> Result<()> {
    match artifact.state {
        ArtifactState::Deleting => Err(refusal::lease_lost().into()),
        ArtifactState::Staged | ArtifactState::Uploaded | ArtifactState::Committed => Ok(()),
    }
}

fn checksum_mismatch(id: ArtifactId) -> aegis_mesh::Error {
    aegis_mesh::Error::invalid_argument(
        "CHECKSUM_MISMATCH",
        format!("artifact {id} is stored with another checksum"),
    )
    .field("checksum", "is not that of the stored content")
    .with("artifact_id", id)
}

/// Inserts a row that was announced.
pub(crate) async fn insert(tx: &Tx, project: &ProjectId, artifact: &Artifact) -> Result<()> {
    let row = artifact::ActiveModel {
        project_id: Set(project.to_string()),
        id: Set(artifact.id.0),
        scan_id: Set(artifact.scan.0),
        task_id: Set(artifact.task.0),
        epoch: Set(artifact.epoch.0),
        name: Set(artifact.name.as_str().to_owned()),
        object_key: Set(artifact.object_key.clone()),
        state: Set(artifact.state.as_str().to_owned()),
        sha256: Set(None),
        size: Set(None),
        tally: Set(None),
        revision: Set(artifact.revision),
        created_at: Set(artifact.created_at),
        upload_deadline: Set(artifact.upload_deadline),
        committed_at: Set(None),
        marked_at: Set(None),
    };
    row.insert(tx.conn()).await?;
    Ok(())
}

/// Refuses a lease of a task that is not to make a report.
pub(crate) fn of_report(task: &Task) -> Result<()> {
    if task.kind == TaskKind::Report {
        return Ok(());
    }
    Err(refusal::invalid_field("lease", "must be of a task that makes a report").into())
}
