//! One pass over a report: check every line, count, and note where attempts lie.

use std::io::BufRead;

use crate::DEFAULT_EVAL_THRESHOLD;
use crate::error::{LineError, ReadError, ReportError};
use crate::index::Index;
use crate::line::{self, Entry};
use crate::lines::{Line, Lines};
use crate::run::RunInfo;
use crate::survey::{Refusal, Survey};
use crate::tally::{Tally, Warning};

/// What a report may have at most. A report beyond is refused, so memory is
/// bounded whatever is uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a line with its line break.
    pub max_line_bytes: usize,
    /// Completed attempts; 40 bytes of memory each.
    pub max_attempts: usize,
    /// Probes.
    pub max_probes: usize,
    /// Pairs of a probe and a detector.
    pub max_detectors: usize,
    /// Lines other than attempts; 24 bytes of memory each.
    pub max_skeleton_lines: usize,
}

impl Default for Limits {
    /// 32 MiB a line, 1,048,576 completed attempts, 4,096 probes, 16,384 pairs
    /// of a probe and a detector, 65,536 other lines.
    fn default() -> Self {
        Self {
            max_line_bytes: 32 << 20,
            max_attempts: 1 << 20,
            max_probes: 1 << 12,
            max_detectors: 1 << 14,
            max_skeleton_lines: 1 << 16,
        }
    }
}

/// How to read a report.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Options {
    /// The run's `eval_threshold`: a score from here on is a hit. It decides
    /// outcomes in the index and the cross-check, not the tally.
    pub eval_threshold: f64,
    /// What the report may have at most.
    pub limits: Limits,
}

impl Default for Options {
    /// [`DEFAULT_EVAL_THRESHOLD`] and the default [`Limits`].
    fn default() -> Self {
        Self {
            eval_threshold: DEFAULT_EVAL_THRESHOLD,
            limits: Limits::default(),
        }
    }
}

/// What is known of a report after it was read to its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Lines, blank ones included.
    pub lines: u64,
    /// Bytes.
    pub bytes: u64,
    /// What the `eval` lines say, and counts of attempts.
    pub tally: Tally,
    /// What the attempts' own scores say, counted with [`Options::eval_threshold`].
    pub scored: Tally,
    /// Where completed attempts and other lines lie.
    pub index: Index,
    /// The run.
    pub run: RunInfo,
    /// What does not add up.
    pub warnings: Vec<Warning>,
    /// What a [`Reader::tolerant`] left out.
    pub left_out: LeftOut,
}

/// Lines that were left out of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub lines: u64,
    /// Why, of the first [`LeftOut::MAX_NAMED`].
    pub named: Vec<ReportError>,
}

impl LeftOut {
    /// Lines that are named.
    pub const MAX_NAMED: usize = 100;

    fn add(&mut self, error: ReportError) {
        self.lines += 1;
        if self.named.len() < Self::MAX_NAMED {
            self.named.push(error);
        }
    }
}

impl Summary {
    /// The tally, with the attempts' own scores for each probe that has no `eval` line at all: a
    /// run that ended before its evaluation, as reports of old runs often show.
    pub fn whole_tally(&self) -> Tally {
        let mut whole = self.tally.clone();
        for (name, probe) in &mut whole.probes {
            if probe.detectors.is_empty()
                && let Some(scored) = self.scored.probes.get(name)
            {
                probe.detectors.clone_from(&scored.detectors);
            }
        }
        whole
    }
}

/// Reads a report while it arrives, in chunks of any size.
///
/// Holds no more than one unfinished line and what [`Limits`] allows. The
/// order of lines is not checked. Blank lines are skipped, as garak does.
///
/// ```
/// use aegis_report::{Options, Reader};
/// let mut reader = Reader::new(Options::default());
/// reader.push(br#"{"entry_type": "init", "run": "r1"}"#)?;
/// reader.push(b"\n")?;
/// assert_eq!(reader.finish()?.lines, 1);
/// # Ok::<(), aegis_report::ReportError>(())
/// ```
#[derive(Debug)]
pub struct Reader {
    lines: Lines,
    survey: Survey,
    refused: Option<ReportError>,
    /// Set when a line that cannot be read is left out, instead of the report being refused.
    left_out: Option<LeftOut>,
}

impl Reader {
    /// A reader at the start of a report.
    pub fn new(options: Options) -> Self {
        Self {
            lines: Lines::new(options.limits.max_line_bytes),
            survey: Survey::new(options),
            refused: None,
            left_out: None,
        }
    }

    /// A reader of a report that nobody can write again: lines that cannot be read are left out
    /// (see [`Summary::left_out`]), the last one, too, if the run was killed while it wrote. The
    /// threshold that a report itself names holds instead of [`Options::eval_threshold`].
    pub fn tolerant(options: Options) -> Self {
        Self {
            survey: Survey::of_own_threshold(options),
            left_out: Some(LeftOut::default()),
            ..Self::new(options)
        }
    }

    /// Takes the next bytes of the report.
    ///
    /// # Errors
    /// As soon as a line is refused; from then on always the same error.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), ReportError> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let (survey, left_out) = (&mut self.survey, &mut self.left_out);
        let pushed = self.lines.push(chunk, |line| {
            take(survey, line).or_else(|error| leave_out(left_out.as_mut(), error))
        });
        self.refused = pushed.as_ref().err().cloned();
        pushed
    }

    /// Ends the report. Its last line needs no line break if it is the digest,
    /// which garak writes so.
    ///
    /// # Errors
    /// [`ReportError::Truncated`] if the report ends within a line; the error
    /// of [`Reader::push`] if there was one.
    pub fn finish(mut self) -> Result<Summary, ReportError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let mut lines = self.lines.count();
        if let Some(line) = self.lines.finish() {
            match &mut self.left_out {
                None => take_last(&mut self.survey, line)?,
                // A line that is whole has lost nothing but its line break.
                Some(left_out) => take(&mut self.survey, line)
                    .or_else(|error| leave_out(Some(left_out), error))?,
            }
            lines += 1;
        }
        let mut summary = self.survey.finish(lines, self.lines.bytes());
        summary.left_out = self.left_out.unwrap_or_default();
        Ok(summary)
    }

    /// How many bytes were taken so far.
    pub fn bytes(&self) -> u64 {
        self.lines.bytes()
    }

    /// The memory held for an unfinished line: at most twice
    /// [`Limits::max_line_bytes`].
    pub fn retained_bytes(&self) -> usize {
        self.lines.retained_bytes()
    }
}

/// Reads a whole report.
///
/// # Errors
/// [`ReadError::Io`] from `input`, [`ReadError::Report`] if it is refused.
pub fn read(input: impl BufRead, options: Options) -> Result<Summary, ReadError> {
    read_all(input, Reader::new(options))
}

/// Reads a whole report as [`Reader::tolerant`] does.
///
/// # Errors
/// As [`read`]; lines that cannot be read are none.
pub fn read_tolerant(input: impl BufRead, options: Options) -> Result<Summary, ReadError> {
    read_all(input, Reader::tolerant(options))
}

fn read_all(mut input: impl BufRead, mut reader: Reader) -> Result<Summary, ReadError> {
    loop {
        let chunk = input.fill_buf()?;
        if chunk.is_empty() {
            return Ok(reader.finish()?);
        }
        reader.push(chunk)?;
        let taken = chunk.len();
        input.consume(taken);
    }
}

/// Goes on after a line that cannot be read, where that is allowed. What memory is bounded by is
/// never left out.
fn leave_out(left_out: Option<&mut LeftOut>, error: ReportError) -> Result<(), ReportError> {
    match (left_out, error) {
        (Some(left_out), error @ ReportError::Malformed { .. }) => {
            left_out.add(error);
            Ok(())
        }
        (_, error) => Err(error),
    }
}

fn take(survey: &mut Survey, line: Line<'_>) -> Result<(), ReportError> {
    if line.is_blank() {
        return Ok(());
    }
    let taken = match line::parse(line.bytes) {
        Ok(entry) => survey.take(&line, entry),
        Err(error) => match replaced(&line, error) {
            Some(bytes) => line::parse(&bytes)
                .map_err(Refusal::Line)
                .and_then(|entry| survey.take(&line, entry)),
            None => Err(error.into()),
        },
    };
    taken.map_err(|refusal| match refusal {
        Refusal::Line(error) => line.malformed(error),
        Refusal::Full { what, limit } => ReportError::TooMany {
            line: line.number,
            offset: line.offset,
            what,
            limit,
        },
    })
}

/// The line without numbers that are no JSON, if it was refused and has some.
fn replaced(line: &Line<'_>, error: LineError) -> Option<Vec<u8>> {
    match error {
        LineError::Malformed { .. } => line::replaced(line.bytes),
        LineError::Torn => None,
    }
}

/// The line without a line break at the end: garak writes only the digest so,
/// so anything else has lost bytes.
fn take_last(survey: &mut Survey, line: Line<'_>) -> Result<(), ReportError> {
    if line.is_blank() {
        return Ok(());
    }
    let replaced = line::parse(line.bytes)
        .err()
        .and_then(|error| replaced(&line, error));
    let bytes = replaced.as_deref().unwrap_or(line.bytes);
    match line::parse(bytes) {
        Ok(Entry::Digest) => take(survey, line),
        // Stopped at the very end: "-" or "tru" might have gone on.
        Err(LineError::Malformed { column, .. }) if column + 1 < bytes.len() => take(survey, line),
        Ok(_) | Err(_) => Err(ReportError::Truncated {
            line: line.number,
            offset: line.offset + u64::from(line.length),
        }),
    }
}
