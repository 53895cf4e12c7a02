//! What is marked: its objects are deleted by others, then its rows go.

use aegis_proto::ids::ProjectId;
use sea_orm::Value;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    super::{Store, fault::Result},
    places,
};
use crate::domain::keeping::Step;

pub(super) const FILES: &str = "
    SELECT id, object_key, COALESCE(size, 0) AS size, marked_at FROM artifacts
    WHERE project_id = $1 AND state = 'DELETING' AND marked_at <= $2
      AND (marked_at, id) > ($3, $4)
    ORDER BY marked_at, id LIMIT $5";

pub(super) const OTHERS: &str = "
    SELECT object_key, size, marked_at FROM garbage
    WHERE project_id = $1 AND marked_at <= $2 AND (marked_at, object_key) > ($3, $4)
    ORDER BY marked_at, object_key LIMIT $5";

/// Rows in use stay, whatever is said of their objects.
const FORGET: [&str; 3] = [
    "DELETE FROM artifacts WHERE project_id = $1 AND state = 'DELETING' AND object_key IN ({keys})",
    "DELETE FROM garbage WHERE project_id = $1 AND object_key IN ({keys})",
    "DELETE FROM orphans WHERE project_id = $1 AND object_key IN ({keys})",
];

/// An object to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// Where it lies.
    pub object_key: String,
    /// Bytes, as far as they are known.
    pub size: i64,
}

/// Some of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GarbagePage {
    /// Oldest first.
    pub objects: Vec<Garbage>,
    /// Where the next page begins; empty when this is the last.
    pub next: String,
}

/// Files first, then what else there is.
#[derive(Serialize, Deserialize)]
enum Position {
    Files(i64, Uuid),
    Others(i64, String),
}

impl Store {
    /// Objects that were marked longer ago than `grace_ms`.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / INVALID_FIELD for a position of other work.
    pub async fn garbage(
        &self,
        project: &ProjectId,
        grace_ms: i64,
        step: &Step,
    ) -> aegis_mesh::Result<GarbagePage> {
        Ok(self.read_garbage(project, grace_ms, step).await?)
    }

    async fn read_garbage(
        &self,
        project: &ProjectId,
        grace_ms: i64,
        step: &Step,
    ) -> Result<GarbagePage> {
        let position = step.position(Position::Files(i64::MIN, Uuid::nil()))?;
        let tx = self.read().await?;
        let before = tx.now().await?.saturating_sub(grace_ms);
        let (sql, marked_at, last): (_, _, Value) = match &position {
            Position::Files(marked_at, id) => (FILES, *marked_at, (*id).into()),
            Position::Others(marked_at, key) => (OTHERS, *marked_at, key.as_str().into()),
        };
        let values: [Value; 5] = [
            project.as_str().into(),
            before.into(),
            marked_at.into(),
            last,
            step.rows().into(),
        ];
        let rows = tx.all(sql, values).await?;
        let mut page = GarbagePage::default();
        for row in &rows {
            page.objects.push(Garbage {
                object_key: row.try_get("", "object_key")?,
                size: row.try_get("", "size")?,
            });
        }
        let last = rows.last().filter(|_| rows.len() as i64 == step.rows());
        let next = match (position, last) {
            (Position::Files(..), Some(last)) => Some(Position::Files(
                last.try_get("", "marked_at")?,
                last.try_get("", "id")?,
            )),
            (Position::Files(..), None) => Some(Position::Others(i64::MIN, String::new())),
            (Position::Others(..), Some(last)) => Some(Position::Others(
                last.try_get("", "marked_at")?,
                last.try_get("", "object_key")?,
            )),
            (Position::Others(..), None) => None,
        };
        if let Some(next) = next {
            page.next = serde_json::to_string(&next)?;
        }
        Ok(page)
    }

    /// The objects of these keys are deleted: so are their rows, when they are marked. How many.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_garbage(
        &self,
        project: &ProjectId,
        keys: &[String],
    ) -> aegis_mesh::Result<u64> {
        self.writing(|| self.try_forget_garbage(project, keys))
            .await
    }

    async fn try_forget_garbage(&self, project: &ProjectId, keys: &[String]) -> Result<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        let tx = self.write().await?;
        let mut forgotten = 0;
        for statement in FORGET {
            let mut values = vec![project.as_str().into()];
            let keys = keys.iter().map(|key| key.as_str().into());
            let sql = statement.replace("{keys}", &places(&mut values, keys));
            forgotten += tx.execute(&sql, values).await?;
        }
        aegis_mesh::failpoint!(FORGET_WRITTEN);
        tx.commit().await?;
        aegis_mesh::failpoint!(FORGOTTEN);
        Ok(forgotten)
    }
}
