//! The fold: changes become part of the sums that are kept.

use aegis_proto::ids::ProjectId;
use sea_orm::{
    ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value, sea_query::OnConflict,
};

use super::{
    super::{
        Store,
        entity::{statistics_delta, statistics_rollup},
        fault::Result,
        tx::Tx,
    },
    rows,
};
use crate::domain::statistics::{Rollup, RollupKey, Rollups};

/// Only one folds at a time, until the end of its transaction. SQLite has one writer anyway.
const CLAIM: &str = "SELECT {fold_claim} AS claimed";
/// A row has 20 values; PostgreSQL takes 65,535 in a statement, SQLite 32,766.
const ROWS_PER_STATEMENT: usize = 400;

/// What a fold did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Folded {
    /// Changes that are part of the sums now.
    pub deltas: u32,
    /// Whether more wait.
    pub more: bool,
}

impl Store {
    /// Folds up to `limit` changes, the oldest first; none when another one folds already.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn fold_statistics(
        &self,
        project: &ProjectId,
        limit: u32,
    ) -> aegis_mesh::Result<Folded> {
        self.writing(|| self.try_fold(project, limit)).await
    }

    async fn try_fold(&self, project: &ProjectId, limit: u32) -> Result<Folded> {
        let tx = self.write().await?;
        if !claim(&tx, project).await? {
            return Ok(Folded::default());
        }
        let mut deltas = waiting(&tx, project, u64::from(limit) + 1).await?;
        let more = deltas.len() > limit as usize;
        deltas.truncate(limit as usize);
        if deltas.is_empty() {
            return Ok(Folded::default());
        }
        let ids: Vec<_> = deltas.iter().map(|row| row.id).collect();
        let mut rollups = Rollups::default();
        for row in deltas {
            rollups.fold(&rows::delta_of(row)?);
        }
        let keys: Vec<RollupKey> = rollups.keys().cloned().collect();
        for keys in keys.chunks(ROWS_PER_STATEMENT) {
            for (key, stored) in stored(&tx, project, keys).await? {
                rollups.merge(key, stored);
            }
        }
        save(&tx, project, rollups.into_rows().collect()).await?;
        for ids in ids.chunks(ROWS_PER_STATEMENT) {
            statistics_delta::Entity::delete_many()
                .filter(statistics_delta::Column::ProjectId.eq(project.as_str()))
                .filter(statistics_delta::Column::Id.is_in(ids.iter().copied()))
                .exec(tx.conn())
                .await?;
        }
        tx.commit().await?;
        Ok(Folded {
            // At most `limit`.
            deltas: ids.len() as u32,
            more,
        })
    }
}

async fn claim(tx: &Tx, project: &ProjectId) -> Result<bool> {
    let row = tx.one(CLAIM, [project.as_str().into()]).await?;
    let claimed: Option<i32> = row.map(|row| row.try_get("", "claimed")).transpose()?;
    Ok(claimed == Some(1))
}

async fn waiting(tx: &Tx, project: &ProjectId, limit: u64) -> Result<Vec<statistics_delta::Model>> {
    let found = statistics_delta::Entity::find()
        .filter(statistics_delta::Column::ProjectId.eq(project.as_str()))
        .order_by_asc(statistics_delta::Column::Id)
        .limit(limit)
        .all(tx.conn())
        .await?;
    Ok(found)
}

/// Those of the rows that there are already.
async fn stored(
    tx: &Tx,
    project: &ProjectId,
    keys: &[RollupKey],
) -> Result<Vec<(RollupKey, Rollup)>> {
    let mut values: Vec<Value> = vec![project.as_str().into()];
    let mut wanted = Vec::with_capacity(keys.len());
    for key in keys {
        let (period, bucket) = rows::period(key.period);
        let target = key.target.as_ref();
        let first = values.len() + 1;
        values.extend::<[Value; 6]>([
            key.dimension.as_str().into(),
            key.key.as_str().into(),
            target.map_or("", |target| &target.kind).into(),
            target.map_or("", |target| &target.name).into(),
            period.into(),
            bucket.into(),
        ]);
        let places: Vec<_> = (first..first + 6).map(|n| format!("${n}")).collect();
        wanted.push(format!("({})", places.join(", ")));
    }
    let sql = format!(
        "WITH wanted (dimension, key, target_type, target_name, period, bucket) AS (VALUES {})
         SELECT r.* FROM wanted w JOIN statistics_rollups r
         ON r.project_id = $1 AND r.dimension = w.dimension AND r.key = w.key
            AND r.target_type = w.target_type AND r.target_name = w.target_name
            AND r.period = w.period AND r.bucket = w.bucket",
        wanted.join(", ")
    );
    let found = statistics_rollup::Entity::find()
        .from_raw_sql(tx.dialect().statement(&sql, values))
        .all(tx.conn())
        .await?;
    found.into_iter().map(rows::rollup_of).collect()
}

async fn save(tx: &Tx, project: &ProjectId, mut changed: Vec<(RollupKey, Rollup)>) -> Result<()> {
    use statistics_rollup::Column;
    const KEY: [Column; 7] = [
        Column::ProjectId,
        Column::Dimension,
        Column::Key,
        Column::TargetType,
        Column::TargetName,
        Column::Period,
        Column::Bucket,
    ];
    const CONTENT: [Column; 13] = [
        Column::ScansCompleted,
        Column::ScansFailed,
        Column::ScansCancelled,
        Column::Evaluations,
        Column::Passed,
        Column::Failed,
        Column::Nones,
        Column::Defcon1,
        Column::Defcon2,
        Column::Defcon3,
        Column::Defcon4,
        Column::Defcon5,
        Column::Days,
    ];
    // Rows of one index page go together.
    changed.sort_by(|(a, _), (b, _)| (&a.key, &a.target).cmp(&(&b.key, &b.target)));
    for rows in changed.chunks(ROWS_PER_STATEMENT) {
        let mut models = Vec::with_capacity(rows.len());
        for (key, rollup) in rows {
            models.push(rows::new_rollup(project, key.clone(), rollup)?);
        }
        let mut replace = OnConflict::columns(KEY);
        replace.update_columns(CONTENT);
        statistics_rollup::Entity::insert_many(models)
            .on_conflict(replace)
            .exec_without_returning(tx.conn())
            .await?;
    }
    Ok(())
}
