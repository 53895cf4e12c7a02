//! Where each completed attempt of a report lies.
//!
//! An index is stored beside its report and read by ranges, as the report is:
//!
//! ```text
//! 0   magic "AEGISIX" and the version '3'      8 bytes
//! 8   length of the header                     u32, little endian
//! 12  bytes per record                         u32, little endian
//! 16  header: JSON, see IndexHeader
//! ..  records, probe after probe and hits first, see Classes and Record
//! ..  excerpts, probe after probe, see Excerpt
//! ```
//!
//! To show a page of a probe's attempts: read the first bytes, parse the
//! header, read [`IndexHeader::record_range`], [`parse_records`], keep what the
//! [`Filter`] matches, and read from the report what [`plan_reads`] says; or,
//! for the first hits, [`IndexHeader::excerpt_range`], and see [`parse_excerpt`].
//! But for excerpts, which are lines of the report, an index holds names,
//! numbers and ids, never a prompt or an output.

mod excerpt;
mod header;
mod range;
mod record;

use std::io::{self, Read, Write};

use crate::compose::ReadRange;

pub use self::excerpt::{EXCERPT_BYTES, EXCERPT_HITS, Excerpt, parse_excerpt};
pub use self::header::{
    Classes, FIRST_READ_BYTES, IndexHeader, MAX_HEADER_BYTES, PREFIX_BYTES, ProbeEntry,
    SkeletonEntry, SkeletonKind,
};
pub use self::range::{ReadPlan, coalesce, plan_reads};
pub use self::record::{
    Filter, INDEXED_DETECTORS, Outcome, Outcomes, RECORD_BYTES, Record, parse_records,
};

/// Why an index, or a part of one, could not be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// More bytes of the index are needed to parse its header.
    #[error("the header needs the first {needed} bytes")]
    Incomplete {
        /// How many bytes from the start of the index.
        needed: usize,
    },
    /// The bytes are not those of an index.
    #[error("not an index: {0}")]
    Malformed(&'static str),
    /// The index was written in a version that is not known here.
    #[error("an index of the unknown version {0:?}")]
    UnknownVersion(char),
    /// The probe is not in the report.
    #[error("no such probe in this report")]
    UnknownProbe,
    /// The detector was not used on the probe.
    #[error("no such detector for this probe")]
    UnknownDetector,
    /// The probe has more than [`INDEXED_DETECTORS`] detectors and this one's
    /// outcomes are not in the index: the attempts themselves must be read.
    #[error("outcomes of this detector are not indexed")]
    NotIndexed,
    /// The index could not be read.
    #[error("reading the index: {0}")]
    Io(#[from] io::Error),
}

/// A whole index in memory: 40 bytes per completed attempt and the header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    header: IndexHeader,
    records: Vec<Vec<Record>>,
}

impl Index {
    /// One list of records for each of the header's probes, in its order, each in the report's.
    pub(crate) fn new(mut header: IndexHeader, records: Vec<Vec<Record>>) -> Self {
        for (probe, records) in header.probes.iter_mut().zip(&records) {
            let count = |outcome| {
                let all = records.iter().map(|record| record.outcomes.overall());
                all.filter(|overall| *overall == outcome).count() as u64
            };
            let (hits, passes) = (count(Outcome::Hit), count(Outcome::Pass));
            probe.classes = Some(Classes { hits, passes });
            probe.excerpt = Excerpt::of(records);
        }
        Self { header, records }
    }

    /// The directory of probes and lines.
    pub fn header(&self) -> &IndexHeader {
        &self.header
    }

    /// The completed attempts of a probe in the report's order.
    ///
    /// # Errors
    /// [`IndexError::UnknownProbe`].
    pub fn records(&self, probe: &str) -> Result<&[Record], IndexError> {
        let at = self
            .header
            .probes
            .iter()
            .position(|entry| entry.name == probe);
        let records = at
            .and_then(|at| self.records.get(at))
            .ok_or(IndexError::UnknownProbe)?;
        Ok(records)
    }

    /// All probes with their records.
    pub fn probes(&self) -> impl Iterator<Item = (&ProbeEntry, &[Record])> {
        self.header
            .probes
            .iter()
            .zip(self.records.iter().map(Vec::as_slice))
    }

    /// Writes the index as it is stored, with excerpts from its report.
    ///
    /// # Errors
    /// Those of `out` and of `report`; [`io::ErrorKind::FileTooLarge`] if the
    /// header is over [`MAX_HEADER_BYTES`].
    pub fn write_to(&self, mut out: impl Write, report: &mut dyn ReadRange) -> io::Result<()> {
        out.write_all(&self.header.encode()?)?;
        for records in &self.records {
            for outcome in [Outcome::Hit, Outcome::Pass, Outcome::None] {
                let of_class = |record: &&Record| record.outcomes.overall() == outcome;
                for record in records.iter().filter(of_class) {
                    out.write_all(&record.encode())?;
                }
            }
        }
        for (probe, records) in self.probes() {
            if let Some(excerpt) = &probe.excerpt {
                excerpt.write_to(records, report, &mut out)?;
            }
        }
        Ok(())
    }

    /// Reads what [`Index::write_to`] wrote, in this version or an older one,
    /// up to the excerpts.
    ///
    /// # Errors
    /// Those of `input`, and all that [`IndexHeader::parse`] has; bytes missing
    /// at the end are [`io::ErrorKind::UnexpectedEof`].
    pub fn read_from(mut input: impl Read) -> Result<Self, IndexError> {
        let mut bytes = vec![0; PREFIX_BYTES];
        input.read_exact(&mut bytes)?;
        let length = IndexHeader::encoded_len(&bytes)?;
        bytes.resize(length, 0);
        input.read_exact(&mut bytes[PREFIX_BYTES..])?;
        let header = IndexHeader::parse(&bytes)?;
        let records = header
            .probes
            .iter()
            .map(|probe| read_records(&mut input, probe.count));
        let mut records = records.collect::<Result<Vec<_>, _>>()?;
        for records in &mut records {
            records.sort_by_key(|record| record.offset);
        }
        Ok(Self::new(header, records))
    }
}

/// Grows with what is really there, whatever the header claims.
fn read_records(input: &mut impl Read, count: u64) -> Result<Vec<Record>, IndexError> {
    let mut records = Vec::new();
    let mut bytes = [0; RECORD_BYTES];
    for _ in 0..count {
        input.read_exact(&mut bytes)?;
        records.push(Record::decode(&bytes));
    }
    Ok(records)
}
