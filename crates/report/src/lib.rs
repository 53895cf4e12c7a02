//! garak's report format: parse, tally, index, compose.
//!
//! A garak run leaves a `report.jsonl` (one JSON object a line; see
//! [`line::Entry`] for the kinds) and, if something was hit, a `hitlog.jsonl`.
//! This crate knows that format and nothing else: it is not async and does no
//! I/O but through [`std::io`]'s traits.
//!
//! * [`Reader`] checks a report while it arrives and makes its [`Tally`] and
//!   its [`Index`] in the same pass; [`HitlogReader`] does so for a hitlog.
//! * [`RunInfo`] is what a report says about its run.
//! * [`index`] says where each completed attempt lies, so that a page of a
//!   probe's attempts is a few ranged reads whatever the report's size.
//! * [`attempt`] shows one attempt, whichever garak version wrote it.
//! * [`compose`] joins the reports of single probes to the report of a scan.
//! * [`grades`] reads garak's own grades from the digest line.

pub mod attempt;
pub mod compose;
pub mod error;
pub mod grades;
pub mod hitlog;
pub mod index;
pub mod line;
mod lines;
mod object;
pub mod reader;
mod run;
mod survey;
pub mod tally;

pub use attempt::{Attempt, TextBounds};
pub use compose::{Part, ReadRange, ScanIdentity, SeekSource, Selection};
pub use error::{ComposeError, LineError, ReadError, ReportError};
pub use grades::Grades;
pub use hitlog::{HitlogPart, HitlogReader, HitlogSummary, rebuild_hitlog};
pub use index::{Filter, Index, IndexError, IndexHeader, Outcome, Record};
pub use reader::{LeftOut, Limits, Options, Reader, Summary, read, read_tolerant};
pub use run::RunInfo;
pub use tally::{AttemptCounts, DetectorTally, ProbeTally, Tally, Warning};

/// The score from which on an output counts as hit when nothing else was
/// configured: garak's own default of `run.eval_threshold`.
///
/// An output passes when `score < threshold` (garak's `ThresholdEvaluator`).
/// A report does not say which threshold was in force: garak drops floats from
/// its setup line.
pub const DEFAULT_EVAL_THRESHOLD: f64 = 0.5;
