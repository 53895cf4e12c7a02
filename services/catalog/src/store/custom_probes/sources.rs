//! Rows of sources: announced, then committed. The bytes are artifact's.

use aegis_proto::ids::ProjectId;
use sea_orm::{QueryResult, Value};

use super::super::{Store, fault::Result, tx::Tx};
use crate::domain::{
    check::CheckLease,
    custom_probe::{self, Source, SourceState, new_source_key},
    refusal,
    scan::CustomProbeVersion,
    task::LeaseProof,
};
use crate::store::tasks;

/// Whoever announces it is about to use it: it is not collected for a while.
const STAGE: &str = "
    INSERT INTO sources (project_id, sha256, size, object_key, state, created_at, touched_at)
    VALUES ($1, $2, $3, $4, 'STAGED', {now}, {now})
    ON CONFLICT (project_id, sha256) DO UPDATE SET touched_at = excluded.touched_at";

const FIND: &str = "
    SELECT sha256, size, object_key, state FROM sources WHERE project_id = $1 AND sha256 = $2";

const COMMIT: &str = "
    UPDATE sources SET state = 'COMMITTED', committed_at = COALESCE(committed_at, {now})
    WHERE project_id = $1 AND sha256 = $2";

/// It stays until the transaction ends.
const COMMITTED: &str = "
    SELECT sha256 FROM sources WHERE project_id = $1 AND sha256 = $2 AND state = 'COMMITTED'
    {share}";

/// What the scan of a task's lease is pinned to.
const PINNED: &str = "
    SELECT s.custom_probes FROM tasks t
    JOIN scans s ON s.project_id = t.project_id AND s.id = t.scan_id
    WHERE t.project_id = $1 AND t.id = $2 AND t.scan_id = $3 AND t.epoch = $4
      AND t.state = 'RUNNING' AND t.lease_token_hash = $5";

impl Store {
    /// Announces a source. The same one again gives the same row.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn stage_source(
        &self,
        project: &ProjectId,
        sha256: &str,
        size: i64,
    ) -> aegis_mesh::Result<Source> {
        self.writing(|| self.try_stage_source(project, sha256, size))
            .await
    }

    async fn try_stage_source(
        &self,
        project: &ProjectId,
        sha256: &str,
        size: i64,
    ) -> Result<Source> {
        let tx = self.write().await?;
        let values: [Value; 4] = [
            project.as_str().into(),
            sha256.into(),
            size.into(),
            new_source_key(project, sha256).into(),
        ];
        tx.execute(STAGE, values).await?;
        let row = tx
            .one(FIND, [project.as_str().into(), sha256.into()])
            .await?;
        let source = source_of(&row.ok_or_else(|| custom_probe::source_not_found(sha256))?)?;
        tx.commit().await?;
        Ok(source)
    }

    /// The bytes of a source are stored and verified. Repeatable.
    ///
    /// # Errors
    /// NOT_FOUND / SOURCE_NOT_FOUND when it was not announced.
    pub async fn commit_source(&self, project: &ProjectId, sha256: &str) -> aegis_mesh::Result<()> {
        self.writing(|| self.try_commit_source(project, sha256))
            .await
    }

    async fn try_commit_source(&self, project: &ProjectId, sha256: &str) -> Result<()> {
        let tx = self.write().await?;
        let of_source = [project.as_str().into(), sha256.into()];
        if tx.execute(COMMIT, of_source).await? != 1 {
            return Err(custom_probe::source_not_found(sha256).into());
        }
        tx.commit().await
    }

    /// A committed source.
    ///
    /// # Errors
    /// NOT_FOUND / SOURCE_NOT_FOUND.
    pub async fn source(&self, project: &ProjectId, sha256: &str) -> aegis_mesh::Result<Source> {
        Ok(self.read_source(project, sha256).await?)
    }

    async fn read_source(&self, project: &ProjectId, sha256: &str) -> Result<Source> {
        let of_source = [project.as_str().into(), sha256.into()];
        let row = self.query(FIND, of_source).await?;
        let source = row.as_ref().map(source_of).transpose()?;
        let committed = source.filter(|source| source.state == SourceState::Committed);
        Ok(committed.ok_or_else(|| custom_probe::source_not_found(sha256))?)
    }

    /// A source that the scan of this lease is pinned to.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST; PERMISSION_DENIED / SOURCE_NOT_LEASED.
    pub async fn source_of_scan(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
        sha256: &str,
    ) -> aegis_mesh::Result<Source> {
        let pinned = self.pinned(project, lease).await?;
        if !pinned.iter().any(|version| version.sha256 == sha256) {
            return Err(custom_probe::source_not_leased(sha256));
        }
        self.source(project, sha256).await
    }

    async fn pinned(
        &self,
        project: &ProjectId,
        lease: &LeaseProof,
    ) -> Result<Vec<CustomProbeVersion>> {
        let fence: [Value; 5] = [
            project.as_str().into(),
            lease.task.0.into(),
            lease.scan.0.into(),
            lease.epoch.0.into(),
            tasks::token_hash(&lease.token).into(),
        ];
        let row = self.query(PINNED, fence).await?;
        let row = row.ok_or_else(refusal::lease_lost)?;
        let pinned: serde_json::Value = row.try_get("", "custom_probes")?;
        Ok(serde_json::from_value(pinned)?)
    }

    /// The source that this lease of a check is for.
    ///
    /// # Errors
    /// ABORTED / LEASE_LOST; PERMISSION_DENIED / SOURCE_NOT_LEASED.
    pub async fn source_of_check(
        &self,
        project: &ProjectId,
        lease: &CheckLease,
        sha256: &str,
    ) -> aegis_mesh::Result<Source> {
        if self.leased_sha256(project, lease).await? != sha256 {
            return Err(custom_probe::source_not_leased(sha256));
        }
        self.source(project, sha256).await
    }
}

/// A committed source, kept until the transaction ends.
pub(crate) async fn require_source(tx: &Tx, project: &ProjectId, sha256: &str) -> Result<()> {
    let of_source = [project.as_str().into(), sha256.into()];
    match tx.one(COMMITTED, of_source).await? {
        Some(_) => Ok(()),
        None => Err(custom_probe::source_not_found(sha256).into()),
    }
}

fn source_of(row: &QueryResult) -> Result<Source> {
    let state: String = row.try_get("", "state")?;
    Ok(Source {
        sha256: row.try_get("", "sha256")?,
        size: row.try_get("", "size")?,
        object_key: row.try_get("", "object_key")?,
        state: state.parse()?,
    })
}
