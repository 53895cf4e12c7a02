//! Rows held against objects: which objects have no row, and which rows should have an object.

use std::collections::{HashMap, HashSet};

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::Value;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    super::{Store, fault::Result},
    Garbage, places,
};
use crate::domain::keeping::{Step, row_key};

/// Marked ones have a row, too.
pub(super) const KNOWN: [&str; 3] = [
    "SELECT object_key FROM artifacts WHERE project_id = $1 AND object_key IN ({keys})",
    "SELECT object_key FROM sources WHERE project_id = $1 AND object_key IN ({keys})",
    "SELECT object_key FROM garbage WHERE project_id = $1 AND object_key IN ({keys})",
];
const NOTED: &str = "
    SELECT object_key, found_at FROM orphans WHERE project_id = $1 AND object_key IN ({keys})";
const NOTE: &str = "
    INSERT INTO orphans (project_id, object_key, size, found_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (project_id, object_key) DO NOTHING";
const NO_ORPHANS: &str = "DELETE FROM orphans WHERE project_id = $1 AND object_key IN ({keys})";

pub(super) const COMMITTED: &str = "
    SELECT a.id, a.scan_id, a.name, a.object_key, a.size, a.sha256, s.imported FROM artifacts a
    JOIN scans s ON s.project_id = a.project_id AND s.id = a.scan_id
    WHERE a.project_id = $1 AND a.state = 'COMMITTED' AND a.id > $2 ORDER BY a.id LIMIT $3";
pub(super) const SOURCES: &str = "
    SELECT object_key, size, sha256 FROM sources
    WHERE project_id = $1 AND state = 'COMMITTED' AND sha256 > $2 ORDER BY sha256 LIMIT $3";

/// An object without a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Where it lies.
    pub object_key: String,
    /// Bytes.
    pub size: i64,
    /// Milliseconds since it was noted; `None` when this is the first time.
    pub known_for_ms: Option<i64>,
}

/// A file that readers may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Where it should lie.
    pub object_key: String,
    /// Bytes.
    pub size: i64,
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// For people.
    pub owner: String,
    /// Of a scan that did not run here.
    pub imported: bool,
}

/// Some of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommittedPage {
    /// In the order of their keys.
    pub objects: Vec<Committed>,
    /// Of the last one.
    pub last: String,
    /// Whether more may follow.
    pub more: bool,
}

/// Files first, then sources.
#[derive(Serialize, Deserialize)]
enum Position {
    File(Uuid),
    Source(String),
}

impl Store {
    /// Which of these objects have no row. They are noted unless `dry_run`, and what has a row
    /// now is no longer noted.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn orphans(
        &self,
        project: &ProjectId,
        objects: &[Garbage],
        dry_run: bool,
    ) -> aegis_mesh::Result<Vec<Orphan>> {
        self.writing(|| self.try_orphans(project, objects, dry_run))
            .await
    }

    async fn try_orphans(
        &self,
        project: &ProjectId,
        objects: &[Garbage],
        dry_run: bool,
    ) -> Result<Vec<Orphan>> {
        if objects.is_empty() {
            return Ok(Vec::new());
        }
        let step = Step {
            dry_run,
            ..Step::default()
        };
        let tx = self.step(&step).await?;
        let now = tx.now().await?;
        let in_keys = |statement: &str, keys: &[&str]| {
            let mut values: Vec<Value> = vec![project.as_str().into()];
            let keys = keys.iter().map(|key| Value::from(*key));
            (
                statement.replace("{keys}", &places(&mut values, keys)),
                values,
            )
        };
        let keys: Vec<&str> = objects
            .iter()
            .map(|object| row_key(&object.object_key))
            .collect();
        let mut known = HashSet::new();
        for statement in KNOWN {
            let (sql, values) = in_keys(statement, &keys);
            for row in tx.all(&sql, values).await? {
                known.insert(row.try_get::<String>("", "object_key")?);
            }
        }
        let (with_row, without): (Vec<&Garbage>, Vec<&Garbage>) = objects
            .iter()
            .partition(|object| known.contains(row_key(&object.object_key)));
        let mut noted = HashMap::new();
        if !without.is_empty() {
            let keys: Vec<&str> = without.iter().map(|object| &*object.object_key).collect();
            let (sql, values) = in_keys(NOTED, &keys);
            for row in tx.all(&sql, values).await? {
                let key: String = row.try_get("", "object_key")?;
                noted.insert(key, row.try_get::<i64>("", "found_at")?);
            }
        }
        if !dry_run {
            if !with_row.is_empty() {
                let keys: Vec<&str> = with_row.iter().map(|object| &*object.object_key).collect();
                let (sql, values) = in_keys(NO_ORPHANS, &keys);
                tx.execute(&sql, values).await?;
            }
            for object in without
                .iter()
                .filter(|o| !noted.contains_key(&o.object_key))
            {
                let (key, size) = (object.object_key.as_str().into(), object.size.into());
                tx.execute(NOTE, [project.as_str().into(), key, size, now.into()])
                    .await?;
            }
            tx.commit().await?;
        }
        let orphans = without.into_iter().map(|object| Orphan {
            known_for_ms: noted.get(&object.object_key).map(|found| now - found),
            object_key: object.object_key.clone(),
            size: object.size,
        });
        Ok(orphans.collect())
    }

    /// Files and sources that readers may ask for, in a fixed order.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / INVALID_FIELD for a position of other work.
    pub async fn committed(
        &self,
        project: &ProjectId,
        step: &Step,
    ) -> aegis_mesh::Result<CommittedPage> {
        Ok(self.read_committed(project, step).await?)
    }

    async fn read_committed(&self, project: &ProjectId, step: &Step) -> Result<CommittedPage> {
        let position = step.position(Position::File(Uuid::nil()))?;
        let mut page = CommittedPage::default();
        let source = match position {
            Position::File(after) => {
                self.files(project, after, step.rows(), &mut page).await?;
                String::new()
            }
            Position::Source(after) => after,
        };
        let room = step.rows() - page.objects.len() as i64;
        if room > 0 {
            self.sources(project, &source, room, &mut page).await?;
        }
        page.more = page.objects.len() as i64 == step.rows();
        Ok(page)
    }

    async fn files(
        &self,
        project: &ProjectId,
        after: Uuid,
        limit: i64,
        page: &mut CommittedPage,
    ) -> Result<()> {
        let values: [Value; 3] = [project.as_str().into(), after.into(), limit.into()];
        for row in self.read().await?.all(COMMITTED, values).await? {
            let name: String = row.try_get("", "name")?;
            let scan = ScanId(row.try_get("", "scan_id")?);
            page.last = serde_json::to_string(&Position::File(row.try_get("", "id")?))?;
            page.objects.push(Committed {
                object_key: row.try_get("", "object_key")?,
                size: row.try_get("", "size")?,
                sha256: row.try_get("", "sha256")?,
                owner: format!("{name} of scan {scan}"),
                imported: row.try_get("", "imported")?,
            });
        }
        Ok(())
    }

    async fn sources(
        &self,
        project: &ProjectId,
        after: &str,
        limit: i64,
        page: &mut CommittedPage,
    ) -> Result<()> {
        let values: [Value; 3] = [project.as_str().into(), after.into(), limit.into()];
        for row in self.read().await?.all(SOURCES, values).await? {
            let sha256: String = row.try_get("", "sha256")?;
            page.last = serde_json::to_string(&Position::Source(sha256.clone()))?;
            page.objects.push(Committed {
                object_key: row.try_get("", "object_key")?,
                size: row.try_get("", "size")?,
                owner: format!("source {sha256} of a custom probe"),
                imported: false,
                sha256,
            });
        }
        Ok(())
    }
}
