//! The one pass over an import's files: written aside, hashed, parsed, tallied and indexed as
//! they come. Bytes are kept as they are, whatever is wrong with them.

use std::fs::File;
use std::io::Write;

use aegis_mesh::{Error, Result};
use aegis_report::{HitlogReader, Limits, Options, Reader, Summary};
use bytes::Bytes;

use crate::domain::checksum::{Checksum, Hasher};
use crate::domain::deposit::Sealed;
use crate::domain::fault;
use crate::domain::name::ArtifactName;
use crate::domain::scratch::{Scratch, ScratchFile};
use crate::domain::upload::too_large;

/// What follows an import's header.
#[derive(Debug, Clone)]
pub enum Part {
    /// A file begins.
    File(ArtifactName),
    /// Bytes of it; 1 MiB at most.
    Data(Bytes),
}

/// A file in scratch.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) file: File,
    pub(super) name: ScratchFile,
    pub(super) checksum: Checksum,
}

impl Written {
    /// As it goes into the store, which writes it out.
    pub(super) fn sealed(self) -> Sealed {
        Sealed {
            checksum: self.checksum,
            tally: None,
            index: None,
            content: Some(self.name),
        }
    }
}

/// All that came.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// The report, and what was found in it.
    pub(super) report: Option<(Written, Box<Summary>)>,
    pub(super) hitlog: Option<Written>,
    pub(super) html: Option<Written>,
    pub(super) warnings: Vec<String>,
}

/// An import on its way. Blocks: not for async threads.
#[derive(Debug)]
pub(super) struct Intake {
    scratch: Scratch,
    max_bytes: u64,
    eval_threshold: f64,
    open: Option<Open>,
    received: Received,
}

/// The file that is coming.
#[derive(Debug)]
struct Open {
    what: ArtifactName,
    file: File,
    name: ScratchFile,
    hasher: Hasher,
    parser: Parser,
}

#[derive(Debug)]
enum Parser {
    Report(Box<Reader>),
    /// `None` once it is known that it cannot be read.
    Hitlog(Option<Box<HitlogReader>>),
    /// The first bytes, to see whether it is a page at all.
    Html(Vec<u8>),
}

/// Bytes of a page that are looked at.
const HTML_HEAD: usize = 1024;

impl Intake {
    /// Nothing yet. `eval_threshold` is used where a report does not name its own.
    pub(super) fn new(scratch: Scratch, max_bytes: u64, eval_threshold: f64) -> Self {
        Self {
            scratch,
            max_bytes,
            eval_threshold,
            open: None,
            received: Received::default(),
        }
    }

    /// Takes what comes next.
    ///
    /// # Errors
    /// INVALID_ARGUMENT / INVALID_FIELD, UPLOAD_TOO_LARGE, REPORT_MALFORMED; of the scratch folder.
    pub(super) fn take(&mut self, part: Part) -> Result<()> {
        match part {
            Part::File(what) => self.begin(what),
            Part::Data(data) => self.data(&data),
        }
    }

    /// Ends the last file.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(super) fn finish(mut self) -> Result<Received> {
        self.close()?;
        Ok(self.received)
    }

    fn begin(&mut self, what: ArtifactName) -> Result<()> {
        self.close()?;
        let there = match what {
            ArtifactName::Report => self.received.report.is_some(),
            ArtifactName::Hitlog => self.received.hitlog.is_some(),
            ArtifactName::Html => self.received.html.is_some(),
            ArtifactName::Digest => return Err(not_a_file(what)),
        };
        if there {
            return Err(file(format!("{what} came before")));
        }
        if what != ArtifactName::Report && self.received.report.is_none() {
            return Err(file(format!("{what} comes after report.jsonl")));
        }
        let parser = match what {
            ArtifactName::Report => Parser::Report(Box::new(Reader::tolerant(Options {
                eval_threshold: self.eval_threshold,
                limits: Limits::default(),
            }))),
            ArtifactName::Hitlog => {
                Parser::Hitlog(Some(Box::new(HitlogReader::new(Limits::default()))))
            }
            ArtifactName::Html | ArtifactName::Digest => Parser::Html(Vec::new()),
        };
        let (file, name) = self.scratch.create(None).map_err(fault::scratch)?;
        self.open = Some(Open {
            what,
            file,
            name,
            hasher: Hasher::default(),
            parser,
        });
        Ok(())
    }

    fn data(&mut self, data: &[u8]) -> Result<()> {
        let Some(open) = &mut self.open else {
            let what = "bytes came before the file that they are of";
            return Err(Error::invalid_field("data", what));
        };
        if open.hasher.size() + data.len() as u64 > self.max_bytes {
            return Err(too_large(self.max_bytes).with("file", open.what));
        }
        let size = open.hasher.size() + data.len() as u64;
        open.name.reserve(size).map_err(fault::scratch)?;
        open.file.write_all(data).map_err(fault::scratch)?;
        open.hasher.update(data);
        open.parse(data, &mut self.received.warnings)
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        let written = Written {
            file: open.file,
            name: open.name,
            checksum: open.hasher.checksum(),
        };
        let warnings = &mut self.received.warnings;
        match open.parser {
            Parser::Report(reader) => {
                let summary = reader.finish().map_err(|error| malformed(&error))?;
                check_readable(&summary)?;
                self.received.report = Some((written, Box::new(summary)));
            }
            // One without a byte is made again, if there is anything to be in it.
            Parser::Hitlog(_) if written.checksum.size == 0 => {}
            Parser::Hitlog(reader) => {
                if let Some(Err(error)) = reader.map(|reader| reader.finish()) {
                    warnings.push(format!("hitlog.jsonl is kept as it is, but {error}"));
                }
                self.received.hitlog = Some(written);
            }
            Parser::Html(_) if written.checksum.size == 0 => {
                warnings.push("report.html is empty and left out".to_owned());
            }
            Parser::Html(head) => {
                let head = head.to_ascii_lowercase();
                let is_page = |mark: &[u8]| head.windows(mark.len()).any(|bytes| bytes == mark);
                if !is_page(b"<html") && !is_page(b"<!doctype html") {
                    let what = "report.html is kept as it is, but does not begin as a page";
                    warnings.push(what.to_owned());
                }
                self.received.html = Some(written);
            }
        }
        Ok(())
    }
}

impl Open {
    fn parse(&mut self, data: &[u8], warnings: &mut Vec<String>) -> Result<()> {
        match &mut self.parser {
            Parser::Report(reader) => reader.push(data).map_err(|error| malformed(&error)),
            Parser::Hitlog(reader) => {
                if let Some(Err(error)) = reader.as_mut().map(|reader| reader.push(data)) {
                    warnings.push(format!("hitlog.jsonl is kept as it is, but {error}"));
                    *reader = None;
                }
                Ok(())
            }
            Parser::Html(head) => {
                let missing = HTML_HEAD.saturating_sub(head.len()).min(data.len());
                head.extend_from_slice(&data[..missing]);
                Ok(())
            }
        }
    }
}

/// A report of which nothing can be read is none.
fn check_readable(summary: &Summary) -> Result<()> {
    let has_lines = !summary.index.header().skeleton.is_empty();
    if has_lines || !summary.tally.probes.is_empty() {
        return Ok(());
    }
    match summary.left_out.named.first() {
        Some(error) => Err(malformed(error)),
        None => {
            let message = "line 1, byte 0: no line of it is one that garak writes";
            Err(Error::invalid_argument("REPORT_MALFORMED", message)
                .with("line", 1)
                .with("offset", 0)
                .hint(HINT))
        }
    }
}

const HINT: &str = "check that this is garak's report.jsonl, whole and as garak wrote it";

fn malformed(error: &aegis_report::ReportError) -> Error {
    fault::malformed(error).hint(HINT)
}

fn not_a_file(what: ArtifactName) -> Error {
    file(format!(
        "{what} is not one of report.jsonl, hitlog.jsonl, report.html"
    ))
}

fn file(what: String) -> Error {
    Error::invalid_field("file", what)
}
