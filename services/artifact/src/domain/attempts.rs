//! Pages of a probe's attempts, found by the report's index and read by ranges: what is read
//! depends on the page, never on the size of the report.

use std::ops::Range;
use std::sync::Arc;

use aegis_mesh::spawn::blocking;
use aegis_mesh::{Error, Result};
use aegis_proto::ids::{ProjectId, ScanId};
use aegis_report::index::{
    FIRST_READ_BYTES, INDEXED_DETECTORS, IndexError, IndexHeader, ProbeEntry, ReadPlan,
    parse_records, plan_reads,
};
use aegis_report::{Attempt, Outcome, Record, TextBounds};

use super::fault;
use super::key::ObjectKey;
use super::registry::{Located, Registry, StoredArtifact};
use crate::store::{ObjectStore, StoreError, read_range};

/// A page ends once its attempts have so much text, with the attempt that went over.
pub const PAGE_TEXT_BYTES: usize = 1 << 20;
/// Lines that are so close are read at once, with what lies between them.
const MAX_GAP: u64 = 16 << 10;
const MAX_READ_BYTES: u64 = 1 << 20;
/// Records that are looked at in one go, at first and at most.
const FIRST_BATCH: u64 = 64;
const MAX_BATCH: u64 = 1 << 14;

/// Which attempts.
#[derive(Debug, Clone)]
pub struct Query {
    /// The scan.
    pub scan: ScanId,
    /// `module.Class`.
    pub probe: String,
    /// Only those that this detector judged.
    pub detector: Option<String>,
    /// Only those with this outcome, by `detector` or, without one, by any.
    pub outcome: Option<Outcome>,
    /// The place, among the probe's completed attempts, at which the page begins. It means the
    /// same in a part and in the report that is composed of it.
    pub from: u64,
    /// Attempts of the page at most.
    pub page_size: usize,
}

/// Some attempts, in the report's order.
#[derive(Debug)]
pub struct Page {
    /// The attempts.
    pub attempts: Vec<Attempt>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<u64>,
}

/// Attempts of scans.
pub struct Attempts {
    registry: Arc<dyn Registry>,
    store: Arc<dyn ObjectStore>,
}

impl Attempts {
    /// Over these rows and bytes.
    pub fn new(registry: Arc<dyn Registry>, store: Arc<dyn ObjectStore>) -> Self {
        Self { registry, store }
    }

    /// One page.
    ///
    /// # Errors
    /// NOT_FOUND / PROBE_NOT_EVALUATED, INVALID_ARGUMENT / UNKNOWN_DETECTOR with those there are,
    /// DATA_LOSS / ARTIFACT_CORRUPT.
    pub async fn list(&self, project: &ProjectId, query: &Query) -> Result<Page> {
        let located = self
            .registry
            .locate(project, query.scan, &query.probe)
            .await?;
        let header = self.header(&located.report).await?;
        let entry = header
            .probe(&query.probe)
            .map_err(|_| not_evaluated(query))?;
        let wanted = Wanted::new(query, entry)?;
        let mut page = Filling {
            left: query.page_size,
            text: 0,
            attempts: Vec::new(),
        };
        let mut at = query.from;
        let mut batch = FIRST_BATCH.max(query.page_size as u64 + 1);
        while at < entry.count {
            let range = header.record_range(entry, at, batch);
            let records = self.records(&located.report, range).await?;
            let chosen = wanted.choose(at, &records);
            at += records.len() as u64;
            batch = (batch * 2).min(MAX_BATCH);
            if let Some(next) = self.fill(&located, &wanted, &chosen, &mut page).await? {
                return Ok(Page {
                    attempts: page.attempts,
                    next: Some(next),
                });
            }
        }
        Ok(Page {
            attempts: page.attempts,
            next: None,
        })
    }

    /// Reads chosen attempts into the page until it is full; says then where the next begins.
    async fn fill(
        &self,
        located: &Located,
        wanted: &Wanted,
        chosen: &Chosen,
        page: &mut Filling,
    ) -> Result<Option<u64>> {
        let mut done = 0;
        while done < chosen.records.len() {
            if page.is_full() {
                return Ok(Some(chosen.places[done]));
            }
            let end = chosen.records.len().min(done + page.left);
            let (records, places) = (&chosen.records[done..end], &chosen.places[done..end]);
            for plan in plan_reads(records, MAX_GAP, MAX_READ_BYTES) {
                if page.is_full() {
                    return Ok(Some(places[plan.records.start]));
                }
                let attempts = self.attempts(located, records, &plan).await?;
                for (number, attempt) in plan.records.zip(attempts) {
                    if page.is_full() {
                        return Ok(Some(places[number]));
                    }
                    if wanted.has(&attempt) {
                        page.push(attempt);
                    }
                }
            }
            done = end;
        }
        Ok(None)
    }

    /// The attempts of one read.
    async fn attempts(
        &self,
        located: &Located,
        records: &[Record],
        plan: &ReadPlan,
    ) -> Result<Vec<Attempt>> {
        let report = &located.report;
        let bytes = self.read(report, &report.key, plan.range.clone()).await?;
        let records = &records[plan.records.clone()];
        let places: Vec<_> = records.iter().map(|record| plan.place(record)).collect();
        let threshold = located.eval_threshold;
        let parsed = blocking("parse-attempts", move || {
            let lines = places
                .into_iter()
                .map(|place| bytes.get(place).unwrap_or_default());
            let parse = |line| Attempt::parse(line, threshold, TextBounds::default());
            lines.map(parse).collect::<Result<Vec<_>, _>>()
        });
        let misplaced = |_| fault::corrupt(report, "an attempt is not where its index says");
        parsed.await?.map_err(misplaced)
    }

    async fn header(&self, report: &StoredArtifact) -> Result<IndexHeader> {
        let key = report.key.index();
        let size = self.store.stat(&key).await?;
        let size = size.ok_or_else(|| fault::corrupt(report, "its index is missing"))?;
        let first = size.min(FIRST_READ_BYTES as u64);
        let mut start = self.read(report, &key, 0..first).await?;
        if let Err(IndexError::Incomplete { needed }) = IndexHeader::parse(&start) {
            start.extend(self.read(report, &key, first..needed as u64).await?);
        }
        IndexHeader::parse(&start).map_err(|_| fault::corrupt(report, "its index cannot be read"))
    }

    async fn records(&self, report: &StoredArtifact, range: Range<u64>) -> Result<Vec<Record>> {
        let bytes = self.read(report, &report.key.index(), range).await?;
        parse_records(&bytes).map_err(|_| fault::corrupt(report, "its index cannot be read"))
    }

    async fn read(
        &self,
        report: &StoredArtifact,
        key: &ObjectKey,
        range: Range<u64>,
    ) -> Result<Vec<u8>> {
        read_range(&*self.store, key, range)
            .await
            .map_err(|error| match error {
                StoreError::NotFound | StoreError::EndsEarly => {
                    fault::corrupt(report, "some of its bytes are missing")
                }
                other => other.into(),
            })
    }
}

/// A page that is being filled.
struct Filling {
    left: usize,
    text: usize,
    attempts: Vec<Attempt>,
}

impl Filling {
    fn is_full(&self) -> bool {
        self.left == 0 || self.text >= PAGE_TEXT_BYTES
    }

    fn push(&mut self, attempt: Attempt) {
        self.left -= 1;
        self.text += text_bytes(&attempt);
        self.attempts.push(attempt);
    }
}

/// Records that may be wanted, and their places among the probe's.
struct Chosen {
    places: Vec<u64>,
    records: Vec<Record>,
}

/// The query, in terms of the index.
struct Wanted {
    /// Places of detectors in the index; all when none was named.
    detectors: Range<usize>,
    named: Option<String>,
    outcome: Option<Outcome>,
}

impl Wanted {
    fn new(query: &Query, entry: &ProbeEntry) -> Result<Self> {
        let (named, outcome) = (query.detector.clone(), query.outcome);
        let detectors = match &named {
            None => 0..entry.detectors.len(),
            Some(name) => {
                let place = entry.detectors.iter().position(|known| known == name);
                let place = place.ok_or_else(|| unknown_detector(name, entry))?;
                place..place + 1
            }
        };
        Ok(Self {
            detectors,
            named,
            outcome,
        })
    }

    fn choose(&self, from: u64, records: &[Record]) -> Chosen {
        let may = |(_, record): &(u64, &Record)| self.may_have(record);
        let (places, records) = (from..)
            .zip(records)
            .filter(may)
            .map(|(place, record)| (place, *record))
            .unzip();
        Chosen { places, records }
    }

    /// Whether the index says yes, or cannot say no: it has the outcomes of the first
    /// [`INDEXED_DETECTORS`] detectors only.
    fn may_have(&self, record: &Record) -> bool {
        if self.named.is_none() && self.outcome.is_none() {
            return true;
        }
        let fits = |place| match record.outcomes.get(place) {
            Some(outcome) => self.outcome.is_none_or(|wanted| wanted == outcome),
            None => false,
        };
        let spilled = self.detectors.end > INDEXED_DETECTORS && record.outcomes.is_spilled();
        spilled || self.detectors.clone().any(fits)
    }

    /// Whether the attempt itself says yes.
    fn has(&self, attempt: &Attempt) -> bool {
        if self.named.is_none() && self.outcome.is_none() {
            return true;
        }
        attempt.detectors.iter().any(|judged| {
            self.named
                .as_ref()
                .is_none_or(|name| *name == judged.detector)
                && self.outcome.is_none_or(|outcome| outcome == judged.outcome)
        })
    }
}

fn text_bytes(attempt: &Attempt) -> usize {
    let prompt = attempt
        .prompt
        .iter()
        .filter_map(|turn| turn.content.as_ref());
    let outputs = attempt.outputs.iter().flatten();
    prompt
        .chain(outputs)
        .chain(&attempt.goal)
        .map(|text| text.text.len())
        .sum()
}

fn unknown_detector(name: &str, entry: &ProbeEntry) -> Error {
    let known = entry.detectors.join(", ");
    let given: String = name.chars().take(128).collect();
    let message = format!("{given:?} did not judge {}; these did: {known}", entry.name);
    Error::invalid_argument("UNKNOWN_DETECTOR", message.clone())
        .with("detectors", known)
        .field("detector", message)
}

fn not_evaluated(query: &Query) -> Error {
    let message = format!("{:?} was not evaluated in scan {}", query.probe, query.scan);
    Error::new(aegis_mesh::Code::NotFound, "PROBE_NOT_EVALUATED", message)
        .with("probe", &query.probe)
        .with("scan_id", query.scan)
}
