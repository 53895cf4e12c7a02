//! A file to take in: on a disk, or in a bucket. Read in pieces, never whole.

use std::{fmt, io, path::PathBuf, sync::Arc, time::SystemTime};

use aegis_artifact::{
    domain::key::ObjectKey,
    store::{ByteStream, ObjectStore, S3Store, StoreError},
};
use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt},
};

/// Most bytes of one message of an import.
pub(super) const CHUNK_BYTES: usize = 1 << 20;

/// Where a file is.
#[derive(Clone)]
pub(super) enum Content {
    File(PathBuf),
    Object { store: Arc<S3Store>, key: ObjectKey },
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("is no file")]
    NoFile,
    #[error("changed while it was read; import it again when nobody writes to it")]
    Changed,
    #[error("the bucket: {0}")]
    Store(StoreError),
}

impl ReadError {
    /// UPPER_SNAKE.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Changed => "FILE_CHANGED",
            Self::NoFile => "NO_FILE",
            Self::Io(_) | Self::Store(_) => "FILE_UNREADABLE",
        }
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Object { key, .. } => write!(f, "bucket:{key}"),
        }
    }
}

impl Content {
    /// Opens it as it is now.
    pub(super) async fn open(&self) -> Result<Opened, ReadError> {
        match self {
            Self::File(path) => {
                // Looked at first: to open a pipe would wait for its writer.
                if !tokio::fs::metadata(path).await?.is_file() {
                    return Err(ReadError::NoFile);
                }
                let file = File::open(path).await?;
                let metadata = file.metadata().await?;
                Ok(Opened {
                    size: metadata.len(),
                    modified: metadata.modified().ok(),
                    place: Place::File(file),
                })
            }
            Self::Object { store, key } => {
                let size = store.stat(key).await.map_err(ReadError::Store)?;
                let size = size.ok_or(ReadError::Store(StoreError::NotFound))?;
                Ok(Opened {
                    size,
                    modified: None,
                    place: Place::Object(Arc::clone(store), key.clone()),
                })
            }
        }
    }
}

/// A file as it was when it was opened.
pub(super) struct Opened {
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
    place: Place,
}

enum Place {
    File(File),
    Object(Arc<S3Store>, ObjectKey),
}

impl Opened {
    /// Up to `length` bytes from `offset` on; the caller bounds it.
    pub(super) async fn piece(&mut self, offset: u64, length: u64) -> Result<Vec<u8>, ReadError> {
        let end = self.size.min(offset.saturating_add(length));
        let offset = offset.min(end);
        match &mut self.place {
            Place::File(file) => {
                let mut bytes = Vec::new();
                file.seek(io::SeekFrom::Start(offset)).await?;
                file.take(end - offset).read_to_end(&mut bytes).await?;
                Ok(bytes)
            }
            Place::Object(store, key) => {
                let read = aegis_artifact::store::read_range(&**store, key, offset..end);
                read.await.map_err(ReadError::Store)
            }
        }
    }

    /// All of it, from its start.
    pub(super) async fn chunks(self) -> Result<Chunks, ReadError> {
        let left = self.size;
        let source = match self.place {
            Place::File(mut file) => {
                file.seek(io::SeekFrom::Start(0)).await?;
                Source::File(file, self.modified)
            }
            Place::Object(store, key) => {
                let stream = store.read(&key, 0..left).await.map_err(ReadError::Store)?;
                Source::Object(stream, Bytes::new())
            }
        };
        Ok(Chunks { source, left })
    }
}

/// What is left of a file.
pub(super) struct Chunks {
    source: Source,
    left: u64,
}

enum Source {
    File(File, Option<SystemTime>),
    Object(ByteStream, Bytes),
}

impl Chunks {
    /// The next bytes, 1 MiB at most; `None` at the end, when it is still the file that was opened.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        let wanted = usize::try_from(self.left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        let chunk = match &mut self.source {
            Source::File(file, modified) => {
                if self.left == 0 {
                    return at_end(file, *modified).await.map(|()| None);
                }
                let mut chunk = BytesMut::with_capacity(wanted);
                // A file that was cut has fewer.
                if (&mut *file)
                    .take(wanted as u64)
                    .read_buf(&mut chunk)
                    .await?
                    == 0
                {
                    return Err(ReadError::Changed);
                }
                chunk.freeze()
            }
            Source::Object(stream, rest) => {
                if rest.is_empty() {
                    match stream.try_next().await {
                        Ok(Some(bytes)) => *rest = bytes,
                        Ok(None) if self.left == 0 => return Ok(None),
                        Ok(None) | Err(StoreError::EndsEarly) => return Err(ReadError::Changed),
                        Err(error) => return Err(ReadError::Store(error)),
                    }
                }
                rest.split_to(rest.len().min(wanted))
            }
        };
        self.left -= chunk.len() as u64;
        Ok(Some(chunk))
    }
}

/// A file that somebody writes to has grown, or another time.
async fn at_end(file: &mut File, modified: Option<SystemTime>) -> Result<(), ReadError> {
    let grown = file.read(&mut [0]).await? > 0;
    let touched = file.metadata().await?.modified().ok() != modified;
    match grown || touched {
        true => Err(ReadError::Changed),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    async fn all(content: &Content) -> Result<Vec<usize>, ReadError> {
        let mut chunks = content.open().await?.chunks().await?;
        let mut sizes = Vec::new();
        while let Some(chunk) = chunks.next().await? {
            sizes.push(chunk.len());
        }
        Ok(sizes)
    }

    #[tokio::test]
    async fn a_file_comes_in_chunks_and_in_pieces() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![7; CHUNK_BYTES + 3]).unwrap();
        let content = Content::File(file.path().to_owned());
        let sizes = all(&content).await.unwrap();
        assert!(sizes.iter().all(|size| *size <= CHUNK_BYTES));
        assert_eq!(sizes.iter().sum::<usize>(), CHUNK_BYTES + 3);
        let mut opened = content.open().await.unwrap();
        assert_eq!(opened.piece(CHUNK_BYTES as u64, 100).await.unwrap(), [7; 3]);
        assert_eq!(opened.piece(u64::MAX, 100).await.unwrap(), [0; 0]);
    }

    #[tokio::test]
    async fn a_file_that_changes_is_not_taken_for_whole() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"one\n").unwrap();
        let content = Content::File(file.path().to_owned());
        let mut grows = content.open().await.unwrap().chunks().await.unwrap();
        assert_eq!(grows.next().await.unwrap().unwrap(), "one\n");
        file.write_all(b"two\n").unwrap();
        assert!(matches!(grows.next().await, Err(ReadError::Changed)));
        let mut cut = content.open().await.unwrap().chunks().await.unwrap();
        file.as_file().set_len(0).unwrap();
        assert!(matches!(cut.next().await, Err(ReadError::Changed)));
    }

    #[tokio::test]
    async fn what_is_no_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        for path in [folder.path().to_owned(), PathBuf::from("/dev/zero")] {
            let error = all(&Content::File(path)).await.unwrap_err();
            assert_eq!(error.reason(), "NO_FILE");
        }
        let missing = Content::File(folder.path().join("x"));
        assert_eq!(all(&missing).await.unwrap_err().reason(), "FILE_UNREADABLE");
    }
}
