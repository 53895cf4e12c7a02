//! What can be wrong with a report. No error carries text of the report: an
//! error may be logged, a prompt may not.

use std::io;

use crate::index::IndexError;

/// Why one line could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// The line ends before its JSON object does.
    #[error("the line ends before its JSON object does")]
    Torn,
    /// The line is not a JSON object as garak writes it.
    #[error("{reason}")]
    Malformed {
        /// Byte position in the line, 0 when it is not known more exactly.
        column: usize,
        /// What is wrong, in fixed words.
        reason: &'static str,
    },
}

impl LineError {
    /// An error about the line as a whole.
    pub(crate) fn new(reason: &'static str) -> Self {
        Self::Malformed { column: 0, reason }
    }
}

impl From<serde_json::Error> for LineError {
    /// Keeps the place and the class only: serde's own words quote the input.
    fn from(error: serde_json::Error) -> Self {
        use serde_json::error::Category;
        let reason = match error.classify() {
            Category::Eof | Category::Io => return Self::Torn,
            Category::Syntax => "not valid JSON",
            Category::Data => "a field is of a type that garak does not write",
        };
        let column = error.column().saturating_sub(1);
        Self::Malformed { column, reason }
    }
}

/// Why a report was refused. Lines count from 1, byte positions from 0.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// A line is not a JSON object as garak writes it.
    #[error("line {line}, byte {offset}: {reason}")]
    Malformed {
        /// Number of the line.
        line: u64,
        /// Where in the report the trouble was found.
        offset: u64,
        /// What is wrong, in fixed words.
        reason: &'static str,
    },
    /// The report ends within a line: bytes are missing at its end.
    #[error("line {line}: the report ends within this line, at byte {offset}")]
    Truncated {
        /// Number of the torn line.
        line: u64,
        /// Where the report ends.
        offset: u64,
    },
    /// A line is longer than [`crate::Limits::max_line_bytes`].
    #[error("line {line}, byte {offset}: longer than {limit} bytes")]
    LineTooLong {
        /// Number of the line.
        line: u64,
        /// Where the line starts.
        offset: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// More of something than [`crate::Limits`] allows.
    #[error("line {line}, byte {offset}: more than {limit} {what}")]
    TooMany {
        /// Number of the line that was one too many.
        line: u64,
        /// Where that line starts.
        offset: u64,
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// Why a report could not be read from a [`std::io::BufRead`].
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The report itself was refused.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Its bytes could not be had.
    #[error("reading the report: {0}")]
    Io(#[from] io::Error),
}

/// Why a report could not be composed. Parts count from 0, in the order given.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// There is nothing to compose from.
    #[error("no parts")]
    NoParts,
    /// A part lacks a line that every report has.
    #[error("part {part} has no `{entry_type}` line")]
    Missing {
        /// Number of the part.
        part: usize,
        /// garak's `entry_type` of the line.
        entry_type: &'static str,
    },
    /// Two parts do not belong to one scan (garak's own aggregation refuses the
    /// same: another garak version, target type or target name).
    #[error("part {part} differs from part 0 in `{field}`")]
    Differs {
        /// Number of the part.
        part: usize,
        /// The field of garak's setup line.
        field: &'static str,
    },
    /// A line of a part is not what the part's index says.
    #[error("part {part}: {error}")]
    Line {
        /// Number of the part.
        part: usize,
        /// What is wrong with it.
        error: LineError,
    },
    /// What was handed in as digest is not garak's digest line.
    #[error("not a digest line")]
    NotADigest,
    /// The composed report is not a valid one: a part's bytes are not those
    /// that were indexed.
    #[error("the composed report: {0}")]
    Report(#[from] ReportError),
    /// A part's index could not be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// Bytes could not be read or written.
    #[error("composing the report: {0}")]
    Io(#[from] io::Error),
}
