//! Reports and their indexes, by ranges.

use std::ops::Range;
use std::sync::Arc;

use aegis_mesh::{Error, Result};
use aegis_report::Record;
use aegis_report::index::{
    Excerpt, IndexHeader, ProbeEntry, ReadPlan, parse_excerpt, parse_records,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::domain::fault;
use crate::domain::indexes::Indexes;
use crate::domain::key::ObjectKey;
use crate::domain::registry::{Source, StoredArtifact};
use crate::store::{ObjectStore, StoreError, read_range};

/// Reads that are under way at once.
pub(super) const CONCURRENT_READS: usize = 16;

/// The store, as readers of reports use it.
#[derive(Clone)]
pub(super) struct Files {
    store: Arc<dyn ObjectStore>,
    indexes: Indexes,
}

/// Bytes that were read, and where in them the lines of attempts lie.
pub(super) struct Block {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: Vec<Range<usize>>,
}

/// A report whose index was opened.
#[derive(Clone)]
pub(super) struct Opened {
    pub(super) source: Arc<Source>,
    pub(super) header: Arc<IndexHeader>,
}

impl Opened {
    /// The probes that are read from this report, in its order.
    pub(super) fn probes(&self) -> impl Iterator<Item = &ProbeEntry> {
        let of = self.source.probe.as_deref();
        self.header
            .probes
            .iter()
            .filter(move |entry| of.is_none_or(|probe| probe == entry.name))
    }
}

impl Files {
    pub(super) fn new(store: Arc<dyn ObjectStore>, indexes: Indexes) -> Self {
        Self { store, indexes }
    }

    /// Opens a report's index: reads its header alone.
    pub(super) async fn open(&self, source: Source) -> Result<Opened> {
        let header = self.indexes.open(&source.report, source.eval_threshold);
        Ok(Opened {
            header: Arc::new(header.await?),
            source: Arc::new(source),
        })
    }

    /// Opens several, a few at once, in their order.
    pub(super) async fn open_all(&self, sources: Vec<Source>) -> Result<Vec<Opened>> {
        let opening = stream::iter(sources).map(|source| self.open(source));
        opening.buffered(CONCURRENT_READS).try_collect().await
    }

    /// Some of a probe's records, as they lie.
    pub(super) async fn records(
        &self,
        file: &Opened,
        entry: &ProbeEntry,
        from: u64,
        count: u64,
    ) -> Result<Vec<Record>> {
        let report = &file.source.report;
        let range = file.header.record_range(entry, from, count);
        let bytes = self.read(report, &report.key.index(), range).await?;
        parse_records(&bytes).map_err(|_| fault::corrupt(report, "its index cannot be read"))
    }

    /// The line of one record.
    pub(super) async fn line(&self, file: &Opened, record: &Record) -> Result<Vec<u8>> {
        let report = &file.source.report;
        self.read(report, &report.key, record.range()).await
    }

    /// The lines of `records`, by the reads that were planned for them, a few at once.
    pub(super) async fn blocks(
        &self,
        file: &Opened,
        plans: &[ReadPlan],
        records: &[Record],
    ) -> Result<Vec<Block>> {
        let report = &file.source.report;
        let blocks = plans.iter().map(|plan| {
            let lines = records[plan.records.clone()].iter();
            (
                plan.range.clone(),
                lines.map(|record| plan.place(record)).collect(),
            )
        });
        let blocks: Vec<(Range<u64>, Vec<Range<usize>>)> = blocks.collect();
        let reads = stream::iter(blocks).map(async |(range, lines)| {
            let bytes = self.read(report, &report.key, range).await?;
            Ok(Block { bytes, lines })
        });
        reads.buffered(CONCURRENT_READS).try_collect().await
    }

    /// The lines of the first of `records`, as many as a probe's excerpt has.
    pub(super) async fn excerpt(
        &self,
        file: &Opened,
        excerpt: &Excerpt,
        range: Range<u64>,
        records: &[Record],
    ) -> Result<Block> {
        let report = &file.source.report;
        let bytes = self.read(report, &report.key.index(), range).await?;
        let places = parse_excerpt(excerpt, &bytes);
        let places = places.map_err(|_| fault::corrupt(report, "its index cannot be read"))?;
        let place = |record: &Record| {
            let found = places.binary_search_by_key(&record.offset, |(kept, _)| kept.offset);
            found.ok().map(|number| places[number].1.clone())
        };
        let lines = records.iter().map_while(place).collect();
        Ok(Block { bytes, lines })
    }

    async fn read(
        &self,
        report: &StoredArtifact,
        key: &ObjectKey,
        range: Range<u64>,
    ) -> Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let read = read_range(&*self.store, key, range).await;
        read.map_err(|error| match error {
            StoreError::NotFound | StoreError::EndsEarly => {
                fault::corrupt(report, "some of its bytes are missing")
            }
            other => Error::from(other),
        })
    }
}
