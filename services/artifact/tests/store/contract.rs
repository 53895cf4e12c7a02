//! What every store does alike.

use std::collections::BTreeSet;

use aegis_artifact::domain::checksum::{Checksum, Hasher};
use aegis_artifact::store::StoreError;
use futures_util::StreamExt;

use crate::bed::{Bed, PART, content, key};
use crate::on_each_store;

on_each_store!(
    what_is_put_is_read,
    an_empty_object_is_an_object,
    put_replaces,
    deleting_may_be_repeated,
    what_is_not_there_is_not_found,
    a_range_past_the_end_is_an_error,
    chunks_are_small,
    every_size_around_a_part,
    a_file_that_became_another_is_refused,
    a_file_that_is_gone_is_no_object,
);

async fn what_is_put_is_read(bed: Bed) {
    bed.put("default/scans/a/report.jsonl", b"0123456789")
        .await
        .unwrap();
    assert_eq!(bed.stat("default/scans/a/report.jsonl").await, Some(10));
    for range in [0..10, 0..1, 9..10, 3..7] {
        let read = bed
            .read("default/scans/a/report.jsonl", range.clone())
            .await;
        let wanted = &b"0123456789"[range.start as usize..range.end as usize];
        assert_eq!(read.unwrap(), wanted, "{range:?}");
    }
    let none = bed.read("default/scans/a/report.jsonl", 4..4).await;
    assert_eq!(none.unwrap(), b"");
}

async fn an_empty_object_is_an_object(bed: Bed) {
    bed.put("default/empty", b"").await.unwrap();
    assert_eq!(bed.stat("default/empty").await, Some(0));
    assert_eq!(bed.read("default/empty", 0..0).await.unwrap(), b"");
    let error = bed.read("default/empty", 0..1).await.unwrap_err();
    assert!(matches!(error, StoreError::EndsEarly), "{error}");
}

async fn put_replaces(bed: Bed) {
    bed.put("default/x", b"old and long").await.unwrap();
    bed.put("default/x", b"new").await.unwrap();
    assert_eq!(bed.stat("default/x").await, Some(3));
    assert_eq!(bed.read("default/x", 0..3).await.unwrap(), b"new");
}

async fn deleting_may_be_repeated(bed: Bed) {
    bed.put("default/x", b"x").await.unwrap();
    for _ in 0..2 {
        bed.store.delete(&key("default/x")).await.unwrap();
        assert_eq!(bed.stat("default/x").await, None);
    }
}

async fn what_is_not_there_is_not_found(bed: Bed) {
    assert_eq!(bed.stat("default/none").await, None);
    for range in [0..1, 0..0] {
        let error = bed.read("default/none", range).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound), "{error}");
    }
}

async fn a_range_past_the_end_is_an_error(bed: Bed) {
    bed.put("default/x", b"0123456789").await.unwrap();
    for range in [0..11, 5..11, 9..11, 10..11, 20..30] {
        let error = bed.read("default/x", range.clone()).await.unwrap_err();
        assert!(matches!(error, StoreError::EndsEarly), "{range:?}: {error}");
    }
}

async fn chunks_are_small(bed: Bed) {
    let bytes = content(1_000_000);
    bed.put("default/x", &bytes).await.unwrap();
    let mut chunks = bed.store.read(&key("default/x"), 1..999_999).await.unwrap();
    let mut read = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.unwrap();
        assert!(
            !chunk.is_empty() && chunk.len() <= 256 << 10,
            "{}",
            chunk.len()
        );
        read.extend_from_slice(&chunk);
    }
    assert!(read == bytes[1..999_999]);
}

async fn every_size_around_a_part(bed: Bed) {
    for size in [PART - 1, PART, PART + 1, 2 * PART] {
        let bytes = content(size);
        bed.put("default/x", &bytes).await.unwrap();
        assert_eq!(bed.stat("default/x").await, Some(size));
        let ends = [0, 1, PART - 1, PART, PART + 1, 2 * PART - 1, 2 * PART, size];
        let ends = BTreeSet::from(ends.map(|end| end.min(size)));
        let ends: Vec<u64> = ends.into_iter().collect();
        for pair in ends.windows(2) {
            let read = bed.read("default/x", pair[0]..pair[1]).await.unwrap();
            let wanted = &bytes[pair[0] as usize..pair[1] as usize];
            assert!(read == wanted, "{pair:?} of {size}");
        }
        let whole = bed.read("default/x", 0..size).await.unwrap();
        assert!(whole == bytes, "{size}");
    }
    assert_eq!(bed.unfinished().await, 0);
}

/// A directory does not look; S3 makes no object of other bytes than those that were sealed.
async fn a_file_that_became_another_is_refused(bed: Bed) {
    if bed.s3.is_none() {
        return;
    }
    for size in [10, 2 * PART] {
        let mut bytes = content(size);
        let known = checksum(&bytes);
        *bytes.last_mut().unwrap() ^= 1;
        let (object, file) = (key("default/x"), bed.file(&bytes));
        let put = bed.store.put_known(&object, &file, &known);
        let error = put.await.unwrap_err();
        assert!(error.to_string().contains("sealed"), "{error}");
        let shorter = bed.file(&bytes[1..]);
        let put = bed.store.put_known(&object, &shorter, &known);
        put.await.unwrap_err();
    }
    assert_eq!(bed.stat("default/x").await, None);
    assert_eq!(bed.unfinished().await, 0);
}

async fn a_file_that_is_gone_is_no_object(bed: Bed) {
    let gone = bed.file(b"x").with_extension("gone");
    let error = bed.store.put(&key("default/x"), &gone).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound), "{error}");
    assert_eq!(bed.stat("default/x").await, None);
}

pub(crate) fn checksum(bytes: &[u8]) -> Checksum {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.checksum()
}
