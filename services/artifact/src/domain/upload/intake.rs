//! The one pass over what is uploaded: written, hashed, parsed, tallied and indexed as it comes.

use std::fs::File;
use std::os::unix::fs::FileExt;

use aegis_mesh::{Error, Result};
use aegis_proto::ids::ArtifactId;
use aegis_report::{HitlogReader, Limits, Options, Reader, SeekSource};
use bytes::Bytes;

use crate::domain::checksum::{Checksum, Hasher};
use crate::domain::deposit::{Sealed, write_index};
use crate::domain::fault;
use crate::domain::name::ArtifactName;
use crate::domain::registry::ReportTally;
use crate::domain::scratch::{Scratch, ScratchFile};

/// Some bytes of an upload.
#[derive(Debug, Clone, Default)]
pub struct Chunk {
    /// Where they begin; `None` is where the last chunk ended.
    pub offset: Option<u64>,
    /// The bytes; 1 MiB at most.
    pub data: Bytes,
    /// CRC32C of the bytes: guards this one hop.
    pub crc32c: Option<u32>,
    /// With the last chunk: what the whole content must be.
    pub finish: Option<Checksum>,
}

/// What bounds an upload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of the whole content.
    pub max_bytes: u64,
    /// When the client said so at the start: bytes of the whole content.
    pub announced: Option<u64>,
}

/// An upload on its way. Blocks: not for async threads.
#[derive(Debug)]
pub(super) struct Intake {
    file: File,
    name: ScratchFile,
    hasher: Hasher,
    parser: Parser,
    bounds: Bounds,
}

#[derive(Debug)]
enum Parser {
    Report(Box<Reader>),
    Hitlog(Box<HitlogReader>),
    /// Bytes that are not looked at.
    Plain,
}

impl Intake {
    /// An upload without a byte yet.
    ///
    /// # Errors
    /// When there is no room for it.
    pub(super) fn create(
        scratch: &Scratch,
        artifact: ArtifactId,
        name: ArtifactName,
        eval_threshold: f64,
        bounds: Bounds,
    ) -> Result<Self> {
        let parser = match name {
            ArtifactName::Report => {
                let options = Options {
                    eval_threshold,
                    limits: Limits::default(),
                };
                Parser::Report(Box::new(Reader::new(options)))
            }
            ArtifactName::Hitlog => Parser::Hitlog(Box::new(HitlogReader::new(Limits::default()))),
            ArtifactName::Html | ArtifactName::Digest => Parser::Plain,
        };
        let (file, name) = scratch.create(artifact).map_err(fault::scratch)?;
        Ok(Self {
            file,
            name,
            hasher: Hasher::default(),
            parser,
            bounds,
        })
    }

    /// Bytes so far.
    pub(super) fn size(&self) -> u64 {
        self.hasher.size()
    }

    /// Takes the next bytes, whole or not at all.
    ///
    /// # Errors
    /// See [`Fault`].
    pub(super) fn take(&mut self, chunk: &Chunk) -> Result<(), Fault> {
        self.check(chunk)?;
        let end = self.size() + chunk.data.len() as u64;
        self.name
            .reserve(end)
            .map_err(|e| Fault::Retry(fault::scratch(e)))?;
        // At its place, so that a repeat after half a write overwrites that half.
        self.file
            .write_all_at(&chunk.data, self.size())
            .map_err(|e| Fault::Retry(fault::scratch(e)))?;
        self.hasher.update(&chunk.data);
        let parsed = match &mut self.parser {
            Parser::Report(reader) => reader.push(&chunk.data),
            Parser::Hitlog(reader) => reader.push(&chunk.data),
            Parser::Plain => Ok(()),
        };
        parsed.map_err(|error| Fault::Refused(fault::malformed(&error)))
    }

    fn check(&self, chunk: &Chunk) -> Result<(), Fault> {
        let size = self.size();
        if chunk.offset.is_some_and(|offset| offset != size) {
            return Err(Fault::Retry(wrong_offset(size)));
        }
        if chunk
            .crc32c
            .is_some_and(|crc| crc != crc32c::crc32c(&chunk.data))
        {
            let message = format!("the chunk at byte {size} was damaged on its way");
            return Err(Fault::Retry(
                Error::invalid_argument("CHECKSUM_MISMATCH", message)
                    .with("persisted_size", size)
                    .hint("send it again from persisted_size"),
            ));
        }
        let limit = self
            .bounds
            .announced
            .unwrap_or(u64::MAX)
            .min(self.bounds.max_bytes);
        if size + chunk.data.len() as u64 > limit {
            return Err(Fault::Refused(too_large(limit)));
        }
        Ok(())
    }

    /// Ends the upload: its bytes are `expected`, and a whole report if they should be one.
    ///
    /// # Errors
    /// See [`Fault`]; the upload is over in any case.
    pub(super) fn seal(self, scratch: &Scratch, expected: Checksum) -> Result<Sealed, Fault> {
        let checksum = self.hasher.checksum();
        let announced = self.bounds.announced.unwrap_or(checksum.size);
        if checksum != expected || checksum.size != announced {
            return Err(Fault::Refused(mismatch(&checksum, &expected)));
        }
        let refused = |error| Fault::Refused(fault::malformed(&error));
        let (mut tally, mut index) = (None, None);
        match self.parser {
            Parser::Report(reader) => {
                let summary = reader.finish().map_err(refused)?;
                if !summary.warnings.is_empty() {
                    let count = summary.warnings.len();
                    tracing::warn!(count, "a report's eval lines and attempts do not add up");
                }
                index = Some(
                    write_index(scratch, &summary.index, &mut SeekSource(&self.file))
                        .map_err(Fault::Retry)?,
                );
                tally = Some(ReportTally {
                    counts: summary.tally,
                    grades: None,
                });
            }
            Parser::Hitlog(reader) => drop(reader.finish().map_err(refused)?),
            Parser::Plain => {}
        }
        self.file
            .sync_all()
            .map_err(|error| Fault::Retry(fault::scratch(error)))?;
        Ok(Sealed {
            checksum,
            tally,
            index,
            content: Some(self.name),
        })
    }
}

/// Why bytes were not taken.
#[derive(Debug)]
pub(super) enum Fault {
    /// The same bytes may be taken another time.
    Retry(Error),
    /// The upload cannot become what it should be: it must start again.
    Refused(Error),
}

/// OUT_OF_RANGE / WRITE_OFFSET, saying where to go on.
pub(super) fn wrong_offset(persisted: u64) -> Error {
    Error::out_of_range("WRITE_OFFSET", format!("write_offset must be {persisted}"))
        .with("persisted_size", persisted)
        .hint("send what follows from persisted_size on")
}

/// INVALID_ARGUMENT / CHECKSUM_MISMATCH of a whole content.
pub(super) fn mismatch(found: &Checksum, expected: &Checksum) -> Error {
    let message = format!("the content is {found}, not {expected}");
    Error::invalid_argument("CHECKSUM_MISMATCH", message)
        .with("sha256", found.sha256_hex())
        .with("size_bytes", found.size)
        .field("finish", "not the checksum of what was sent")
        .hint("start again from byte 0")
}

/// INVALID_ARGUMENT / UPLOAD_TOO_LARGE.
pub(in crate::domain) fn too_large(limit: u64) -> Error {
    Error::invalid_argument("UPLOAD_TOO_LARGE", format!("more than {limit} bytes"))
        .with("limit", limit)
}
