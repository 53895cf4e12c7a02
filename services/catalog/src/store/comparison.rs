//! Scans with all their results, of one moment.

use std::collections::HashMap;

use aegis_proto::ids::{ProjectId, ScanId};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};

use super::{
    Store,
    entity::{probe_result, scan},
    fault::Result,
    rows,
};
use crate::domain::{comparison::Compared, refusal, tally::ProbeResult};

impl Store {
    /// These scans, in this order, with all their results: two statements, whatever they hold.
    ///
    /// # Errors
    /// NOT_FOUND / SCAN_NOT_FOUND; FAILED_PRECONDITION / SCAN_NOT_TERMINAL while one runs.
    pub async fn compared(
        &self,
        project: &ProjectId,
        ids: &[ScanId],
    ) -> aegis_mesh::Result<Vec<Compared>> {
        Ok(self.read_compared(project, ids).await?)
    }

    async fn read_compared(&self, project: &ProjectId, ids: &[ScanId]) -> Result<Vec<Compared>> {
        let tx = self.read().await?;
        let found = scan::Entity::find()
            .filter(scan::Column::ProjectId.eq(project.as_str()))
            .filter(scan::Column::Id.is_in(ids.iter().map(|id| id.0)))
            .filter(scan::Column::DeletedAt.is_null())
            .all(tx.conn())
            .await?;
        let mut scans = HashMap::new();
        for row in found {
            scans.insert(ScanId(row.id), rows::scan_of(row)?);
        }
        let mut compared = Vec::new();
        for id in ids {
            let scan = scans
                .remove(id)
                .ok_or_else(|| refusal::scan_not_found(*id))?;
            if !scan.state.is_terminal() {
                return Err(refusal::scan_not_terminal(*id, scan.state).into());
            }
            compared.push(Compared {
                scan,
                results: Vec::new(),
            });
        }
        let found = probe_result::Entity::find()
            .filter(probe_result::Column::ProjectId.eq(project.as_str()))
            .filter(probe_result::Column::ScanId.is_in(ids.iter().map(|id| id.0)))
            .all(tx.conn())
            .await?;
        let mut results: HashMap<ScanId, Vec<ProbeResult>> = HashMap::new();
        for row in found {
            let of = results.entry(ScanId(row.scan_id)).or_default();
            of.push(rows::result_of(row));
        }
        for one in &mut compared {
            one.results = results.remove(&one.scan.id).unwrap_or_default();
        }
        Ok(compared)
    }
}
