//! What users do to custom probes. Each is one transaction under the probe's row lock.

use aegis_proto::ids::ProjectId;
use sea_orm::{FromQueryResult, Value};

use super::{
    super::{Store, checks, fault::Result, tx::Tx},
    CustomProbeUpdate, require_source, usage,
};
use crate::domain::custom_probe::{self, CustomProbe, MAX_CUSTOM_PROBES, VersionState};

/// A row with what decides about it. Locked: versions are numbered under this lock.
const LOCK: &str = "
    SELECT description, version, first_version, revision, deleted_at FROM custom_probes
    WHERE project_id = $1 AND name = $2
    {lock}";

const NEWEST: &str = "
    SELECT sha256, state FROM custom_probe_versions
    WHERE project_id = $1 AND name = $2 AND version = $3";

const LIVE: &str = "
    SELECT COUNT(*) AS live FROM custom_probes WHERE project_id = $1 AND deleted_at IS NULL";

/// Of two at once one inserts; the other finds it when it is run again.
const CREATE: &str = "
    INSERT INTO custom_probes
        (project_id, name, description, created_by, version, first_version, revision, created_at)
    VALUES ($1, $2, $3, $4, 1, 1, 1, {now})";

/// A name that is taken again goes on with its numbers: a scan's pin means one source for good.
const REVIVE: &str = "
    UPDATE custom_probes SET
        description = $3, created_by = $4, version = version + 1, first_version = version + 1,
        revision = revision + 1, created_at = {now}, deleted_at = NULL
    WHERE project_id = $1 AND name = $2";

const UPDATE: &str = "
    UPDATE custom_probes SET description = $3, version = $4, revision = revision + 1
    WHERE project_id = $1 AND name = $2";

const DELETE: &str = "
    UPDATE custom_probes SET deleted_at = {now}, revision = revision + 1
    WHERE project_id = $1 AND name = $2";

const VERSION: &str = "
    INSERT INTO custom_probe_versions
        (project_id, name, version, sha256, created_by, state, created_at)
    VALUES ($1, $2, $3, $4, $5, 'CHECKING', {now})";

/// A custom probe to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewCustomProbe {
    /// garak's module name.
    pub name: String,
    /// Its user's words.
    pub description: String,
    /// Of a committed source.
    pub sha256: String,
    /// Who makes it.
    pub created_by: String,
}

#[derive(Debug, FromQueryResult)]
struct Locked {
    description: String,
    version: i32,
    revision: i64,
    deleted_at: Option<i64>,
}

impl Store {
    /// Makes a custom probe and queues its check.
    ///
    /// # Errors
    /// ALREADY_EXISTS / CUSTOM_PROBE_EXISTS; NOT_FOUND / SOURCE_NOT_FOUND;
    /// RESOURCE_EXHAUSTED / TOO_MANY_CUSTOM_PROBES.
    pub async fn create_custom_probe(
        &self,
        project: &ProjectId,
        new: &NewCustomProbe,
    ) -> aegis_mesh::Result<CustomProbe> {
        self.writing(|| self.try_create_custom(project, new))
            .await?;
        self.custom_probe(project, &new.name, 0).await
    }

    async fn try_create_custom(&self, project: &ProjectId, new: &NewCustomProbe) -> Result<()> {
        let mut tx = self.write().await?;
        let before = lock(&tx, project, &new.name).await?;
        let version = match &before {
            Some(row) if row.deleted_at.is_none() => {
                return Err(custom_probe::exists(&new.name).into());
            }
            Some(row) => row.version + 1,
            None => 1,
        };
        let live = tx.one(LIVE, [project.as_str().into()]).await?;
        let live = live.map_or(Ok(0), |row| row.try_get::<i64>("", "live"))?;
        if live >= MAX_CUSTOM_PROBES {
            return Err(custom_probe::too_many().into());
        }
        let values: [Value; 4] = [
            project.as_str().into(),
            new.name.as_str().into(),
            new.description.as_str().into(),
            new.created_by.as_str().into(),
        ];
        let sql = if before.is_some() { REVIVE } else { CREATE };
        tx.execute(sql, values).await?;
        add_version(&mut tx, project, new, version).await?;
        tx.commit().await
    }

    /// Changes a custom probe; a new source is a new version. The source that its newest version
    /// has already makes none, unless that is invalid: then it is tried out again.
    ///
    /// # Errors
    /// NOT_FOUND / CUSTOM_PROBE_NOT_FOUND or SOURCE_NOT_FOUND; ABORTED / CUSTOM_PROBE_CHANGED.
    pub async fn update_custom_probe(
        &self,
        project: &ProjectId,
        name: &str,
        update: &CustomProbeUpdate,
    ) -> aegis_mesh::Result<CustomProbe> {
        self.writing(|| self.try_update_custom(project, name, update))
            .await?;
        self.custom_probe(project, name, 0).await
    }

    async fn try_update_custom(
        &self,
        project: &ProjectId,
        name: &str,
        update: &CustomProbeUpdate,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        let row = live(&tx, project, name).await?;
        if custom_probe::etag(name, row.revision) != update.etag {
            return Err(custom_probe::changed(name).into());
        }
        let new_source = match &update.sha256 {
            Some(sha256) if is_new(&tx, project, name, row.version, sha256).await? => Some(sha256),
            _ => None,
        };
        let described = update.description.as_ref().unwrap_or(&row.description);
        if new_source.is_none() && *described == row.description {
            return Ok(());
        }
        let version = row.version + i32::from(new_source.is_some());
        let values: [Value; 4] = [
            project.as_str().into(),
            name.into(),
            described.as_str().into(),
            version.into(),
        ];
        tx.execute(UPDATE, values).await?;
        if let Some(sha256) = new_source {
            let new = NewCustomProbe {
                name: name.to_owned(),
                sha256: sha256.clone(),
                created_by: update.updated_by.clone(),
                ..NewCustomProbe::default()
            };
            add_version(&mut tx, project, &new, version).await?;
        }
        tx.commit().await
    }

    /// Deletes a custom probe. Its versions stay for the scans that are pinned to them. An empty
    /// `etag` is not checked.
    ///
    /// # Errors
    /// NOT_FOUND / CUSTOM_PROBE_NOT_FOUND; ABORTED / CUSTOM_PROBE_CHANGED;
    /// FAILED_PRECONDITION / CUSTOM_PROBE_IN_USE.
    pub async fn delete_custom_probe(
        &self,
        project: &ProjectId,
        name: &str,
        etag: &str,
    ) -> aegis_mesh::Result<()> {
        self.writing(|| self.try_delete_custom(project, name, etag))
            .await
    }

    async fn try_delete_custom(&self, project: &ProjectId, name: &str, etag: &str) -> Result<()> {
        let tx = self.write().await?;
        let row = live(&tx, project, name).await?;
        if !etag.is_empty() && custom_probe::etag(name, row.revision) != etag {
            return Err(custom_probe::changed(name).into());
        }
        usage::require_unused(&tx, project, name).await?;
        tx.execute(DELETE, [project.as_str().into(), name.into()])
            .await?;
        tx.commit().await
    }
}

async fn lock(tx: &Tx, project: &ProjectId, name: &str) -> Result<Option<Locked>> {
    let row = tx.one(LOCK, [project.as_str().into(), name.into()]).await?;
    Ok(row
        .map(|row| Locked::from_query_result(&row, ""))
        .transpose()?)
}

async fn live(tx: &Tx, project: &ProjectId, name: &str) -> Result<Locked> {
    let row = lock(tx, project, name).await?;
    let live = row.filter(|row| row.deleted_at.is_none());
    Ok(live.ok_or_else(|| custom_probe::not_found(name, 0))?)
}

/// Whether a source makes a new version after this one.
async fn is_new(
    tx: &Tx,
    project: &ProjectId,
    name: &str,
    newest: i32,
    sha256: &str,
) -> Result<bool> {
    let values = [project.as_str().into(), name.into(), newest.into()];
    let Some(row) = tx.one(NEWEST, values).await? else {
        return Ok(true);
    };
    let (before, state): (String, String) = (row.try_get("", "sha256")?, row.try_get("", "state")?);
    Ok(before != sha256 || state.parse::<VersionState>()? == VersionState::Invalid)
}

async fn add_version(
    tx: &mut Tx,
    project: &ProjectId,
    new: &NewCustomProbe,
    version: i32,
) -> Result<()> {
    require_source(tx, project, &new.sha256).await?;
    let values: [Value; 5] = [
        project.as_str().into(),
        new.name.as_str().into(),
        version.into(),
        new.sha256.as_str().into(),
        new.created_by.as_str().into(),
    ];
    tx.execute(VERSION, values).await?;
    checks::queue_of_version(tx, project, &new.name, version, &new.sha256).await
}
