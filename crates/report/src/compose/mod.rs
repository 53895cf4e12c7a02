//! Joins the reports of single probes to the report of a scan.
//!
//! What is kept is what garak's own `analyze.aggregate_reports` keeps, and
//! three things more that a plain run has: completed attempts (status 2),
//! `eval`, `probe_summary`, `plugin_cache`; and `payload_init`, `completion`
//! and the digest. The lines of attempts that were sent but not yet scored
//! (status 1) are dropped: each attempt is there a second time with its scores,
//! and the report is half as long.
//!
//! The run's id is rewritten in the setup, `init`, `plugin_cache` and
//! `completion` lines, where garak puts it; all other lines are copied as they
//! are, in their order.

mod checked;
mod heads;

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use serde_json::Value;

use self::checked::Checked;
use self::heads::Heads;
use crate::error::ComposeError;
use crate::index::{Index, SkeletonEntry, SkeletonKind, coalesce};
use crate::line::{self, Entry};
use crate::object::Object;
use crate::reader::{Options, Summary};

/// Lines that follow each other are read at once, so many bytes at most.
const MAX_READ_BYTES: u64 = 8 << 20;

/// Where a part's bytes come from: a file, or an object by ranged reads.
pub trait ReadRange {
    /// Writes exactly the bytes of `range` to `out`.
    ///
    /// # Errors
    /// If they cannot be had, or `out` fails.
    fn read(&mut self, range: Range<u64>, out: &mut dyn Write) -> io::Result<()>;
}

/// A [`ReadRange`] over anything that can seek.
#[derive(Debug)]
pub struct SeekSource<R>(pub R);

impl<R: Read + Seek> ReadRange for SeekSource<R> {
    fn read(&mut self, range: Range<u64>, out: &mut dyn Write) -> io::Result<()> {
        let length = range.end.saturating_sub(range.start);
        self.0.seek(SeekFrom::Start(range.start))?;
        let copied = io::copy(&mut (&mut self.0).take(length), out)?;
        if copied == length {
            Ok(())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

/// Which probes of a part are wanted.
#[derive(Debug, Clone, Copy)]
pub enum Selection<'a> {
    /// All it has.
    All,
    /// Those named (`module.Class`), as when a scan is retried: the report it
    /// had gives the probes that were evaluated.
    Only(&'a [String]),
}

impl Selection<'_> {
    pub(crate) fn has(&self, probe: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(names) => names.iter().any(|name| name == probe),
        }
    }
}

/// A report, or some probes of it, as a part of a scan's report.
pub struct Part<'a> {
    /// Its index.
    pub index: &'a Index,
    /// Its bytes.
    pub source: &'a mut dyn ReadRange,
    /// Which probes are wanted.
    pub probes: Selection<'a>,
}

/// What a scan's report says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ScanIdentity {
    /// The scan's run id, a UUID.
    pub run_id: String,
    /// garak's `reporting.report_prefix`: the files are named
    /// `PREFIX.report.jsonl` and so on.
    pub report_prefix: String,
    /// The scan's probes (`probes.module.Class`), for
    /// `transient.active_probes`.
    pub active_probes: Vec<String>,
    /// garak's `run.spec`: `{"include": [...], "exclude": [...]}`.
    pub spec: Value,
}

/// Writes the skeleton of a scan's report: the lines that garak's report writer
/// looks at (setup, `init`, `payload_init`, `plugin_cache`, `eval`,
/// `probe_summary`), some 30 KB.
///
/// # Errors
/// As [`compose`].
pub fn skeleton(
    parts: &mut [Part<'_>],
    identity: &ScanIdentity,
    options: Options,
    out: &mut dyn Write,
) -> Result<Summary, ComposeError> {
    let heads = Heads::read(parts)?;
    let mut out = Checked::new(options, out);
    heads.write_start(identity, &mut out)?;
    for (number, part) in parts.iter_mut().enumerate() {
        part.write(number, identity, Content::Skeleton, &mut out)?;
    }
    out.finish()
}

/// Writes a scan's `report.jsonl` from its parts, in the order given.
///
/// `digest` is the line that garak's report writer made of the [`skeleton`]; it
/// ends the report without a line break, as garak has it.
///
/// The setup line is the first part's with the scan's identity in place of the
/// part's, and without the paths of the machine that it ran on. The start is
/// the earliest of the parts', the end the latest.
///
/// # Errors
/// [`ComposeError`]. What was written until then is not a report.
pub fn compose(
    parts: &mut [Part<'_>],
    identity: &ScanIdentity,
    digest: &[u8],
    options: Options,
    out: &mut dyn Write,
) -> Result<Summary, ComposeError> {
    let Ok(Entry::Digest) = line::parse(digest) else {
        return Err(ComposeError::NotADigest);
    };
    let heads = Heads::read(parts)?;
    let mut out = Checked::new(options, out);
    heads.write_start(identity, &mut out)?;
    for (number, part) in parts.iter_mut().enumerate() {
        part.write(number, identity, Content::Report, &mut out)?;
    }
    heads.write_end(identity, &mut out)?;
    out.put(digest.trim_ascii())?;
    out.finish()
}

/// How much of a part is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Report,
    Skeleton,
}

/// What is done with a range of a part.
enum Piece {
    Copy(Range<u64>),
    /// The line names its run.
    Rewrite(SkeletonEntry),
}

impl Piece {
    fn start(&self) -> u64 {
        match self {
            Self::Copy(range) => range.start,
            Self::Rewrite(entry) => entry.offset,
        }
    }
}

impl Part<'_> {
    /// Writes what lies between the head and the end of a report.
    fn write(
        &mut self,
        number: usize,
        identity: &ScanIdentity,
        content: Content,
        out: &mut Checked<'_>,
    ) -> Result<(), ComposeError> {
        let mut copied = Vec::new();
        for piece in self.pieces(content) {
            match piece {
                Piece::Copy(range) => copied.push(range),
                Piece::Rewrite(entry) => {
                    self.copy(&mut copied, out)?;
                    self.rewrite(number, &entry, identity, out)?;
                }
            }
        }
        self.copy(&mut copied, out)
    }

    /// The wanted lines in the part's order.
    fn pieces(&self, content: Content) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for entry in &self.index.header().skeleton {
            match entry.kind {
                SkeletonKind::PluginCache if self.wants(entry, true) => {
                    pieces.push(Piece::Rewrite(*entry));
                }
                SkeletonKind::PayloadInit | SkeletonKind::Eval | SkeletonKind::ProbeSummary
                    if self.wants(entry, false) =>
                {
                    pieces.push(Piece::Copy(entry.range()));
                }
                _ => {}
            }
        }
        if content == Content::Report {
            let wanted = self
                .index
                .probes()
                .filter(|(probe, _)| self.probes.has(&probe.name));
            let records = wanted.flat_map(|(_, records)| records);
            pieces.extend(records.map(|record| Piece::Copy(record.range())));
        }
        pieces.sort_unstable_by_key(Piece::start);
        pieces
    }

    /// Whether a line is of a wanted probe; `shared` if it is when it is of no
    /// probe or of several.
    fn wants(&self, entry: &SkeletonEntry, shared: bool) -> bool {
        let probes = &self.index.header().probes;
        match entry.probe.and_then(|place| probes.get(place as usize)) {
            Some(probe) => self.probes.has(&probe.name),
            None => shared || matches!(self.probes, Selection::All),
        }
    }

    fn copy(
        &mut self,
        ranges: &mut Vec<Range<u64>>,
        out: &mut Checked<'_>,
    ) -> Result<(), ComposeError> {
        for range in coalesce(ranges.drain(..), 0, MAX_READ_BYTES) {
            out.copy(self.source, range)?;
        }
        Ok(())
    }

    fn rewrite(
        &mut self,
        number: usize,
        entry: &SkeletonEntry,
        identity: &ScanIdentity,
        out: &mut Checked<'_>,
    ) -> Result<(), ComposeError> {
        let line = self.line(entry)?;
        let fail = |error| ComposeError::Line {
            part: number,
            error,
        };
        let mut object = Object::parse(&line).map_err(fail)?;
        if object.get("run").is_some() {
            object.set("run", &identity.run_id).map_err(fail)?;
        }
        out.put_object(&object)
    }

    /// One line, which the reader of the part has found to be within bounds.
    fn line(&mut self, entry: &SkeletonEntry) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.source.read(entry.range(), &mut line)?;
        Ok(line)
    }
}
