//! The directory of an index: its probes and the report's other lines.

use std::io;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::IndexError;
use super::excerpt::Excerpt;
use super::record::{Outcome, RECORD_BYTES};

/// The fixed part of an index, which says how long the header is.
pub const PREFIX_BYTES: usize = 16;

/// A first read of so many bytes has the whole header of most indexes.
pub const FIRST_READ_BYTES: usize = 64 << 10;

/// Longest header that is written or read, prefix included.
pub const MAX_HEADER_BYTES: usize = 32 << 20;

const MAGIC: &[u8; 7] = b"AEGISIX";
/// The version that is written. Older ones are still read: in version 1 the records of a probe lie
/// in the report's order, since 2 hits lie first, since 3 there are excerpts.
const VERSION: u8 = b'3';
const OLDEST_VERSION: u8 = b'1';

/// What an index says about its report, but for the records themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexHeader {
    /// Size of the report.
    pub report_bytes: u64,
    /// Lines of the report.
    pub lines: u64,
    /// The report's probes, in the order in which they appear.
    pub probes: Vec<ProbeEntry>,
    /// All lines but attempts and unknown ones, in the report's order.
    pub skeleton: Vec<SkeletonEntry>,
    /// Where the records begin; follows from the header's own length.
    #[serde(skip)]
    records_at: u64,
}

/// A probe and where its records lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeEntry {
    /// `module.Class`.
    pub name: String,
    /// Its detectors (`module.Class`); the place in this list is the place in
    /// a record's [`super::Outcomes`].
    pub detectors: Vec<String>,
    /// Number of its first record.
    pub first: u64,
    /// How many records it has: one for each completed attempt.
    pub count: u64,
    /// How its records lie; `None` in the report's order (version 1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// Its first hits, together; `None` without hits, with a first hit that is too long, and before
    /// version 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

/// How many records of a probe there are of each class: those that any detector hit lie first, then
/// those that none hit and some passed, then those that could not be scored; each class in the
/// report's order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classes {
    /// [`super::Outcomes::overall`] is a hit.
    pub hits: u64,
    /// It is a pass.
    pub passes: u64,
}

impl ProbeEntry {
    /// The classes with the numbers of their records, counted from the probe's first; one without
    /// an outcome, which has all, where the records lie in the report's order.
    pub fn runs(&self) -> Vec<(Option<Outcome>, Range<u64>)> {
        let Some(Classes { hits, passes }) = self.classes else {
            return vec![(None, 0..self.count)];
        };
        let scored = hits.saturating_add(passes).min(self.count);
        vec![
            (Some(Outcome::Hit), 0..hits.min(self.count)),
            (Some(Outcome::Pass), hits.min(self.count)..scored),
            (Some(Outcome::None), scored..self.count),
        ]
    }
}

/// A line that is neither an attempt nor unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkeletonEntry {
    /// What the line is.
    pub kind: SkeletonKind,
    /// The probe that it is about, as its place in [`IndexHeader::probes`]. A
    /// `payload_init` belongs to the probe of the next line that names one.
    pub probe: Option<u32>,
    /// Where the line starts in the report.
    pub offset: u64,
    /// Its length with the line break.
    pub length: u32,
}

impl SkeletonEntry {
    /// Where the line lies in the report, with its line break.
    pub fn range(&self) -> Range<u64> {
        self.offset..self.offset.saturating_add(u64::from(self.length))
    }
}

/// The kinds of lines that garak's report writer looks at, and the two at the
/// end of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkeletonKind {
    /// `start_run setup`.
    Setup,
    /// `init`.
    Init,
    /// `payload_init`.
    PayloadInit,
    /// `plugin_cache`.
    PluginCache,
    /// `eval`.
    Eval,
    /// `probe_summary`.
    ProbeSummary,
    /// `completion`.
    Completion,
    /// `digest`.
    Digest,
}

impl SkeletonKind {
    /// garak's `entry_type`.
    pub fn entry_type(self) -> &'static str {
        match self {
            Self::Setup => "start_run setup",
            Self::Init => "init",
            Self::PayloadInit => "payload_init",
            Self::PluginCache => "plugin_cache",
            Self::Eval => "eval",
            Self::ProbeSummary => "probe_summary",
            Self::Completion => "completion",
            Self::Digest => "digest",
        }
    }
}

impl IndexHeader {
    pub(crate) fn new(
        report_bytes: u64,
        lines: u64,
        probes: Vec<ProbeEntry>,
        skeleton: Vec<SkeletonEntry>,
    ) -> Self {
        Self {
            report_bytes,
            lines,
            probes,
            skeleton,
            records_at: 0,
        }
    }

    /// How many bytes from the start of the index the header takes, by the
    /// first [`PREFIX_BYTES`] of it.
    ///
    /// # Errors
    /// [`IndexError::Incomplete`] with fewer bytes,
    /// [`IndexError::UnknownVersion`], [`IndexError::Malformed`].
    pub fn encoded_len(start: &[u8]) -> Result<usize, IndexError> {
        let Some(prefix) = start.first_chunk::<PREFIX_BYTES>() else {
            return Err(IndexError::Incomplete {
                needed: PREFIX_BYTES,
            });
        };
        let [magic @ .., version, l0, l1, l2, l3, r0, r1, r2, r3] = *prefix;
        if magic != *MAGIC {
            return Err(IndexError::Malformed(
                "it does not start with the magic bytes",
            ));
        }
        if !(OLDEST_VERSION..=VERSION).contains(&version) {
            return Err(IndexError::UnknownVersion(char::from(version)));
        }
        if u32::from_le_bytes([r0, r1, r2, r3]) as usize != RECORD_BYTES {
            return Err(IndexError::Malformed("its records are of another size"));
        }
        let length = PREFIX_BYTES + u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_HEADER_BYTES {
            return Err(IndexError::Malformed("its header is too long"));
        }
        Ok(length)
    }

    /// Parses the header from the first bytes of an index; more than needed do
    /// no harm.
    ///
    /// # Errors
    /// [`IndexError::Incomplete`] says how many bytes are needed when there
    /// are fewer; else as [`IndexHeader::encoded_len`].
    pub fn parse(start: &[u8]) -> Result<Self, IndexError> {
        let needed = Self::encoded_len(start)?;
        let json = start
            .get(PREFIX_BYTES..needed)
            .ok_or(IndexError::Incomplete { needed })?;
        let mut header: Self = serde_json::from_slice(json)
            .map_err(|_| IndexError::Malformed("its header cannot be read"))?;
        header.records_at = needed as u64;
        header.check()?;
        if !has_excerpts(start) && header.probes.iter().any(|probe| probe.excerpt.is_some()) {
            return Err(IndexError::Malformed("its version has no excerpts"));
        }
        Ok(header)
    }

    /// The entry of a probe.
    ///
    /// # Errors
    /// [`IndexError::UnknownProbe`].
    pub fn probe(&self, name: &str) -> Result<&ProbeEntry, IndexError> {
        self.probes
            .iter()
            .find(|probe| probe.name == name)
            .ok_or(IndexError::UnknownProbe)
    }

    /// Which bytes of the index hold up to `count` records of `probe`, starting
    /// with its record number `from` as they lie; empty when there are none.
    pub fn record_range(&self, probe: &ProbeEntry, from: u64, count: u64) -> Range<u64> {
        let from = from.min(probe.count);
        let count = count.min(probe.count - from);
        let at = |number: u64| {
            let number = probe.first.saturating_add(number);
            self.records_at
                .saturating_add(number.saturating_mul(RECORD_BYTES as u64))
        };
        at(from)..at(from + count)
    }

    /// Which bytes of the index are the excerpt of `probe`, for [`super::parse_excerpt`]; `None`
    /// when it has none.
    pub fn excerpt_range(&self, probe: &ProbeEntry) -> Option<Range<u64>> {
        let excerpt = probe.excerpt?;
        let before = self
            .probes
            .iter()
            .take_while(|other| other.name != probe.name);
        let start = self.records_end() + excerpt_bytes(before);
        Some(start..start + excerpt.stored_bytes())
    }

    /// Where the header and the records end: so much of the index an [`super::Index`] holds.
    pub fn records_end(&self) -> u64 {
        let records: u64 = self.probes.iter().map(|probe| probe.count).sum();
        self.records_at + records * RECORD_BYTES as u64
    }

    /// Size of the whole index in bytes, of a header that was parsed.
    pub fn index_bytes(&self) -> u64 {
        self.records_end() + excerpt_bytes(&self.probes)
    }

    /// The lines of one kind.
    pub fn lines_of(&self, kind: SkeletonKind) -> impl Iterator<Item = &SkeletonEntry> {
        self.skeleton.iter().filter(move |entry| entry.kind == kind)
    }

    pub(super) fn encode(&self) -> io::Result<Vec<u8>> {
        let json = serde_json::to_vec(self)?;
        if PREFIX_BYTES + json.len() > MAX_HEADER_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + json.len());
        bytes.extend_from_slice(MAGIC);
        bytes.push(VERSION);
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes()); // below MAX_HEADER_BYTES
        bytes.extend_from_slice(&(RECORD_BYTES as u32).to_le_bytes());
        bytes.extend_from_slice(&json);
        Ok(bytes)
    }

    /// Probes follow each other without a gap, and lines name known probes.
    fn check(&self) -> Result<(), IndexError> {
        let mut next = 0u64;
        for probe in &self.probes {
            if probe.first != next {
                return Err(IndexError::Malformed("its probes do not follow each other"));
            }
            next = next
                .checked_add(probe.count)
                .filter(|count| *count <= u64::MAX / (2 * RECORD_BYTES as u64))
                .ok_or(IndexError::Malformed("it counts too many records"))?;
            let classes = probe.classes.unwrap_or_default();
            if classes
                .hits
                .checked_add(classes.passes)
                .is_none_or(|scored| scored > probe.count)
            {
                return Err(IndexError::Malformed(
                    "its classes are more than its records",
                ));
            }
            if let Some(excerpt) = probe.excerpt {
                excerpt.check(classes.hits)?;
            }
        }
        let known = |entry: &SkeletonEntry| {
            entry
                .probe
                .is_none_or(|probe| (probe as usize) < self.probes.len())
        };
        if !self.skeleton.iter().all(known) {
            return Err(IndexError::Malformed("a line names an unknown probe"));
        }
        Ok(())
    }
}

/// Whether an index of this version may have them.
fn has_excerpts(start: &[u8]) -> bool {
    start
        .get(MAGIC.len())
        .is_some_and(|version| *version >= b'3')
}

fn excerpt_bytes<'a>(probes: impl IntoIterator<Item = &'a ProbeEntry>) -> u64 {
    let excerpts = probes.into_iter().filter_map(|probe| probe.excerpt);
    excerpts.map(|excerpt| excerpt.stored_bytes()).sum()
}
