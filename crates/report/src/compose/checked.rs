//! Reads what it writes: the composed report is tallied, indexed and checked
//! like any other.

use std::io::{self, Write};
use std::ops::Range;

use super::ReadRange;
use crate::error::{ComposeError, ReportError};
use crate::object::Object;
use crate::reader::{Options, Reader, Summary};

pub(super) struct Checked<'a> {
    out: &'a mut dyn Write,
    reader: Reader,
}

impl<'a> Checked<'a> {
    pub(super) fn new(options: Options, out: &'a mut dyn Write) -> Self {
        Self {
            out,
            reader: Reader::new(options),
        }
    }

    /// Writes some bytes.
    pub(super) fn put(&mut self, bytes: &[u8]) -> Result<(), ComposeError> {
        self.reader.push(bytes)?;
        Ok(self.out.write_all(bytes)?)
    }

    /// Writes a line.
    pub(super) fn put_object(&mut self, object: &Object<'_>) -> Result<(), ComposeError> {
        let mut line = Vec::new();
        object.write_line(&mut line)?;
        self.put(&line)
    }

    /// Copies a range of a part.
    pub(super) fn copy(
        &mut self,
        source: &mut dyn ReadRange,
        range: Range<u64>,
    ) -> Result<(), ComposeError> {
        let mut tee = Tee {
            to: self,
            refused: None,
        };
        let copied = source.read(range, &mut tee);
        match tee.refused {
            Some(error) => Err(error.into()),
            None => Ok(copied?),
        }
    }

    /// What the report is, once it is written.
    pub(super) fn finish(self) -> Result<Summary, ComposeError> {
        self.out.flush()?;
        Ok(self.reader.finish()?)
    }
}

/// A writer that remembers why it failed.
struct Tee<'t, 'a> {
    to: &'t mut Checked<'a>,
    refused: Option<ReportError>,
}

impl Write for Tee<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Err(error) = self.to.reader.push(bytes) {
            self.refused = Some(error);
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.to.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.out.flush()
    }
}
