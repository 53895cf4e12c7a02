//! How fast a report gets into S3: by the service, by its store, and by the bare `minio` client at
//! the best of its settings, on the same server in one run.
//!
//! `cargo run --release -p aegis-artifact --example upload_s3 -- [MEGABYTES] [ROUNDS]`; SeaweedFS and
//! JuiceFS's gateway come from `make tools`. Each round takes the ways in turn; the median counts.
//! The last line of each server is a row for the table of `make bench-large`.

#[path = "../tests/service/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "a part of what the tests need")]
mod support;

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use aegis_artifact::config::{MinioConfig, StorageBackend};
use aegis_artifact::domain::checksum::{Checksum, Hasher};
use aegis_artifact::domain::key::ObjectKey;
use aegis_artifact::store::{ObjectStore, S3Store};
use aegis_mesh::Secret;
use aegis_proto::ids::ScanId;
use aegis_proto::internal::artifact::v1 as pb;
use aegis_testkit::S3Server;
use bytes::Bytes;
use futures_util::stream;
use minio::s3::builders::ObjectContent;
use minio::s3::types::ObjectKey as S3Key;
use support::Service;

/// Settings of the bare client: one part, or parts of so many MiB (it sends one after the other).
const BARE_PARTS: [u64; 4] = [8, 16, 64, 5000];
const CHUNK: usize = 256 << 10;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default| {
        arguments
            .next()
            .map_or(default, |text| text.parse().unwrap())
    };
    let (megabytes, rounds) = (number(500_usize), number(5));
    let report = report(megabytes * 1_000_000);
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(&report).unwrap();
    for (name, server) in [
        ("SeaweedFS", S3Server::seaweedfs()),
        ("JuiceFS gateway", S3Server::juicefs()),
    ] {
        println!("{name}: {megabytes} MB, median of {rounds}");
        let (bare, service) = compare(server, &report, file.path(), rounds).await;
        let share = service / bare;
        println!(
            "| upload of {megabytes} MB through artifact into {name}, verified | \
             ≥ 0.7 of the bare client | {share:.2} ({service:.0} of {bare:.0} MB/s) | {} |",
            if share >= 0.7 { "yes" } else { "**no**" }
        );
    }
}

/// The best speed of the bare client, and that of the service, in MB/s.
async fn compare(server: &S3Server, report: &Bytes, file: &Path, rounds: usize) -> (f64, f64) {
    let config = MinioConfig {
        endpoint: server.endpoint(),
        access_key: Some(Secret::new(server.admin().access)),
        secret_key: Some(Secret::new(server.admin().secret)),
        timeout_seconds: 120,
        ..MinioConfig::default()
    };
    let store = S3Store::open(&config).unwrap();
    store.check().await.unwrap();
    let known = checksum(report);
    let service = Service::with(|service| {
        service.storage_backend = StorageBackend::Minio;
        service.minio = config;
    })
    .await;
    let mut ways: Vec<(String, Vec<f64>)> = Vec::new();
    for _ in 0..rounds {
        for megabytes in BARE_PARTS {
            let begun = Instant::now();
            bare(&store, file, megabytes << 20).await;
            let way = format!("bare client, parts of {megabytes} MiB");
            note(&mut ways, way, begun);
        }
        let begun = Instant::now();
        let key = ObjectKey::parse("bench/store").unwrap();
        store.put_known(&key, file, &known).await.unwrap();
        note(&mut ways, "store, verified".to_owned(), begun);
        let begun = Instant::now();
        upload(&service, report, &known).await;
        note(
            &mut ways,
            "service: gRPC, scratch, store, verified".to_owned(),
            begun,
        );
    }
    let speed = |seconds: &mut Vec<f64>| {
        seconds.sort_by(f64::total_cmp);
        report.len() as f64 / 1e6 / seconds[seconds.len() / 2]
    };
    let speeds: Vec<f64> = ways.iter_mut().map(|(_, seconds)| speed(seconds)).collect();
    let best = speeds[..BARE_PARTS.len()]
        .iter()
        .copied()
        .fold(0.0, f64::max);
    for ((way, _), speed) in ways.iter().zip(&speeds) {
        println!(
            "  {way:42} {speed:6.0} MB/s  {:.2} of the best bare one",
            speed / best
        );
    }
    (best, speeds[speeds.len() - 1])
}

fn note(ways: &mut Vec<(String, Vec<f64>)>, way: String, begun: Instant) {
    let took = begun.elapsed().as_secs_f64();
    match ways.iter_mut().find(|(name, _)| *name == way) {
        Some((_, seconds)) => seconds.push(took),
        None => ways.push((way, vec![took])),
    }
}

/// As the crate's documentation does it.
async fn bare(store: &S3Store, file: &Path, part_bytes: u64) {
    let (client, bucket) = store.client();
    client
        .put_object_content(
            bucket.as_str(),
            S3Key::new("bench/bare").unwrap(),
            ObjectContent::from(file),
        )
        .unwrap()
        .part_size(Some(part_bytes))
        .build()
        .send()
        .await
        .unwrap();
}

/// As a runner does it.
async fn upload(service: &Service, report: &Bytes, known: &Checksum) {
    let lease = service.catalog.lease(&ScanId::generate().to_string());
    let upload = service.start_upload(&lease, "report.jsonl").await.unwrap();
    let chunks = report.len().div_ceil(CHUNK);
    let (report, known) = (report.clone(), *known);
    let messages = (0..chunks).map(move |n| {
        let data = report.slice(n * CHUNK..report.len().min((n + 1) * CHUNK));
        pb::WriteUploadRequest {
            upload_id: if n == 0 {
                upload.upload_id.clone()
            } else {
                String::new()
            },
            lease: (n == 0).then(|| lease.clone()),
            write_offset: (n * CHUNK) as i64,
            crc32c: Some(crc32c::crc32c(&data)),
            data,
            finish: (n + 1 == chunks).then(|| aegis_proto::common::v1::Checksum {
                sha256: known.sha256_hex(),
                size_bytes: known.size_i64(),
            }),
        }
    });
    let upload = service.stream(stream::iter(messages)).await.unwrap();
    assert!(upload.complete);
}

/// A report of about so many bytes.
fn report(size: usize) -> Bytes {
    let output_bytes = 10_000;
    let attempts = size / output_bytes;
    let report = support::Generated {
        attempts,
        output_bytes,
    };
    support::generated(report).into()
}

fn checksum(bytes: &[u8]) -> Checksum {
    let mut hasher = Hasher::default();
    hasher.update(bytes);
    hasher.checksum()
}
