//! A range of an object as a stream that goes on where it broke.

use std::ops::Range;
use std::pin::Pin;

use backon::BackoffBuilder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use minio::s3::builders::GetObject;
use minio::s3::response_traits::HasS3Fields;
use minio::s3::types::{ObjectKey as S3Key, S3Api};

use super::S3Store;
use super::calls::{limited, pauses, repeated};
use super::fault::{Fault, Kind, transport};
use crate::store::{ByteStream, Result, StoreError};

/// Largest chunk that is handed on.
const CHUNK_BYTES: usize = 256 << 10;

type Body = Pin<Box<dyn Stream<Item = std::io::Result<Bytes>> + Send>>;

/// What is left to read.
struct Reading {
    store: S3Store,
    key: S3Key,
    left: Range<u64>,
    /// Of the first answer: what comes later must be of the same object.
    etag: Option<String>,
    body: Option<Body>,
    /// Where the answer ends by its own words.
    promised: u64,
    /// Bytes that came and were not handed on.
    rest: Bytes,
    /// Pauses before further tries, since bytes came last.
    pauses: backon::ExponentialBackoff,
}

/// Opens the object at once, so that one that is not there is found out here.
pub(super) async fn open(store: &S3Store, key: S3Key, range: Range<u64>) -> Result<ByteStream> {
    if range.is_empty() {
        store.head(&key).await?;
        return Ok(Box::pin(stream::empty()));
    }
    let mut reading = Reading {
        store: store.clone(),
        key,
        left: range,
        etag: None,
        body: None,
        promised: 0,
        rest: Bytes::new(),
        pauses: pauses().build(),
    };
    reading.get().await?;
    Ok(Box::pin(stream::try_unfold(reading, |mut reading| async {
        Ok(reading.chunk().await?.map(|chunk| (chunk, reading)))
    })))
}

impl Reading {
    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        if self.left.is_empty() {
            return Ok(None);
        }
        while self.rest.is_empty() {
            match self.more().await {
                Ok(Some(bytes)) => {
                    self.rest = bytes;
                    self.pauses = pauses().build();
                }
                Ok(None) if self.left.start < self.promised => {
                    let what = "the store sends fewer bytes than it says";
                    self.again(Fault::new(Kind::Passing, what)).await?;
                }
                Ok(None) => return Err(StoreError::EndsEarly),
                Err(fault) => self.again(fault).await?,
            }
        }
        let left = usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX);
        let length = self.rest.len().min(CHUNK_BYTES).min(left);
        self.left.start += length as u64;
        Ok(Some(self.rest.split_to(length)))
    }

    /// What comes next; `None` at the object's end.
    async fn more(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.body.is_none() {
            self.get().await?;
        }
        let Some(body) = &mut self.body else {
            return Ok(None);
        };
        let next = async {
            match body.next().await {
                Some(Ok(bytes)) => Ok(Some(bytes)),
                Some(Err(error)) => Err(transport(&error)),
                None => Ok(None),
            }
        };
        limited("a read", self.store.timeout(), next).await
    }

    /// Pauses before the next try, unless there were enough.
    async fn again(&mut self, fault: Fault) -> Result<()> {
        self.body = None;
        let pause = self.pauses.next().filter(|_| fault.is_passing());
        let Some(pause) = pause else {
            return Err(fault.into());
        };
        tracing::info!(%fault, ?pause, "a read from the object store goes on where it broke");
        tokio::time::sleep(pause).await;
        Ok(())
    }

    /// Asks for what is left.
    async fn get(&mut self) -> Result<(), Fault> {
        let left = self.left.clone();
        let answer = repeated("a read", self.store.timeout(), || async {
            let request = GetObject::builder()
                .client(self.store.client.clone())
                .bucket(self.store.bucket.clone())
                .object(self.key.clone())
                .offset(Some(left.start))
                .length(Some(left.end - left.start))
                .match_etag(self.etag.clone())
                .build();
            Ok(request.send().await?)
        })
        .await?;
        let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok());
        // A server that sends the whole object instead would be read from the wrong place.
        let Some(promised) = header("content-range").and_then(|range| end_of(range, left.start))
        else {
            let what = "the store sends another range than it was asked for";
            return Err(Fault::new(Kind::Lasting, what));
        };
        self.promised = promised;
        self.etag = header("etag").map(ToOwned::to_owned);
        let (body, _) = answer.into_boxed_stream().map_err(|_| {
            Fault::new(
                Kind::Lasting,
                "the store does not tell how many bytes it sends",
            )
        })?;
        self.body = Some(body);
        Ok(())
    }
}

/// Where `bytes START-LAST/SIZE` ends, if it begins where it should.
fn end_of(range: &str, start: u64) -> Option<u64> {
    let (first, rest) = range.strip_prefix("bytes ")?.split_once('-')?;
    let (last, _size) = rest.split_once('/')?;
    let last: u64 = last.parse().ok()?;
    (first.parse() == Ok(start)).then(|| last.saturating_add(1))
}
