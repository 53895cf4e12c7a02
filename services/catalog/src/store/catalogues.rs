//! Plugin catalogues: immutable, named by their checksum; what their runners allow is not.

use aegis_proto::ids::ProjectId;
use sea_orm::{ConnectionTrait, QueryResult, Value};
use sha2::{Digest, Sha256};

use super::{Store, fault::Result, runners};
use crate::domain::refusal;

/// The newest word of any runner with this catalogue holds.
const PUT: &str = "
    INSERT INTO plugin_catalogues
        (project_id, sha256, garak_version, catalogue_json, allowance, created_at, updated_at)
    VALUES ($1, $2, $3, $4, $5, {now}, {now})
    ON CONFLICT (project_id, sha256) DO UPDATE SET
        allowance = excluded.allowance, updated_at = excluded.updated_at";

/// Without the content, which may be megabytes and is known to most callers.
const HEAD: &str = "
    SELECT sha256, garak_version, allowance FROM plugin_catalogues
    WHERE project_id = $1 AND sha256 = $2";

const NEWEST: &str = "
    SELECT sha256, garak_version, allowance FROM plugin_catalogues
    WHERE project_id = $1 ORDER BY updated_at DESC LIMIT 1";

/// Installations differ by what is installed beside garak, torch above all; there are a handful.
const PRESENT: &str = "
    SELECT c.sha256 FROM plugin_catalogues c
    WHERE c.project_id = $1 AND EXISTS (
        SELECT 1 FROM runners r
        WHERE r.project_id = c.project_id AND r.plugin_catalogue = c.sha256
          AND r.seen_at > {now} - $2)
    ORDER BY c.updated_at DESC, c.sha256 LIMIT 8";

const CONTENT: &str = "
    SELECT catalogue_json FROM plugin_catalogues WHERE project_id = $1 AND sha256 = $2";

/// What runners' garak can do.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginCatalogue {
    /// Of `json`, lower-case hexadecimal.
    pub sha256: String,
    /// The garak version.
    pub garak_version: String,
    /// As the runner wrote it; empty when the caller has it already.
    pub json: Vec<u8>,
    /// Proto3 JSON of `aegis.internal.task.v1.Allowance`.
    pub allowance: serde_json::Value,
}

impl Store {
    /// Stores a catalogue, or what its runners allow now.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / CHECKSUM_MISMATCH when the content is not what it is named.
    pub async fn put_catalogue(
        &self,
        project: &ProjectId,
        catalogue: &PluginCatalogue,
    ) -> aegis_mesh::Result<()> {
        let sha256 = hex::encode(Sha256::digest(&catalogue.json));
        if sha256 != catalogue.sha256 {
            return Err(aegis_mesh::Error::invalid_argument(
                "CHECKSUM_MISMATCH",
                "the plugin catalogue's content has another checksum",
            )
            .field("sha256", "is not that of catalogue_json")
            .with("sha256", sha256));
        }
        self.writing(|| self.try_put_catalogue(project, catalogue))
            .await
    }

    async fn try_put_catalogue(
        &self,
        project: &ProjectId,
        catalogue: &PluginCatalogue,
    ) -> Result<()> {
        let mut tx = self.write().await?;
        let values: [Value; 5] = [
            project.as_str().into(),
            catalogue.sha256.as_str().into(),
            catalogue.garak_version.as_str().into(),
            catalogue.json.clone().into(),
            catalogue.allowance.clone().into(),
        ];
        tx.execute(PUT, values).await?;
        tx.wake_queue();
        tx.commit().await
    }

    /// A catalogue by its checksum, or the one published last; without its content when that is
    /// `known_sha256`.
    ///
    /// # Errors
    /// FAILED_PRECONDITION / NO_PLUGIN_CATALOGUE.
    pub async fn catalogue(
        &self,
        project: &ProjectId,
        sha256: &str,
        known_sha256: &str,
    ) -> aegis_mesh::Result<PluginCatalogue> {
        Ok(self.read_catalogue(project, sha256, known_sha256).await?)
    }

    async fn read_catalogue(
        &self,
        project: &ProjectId,
        sha256: &str,
        known_sha256: &str,
    ) -> Result<PluginCatalogue> {
        let head = if sha256.is_empty() {
            self.query(NEWEST, [project.as_str().into()]).await?
        } else {
            self.query(HEAD, [project.as_str().into(), sha256.into()])
                .await?
        };
        let head = head.ok_or_else(refusal::no_plugin_catalogue)?;
        let sha256: String = head.try_get("", "sha256")?;
        let json = if sha256 == known_sha256 {
            Vec::new()
        } else {
            let content = [project.as_str().into(), sha256.as_str().into()];
            let row = self.query(CONTENT, content).await?;
            row.ok_or_else(refusal::no_plugin_catalogue)?
                .try_get("", "catalogue_json")?
        };
        Ok(PluginCatalogue {
            sha256,
            garak_version: head.try_get("", "garak_version")?,
            allowance: head.try_get("", "allowance")?,
            json,
        })
    }

    /// The checksums of catalogues that a runner came with of late, the one published last first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn present_catalogues(&self, project: &ProjectId) -> aegis_mesh::Result<Vec<String>> {
        Ok(self.read_present(project).await?)
    }

    async fn read_present(&self, project: &ProjectId) -> Result<Vec<String>> {
        let tx = self.read().await?;
        let values = [project.as_str().into(), runners::PRESENT_FOR_MS.into()];
        let rows = tx.all(PRESENT, values).await?;
        let sha256 = rows.iter().map(|row| row.try_get("", "sha256"));
        Ok(sha256.collect::<Result<_, _>>()?)
    }

    /// One read outside of a transaction.
    pub(crate) async fn query(
        &self,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Option<QueryResult>> {
        let database = &self.inner.database;
        let statement = database.dialect.statement(sql, values);
        Ok(database.reader.query_one_raw(statement).await?)
    }
}
