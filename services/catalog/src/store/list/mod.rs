//! Lists of scans: any filter, any order, in pages that all cost the same.

mod access;
mod order;
mod sql;

use aegis_proto::ids::ProjectId;
use sea_orm::EntityTrait;

pub use order::ScanCursor;

use super::{
    Store,
    entity::scan,
    fault::{Fault, Result},
    history::with_computed,
    rows,
    tx::Tx,
};
use crate::domain::{
    history::{Count, ScanOrder, ScanQuery},
    refusal,
    scan::{Scan, ScanView},
};
use access::Access;
use sql::{List, Sql};

/// Candidates that a page looks at when no index answers the whole filter.
const LOOKED_AT: u64 = 2_000;
/// Counting stops here.
const MOST_COUNTED: u64 = 10_000;
/// Candidates that a count looks at when no index answers the whole filter.
const COUNT_LOOKS_AT: u64 = 20_000;

/// A page of scans.
#[derive(Debug, Clone)]
pub struct ScanPage {
    /// Without probes and coverage's details.
    pub scans: Vec<ScanView>,
    /// Where the next page begins, when there is one. A page with room left can have one, too:
    /// so far was looked.
    pub next: Option<ScanCursor>,
}

impl Store {
    /// A page of scans.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / INVALID_FIELD for deleted scans in another order than that of their
    /// creation; UNAVAILABLE / INDEX_BUILDING.
    pub async fn list(
        &self,
        project: &ProjectId,
        query: &ScanQuery,
        after: Option<&ScanCursor>,
        limit: u64,
    ) -> aegis_mesh::Result<ScanPage> {
        let access = self.access(query)?;
        Ok(self
            .read_page(project, query, &access, after, limit)
            .await?)
    }

    /// How many scans there are of it, over all pages.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn count(&self, project: &ProjectId, query: &ScanQuery) -> aegis_mesh::Result<Count> {
        let access = self.access(query)?;
        // The order matters to nobody who counts.
        let newest = ScanQuery {
            order: ScanOrder::CreateTime,
            ..query.clone()
        };
        let other = self.access(&newest)?;
        let (query, access) = match access.is_served() || !other.is_served() {
            true => (query, access),
            false => (&newest, other),
        };
        Ok(self.read_count(project, query, &access).await?)
    }

    /// How the database reads a page: its own words, for those who check that it uses an index.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub async fn list_plan(
        &self,
        project: &ProjectId,
        query: &ScanQuery,
        after: Option<&ScanCursor>,
        limit: u64,
    ) -> aegis_mesh::Result<String> {
        let access = self.access(query)?;
        let list = self.list_of(query, &access, after, limit);
        let mut sql = Sql::new(project);
        list.page(&mut sql, limit + 1);
        let plan = async {
            let tx = self.read().await?;
            tx.plan(&sql.text, sql.values).await
        };
        Ok(plan.await?)
    }

    /// The index that a list is read by, and whether it answers the whole filter.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn list_index(&self, query: &ScanQuery) -> aegis_mesh::Result<(&'static str, bool)> {
        let access = self.access(query)?;
        Ok((access.index, access.is_served()))
    }

    fn access(&self, query: &ScanQuery) -> aegis_mesh::Result<Access> {
        if query.deleted && query.order != ScanOrder::CreateTime {
            return Err(refusal::order_of_deleted());
        }
        let late = &self.inner.database.late;
        access::choose(query, |index| late.has(index)).map_err(refusal::index_building)
    }

    fn list_of<'a>(
        &self,
        query: &'a ScanQuery,
        access: &'a Access,
        after: Option<&'a ScanCursor>,
        limit: u64,
    ) -> List<'a> {
        List {
            query,
            access,
            after,
            look: if access.is_exact(query) {
                limit + 1
            } else {
                LOOKED_AT.max(limit + 1)
            },
            dialect: self.inner.database.dialect,
        }
    }

    async fn read_page(
        &self,
        project: &ProjectId,
        query: &ScanQuery,
        access: &Access,
        after: Option<&ScanCursor>,
        limit: u64,
    ) -> Result<ScanPage> {
        let list = self.list_of(query, access, after, limit);
        let tx = self.read().await?;
        let mut sql = Sql::new(project);
        list.page(&mut sql, limit + 1);
        let statement = tx.dialect().statement(&sql.text, sql.values);
        let found: Vec<sql::Row> = scan::Entity::find()
            .from_raw_sql(statement)
            .all(tx.conn())
            .await?;
        let more = found.len() as u64 > limit;
        let found = found.into_iter().take(limit as usize);
        let scans: Vec<Scan> = found.map(rows::scan_of).collect::<Result<_>>()?;
        let next = match (more, scans.last()) {
            (true, Some(last)) => Some(ScanCursor::after(query.order, last)),
            _ if list.look > limit + 1 => horizon(&tx, project, &list).await?,
            _ => None,
        };
        Ok(ScanPage {
            next,
            scans: with_computed(&tx, project, scans).await?,
        })
    }

    async fn read_count(
        &self,
        project: &ProjectId,
        query: &ScanQuery,
        access: &Access,
    ) -> Result<Count> {
        let mut list = self.list_of(query, access, None, MOST_COUNTED);
        if !access.is_exact(query) {
            list.look = COUNT_LOOKS_AT;
        }
        let tx = self.read().await?;
        let mut sql = Sql::new(project);
        list.count(&mut sql, MOST_COUNTED + 1);
        let row = tx.one(&sql.text, sql.values).await?;
        let found: i64 = row.map_or(Ok(0), |row| row.try_get("", "found"))?;
        let most = MOST_COUNTED as i64;
        let looked_at_all = async || Ok::<_, Fault>(horizon(&tx, project, &list).await?.is_none());
        Ok(Count {
            found: found.min(most),
            capped: found > most || (!access.is_exact(query) && !looked_at_all().await?),
        })
    }
}

/// Where it was stopped looking; `None` at the end of the list.
async fn horizon(tx: &Tx, project: &ProjectId, list: &List<'_>) -> Result<Option<ScanCursor>> {
    let mut sql = Sql::new(project);
    list.horizon(&mut sql);
    let row = tx.one(&sql.text, sql.values).await?;
    row.map(|row| ScanCursor::of_row(list.query.order, &row))
        .transpose()
}
