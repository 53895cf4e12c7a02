//! A file becomes an object: in one call, or in parts.
//!
//! docs/decisions/0007-s3-verification.md says what is verified and by whom.

use std::path::Path;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use minio::s3::builders::{
    CompleteMultipartUpload, CreateMultipartUpload, DeleteObject, ObjectToDelete, PutObject,
    UploadPart,
};
use minio::s3::multimap_ext::{Multimap, MultimapExt};
use minio::s3::response_traits::{HasEtagFromHeaders, HasS3Fields};
use minio::s3::types::{ObjectKey as S3Key, PartInfo, S3Api, UploadId};
use minio::s3::utils::ChecksumAlgorithm;

use super::calls::{limited, repeated};
use super::fault::{Fault, Kind};
use super::parts::{Part, Reader};
use super::unfinished::AbortOnDrop;
use super::{S3Store, SHA256_HEADER};
use crate::domain::checksum::Checksum;
use crate::store::{Result, StoreError};

/// Putting parts together may take a server longer than taking one.
const COMPLETE_TIMEOUTS: u32 = 4;

/// Makes `file` the object `key`, which is verified then to be what is `known`.
pub(super) async fn put(store: &S3Store, key: &S3Key, file: &Path, known: &Checksum) -> Result<()> {
    let reader = Reader::open(file, store.config.part_bytes).await?;
    if reader.size() != known.size {
        return Err(changed());
    }
    match reader.is_one_part() {
        true => put_whole(store, key, reader, known).await,
        false => put_parts(store, key, reader, known).await,
    }
}

async fn put_whole(store: &S3Store, key: &S3Key, reader: Reader, known: &Checksum) -> Result<()> {
    let (part, reader) = reader.next().await?;
    if reader.checksum() != *known {
        return Err(changed());
    }
    let sent = repeated("an upload", store.timeout(), || async {
        let mut headers = about(known);
        headers.add("x-amz-checksum-crc32c", part.crc32c_base64());
        let whole = UploadPart::builder()
            .client(store.client.clone())
            .bucket(store.bucket.clone())
            .object(key.clone())
            .extra_headers(Some(headers))
            .data(part.body())
            .build();
        PutObject::builder().inner(whole).build().send().await?;
        Ok(())
    });
    sent.await?;
    verify(store, key, known).await
}

async fn put_parts(store: &S3Store, key: &S3Key, reader: Reader, known: &Checksum) -> Result<()> {
    let upload = begin(store, key, known).await?;
    let aborter = AbortOnDrop::new(store, key, upload.as_str());
    let sent = async {
        send_and_complete(store, key, &upload, reader, known).await?;
        verify(store, key, known).await
    };
    // Also one that the store called completed, if there is no object.
    let sent = sent.await;
    match sent {
        Ok(()) => aborter.completed(),
        Err(_) => aborter.abort().await,
    }
    sent
}

/// Begins a multipart upload. One that began although no answer came would stay for ever, so
/// after a second try the others of this key are looked for.
async fn begin(store: &S3Store, key: &S3Key, known: &Checksum) -> Result<UploadId, Fault> {
    let mut tries = 0;
    let begun = repeated("beginning an upload", store.timeout(), || {
        tries += 1;
        async {
            let answer = CreateMultipartUpload::builder()
                .client(store.client.clone())
                .bucket(store.bucket.clone())
                .object(key.clone())
                .extra_headers(Some(about(known)))
                .checksum_algorithm(Some(ChecksumAlgorithm::CRC32C))
                .build()
                .send()
                .await?;
            let upload = answer.upload_id().await;
            upload.map_err(|_| Fault::new(Kind::Lasting, "the store names no upload"))
        }
    })
    .await;
    let unclear = begun.as_ref().is_err_and(Fault::is_passing);
    if tries > 1 || unclear {
        let keep = begun.as_ref().ok().map(UploadId::as_str);
        store.abort_others(key, keep).await;
    }
    begun
}

async fn send_and_complete(
    store: &S3Store,
    key: &S3Key,
    upload: &UploadId,
    reader: Reader,
    known: &Checksum,
) -> Result<()> {
    let mut reader = reader;
    let mut flying = FuturesUnordered::new();
    let mut sent = Vec::new();
    loop {
        // A part is read only when there is room for it: no more are in memory.
        if !reader.is_at_end() && flying.len() < store.config.parts_in_flight {
            let (part, next) = reader.next().await?;
            flying.push(send(store, key, upload, part));
            reader = next;
            continue;
        }
        match flying.next().await {
            Some(part) => sent.push(part?),
            None => break,
        }
    }
    if reader.checksum() != *known {
        return Err(changed());
    }
    sent.sort_by_key(|part| part.number);
    complete(store, key, upload, sent).await
}

async fn send(
    store: &S3Store,
    key: &S3Key,
    upload: &UploadId,
    part: Part,
) -> Result<PartInfo, Fault> {
    repeated("a part of an upload", store.timeout(), || async {
        let mut headers = Multimap::new();
        headers.add("x-amz-checksum-crc32c", part.crc32c_base64());
        let answer = UploadPart::builder()
            .client(store.client.clone())
            .bucket(store.bucket.clone())
            .object(key.clone())
            .extra_headers(Some(headers))
            .upload_id(Some(upload.to_string()))
            .part_number(Some(part.number))
            .data(part.body())
            .build()
            .send()
            .await?;
        let etag = answer
            .etag()
            .map_err(|_| Fault::new(Kind::Lasting, "the store names no part"))?;
        let crc32c = Some((ChecksumAlgorithm::CRC32C, part.crc32c_base64()));
        Ok(PartInfo::new(
            part.number,
            etag,
            part.bytes.len() as u64,
            crc32c,
        ))
    })
    .await
}

/// Puts the parts together. When an answer is lost the second try finds no upload any more:
/// whether the object is there is then for [`verify`] to say.
async fn complete(
    store: &S3Store,
    key: &S3Key,
    upload: &UploadId,
    parts: Vec<PartInfo>,
) -> Result<()> {
    let within = store.timeout() * COMPLETE_TIMEOUTS;
    let completed = repeated("completing an upload", within, || async {
        let answer = CompleteMultipartUpload::builder()
            .client(store.client.clone())
            .bucket(store.bucket.clone())
            .object(key.clone())
            .upload_id(upload.clone())
            .parts(parts.clone())
            .build()
            .send()
            .await?;
        // S3 may say 200 before it knows, and put an error into the body.
        let body = answer.body();
        match body.windows(7).any(|bytes| bytes == b"<Error>") {
            true => Err(Fault::new(
                Kind::Passing,
                "the store fails to put the parts together",
            )),
            false => Ok(()),
        }
    })
    .await;
    match completed {
        Err(fault) if fault.kind != Kind::NoUpload => Err(fault.into()),
        _ => Ok(()),
    }
}

/// The object is there, with these bytes' size and checksum; else it goes.
async fn verify(store: &S3Store, key: &S3Key, known: &Checksum) -> Result<()> {
    let (size, sha256) = match store.head(key).await {
        Err(fault) if fault.kind == Kind::Missing => {
            let what = "the store has not got what it was given";
            return Err(Fault::new(Kind::Passing, what).into());
        }
        head => head?,
    };
    if size == known.size && sha256.as_deref() == Some(known.sha256_hex().as_str()) {
        return Ok(());
    }
    let removed = limited("deleting", store.timeout(), async {
        DeleteObject::builder()
            .client(store.client.clone())
            .bucket(store.bucket.clone())
            .object(ObjectToDelete::from(key))
            .build()
            .send()
            .await?;
        Ok(())
    });
    if let Err(fault) = removed.await {
        tracing::warn!(%key, %fault, "cannot remove an object that is not what it should be");
    }
    let what = format!(
        "the store has {size} bytes of {}, or of another content",
        known.size
    );
    Err(Fault::new(Kind::Passing, what).into())
}

/// What is kept beside an object.
fn about(known: &Checksum) -> Multimap {
    let mut headers = Multimap::new();
    headers.add(SHA256_HEADER, known.sha256_hex());
    headers
}

fn changed() -> StoreError {
    let what = "the file to be stored is not what it was when it was sealed";
    StoreError::Io(std::io::Error::other(what))
}
