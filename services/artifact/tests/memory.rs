//! What an upload to S3 and a read from it keep in memory. One test, for what it counts is the whole
//! process.

use std::io::Write;
use std::path::Path;

use aegis_artifact::config::MinioConfig;
use aegis_artifact::domain::checksum::{Checksum, Hasher};
use aegis_artifact::domain::key::ObjectKey;
use aegis_artifact::store::{ObjectStore, S3Store};
use aegis_mesh::Secret;
use aegis_testkit::S3Server;
use futures_util::TryStreamExt;
use peak_alloc::PeakAlloc;
use uuid::Uuid;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const PART: usize = 5 << 20;
const IN_FLIGHT: usize = 3;
const SIZE: usize = 120 << 20;
/// For connections, and the chunks on their way.
const AROUND: usize = 2 << 20;

/// What work took at most, beyond what there was.
async fn peak<T>(work: impl Future<Output = T>) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let done = work.await;
    (done, MEMORY.peak_usage().saturating_sub(before))
}

fn write(path: &Path) -> Checksum {
    let mut file = std::fs::File::create(path).unwrap();
    let mut hasher = Hasher::default();
    for number in 0..SIZE >> 20 {
        let chunk = vec![number as u8; 1 << 20];
        file.write_all(&chunk).unwrap();
        hasher.update(&chunk);
    }
    hasher.checksum()
}

#[tokio::test]
async fn an_upload_has_its_parts_in_flight_in_memory_and_a_read_next_to_nothing() {
    let server = S3Server::seaweedfs();
    let config = MinioConfig {
        endpoint: server.endpoint(),
        access_key: Some(Secret::new(server.admin().access)),
        secret_key: Some(Secret::new(server.admin().secret)),
        bucket: format!("t-{}", Uuid::new_v4()),
        part_bytes: PART as u64,
        parts_in_flight: IN_FLIGHT,
        ..MinioConfig::default()
    };
    let store = S3Store::open(&config).unwrap();
    store.check().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let known = write(&path);
    let key = ObjectKey::parse("default/x").unwrap();

    let (put, taken) = peak(store.put_known(&key, &path, &known)).await;
    put.unwrap();
    let bound = IN_FLIGHT * PART + AROUND;
    assert!(taken <= bound, "{taken} bytes for an upload, not {bound}");

    let (read, taken) = peak(async {
        let mut hasher = Hasher::default();
        let mut chunks = store.read(&key, 0..SIZE as u64).await.unwrap();
        while let Some(chunk) = chunks.try_next().await.unwrap() {
            hasher.update(&chunk);
        }
        hasher.checksum()
    })
    .await;
    assert_eq!(read, known);
    assert!(taken <= AROUND, "{taken} bytes for a read");
}
