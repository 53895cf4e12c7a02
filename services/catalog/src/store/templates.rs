//! Templates: a row for each name, and one for each version, which never changes.

use aegis_mesh::{Code, Error};
use aegis_proto::ids::ProjectId;
use sea_orm::{QueryResult, Value};

use super::{Store, fault::Result, tx::Tx};
use crate::domain::template::{NewTemplate, Template, TemplateChange, etag};

/// The row is locked until the end of the transaction: versions are numbered one after another.
const LOCK: &str = "
    SELECT version, deleted FROM templates WHERE project_id = $1 AND name = $2 {lock}";

const INSERT: &str = "
    INSERT INTO templates (project_id, name, version, deleted, created_by, created_at)
    VALUES ($1, $2, 1, FALSE, $3, $4)";

/// A deleted name is taken up again with the next number.
const REVIVE: &str = "
    UPDATE templates SET version = $3, deleted = FALSE, created_by = $4, created_at = $5
    WHERE project_id = $1 AND name = $2";

const RAISE: &str = "UPDATE templates SET version = $3 WHERE project_id = $1 AND name = $2";

const DELETE: &str = "UPDATE templates SET deleted = TRUE WHERE project_id = $1 AND name = $2";

const INSERT_VERSION: &str = "
    INSERT INTO template_versions
        (project_id, name, version, display_name, description, spec, created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7)";

const NEWEST: &str = "
    SELECT v.*, t.created_by, t.created_at AS first_at
    FROM templates t
    JOIN template_versions v USING (project_id, name, version)
    WHERE t.project_id = $1 AND t.name = $2 AND NOT t.deleted";

const VERSION: &str = "
    SELECT v.*, t.created_by, t.created_at AS first_at
    FROM template_versions v JOIN templates t USING (project_id, name)
    WHERE v.project_id = $1 AND v.name = $2 AND v.version = $3";

const LIST: &str = "
    SELECT v.*, t.created_by, t.created_at AS first_at
    FROM templates t
    JOIN template_versions v USING (project_id, name, version)
    WHERE t.project_id = $1 AND t.name > $2 AND NOT t.deleted
    ORDER BY t.name LIMIT $3";

const VERSIONS: &str = "
    SELECT v.*, t.created_by, t.created_at AS first_at
    FROM template_versions v JOIN templates t USING (project_id, name)
    WHERE v.project_id = $1 AND v.name = $2 AND v.version < $3 AND NOT t.deleted
    ORDER BY v.version DESC LIMIT $4";

impl Store {
    /// Makes a template.
    ///
    /// # Errors
    /// ALREADY_EXISTS / TEMPLATE_EXISTS.
    pub async fn create_template(
        &self,
        project: &ProjectId,
        new: &NewTemplate,
    ) -> aegis_mesh::Result<Template> {
        self.writing(|| self.try_create_template(project, new))
            .await
    }

    async fn try_create_template(
        &self,
        project: &ProjectId,
        new: &NewTemplate,
    ) -> Result<Template> {
        let tx = self.write().await?;
        let now = tx.now().await?;
        let mut made = Template {
            name: new.name.clone(),
            display_name: new.display_name.clone(),
            description: new.description.clone(),
            spec: new.spec.clone(),
            version: 1,
            created_by: new.created_by.clone(),
            created_at: now,
            updated_at: now,
        };
        let [project_id, name] = key(project, &new.name);
        let by: Value = new.created_by.as_str().into();
        match lock(&tx, project, &new.name).await? {
            Some(Head { deleted: false, .. }) => return Err(exists(&new.name).into()),
            Some(head) => {
                made.version = head.version + 1;
                let values = [project_id, name, made.version.into(), by, now.into()];
                tx.execute(REVIVE, values).await?;
            }
            None => {
                tx.execute(INSERT, [project_id, name, by, now.into()])
                    .await?;
            }
        }
        insert_version(&tx, project, &made).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// The newest version of a template, or the one with this number, which stays readable when
    /// the template is deleted.
    ///
    /// # Errors
    /// NOT_FOUND / TEMPLATE_NOT_FOUND.
    pub async fn template(
        &self,
        project: &ProjectId,
        name: &str,
        version: Option<i32>,
    ) -> aegis_mesh::Result<Template> {
        let [project_id, key_name] = key(project, name);
        let row = match version {
            None => self.query(NEWEST, [project_id, key_name]).await,
            Some(version) => {
                let values = [project_id, key_name, version.into()];
                self.query(VERSION, values).await
            }
        };
        let row = row?.ok_or_else(|| not_found(name, version))?;
        Ok(template_of(&row)?)
    }

    /// Up to `limit` templates with names after `after`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn templates(
        &self,
        project: &ProjectId,
        after: &str,
        limit: u32,
    ) -> aegis_mesh::Result<Vec<Template>> {
        let [project_id, after] = key(project, after);
        let tx = self.read().await?;
        let rows = tx.all(LIST, [project_id, after, limit.into()]).await?;
        Ok(rows.iter().map(template_of).collect::<Result<_>>()?)
    }

    /// Up to `limit` versions before `before`, newest first.
    ///
    /// # Errors
    /// NOT_FOUND / TEMPLATE_NOT_FOUND.
    pub async fn template_versions(
        &self,
        project: &ProjectId,
        name: &str,
        before: Option<i32>,
        limit: u32,
    ) -> aegis_mesh::Result<Vec<Template>> {
        let [project_id, key_name] = key(project, name);
        let bound = before.unwrap_or(i32::MAX);
        let tx = self.read().await?;
        let rows = tx
            .all(VERSIONS, [project_id, key_name, bound.into(), limit.into()])
            .await?;
        if rows.is_empty() && before.is_none() {
            return Err(not_found(name, None));
        }
        Ok(rows.iter().map(template_of).collect::<Result<_>>()?)
    }

    /// Makes the next version out of the newest one and a change, which was made to `read_etag`.
    ///
    /// # Errors
    /// NOT_FOUND / TEMPLATE_NOT_FOUND; ABORTED / TEMPLATE_CHANGED.
    pub async fn update_template(
        &self,
        project: &ProjectId,
        name: &str,
        change: &TemplateChange,
        read_etag: &str,
    ) -> aegis_mesh::Result<Template> {
        self.writing(|| self.try_update_template(project, name, change, read_etag))
            .await
    }

    async fn try_update_template(
        &self,
        project: &ProjectId,
        name: &str,
        change: &TemplateChange,
        read_etag: &str,
    ) -> Result<Template> {
        let tx = self.write().await?;
        let head = lock_live(&tx, project, name, read_etag).await?;
        let row = tx.one(NEWEST, key(project, name)).await?;
        let old = template_of(&row.ok_or_else(|| not_found(name, None))?)?;
        let change = change.clone();
        let made = Template {
            display_name: change.display_name.unwrap_or(old.display_name),
            description: change.description.unwrap_or(old.description),
            spec: change.spec.unwrap_or(old.spec),
            version: head.version + 1,
            updated_at: tx.now().await?,
            ..old
        };
        let [project_id, key_name] = key(project, name);
        tx.execute(RAISE, [project_id, key_name, made.version.into()])
            .await?;
        insert_version(&tx, project, &made).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// Deletes a template; its versions stay for the scans that were made from them.
    /// An empty `read_etag` is not checked.
    ///
    /// # Errors
    /// NOT_FOUND / TEMPLATE_NOT_FOUND; ABORTED / TEMPLATE_CHANGED.
    pub async fn delete_template(
        &self,
        project: &ProjectId,
        name: &str,
        read_etag: &str,
    ) -> aegis_mesh::Result<()> {
        self.writing(|| self.try_delete_template(project, name, read_etag))
            .await
    }

    async fn try_delete_template(
        &self,
        project: &ProjectId,
        name: &str,
        read_etag: &str,
    ) -> Result<()> {
        let tx = self.write().await?;
        lock_live(&tx, project, name, read_etag).await?;
        tx.execute(DELETE, key(project, name)).await?;
        tx.commit().await
    }
}

struct Head {
    version: i32,
    deleted: bool,
}

async fn lock(tx: &Tx, project: &ProjectId, name: &str) -> Result<Option<Head>> {
    let Some(row) = tx.one(LOCK, key(project, name)).await? else {
        return Ok(None);
    };
    Ok(Some(Head {
        version: row.try_get("", "version")?,
        deleted: row.try_get("", "deleted")?,
    }))
}

/// Locks a template that is not deleted and that nobody changed since `read_etag`.
async fn lock_live(tx: &Tx, project: &ProjectId, name: &str, read_etag: &str) -> Result<Head> {
    let head = lock(tx, project, name).await?;
    let head = head.filter(|head| !head.deleted);
    let head = head.ok_or_else(|| not_found(name, None))?;
    if !read_etag.is_empty() && read_etag != etag(head.version) {
        return Err(changed(name, head.version).into());
    }
    Ok(head)
}

async fn insert_version(tx: &Tx, project: &ProjectId, made: &Template) -> Result<()> {
    let [project_id, name] = key(project, &made.name);
    let values = [
        project_id,
        name,
        made.version.into(),
        made.display_name.as_str().into(),
        made.description.as_str().into(),
        made.spec.clone().into(),
        made.updated_at.into(),
    ];
    tx.execute(INSERT_VERSION, values).await?;
    Ok(())
}

fn template_of(row: &QueryResult) -> Result<Template> {
    Ok(Template {
        name: row.try_get("", "name")?,
        display_name: row.try_get("", "display_name")?,
        description: row.try_get("", "description")?,
        spec: row.try_get("", "spec")?,
        version: row.try_get("", "version")?,
        created_by: row.try_get("", "created_by")?,
        created_at: row.try_get("", "first_at")?,
        updated_at: row.try_get("", "created_at")?,
    })
}

fn key(project: &ProjectId, name: &str) -> [Value; 2] {
    [project.as_str().into(), name.into()]
}

fn exists(name: &str) -> Error {
    let message = format!("there is a template {name:?} already");
    Error::new(Code::AlreadyExists, "TEMPLATE_EXISTS", message)
        .field("name", "is taken")
        .with("name", name)
        .hint("choose another name, or update the template")
}

fn not_found(name: &str, version: Option<i32>) -> Error {
    let what = version.map_or_else(String::new, |version| format!(", version {version}"));
    let message = format!("there is no template {name:?}{what}");
    Error::new(Code::NotFound, "TEMPLATE_NOT_FOUND", message)
        .with("name", name)
        .hint("ListTemplates (GET /v1/templates) says which there are")
}

fn changed(name: &str, version: i32) -> Error {
    let message = format!("template {name:?} was changed meanwhile; it is at version {version}");
    Error::aborted("TEMPLATE_CHANGED", message)
        .with("name", name)
        .with("version", version)
        .hint("read it again, and make the change to what you find")
}
