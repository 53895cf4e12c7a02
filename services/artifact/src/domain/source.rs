//! Objects for code that does not know of async: `aegis-report` reads from [`std::io`]'s traits.

use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aegis_mesh::{Error, Result};
use aegis_report::ReadRange;
use aegis_report::index::{FIRST_READ_BYTES, IndexHeader};
use bytes::{Buf, Bytes};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::runtime::Handle;

use super::checksum::{Checksum, Hasher};
use super::fault;
use super::key::ObjectKey;
use super::registry::StoredArtifact;
use crate::store::{ByteStream, ObjectStore, StoreError, read_range};

/// Reads objects on a thread that may block, as long as somebody waits for the result.
#[derive(Clone)]
pub struct Blocking {
    store: Arc<dyn ObjectStore>,
    runtime: Handle,
    abandoned: Arc<AtomicBool>,
}

/// Tells the blocking thread, when dropped, that nobody waits any more.
#[must_use = "dropping it ends the reads"]
pub struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Blocking {
    /// Made within the runtime, used on a blocking thread.
    pub fn new(store: Arc<dyn ObjectStore>) -> (Self, Waiting) {
        let abandoned = Arc::new(AtomicBool::new(false));
        let waiting = Waiting(Arc::clone(&abandoned));
        (
            Self {
                store,
                runtime: Handle::current(),
                abandoned,
            },
            waiting,
        )
    }

    /// A report, or a hitlog, by ranges.
    pub fn ranges<'a>(&'a self, artifact: &'a StoredArtifact) -> RangeSource<'a> {
        RangeSource {
            blocking: self,
            artifact,
        }
    }

    /// A whole object, whose checksum is compared at its end.
    ///
    /// # Errors
    /// DATA_LOSS / ARTIFACT_CORRUPT when there is no such object.
    pub fn verified<'a>(&'a self, artifact: &'a StoredArtifact) -> io::Result<VerifiedSource<'a>> {
        let size = artifact.checksum.map_or(0, |checksum| checksum.size);
        let chunks = self
            .runtime
            .block_on(self.store.read(&artifact.key, 0..size));
        let chunks = chunks.map_err(|error| lost(artifact, error))?;
        let (hasher, chunk) = (Hasher::default(), Bytes::new());
        Ok(VerifiedSource {
            blocking: self,
            artifact,
            chunks,
            chunk,
            hasher,
        })
    }

    /// Reads a whole object and makes sure that it is what it was.
    ///
    /// # Errors
    /// DATA_LOSS / ARTIFACT_CORRUPT.
    pub fn verify(&self, artifact: &StoredArtifact) -> io::Result<()> {
        let mut source = self.verified(artifact)?;
        while source.fill()? {
            source.chunk.clear();
        }
        Ok(())
    }

    /// A reader of the index of a report, up to its excerpts.
    ///
    /// # Errors
    /// DATA_LOSS / ARTIFACT_CORRUPT when there is none.
    pub fn index<'a>(&'a self, artifact: &'a StoredArtifact) -> io::Result<impl Read + 'a> {
        let key = artifact.key.index();
        let read = self.runtime.block_on(async {
            let size = self.store.stat(&key).await?.ok_or(StoreError::NotFound)?;
            let first = size.min(FIRST_READ_BYTES as u64);
            let start = read_range(&*self.store, &key, 0..first).await?;
            let end = match IndexHeader::parse(&start) {
                Ok(header) => header.records_end(),
                // What is wrong with it shows when it is read.
                Err(_) => size,
            };
            let rest = first..end.clamp(first, size);
            let chunks = match rest.is_empty() {
                true => stream::empty().boxed(),
                false => self.store.read(&key, rest).await?,
            };
            Ok((start, chunks))
        });
        let (start, chunks) = read.map_err(|error| lost(artifact, error))?;
        Ok(StreamSource {
            blocking: self,
            artifact,
            chunks,
            chunk: start.into(),
        })
    }

    /// Makes a file an object, in place of any that was there.
    ///
    /// # Errors
    /// Of the store.
    pub fn put(&self, key: &ObjectKey, file: &Path, known: Option<&Checksum>) -> Result<()> {
        let store = &self.store;
        let put = match known {
            Some(known) => self.runtime.block_on(store.put_known(key, file, known)),
            None => self.runtime.block_on(store.put(key, file)),
        };
        Ok(put?)
    }

    fn next(
        &self,
        artifact: &StoredArtifact,
        chunks: &mut ByteStream,
    ) -> io::Result<Option<Bytes>> {
        if self.abandoned.load(Ordering::Acquire) {
            return Err(io::Error::other(Error::cancelled(
                "CANCELLED",
                "nobody waits any more",
            )));
        }
        let next = self.runtime.block_on(chunks.try_next());
        next.map_err(|error| lost(artifact, error))
    }
}

/// The bytes of an artifact by ranges.
pub struct RangeSource<'a> {
    blocking: &'a Blocking,
    artifact: &'a StoredArtifact,
}

impl ReadRange for RangeSource<'_> {
    fn read(&mut self, range: Range<u64>, out: &mut dyn Write) -> io::Result<()> {
        let Self { blocking, artifact } = self;
        let chunks = blocking
            .runtime
            .block_on(blocking.store.read(&artifact.key, range));
        let mut chunks = chunks.map_err(|error| lost(artifact, error))?;
        while let Some(chunk) = blocking.next(artifact, &mut chunks)? {
            out.write_all(&chunk)?;
        }
        Ok(())
    }
}

/// A whole artifact, whose checksum is compared at its end.
pub struct VerifiedSource<'a> {
    blocking: &'a Blocking,
    artifact: &'a StoredArtifact,
    chunks: ByteStream,
    chunk: Bytes,
    hasher: Hasher,
}

impl VerifiedSource<'_> {
    /// Whether there is a byte to take.
    fn fill(&mut self) -> io::Result<bool> {
        if !self.chunk.is_empty() {
            return Ok(true);
        }
        if let Some(chunk) = self.blocking.next(self.artifact, &mut self.chunks)? {
            self.hasher.update(&chunk);
            self.chunk = chunk;
            return Ok(true);
        }
        if self
            .artifact
            .checksum
            .is_some_and(|expected| expected != self.hasher.checksum())
        {
            let what = "its bytes are not those that were uploaded";
            return Err(io::Error::other(fault::corrupt(self.artifact, what)));
        }
        Ok(false)
    }
}

impl Read for VerifiedSource<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        Ok(take(&mut self.chunk, out))
    }
}

struct StreamSource<'a> {
    blocking: &'a Blocking,
    artifact: &'a StoredArtifact,
    chunks: ByteStream,
    chunk: Bytes,
}

impl Read for StreamSource<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.chunk.is_empty() {
            self.chunk = self
                .blocking
                .next(self.artifact, &mut self.chunks)?
                .unwrap_or_default();
        }
        Ok(take(&mut self.chunk, out))
    }
}

fn take(chunk: &mut Bytes, out: &mut [u8]) -> usize {
    let taken = chunk.len().min(out.len());
    chunk.copy_to_slice(&mut out[..taken]);
    taken
}

/// An error of the store on its way through [`std::io`].
fn lost(artifact: &StoredArtifact, error: StoreError) -> io::Error {
    use StoreError::{EndsEarly, NotFound};
    io::Error::other(match error {
        NotFound => fault::corrupt(artifact, "its bytes are missing"),
        EndsEarly => fault::corrupt(artifact, "some of its bytes are missing"),
        other => other.into(),
    })
}

/// What an error of [`std::io`] carries, if it came from here; else one of the scratch folder.
pub fn carried(error: io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(carried) => carried,
        Err(error) => fault::scratch(error),
    }
}
