//! Where bytes go that are made here.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};

use aegis_mesh::Error;
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::checksum::{Checksum, Hasher};
use super::scratch::{Scratch, ScratchFile};

const CHUNK_BYTES: usize = 256 << 10;

/// A scratch file that knows its checksum.
pub(super) struct HashedFile {
    out: BufWriter<File>,
    name: ScratchFile,
    hasher: Hasher,
    max_bytes: u64,
}

impl HashedFile {
    pub(super) fn create(scratch: &Scratch, max_bytes: u64) -> io::Result<Self> {
        let (file, name) = scratch.create(None)?;
        let out = BufWriter::with_capacity(CHUNK_BYTES, file);
        Ok(Self {
            out,
            name,
            hasher: Hasher::default(),
            max_bytes,
        })
    }

    /// Ends the file, to be read from its start.
    pub(super) fn reread(self) -> io::Result<(File, ScratchFile)> {
        let mut file = self
            .out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        Ok((file, self.name))
    }

    /// Ends the file; its bytes are on the disk then.
    pub(super) fn finish(self) -> io::Result<(Checksum, ScratchFile)> {
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
        if self.hasher.size() + bytes.len() as u64 > self.max_bytes {
            return Err(io::Error::other(too_large(self.max_bytes)));
        }
        self.name.reserve(self.hasher.size() + bytes.len() as u64)?;
        self.out.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn too_large(limit: u64) -> Error {
    let message = format!("a file to be made has more than {limit} bytes");
    Error::resource_exhausted("REPORT_TOO_LARGE", message)
        .with("limit", limit)
        .hint("raise max_upload_bytes of the artifact service")
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
