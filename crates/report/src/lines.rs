//! Cuts chunks of bytes into lines, holding back no more than one line.

use std::mem;

use crate::error::{LineError, ReportError};

/// A buffer that grew beyond this for a long line is given back after it.
const KEPT_CAPACITY: usize = 1 << 20;

/// One line and where it lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// Counts from 1.
    pub(crate) number: u64,
    /// Of the line's first byte.
    pub(crate) offset: u64,
    /// Without the line break.
    pub(crate) bytes: &'a [u8],
    /// With the line break, if it has one.
    pub(crate) length: u32,
}

impl Line<'_> {
    /// Nothing but white space. garak's own readers skip such lines.
    pub(crate) fn is_blank(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    /// What is wrong with the line, placed in the file.
    pub(crate) fn malformed(&self, error: LineError) -> ReportError {
        let (column, reason) = match error {
            LineError::Malformed { column, reason } => (column, reason),
            LineError::Torn => (
                self.bytes.len(),
                "the line ends before its JSON object does",
            ),
        };
        ReportError::Malformed {
            line: self.number,
            offset: self.offset + column as u64,
            reason,
        }
    }
}

/// The state between two chunks.
#[derive(Debug)]
pub(crate) struct Lines {
    carry: Vec<u8>,
    max_line_bytes: usize,
    number: u64,
    offset: u64,
}

impl Lines {
    /// `max_line_bytes` includes the line break and is below 4 GiB.
    pub(crate) fn new(max_line_bytes: usize) -> Self {
        let max_line_bytes = max_line_bytes.min(u32::MAX as usize);
        Self {
            carry: Vec::new(),
            max_line_bytes,
            number: 1,
            offset: 0,
        }
    }

    /// How many lines were complete so far.
    pub(crate) fn count(&self) -> u64 {
        self.number - 1
    }

    /// How many bytes were pushed so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset + self.carry.len() as u64
    }

    /// The memory that is held for an unfinished line.
    pub(crate) fn retained_bytes(&self) -> usize {
        self.carry.capacity()
    }

    /// Calls `each` for every line that `chunk` completes.
    pub(crate) fn push<E: From<ReportError>>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end + 1);
            rest = after;
            if self.carry.is_empty() {
                self.give(line, &mut each)?;
                continue;
            }
            self.hold(line)?;
            let mut whole = mem::take(&mut self.carry);
            self.give(&whole, &mut each)?;
            whole.clear();
            whole.shrink_to(KEPT_CAPACITY);
            self.carry = whole;
        }
        Ok(self.hold(rest)?)
    }

    /// The last line, if the input did not end with a line break.
    pub(crate) fn finish(&self) -> Option<Line<'_>> {
        if self.carry.is_empty() {
            return None;
        }
        Some(Line {
            number: self.number,
            offset: self.offset,
            bytes: &self.carry,
            length: self.carry.len() as u32, // bounded by max_line_bytes
        })
    }

    fn hold(&mut self, bytes: &[u8]) -> Result<(), ReportError> {
        self.check(self.carry.len() + bytes.len())?;
        self.carry.extend_from_slice(bytes);
        Ok(())
    }

    fn give<E: From<ReportError>>(
        &mut self,
        line: &[u8],
        each: &mut impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.check(line.len())?;
        each(Line {
            number: self.number,
            offset: self.offset,
            bytes: &line[..line.len() - 1],
            length: line.len() as u32, // bounded by max_line_bytes
        })?;
        self.number += 1;
        self.offset += line.len() as u64;
        Ok(())
    }

    fn check(&self, length: usize) -> Result<(), ReportError> {
        if length <= self.max_line_bytes {
            return Ok(());
        }
        let limit = self.max_line_bytes;
        Err(ReportError::LineTooLong {
            line: self.number,
            offset: self.offset,
            limit,
        })
    }
}
