//! A file as parts, hashed as they are read.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use aegis_mesh::spawn::blocking;
use bytes::Bytes;
use minio::s3::segmented_bytes::SegmentedBytes;

use crate::domain::checksum::{Checksum, Hasher};

/// Most parts that S3 takes for an object.
const MAX_PARTS: u64 = 10_000;
/// Bytes handed to the connection at once.
const SEGMENT_BYTES: usize = 256 << 10;

/// Bytes of one call, which can be sent again: clones share them.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// From 1.
    pub(super) number: u16,
    pub(super) bytes: Bytes,
    pub(super) crc32c: u32,
}

impl Part {
    /// CRC32C as S3 writes it.
    pub(super) fn crc32c_base64(&self) -> String {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(self.crc32c.to_be_bytes())
    }

    /// The bytes as the client takes them, without a copy.
    pub(super) fn body(&self) -> Arc<SegmentedBytes> {
        let mut body = SegmentedBytes::new();
        let mut rest = self.bytes.clone();
        while !rest.is_empty() {
            body.append(rest.split_to(rest.len().min(SEGMENT_BYTES)));
        }
        Arc::new(body)
    }
}

/// How large parts of a file of `size` bytes must be, so that there are not too many of them.
pub(super) fn part_bytes(size: u64, wanted: u64) -> u64 {
    wanted.max(size.div_ceil(MAX_PARTS))
}

/// Reads a file from its start to its end, a part at a time.
#[derive(Debug)]
pub(super) struct Reader {
    file: File,
    size: u64,
    read: u64,
    part_bytes: u64,
    next: u16,
    hasher: Hasher,
}

impl Reader {
    pub(super) async fn open(path: &Path, wanted: u64) -> io::Result<Self> {
        let path = path.to_owned();
        run(move || {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok(Self {
                file,
                size,
                read: 0,
                part_bytes: part_bytes(size, wanted),
                next: 1,
                hasher: Hasher::default(),
            })
        })
        .await
    }

    /// Bytes of the file.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether all of it is one part.
    pub(super) fn is_one_part(&self) -> bool {
        self.size <= self.part_bytes
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.read == self.size
    }

    /// The next part; an empty one of an empty file.
    pub(super) async fn next(mut self) -> io::Result<(Part, Self)> {
        run(move || {
            let length = (self.size - self.read).min(self.part_bytes);
            let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            io::Read::read_exact(&mut self.file, &mut bytes)?;
            self.hasher.update(&bytes);
            self.read += length;
            let part = Part {
                number: self.next,
                crc32c: crc32c::crc32c(&bytes),
                bytes: bytes.into(),
            };
            self.next += 1;
            Ok((part, self))
        })
        .await
    }

    /// Of all that was read.
    pub(super) fn checksum(&self) -> Checksum {
        self.hasher.checksum()
    }
}

/// Reads a whole file for its checksum.
pub(super) async fn checksum_of(path: &Path) -> io::Result<Checksum> {
    let path = path.to_owned();
    run(move || {
        let mut file = File::open(path)?;
        let mut hasher = Hasher::default();
        let mut buffer = vec![0; SEGMENT_BYTES];
        loop {
            match io::Read::read(&mut file, &mut buffer)? {
                0 => return Ok(hasher.checksum()),
                read => hasher.update(&buffer[..read]),
            }
        }
    })
    .await
}

async fn run<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    blocking("s3-scratch", work)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_never_has_more_parts_than_s3_takes() {
        assert_eq!(part_bytes(0, 8), 8);
        assert_eq!(part_bytes(80_000, 8), 8);
        assert_eq!(part_bytes(80_001, 8), 9);
        assert!(((1_u64 << 43).div_ceil(part_bytes(1 << 43, 8 << 20))) <= MAX_PARTS);
    }

    #[tokio::test]
    async fn parts_are_the_file_and_so_is_the_checksum() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for size in [0_usize, 1, 999, 1000, 1001, 2000, 2001] {
            let content: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
            std::fs::write(&path, &content).unwrap();
            let mut reader = Reader::open(&path, 1000).await.unwrap();
            let mut seen = Vec::new();
            let mut numbers = Vec::new();
            loop {
                let (part, next) = reader.next().await.unwrap();
                seen.extend_from_slice(&part.bytes);
                numbers.push(part.number);
                assert_eq!(part.body().len(), part.bytes.len());
                reader = next;
                if reader.is_at_end() {
                    break;
                }
            }
            assert_eq!(seen, content);
            assert_eq!(numbers.len(), size.div_ceil(1000).max(1));
            assert_eq!(reader.checksum(), checksum_of(&path).await.unwrap());
        }
    }
}
