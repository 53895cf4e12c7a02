//! A probe's first hits, together: what a reader asks for first is one read.
//!
//! Hits may lie far from each other in a report, and an S3 server reads a whole chunk of its own,
//! megabytes, for each range that it is asked for.

use std::io::{self, Write};
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::record::{Outcome, RECORD_BYTES, Record};
use super::{IndexError, coalesce, parse_records};
use crate::compose::ReadRange;

/// Hits of a probe that are kept together at most: two pages of the default size.
pub const EXCERPT_HITS: u64 = 100;
/// Bytes that their lines have together at most.
pub const EXCERPT_BYTES: u64 = 512 << 10;

/// The first hits of a probe in the report's order: their records, then their lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// How many hits; 1 to [`EXCERPT_HITS`].
    pub hits: u64,
    /// Bytes of their lines; up to [`EXCERPT_BYTES`].
    pub bytes: u64,
}

impl Excerpt {
    /// Of a probe's records in the report's order: as many hits as there is room for.
    pub(super) fn of(records: &[Record]) -> Option<Self> {
        let mut excerpt = Self { hits: 0, bytes: 0 };
        for record in hits(records) {
            let bytes = excerpt.bytes + u64::from(record.length);
            if excerpt.hits == EXCERPT_HITS || bytes > EXCERPT_BYTES {
                break;
            }
            excerpt.hits += 1;
            excerpt.bytes = bytes;
        }
        (excerpt.hits > 0).then_some(excerpt)
    }

    /// Bytes that it takes in an index.
    pub fn stored_bytes(&self) -> u64 {
        self.hits * RECORD_BYTES as u64 + self.bytes
    }

    pub(super) fn write_to(
        self,
        records: &[Record],
        report: &mut dyn ReadRange,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let first: Vec<&Record> = hits(records).take(self.hits as usize).collect();
        for record in &first {
            out.write_all(&record.encode())?;
        }
        for range in coalesce(first.iter().map(|record| record.range()), 0, EXCERPT_BYTES) {
            report.read(range, out)?;
        }
        Ok(())
    }

    pub(super) fn check(&self, hits: u64) -> Result<(), IndexError> {
        if self.hits > hits.min(EXCERPT_HITS) || self.bytes > EXCERPT_BYTES {
            return Err(IndexError::Malformed("an excerpt is too large"));
        }
        Ok(())
    }
}

/// Parses an excerpt: the records of its hits, each with the place of its line in `bytes`.
///
/// # Errors
/// [`IndexError::Malformed`] if the lines are not as long as the records say.
pub fn parse_excerpt(
    excerpt: &Excerpt,
    bytes: &[u8],
) -> Result<Vec<(Record, Range<usize>)>, IndexError> {
    let mut at = excerpt.hits as usize * RECORD_BYTES;
    let records = bytes.get(..at).ok_or(IndexError::Malformed(TORN))?;
    let mut places = Vec::with_capacity(excerpt.hits as usize);
    for record in parse_records(records)? {
        let end = at.saturating_add(record.length as usize);
        places.push((record, at..end));
        at = end;
    }
    if at == bytes.len() {
        Ok(places)
    } else {
        Err(IndexError::Malformed(TORN))
    }
}

const TORN: &str = "an excerpt is torn";

fn hits(records: &[Record]) -> impl Iterator<Item = &Record> {
    records
        .iter()
        .filter(|record| record.outcomes.overall() == Outcome::Hit)
}
