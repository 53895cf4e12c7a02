//! Connections that end, stall and lie: each call is tried again or fails with a clear error, and
//! nothing is half there.

use std::time::{Duration, Instant};

use aegis_artifact::config::MinioConfig;
use aegis_artifact::store::{ObjectStore, S3Store, StoreError, read_range};
use aegis_testkit::{Direction, Mishap, Proxy, S3Server};
use minio::s3::builders::CreateMultipartUpload;
use minio::s3::types::S3Api;

use crate::bed::{Bed, PART, config, content, key, through};

const REQUEST: Direction = Direction::Request;
const RESPONSE: Direction = Direction::Response;
const FULL: &str =
    "HTTP/1.1 507 Insufficient Storage\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
const FULL_AS_MINIO_SAYS_IT: &str = "HTTP/1.1 507 Insufficient Storage\r\nConnection: close\r\nContent-Type: application/xml\r\n\
     Content-Length: 46\r\n\r\n<Error><Code>XMinioStorageFull</Code></Error>\n";
const BUSY: &str = "HTTP/1.1 503 Slow Down\r\nConnection: close\r\nContent-Type: application/xml\r\n\
     Content-Length: 37\r\n\r\n<Error><Code>SlowDown</Code></Error>\n";

const DONE: &str =
    "HTTP/1.1 200 OK\r\nConnection: close\r\nETag: \"x\"\r\nContent-Length: 0\r\n\r\n";
const TEN_OF_A_THOUSAND: &str = "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n\
     Content-Range: bytes 0-999/1000\r\nContent-Length: 10\r\n\r\n0123456789";
const ANOTHER_RANGE: &str = "HTTP/1.1 206 Partial Content\r\nConnection: close\r\n\
     Content-Range: bytes 5-14/1000\r\nContent-Length: 10\r\n\r\n5678901234";
const ALL_OF_IT: &str =
    "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 10\r\n\r\n0123456789";

/// A bucket, reached directly and by way of a proxy.
struct Broken {
    bed: Bed,
    proxy: Proxy,
    store: S3Store,
}

impl Broken {
    async fn to(server: &S3Server) -> Self {
        let config = config(server);
        let bed = Bed::s3(&config).await;
        let proxy = Proxy::to(server.address());
        let store = S3Store::open(&through(&proxy, &config)).unwrap();
        Self { bed, proxy, store }
    }

    /// Calls end after two seconds.
    fn be_impatient(&mut self) {
        let config = MinioConfig {
            timeout_seconds: 2,
            ..through(&self.proxy, &self.bed.config())
        };
        self.store = S3Store::open(&config).unwrap();
    }

    async fn put(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.put(&key(name), &self.bed.file(bytes)).await
    }

    /// Puts with one mishap, which must not show.
    async fn put_in_spite(&self, bytes: &[u8], direction: Direction, at: u64, mishap: Mishap) {
        let what = format!("{mishap:?} at byte {at} of the {direction:?}");
        self.proxy.plan(direction, at, mishap, 1);
        let put = self.put("default/x", bytes).await;
        assert!(put.is_ok(), "{what}: {}", put.unwrap_err());
        let read = self.bed.read("default/x", 0..bytes.len() as u64).await;
        assert!(read.unwrap() == bytes, "{what}");
        assert_eq!(self.bed.unfinished().await, 0, "{what}");
        self.bed.store.delete(&key("default/x")).await.unwrap();
    }

    /// Nothing came of it.
    async fn assert_nothing_is_there(&self) {
        assert_eq!(self.bed.stat("default/x").await, None);
        assert_eq!(self.bed.unfinished().await, 0);
    }
}

mod seaweedfs {
    use super::*;

    fn server() -> &'static S3Server {
        S3Server::seaweedfs()
    }

    crate::broken_cases!();
}

mod juicefs {
    use super::*;

    fn server() -> &'static S3Server {
        S3Server::juicefs()
    }

    crate::broken_cases!();
}

/// The cases of this file, on the server of the module.
#[macro_export]
macro_rules! broken_cases {
    () => {
        $crate::broken_cases!(
            a_small_upload_survives_a_cut_anywhere,
            a_large_upload_survives_a_cut_anywhere,
            a_read_goes_on_where_it_was_cut,
            what_always_fails_leaves_nothing,
            a_server_that_says_nothing_is_given_up,
            a_byte_that_changes_on_its_way_is_noticed,
            what_a_store_only_says_it_did_is_noticed,
            fewer_bytes_than_promised_are_asked_for_again,
            a_full_store_says_so,
            a_busy_store_is_asked_again,
            an_upload_whose_caller_goes_is_aborted,
            what_a_killed_process_left_is_aborted,
        );
    };
    ($($case:ident),+ $(,)?) => {
        $(
            #[tokio::test]
            async fn $case() {
                super::$case(Broken::to(server()).await).await;
            }
        )+
    };
}

async fn a_small_upload_survives_a_cut_anywhere(broken: Broken) {
    let bytes = content(2000);
    broken.put("default/x", &bytes).await.unwrap();
    let requests = broken.proxy.take_passed();
    let from_end = [1, 2, 500, 1000, 1999, 2000, 2001].map(|n| requests - n);
    for at in (0..requests).step_by(401).chain(from_end) {
        broken.put_in_spite(&bytes, REQUEST, at, Mishap::Cut).await;
        assert_eq!(broken.proxy.happened(), 1, "{at}");
    }
    // Until the answers are not that long.
    for at in (0..).step_by(149) {
        broken.put_in_spite(&bytes, RESPONSE, at, Mishap::Cut).await;
        if broken.proxy.happened() == 0 {
            break;
        }
    }
}

async fn a_large_upload_survives_a_cut_anywhere(broken: Broken) {
    let bytes = content(2 * PART + 1000);
    broken.put("default/x", &bytes).await.unwrap();
    let requests = broken.proxy.take_passed();
    let early = [0, 400];
    let within = [PART / 2, PART + 1, 2 * PART];
    let late = [2000, 500, 1].map(|n| requests - n);
    for at in early.into_iter().chain(within).chain(late) {
        broken.put_in_spite(&bytes, REQUEST, at, Mishap::Cut).await;
        assert_eq!(broken.proxy.happened(), 1, "{at}");
    }
    // The first answer names the upload: without it there is one that nobody knows.
    for at in (0..).step_by(701) {
        broken.put_in_spite(&bytes, RESPONSE, at, Mishap::Cut).await;
        if broken.proxy.happened() == 0 {
            break;
        }
    }
}

async fn a_read_goes_on_where_it_was_cut(broken: Broken) {
    let bytes = content(600_000);
    broken.bed.put("default/x", &bytes).await.unwrap();
    let x = key("default/x");
    for at in [0, 1, 100, 500, 1000, 262_144, 300_000, 600_000] {
        broken.proxy.plan(RESPONSE, at, Mishap::Cut, 1);
        let read = read_range(&broken.store, &x, 3..600_000).await.unwrap();
        assert!(read == bytes[3..], "{at}");
        assert_eq!(broken.proxy.happened(), 1, "{at}");
    }
    // As often as it likes, as long as bytes come.
    broken.proxy.plan(RESPONSE, 100_000, Mishap::Cut, 1000);
    let read = read_range(&broken.store, &x, 0..600_000).await.unwrap();
    assert!(read == bytes);
    assert!(broken.proxy.happened() >= 6);
    // Not for ever, when none do.
    broken.proxy.plan(RESPONSE, 100, Mishap::Cut, 1000);
    let error = read_range(&broken.store, &x, 0..600_000).await.unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error}");
}

async fn what_always_fails_leaves_nothing(broken: Broken) {
    // No call gets through.
    broken.proxy.plan(REQUEST, 100, Mishap::Cut, usize::MAX);
    let error = broken.put("default/x", &content(2000)).await.unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error}");
    assert_eq!(broken.proxy.happened(), 3);
    broken.assert_nothing_is_there().await;
    // No part gets through, but small calls do.
    broken
        .proxy
        .plan(REQUEST, PART / 2, Mishap::Cut, usize::MAX);
    let large = content(2 * PART + 1000);
    let error = broken.put("default/x", &large).await.unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error}");
    broken.assert_nothing_is_there().await;
    // What was there before is still there.
    broken.bed.put("default/x", b"before").await.unwrap();
    broken.put("default/x", &large).await.unwrap_err();
    assert_eq!(broken.bed.read("default/x", 0..6).await.unwrap(), b"before");
    assert_eq!(broken.bed.unfinished().await, 0);
    // And once it works again, it works.
    broken.proxy.behave();
    broken.put("default/x", &large).await.unwrap();
}

async fn a_server_that_says_nothing_is_given_up(mut broken: Broken) {
    broken.be_impatient();
    broken.put_in_spite(b"x", RESPONSE, 0, Mishap::Stall).await;
    broken
        .bed
        .put("default/y", &content(500_000))
        .await
        .unwrap();
    broken.proxy.plan(RESPONSE, 100_000, Mishap::Stall, 1);
    let read = read_range(&broken.store, &key("default/y"), 0..500_000).await;
    assert!(read.unwrap() == content(500_000));
    broken.proxy.plan(REQUEST, 0, Mishap::Stall, usize::MAX);
    let begun = Instant::now();
    let error = broken.store.stat(&key("default/y")).await.unwrap_err();
    assert!(error.to_string().contains("within 2 s"), "{error}");
    // Three tries of two seconds, and pauses.
    assert!(
        begun.elapsed() < Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
}

async fn a_byte_that_changes_on_its_way_is_noticed(broken: Broken) {
    broken
        .put_in_spite(&content(100_000), REQUEST, 50_000, Mishap::Flip)
        .await;
    assert_eq!(broken.proxy.happened(), 1);
    let large = content(2 * PART);
    broken
        .put_in_spite(&large, REQUEST, PART + PART / 2, Mishap::Flip)
        .await;
    assert_eq!(broken.proxy.happened(), 1);
    broken.proxy.plan(REQUEST, 50_000, Mishap::Flip, usize::MAX);
    let error = broken
        .put("default/x", &content(100_000))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error}");
    broken.assert_nothing_is_there().await;
}

/// It says 200 and keeps nothing.
async fn what_a_store_only_says_it_did_is_noticed(broken: Broken) {
    broken.proxy.plan(REQUEST, 0, Mishap::Answer(DONE), 1);
    let error = broken.put("default/x", &content(2000)).await.unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error}");
    broken.assert_nothing_is_there().await;
    broken
        .proxy
        .plan(REQUEST, PART / 2, Mishap::Answer(DONE), 1);
    let large = content(2 * PART + 1000);
    let error = broken.put("default/x", &large).await.unwrap_err();
    assert!(matches!(error, StoreError::Io(_)), "{error}");
    assert_eq!(broken.proxy.happened(), 1);
    broken.assert_nothing_is_there().await;
}

async fn fewer_bytes_than_promised_are_asked_for_again(broken: Broken) {
    let bytes = b"0123456789".repeat(100);
    broken.bed.put("default/x", &bytes).await.unwrap();
    let x = key("default/x");
    let answer = |answer, times| {
        let mishap = Mishap::Answer(answer);
        broken.proxy.plan(REQUEST, 0, mishap, times);
    };
    answer(TEN_OF_A_THOUSAND, 1);
    let read = read_range(&broken.store, &x, 0..1000).await.unwrap();
    assert!(read == bytes);
    assert_eq!(broken.proxy.happened(), 1);
    // What is no answer to the question is not taken for one.
    for other in [ANOTHER_RANGE, ALL_OF_IT] {
        answer(other, 1);
        let error = read_range(&broken.store, &x, 0..1000).await.unwrap_err();
        assert!(error.to_string().contains("another range"), "{error}");
    }
    // The object itself is shorter: no try makes it longer.
    broken.proxy.behave();
    let error = read_range(&broken.store, &x, 0..1001).await.unwrap_err();
    assert!(matches!(error, StoreError::EndsEarly), "{error}");
}

async fn a_full_store_says_so(broken: Broken) {
    for answer in [FULL, FULL_AS_MINIO_SAYS_IT] {
        broken.proxy.plan(REQUEST, 0, Mishap::Answer(answer), 1);
        let error = broken.put("default/x", b"x").await.unwrap_err();
        assert!(matches!(error, StoreError::Full), "{error}");
        // In the midst of parts.
        broken.proxy.plan(REQUEST, PART, Mishap::Answer(answer), 1);
        let error = broken
            .put("default/x", &content(2 * PART))
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::Full), "{error}");
        assert_eq!(broken.proxy.happened(), 1);
        broken.assert_nothing_is_there().await;
    }
    let error = aegis_mesh::Error::from(StoreError::Full);
    assert_eq!(error.reason(), "STORAGE_FULL");
}

async fn a_busy_store_is_asked_again(broken: Broken) {
    broken
        .put_in_spite(b"x", REQUEST, 0, Mishap::Answer(BUSY))
        .await;
    broken
        .proxy
        .plan(REQUEST, 0, Mishap::Answer(BUSY), usize::MAX);
    let error = broken.put("default/x", b"x").await.unwrap_err();
    assert!(error.to_string().contains("slowdown"), "{error}");
    assert_eq!(broken.proxy.happened(), 3);
}

async fn an_upload_whose_caller_goes_is_aborted(broken: Broken) {
    let file = broken.bed.file(&content(3 * PART));
    broken.proxy.plan(REQUEST, PART, Mishap::Stall, 1);
    let x = key("default/x");
    let mut put = broken.store.put(&x, &file);
    let deadline = Instant::now() + Duration::from_secs(20);
    while broken.bed.unfinished().await == 0 || broken.proxy.happened() == 0 {
        assert!(Instant::now() < deadline, "the upload never began");
        let a_moment = tokio::time::timeout(Duration::from_millis(20), &mut put).await;
        assert!(a_moment.is_err(), "the upload is over too soon");
    }
    drop(put);
    while broken.bed.unfinished().await > 0 {
        assert!(Instant::now() < deadline, "the upload is not aborted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    broken.assert_nothing_is_there().await;
}

async fn what_a_killed_process_left_is_aborted(broken: Broken) {
    let (client, bucket) = broken.store.client();
    CreateMultipartUpload::builder()
        .client(client)
        .bucket(bucket)
        .object(minio::s3::types::ObjectKey::new("default/left").unwrap())
        .build()
        .send()
        .await
        .unwrap();
    let left = broken.store.unfinished("default/").await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].key, "default/left");
    // One that may be under way is let alone.
    assert_eq!(broken.store.tidy().await.unwrap(), 0);
    assert_eq!(
        broken.store.abort_older_than(Duration::ZERO).await.unwrap(),
        1
    );
    assert_eq!(broken.bed.unfinished().await, 0);
}
