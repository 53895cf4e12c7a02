//! garak's hitlog: one line for each output that a detector called a hit.

mod rebuild;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::Deserialize;

use crate::compose::Selection;
use crate::error::{ComposeError, LineError, ReportError};
use crate::line::{Name, object, with_python_numbers};
use crate::lines::{Line, Lines};
use crate::object::Object;
use crate::reader::Limits;
use crate::tally::{Tally, Warning};

pub use self::rebuild::rebuild_hitlog;

/// What is known of a hitlog after it was read to its end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HitlogSummary {
    /// Bytes.
    pub bytes: u64,
    /// Lines by probe and detector (`module.Class` each).
    pub hits: BTreeMap<String, BTreeMap<String, u64>>,
}

impl HitlogSummary {
    /// All hits.
    pub fn total(&self) -> u64 {
        self.hits.values().flat_map(BTreeMap::values).sum()
    }

    /// Compares the hits with the `failed` counts of the report: garak writes
    /// one line for each.
    pub fn check(&self, tally: &Tally) -> Vec<Warning> {
        let mut expected: BTreeMap<(&str, &str), (u64, u64)> = BTreeMap::new();
        for (probe, of) in &tally.probes {
            for (detector, counts) in &of.detectors {
                expected.entry((probe, detector)).or_default().0 = counts.failed;
            }
        }
        for (probe, detectors) in &self.hits {
            for (detector, hits) in detectors {
                expected.entry((probe, detector)).or_default().1 = *hits;
            }
        }
        let differing = expected
            .into_iter()
            .filter(|(_, (failed, hits))| failed != hits);
        let warning = |((probe, detector), (failed, hits)): ((&str, &str), _)| {
            let (probe, detector) = (probe.to_owned(), detector.to_owned());
            Warning::HitsDiffer {
                probe,
                detector,
                failed,
                hits,
            }
        };
        differing.map(warning).collect()
    }
}

/// Checks and counts a hitlog while it arrives, in chunks of any size.
#[derive(Debug)]
pub struct HitlogReader {
    lines: Lines,
    counts: Counts,
    refused: Option<ReportError>,
}

#[derive(Debug)]
struct Counts {
    max: usize,
    pairs: usize,
    hits: BTreeMap<String, BTreeMap<String, u64>>,
}

impl HitlogReader {
    /// A reader at the start of a hitlog.
    pub fn new(limits: Limits) -> Self {
        let counts = Counts {
            max: limits.max_detectors,
            pairs: 0,
            hits: BTreeMap::new(),
        };
        Self {
            lines: Lines::new(limits.max_line_bytes),
            counts,
            refused: None,
        }
    }

    /// Takes the next bytes of the hitlog.
    ///
    /// # Errors
    /// As soon as a line is refused; from then on always the same error.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ReportError> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let counts = &mut self.counts;
        let pushed = self.lines.push(chunk, |line| counts.take(&line));
        self.refused = pushed.as_ref().err().cloned();
        pushed
    }

    /// Ends the hitlog.
    ///
    /// # Errors
    /// [`ReportError::Truncated`] if it ends within a line; the error of
    /// [`HitlogReader::push`] if there was one.
    pub fn finish(self) -> Result<HitlogSummary, ReportError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let bytes = self.lines.bytes();
        match self.lines.finish() {
            Some(line) if !line.is_blank() => Err(ReportError::Truncated {
                line: line.number,
                offset: bytes,
            }),
            _ => Ok(HitlogSummary {
                bytes,
                hits: self.counts.hits,
            }),
        }
    }
}

impl Counts {
    fn take(&mut self, line: &Line<'_>) -> Result<(), ReportError> {
        if line.is_blank() {
            return Ok(());
        }
        let hit = Hit::parse(line.bytes).map_err(|error| line.malformed(error))?;
        let detectors = self.hits.entry(hit.probe).or_default();
        if let Some(count) = detectors.get_mut(&hit.detector) {
            *count += 1;
            return Ok(());
        }
        if self.pairs == self.max {
            let (what, limit) = ("detectors", self.max);
            return Err(ReportError::TooMany {
                line: line.number,
                offset: line.offset,
                what,
                limit,
            });
        }
        self.pairs += 1;
        detectors.insert(hit.detector, 1);
        Ok(())
    }
}

/// What must be known of a line.
struct Hit {
    probe: String,
    detector: String,
}

impl Hit {
    fn parse(line: &[u8]) -> Result<Self, LineError> {
        #[derive(Deserialize)]
        struct Names<'a> {
            #[serde(borrow, default)]
            probe: Name<'a>,
            #[serde(borrow, default)]
            detector: Name<'a>,
        }
        with_python_numbers(line, |line| {
            let hit: Names<'_> = serde_json::from_str(object(line)?)?;
            if hit.probe.as_str().is_empty() || hit.detector.as_str().is_empty() {
                return Err(LineError::new("the name of a probe or detector is missing"));
            }
            let (probe, detector) = (
                hit.probe.as_str().to_owned(),
                hit.detector.as_str().to_owned(),
            );
            Ok(Self { probe, detector })
        })
    }
}

/// The hitlog of one part, and which probes' lines to take from it.
pub struct HitlogPart<'a> {
    /// Its bytes.
    pub source: &'a mut dyn Read,
    /// Which probes' lines are wanted.
    pub probes: Selection<'a>,
}

/// Writes the hitlog of a scan: the lines of the parts in the order given, with
/// the scan's run id. Nothing is written if no part has a line; garak leaves no
/// hitlog then.
///
/// # Errors
/// [`ComposeError::Report`] if a part's hitlog is refused (its line and byte
/// position are the part's own), [`ComposeError::Io`].
pub fn compose_hitlog(
    parts: &mut [HitlogPart<'_>],
    run_id: &str,
    limits: Limits,
    out: &mut dyn Write,
) -> Result<HitlogSummary, ComposeError> {
    let mut joined = Joined {
        out,
        run_id,
        reader: HitlogReader::new(limits),
    };
    let mut chunk = vec![0; 128 << 10];
    for part in parts {
        let mut lines = Lines::new(limits.max_line_bytes);
        loop {
            let taken = match part.source.read(&mut chunk) {
                Ok(taken) => taken,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            if taken == 0 {
                break;
            }
            lines.push(&chunk[..taken], |line| joined.line(&line, &part.probes))?;
        }
        if let Some(line) = lines.finish().filter(|line| !line.is_blank()) {
            let offset = lines.bytes();
            return Err(ReportError::Truncated {
                line: line.number,
                offset,
            }
            .into());
        }
    }
    Ok(joined.reader.finish()?)
}

struct Joined<'a> {
    out: &'a mut dyn Write,
    run_id: &'a str,
    reader: HitlogReader,
}

impl Joined<'_> {
    fn line(&mut self, line: &Line<'_>, wanted: &Selection<'_>) -> Result<(), ComposeError> {
        if line.is_blank() {
            return Ok(());
        }
        let hit = Hit::parse(line.bytes).map_err(|error| line.malformed(error))?;
        if !wanted.has(&hit.probe) {
            return Ok(());
        }
        let mut object = Object::parse(line.bytes).map_err(|error| line.malformed(error))?;
        object
            .set("run_id", &self.run_id)
            .map_err(|error| line.malformed(error))?;
        let mut bytes = Vec::with_capacity(line.bytes.len() + 64);
        object.write_line(&mut bytes)?;
        self.reader.push(&bytes)?;
        Ok(self.out.write_all(&bytes)?)
    }
}
