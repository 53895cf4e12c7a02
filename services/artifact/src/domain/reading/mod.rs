//! Reading inside reports: attempts, findings and the graph of a scan, found by the reports' indexes
//! and read by ranges. What is read depends on what is asked, never on the size of a report, and
//! each call has a [`Budget`].

mod budget;
mod filling;
mod find;
mod findings;
mod leg;
mod mermaid;
mod open;
mod query;
mod search;
mod walk;
mod workflow;

use std::sync::Arc;

use aegis_mesh::Result;
use aegis_proto::ids::ProjectId;
use aegis_report::Attempt;

use self::budget::Budget;
use self::filling::Filling;
use self::open::Files;
use self::walk::Walk;
use super::indexes::Indexes;
use super::registry::{Registry, Source};
use crate::store::ObjectStore;

pub use self::filling::PAGE_TEXT_BYTES;
pub use self::find::AttemptQuery;
pub use self::findings::{Finding, FindingCursor, FindingPage, FindingQuery};
pub use self::query::{Cursor, Order, Query};
pub use self::search::{MAX_TEXT_CHARS, MIN_TEXT_CHARS, TextMatch};
pub use self::workflow::{Graph, Node, NodeKind, Timed, Workflow, WorkflowQuery};

/// Some attempts, in the order asked for.
#[derive(Debug)]
pub struct Page {
    /// The attempts.
    pub attempts: Vec<Attempt>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

/// Reports of scans, to look into.
#[derive(Clone)]
pub struct Reports {
    registry: Arc<dyn Registry>,
    files: Files,
}

impl Reports {
    /// Over these rows and bytes.
    pub fn new(registry: Arc<dyn Registry>, store: Arc<dyn ObjectStore>, indexes: Indexes) -> Self {
        Self {
            registry,
            files: Files::new(store, indexes),
        }
    }

    /// One page of a scan's attempts. It may be short, even empty, and yet not be the last: a call
    /// looks at a bounded part of the report.
    ///
    /// # Errors
    /// NOT_FOUND / PROBE_NOT_EVALUATED, INVALID_ARGUMENT / UNKNOWN_DETECTOR with those there are,
    /// INVALID_ARGUMENT / PAGE_TOKEN_INVALID, DATA_LOSS / ARTIFACT_CORRUPT.
    pub async fn list(&self, project: &ProjectId, query: &Query) -> Result<Page> {
        let sources = self.sources(project, query).await?;
        let mut page = Filling::new(query.page_size);
        let mut budget = Budget::of_a_call();
        let mut walk = Walk::begin(&self.files, sources, query, query.from.as_ref()).await?;
        let next = page
            .fill(&mut walk, query.text.as_ref(), &mut budget)
            .await?;
        Ok(Page {
            attempts: page.into_attempts(),
            next,
        })
    }

    /// Where the attempts of the query lie.
    async fn sources(&self, project: &ProjectId, query: &Query) -> Result<Vec<Source>> {
        match &query.probe {
            Some(probe) => Ok(vec![
                self.registry.locate(project, query.scan, probe).await?,
            ]),
            None => self.registry.locate_all(project, query.scan).await,
        }
    }
}
