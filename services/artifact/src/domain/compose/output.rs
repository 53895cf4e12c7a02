//! Where composed bytes go.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::domain::checksum::{Checksum, Hasher};
use crate::domain::scratch::{Scratch, ScratchFile};

const CHUNK_BYTES: usize = 256 << 10;

/// A scratch file that knows its checksum.
pub(in crate::domain) struct HashedFile {
    out: BufWriter<File>,
    name: ScratchFile,
    hasher: Hasher,
}

impl HashedFile {
    pub(in crate::domain) fn create(scratch: &Scratch) -> io::Result<Self> {
        let (file, name) = scratch.create(None)?;
        let out = BufWriter::with_capacity(CHUNK_BYTES, file);
        Ok(Self {
            out,
            name,
            hasher: Hasher::default(),
        })
    }

    /// Ends the file; its bytes are on the disk then.
    pub(in crate::domain) fn finish(self) -> io::Result<(Checksum, ScratchFile)> {
        let file = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok((self.hasher.checksum(), self.name))
    }
}

impl Write for HashedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Sends what is written in chunks to whoever reads, and waits for them.
pub(super) struct ChunkWriter {
    queue: mpsc::Sender<Bytes>,
    chunk: BytesMut,
}

impl ChunkWriter {
    pub(super) fn new(queue: mpsc::Sender<Bytes>) -> Self {
        Self {
            queue,
            chunk: BytesMut::new(),
        }
    }
}

impl Write for ChunkWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        if self.chunk.len() == CHUNK_BYTES {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let sent = self.queue.blocking_send(self.chunk.split().freeze());
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
