//! What one probe found in the scans of a target.

use std::time::SystemTime;

use aegis_mesh::Result;
use aegis_proto::ids::{ProjectId, ScanId};
use aegis_report::{Attempt, Outcome};
use serde::{Deserialize, Serialize};

use super::Reports;
use super::budget::Budget;
use super::filling::Filling;
use super::query::{Cursor, Order, Query};
use super::walk::Walk;
use crate::domain::registry::{FindingReport, FindingReportQuery, ScanPosition};

/// Reports that are asked for at once.
const REPORTS: usize = 16;
/// Times that the catalog is asked in a call.
const MAX_ROUNDS: usize = 4;

/// Which findings.
#[derive(Debug, Clone)]
pub struct FindingQuery {
    /// The target's type.
    pub target_type: String,
    /// The target's name.
    pub target_name: String,
    /// `module.Class`.
    pub probe: String,
    /// `None` is any.
    pub detector: Option<String>,
    /// Where the page begins; `None` is the beginning.
    pub from: Option<FindingCursor>,
    /// Findings of the page at most.
    pub page_size: usize,
}

/// Where to go on: after which scan, and within the next one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingCursor {
    #[serde(rename = "a")]
    after: Option<ScanPosition>,
    #[serde(rename = "i")]
    within: Option<(ScanId, Cursor)>,
}

/// An attempt that a detector called a hit.
#[derive(Debug)]
pub struct Finding {
    /// Its scan.
    pub scan: ScanId,
    /// When the scan ended; `None` while it goes on.
    pub scan_end_time: Option<SystemTime>,
    /// The attempt.
    pub attempt: Attempt,
}

/// Some findings, newest scan first.
#[derive(Debug)]
pub struct FindingPage {
    /// The findings.
    pub findings: Vec<Finding>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<FindingCursor>,
}

impl Reports {
    /// One page. It may be short, even empty, and yet not be the last: a call looks at a bounded
    /// number of scans and bytes.
    ///
    /// # Errors
    /// Those of the registry; DATA_LOSS / ARTIFACT_CORRUPT.
    pub async fn findings(&self, project: &ProjectId, query: &FindingQuery) -> Result<FindingPage> {
        let mut at = query.from.clone().unwrap_or_default();
        let mut page = Filling::new(query.page_size);
        let mut budget = Budget::of_a_call();
        let mut findings = Vec::new();
        for _ in 0..MAX_ROUNDS {
            let asked = FindingReportQuery {
                target_type: query.target_type.clone(),
                target_name: query.target_name.clone(),
                probe: query.probe.clone(),
                detector: query.detector.clone(),
                after: at.after,
                limit: REPORTS,
            };
            let (reports, next) = self.registry.finding_reports(project, &asked).await?;
            for report in reports {
                let within = self
                    .in_scan(query, &report, &at, &mut page, &mut budget)
                    .await?;
                let found = |attempt| Finding {
                    scan: report.position.scan,
                    scan_end_time: report.scan_end_time,
                    attempt,
                };
                findings.extend(page.take().into_iter().map(found));
                if let Some(within) = within {
                    at.within = Some((report.position.scan, within));
                    return Ok(FindingPage {
                        findings,
                        next: Some(at),
                    });
                }
                at = FindingCursor {
                    after: Some(report.position),
                    within: None,
                };
            }
            let Some(next) = next else {
                return Ok(FindingPage {
                    findings,
                    next: None,
                });
            };
            at = FindingCursor {
                after: Some(next),
                within: None,
            };
            if page.is_full() {
                break;
            }
        }
        Ok(FindingPage {
            findings,
            next: Some(at),
        })
    }

    /// Where to go on within the scan, unless it is through.
    async fn in_scan(
        &self,
        query: &FindingQuery,
        report: &FindingReport,
        at: &FindingCursor,
        page: &mut Filling,
        budget: &mut Budget,
    ) -> Result<Option<Cursor>> {
        let hits = Query {
            scan: report.position.scan,
            probe: None,
            detector: query.detector.clone(),
            outcome: Some(Outcome::Hit),
            text: None,
            order: Order::Report,
            from: None,
            page_size: 0,
        };
        let from = at.within.as_ref().filter(|(scan, _)| *scan == hits.scan);
        let from = from.map(|(_, cursor)| cursor);
        let sources = vec![report.source.clone()];
        let mut walk = Walk::begin(&self.files, sources, &hits, from).await?;
        page.fill(&mut walk, None, budget).await
    }
}
