//! ComparisonService: what changed between scans.

use std::collections::BTreeSet;

use aegis_mesh::{PageTokens, Result, page_size, principal_of};
use aegis_proto::{
    ids::ScanId,
    scan::v1::{
        self as proto, CompareScansRequest, CompareScansResponse,
        comparison_service_server::ComparisonService,
    },
};
use tonic::{Request, Response, Status};

use super::{check, view};
use crate::{
    domain::{
        comparison::{
            Cell, Change, Compared, Comparison, Concerns, Difference, METHOD, Place, Row, compare,
        },
        refusal::invalid_field,
    },
    store::Store,
};

const DEFAULT_SIGNIFICANCE: f64 = 0.05;
const SCANS: std::ops::RangeInclusive<usize> = 2..=10;

/// ComparisonService on a store.
pub(crate) struct Comparisons {
    pub(crate) store: Store,
    pub(crate) pages: PageTokens,
}

#[tonic::async_trait]
impl ComparisonService for Comparisons {
    async fn compare_scans(
        &self,
        request: Request<CompareScansRequest>,
    ) -> Result<Response<CompareScansResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let ids = scan_ids(&request.scan_ids)?;
        let significance = significance(request.significance)?;
        let changes = changes(&request)?;
        let size = page_size(request.page_size)? as usize;
        let words: Vec<_> = changes.iter().map(|change| change.as_str()).collect();
        let list = (
            "CompareScans",
            &project,
            &ids,
            significance.to_bits(),
            words,
        );
        let after: Option<Place> = self.pages.decode(&list, &request.page_token)?;
        let scans = self.store.compared(&project, &ids).await?;
        let comparison = compare(&scans, significance);
        let (rows, next) = page(&comparison, &changes, after.as_ref(), size);
        let next_page_token = match next {
            Some(place) => self.pages.encode(&list, &place)?,
            None => String::new(),
        };
        let summaries = (1..scans.len()).map(|scan| summary(&scans, &comparison, scan));
        let differences = comparison.differences.iter();
        Ok(Response::new(CompareScansResponse {
            summaries: summaries.collect(),
            differences: differences
                .map(|difference| self::difference(difference, &comparison))
                .collect(),
            rows: rows.into_iter().map(row).collect(),
            next_page_token,
            method: METHOD.to_owned(),
        }))
    }
}

fn scan_ids(texts: &[String]) -> Result<Vec<ScanId>> {
    if !SCANS.contains(&texts.len()) {
        return Err(invalid_field("scan_ids", "must be 2 to 10"));
    }
    let mut ids = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let field = format!("scan_ids[{index}]");
        let id: ScanId = text.parse().map_err(|error| invalid_field(&field, error))?;
        if ids.contains(&id) {
            return Err(invalid_field(&field, "is there twice"));
        }
        ids.push(id);
    }
    Ok(ids)
}

fn significance(asked: f64) -> Result<f64> {
    if asked == 0.0 {
        return Ok(DEFAULT_SIGNIFICANCE);
    }
    // Not a number is not between any.
    if asked > 0.0 && asked < 1.0 {
        return Ok(asked);
    }
    Err(invalid_field("significance", "must be over 0 and under 1"))
}

fn changes(request: &CompareScansRequest) -> Result<Vec<Change>> {
    check::within("changes", request.changes.len(), 0..=Change::ALL.len())?;
    let mut changes = Vec::new();
    for (index, number) in request.changes.iter().enumerate() {
        let known = Change::ALL
            .iter()
            .find(|change| word(**change) as i32 == *number);
        let change = known.ok_or_else(|| {
            invalid_field(&format!("changes[{index}]"), "must be one that is known")
        })?;
        changes.push(*change);
    }
    Ok(changes)
}

/// A page of the rows, and after which the next one begins when there is one.
fn page(
    comparison: &Comparison,
    changes: &[Change],
    after: Option<&Place>,
    size: usize,
) -> (Vec<Row>, Option<Place>) {
    let rest = comparison
        .rows
        .iter()
        .filter(|row| row.has(changes) && after.is_none_or(|after| row.place() > *after));
    let mut rows: Vec<Row> = rest.take(size + 1).cloned().collect();
    let more = rows.len() > size;
    rows.truncate(size);
    let next = rows.last().filter(|_| more).map(Row::place);
    (rows, next)
}

fn summary(scans: &[Compared], comparison: &Comparison, scan: usize) -> proto::ComparisonSummary {
    let counts = comparison.summary(scan);
    let count = |change| counts.get(&change).copied().unwrap_or_default();
    proto::ComparisonSummary {
        scan_id: scans[scan].scan.id.to_string(),
        new_count: count(Change::New),
        gone_count: count(Change::Gone),
        fixed_count: count(Change::Fixed),
        better_count: count(Change::Better),
        worse_count: count(Change::Worse),
        unchanged_count: count(Change::Unchanged),
        not_comparable_count: count(Change::NotComparable),
    }
}

fn difference(difference: &Difference, comparison: &Comparison) -> proto::Difference {
    let probes: BTreeSet<String> = match difference.concerns {
        Concerns::All => BTreeSet::new(),
        Concerns::Module(_) => comparison
            .rows
            .iter()
            .filter(|row| difference.concerns.row(&row.probe, &row.detector))
            .map(|row| row.probe.clone())
            .collect(),
    };
    proto::Difference {
        field: difference.field.clone(),
        values: difference.told(),
        blocking: difference.blocking,
        probes: probes.into_iter().collect(),
        message: difference.message.to_owned(),
    }
}

fn row(row: Row) -> proto::ComparisonRow {
    proto::ComparisonRow {
        probe: row.probe,
        detector: row.detector,
        cells: row.cells.into_iter().map(cell).collect(),
    }
}

fn cell(cell: Cell) -> proto::ComparisonCell {
    let change = cell.change.map_or(proto::Change::Unspecified, word);
    proto::ComparisonCell {
        result: cell.result.map(view::result),
        change: change.into(),
        pass_rate_difference: cell.difference,
        p_value: cell.p_value,
        q_value: cell.q_value,
    }
}

fn word(change: Change) -> proto::Change {
    match change {
        Change::New => proto::Change::New,
        Change::Gone => proto::Change::Gone,
        Change::Fixed => proto::Change::Fixed,
        Change::Better => proto::Change::Better,
        Change::Worse => proto::Change::Worse,
        Change::Unchanged => proto::Change::Unchanged,
        Change::NotComparable => proto::Change::NotComparable,
    }
}
