//! Custom probes as their users see them.

use std::collections::HashMap;

use aegis_proto::ids::ProjectId;
use sea_orm::{QueryResult, Value};

use super::super::{Store, fault::Result, tx::Tx};
use crate::domain::custom_probe::{self, CustomProbe};

/// A version and its probe; what follows says which. Versions of an earlier life of the name
/// are not seen.
const SEEN: &str = "
    SELECT p.name, p.description, v.version, v.state, v.sha256, v.validation,
        p.created_by, p.created_at, v.created_at AS updated_at, p.revision
    FROM custom_probes p
    JOIN custom_probe_versions v ON v.project_id = p.project_id AND v.name = p.name
        AND v.version >= p.first_version
    WHERE p.project_id = $1 AND p.deleted_at IS NULL";

const NEWEST: &str = "v.version = p.version";

const NEWEST_VALID: &str = "
    v.version = (SELECT MAX(w.version) FROM custom_probe_versions w
        WHERE w.project_id = p.project_id AND w.name = p.name AND w.state = 'VALID'
          AND w.version >= p.first_version)";

/// A change of a custom probe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CustomProbeUpdate {
    /// `None`: stays.
    pub description: Option<String>,
    /// Of a committed source; `None`: stays.
    pub sha256: Option<String>,
    /// What the change was made to.
    pub etag: String,
    /// Who makes it.
    pub updated_by: String,
}

/// A version by its number, or the newest valid one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomProbeRef {
    /// garak's module name.
    pub name: String,
    /// `None` is the newest valid one.
    pub version: Option<i32>,
}

impl Store {
    /// One version; 0 is the newest.
    ///
    /// # Errors
    /// NOT_FOUND / CUSTOM_PROBE_NOT_FOUND.
    pub async fn custom_probe(
        &self,
        project: &ProjectId,
        name: &str,
        version: i32,
    ) -> aegis_mesh::Result<CustomProbe> {
        let found = self.read_custom_probe(project, name, version).await?;
        found.ok_or_else(|| custom_probe::not_found(name, version))
    }

    async fn read_custom_probe(
        &self,
        project: &ProjectId,
        name: &str,
        version: i32,
    ) -> Result<Option<CustomProbe>> {
        let which = "p.name = $2 AND v.version = CASE WHEN $3 = 0 THEN p.version ELSE $3 END";
        let values = [project.as_str().into(), name.into(), version.into()];
        let row = self.query(&format!("{SEEN} AND {which}"), values).await?;
        row.as_ref().map(custom_probe_of).transpose()
    }

    /// Custom probes by name after this one, each in its newest version.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn custom_probes(
        &self,
        project: &ProjectId,
        after: &str,
        limit: u32,
    ) -> aegis_mesh::Result<Vec<CustomProbe>> {
        Ok(self.read_by_name(project, NEWEST, after, limit).await?)
    }

    /// The same, each in its newest valid version; those without one are not in it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn valid_custom_probes(
        &self,
        project: &ProjectId,
        after: &str,
        limit: u32,
    ) -> aegis_mesh::Result<Vec<CustomProbe>> {
        let page = self.read_by_name(project, NEWEST_VALID, after, limit);
        Ok(page.await?)
    }

    async fn read_by_name(
        &self,
        project: &ProjectId,
        which: &str,
        after: &str,
        limit: u32,
    ) -> Result<Vec<CustomProbe>> {
        let sql = format!("{SEEN} AND {which} AND p.name > $2 ORDER BY p.name LIMIT $3");
        let values = [
            project.as_str().into(),
            after.into(),
            i64::from(limit).into(),
        ];
        all(&self.read().await?, &sql, values).await
    }

    /// Versions of a custom probe before this one, newest first.
    ///
    /// # Errors
    /// NOT_FOUND / CUSTOM_PROBE_NOT_FOUND.
    pub async fn custom_probe_versions(
        &self,
        project: &ProjectId,
        name: &str,
        before: Option<i32>,
        limit: u32,
    ) -> aegis_mesh::Result<Vec<CustomProbe>> {
        let page = self.read_versions(project, name, before.unwrap_or(i32::MAX), limit);
        let page = page.await?;
        if page.is_empty() && before.is_none() {
            return Err(custom_probe::not_found(name, 0));
        }
        Ok(page)
    }

    async fn read_versions(
        &self,
        project: &ProjectId,
        name: &str,
        before: i32,
        limit: u32,
    ) -> Result<Vec<CustomProbe>> {
        let which = "p.name = $2 AND v.version < $3 ORDER BY v.version DESC LIMIT $4";
        let values: [Value; 4] = [
            project.as_str().into(),
            name.into(),
            before.into(),
            i64::from(limit).into(),
        ];
        let sql = format!("{SEEN} AND {which}");
        all(&self.read().await?, &sql, values).await
    }

    /// What each reference stands for, in three statements at most. Without a number that is the
    /// newest valid version, or the newest when none is valid; `None` where there is none such.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn resolve_custom_probes(
        &self,
        project: &ProjectId,
        references: &[CustomProbeRef],
    ) -> aegis_mesh::Result<Vec<Option<CustomProbe>>> {
        Ok(self.try_resolve(project, references).await?)
    }

    async fn try_resolve(
        &self,
        project: &ProjectId,
        references: &[CustomProbeRef],
    ) -> Result<Vec<Option<CustomProbe>>> {
        let tx = self.read().await?;
        let unnumbered = references.iter().filter(|r| r.version.is_none());
        let names: Vec<&str> = unnumbered.map(|r| r.name.as_str()).collect();
        let mut newest = HashMap::new();
        for which in [NEWEST, NEWEST_VALID] {
            // A valid one takes the place of the newest.
            for probe in of_names(&tx, project, which, &names).await? {
                newest.insert(probe.name.clone(), probe);
            }
        }
        let numbered = numbered(&tx, project, references).await?;
        let find = |reference: &CustomProbeRef| match reference.version {
            None => newest.get(&reference.name).cloned(),
            Some(version) => {
                let is_it = |p: &&CustomProbe| p.name == reference.name && p.version == version;
                numbered.iter().find(is_it).cloned()
            }
        };
        Ok(references.iter().map(find).collect())
    }
}

async fn of_names(
    tx: &Tx,
    project: &ProjectId,
    which: &str,
    names: &[&str],
) -> Result<Vec<CustomProbe>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let places: Vec<String> = (2..names.len() + 2).map(|at| format!("${at}")).collect();
    let sql = format!("{SEEN} AND {which} AND p.name IN ({})", places.join(", "));
    let mut values: Vec<Value> = vec![project.as_str().into()];
    values.extend(names.iter().map(|name| (*name).into()));
    all(tx, &sql, values).await
}

async fn numbered(
    tx: &Tx,
    project: &ProjectId,
    references: &[CustomProbeRef],
) -> Result<Vec<CustomProbe>> {
    let mut values: Vec<Value> = vec![project.as_str().into()];
    let mut these = Vec::new();
    for reference in references {
        let Some(version) = reference.version else {
            continue;
        };
        let at = values.len() + 1;
        these.push(format!("(p.name = ${at} AND v.version = ${})", at + 1));
        values.push(reference.name.as_str().into());
        values.push(version.into());
    }
    if these.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!("{SEEN} AND ({})", these.join(" OR "));
    all(tx, &sql, values).await
}

async fn all(
    tx: &Tx,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<CustomProbe>> {
    let rows = tx.all(sql, values).await?;
    rows.iter().map(custom_probe_of).collect()
}

fn custom_probe_of(row: &QueryResult) -> Result<CustomProbe> {
    let state: String = row.try_get("", "state")?;
    let validation: Option<serde_json::Value> = row.try_get("", "validation")?;
    Ok(CustomProbe {
        name: row.try_get("", "name")?,
        description: row.try_get("", "description")?,
        version: row.try_get("", "version")?,
        state: state.parse()?,
        sha256: row.try_get("", "sha256")?,
        validation: validation.map(serde_json::from_value).transpose()?,
        created_by: row.try_get("", "created_by")?,
        created_at: row.try_get("", "created_at")?,
        updated_at: row.try_get("", "updated_at")?,
        revision: row.try_get("", "revision")?,
    })
}
