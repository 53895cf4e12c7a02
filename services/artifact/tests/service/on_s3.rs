//! The service with its objects in S3, as it is configured.

use aegis_artifact::Config;
use aegis_artifact::config::{MinioConfig, StorageBackend};
use aegis_artifact::store::{ObjectStore, S3Store};
use aegis_mesh::{Code, Secret};
use aegis_proto::ids::ScanId;
use aegis_proto::internal::artifact::v1 as pb;
use aegis_proto::report::v1::{
    ImportHeader, ImportScanRequest, ReadArtifactRequest, import_scan_request::Part,
};
use aegis_testkit::{Direction, Mishap, Proxy, S3Server};
use bytes::Bytes;
use futures_util::stream;
use uuid::Uuid;

use crate::support::{
    Generated, Service, call, checksum, digest_line, generated, is, messages, sample, until,
};

pub(crate) fn bucket_at(endpoint: String, server: &S3Server) -> MinioConfig {
    MinioConfig {
        endpoint,
        access_key: Some(Secret::new(server.admin().access)),
        secret_key: Some(Secret::new(server.admin().secret)),
        bucket: format!("t-{}", Uuid::new_v4()),
        // So that a few megabytes are several parts.
        part_bytes: 5 << 20,
        ..MinioConfig::default()
    }
}

pub(crate) fn on(minio: &MinioConfig) -> impl FnOnce(&mut Config) + use<> {
    let minio = minio.clone();
    |config| {
        config.storage_backend = StorageBackend::Minio;
        config.minio = minio;
    }
}

async fn download(service: &Service, scan: &str, name: &str) -> Vec<u8> {
    let request = ReadArtifactRequest {
        scan_id: scan.to_owned(),
        name: name.to_owned(),
        ..Default::default()
    };
    let mut client = service.reports.clone();
    let mut messages = call(client.read_artifact(request)).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(message) = messages.message().await.unwrap() {
        bytes.extend_from_slice(&message.data);
    }
    bytes
}

/// From the parts of three tasks to the report that is downloaded.
async fn upload_compose_download(server: &S3Server) {
    let minio = bucket_at(server.endpoint(), server);
    let service = Service::with(on(&minio)).await;
    until("healthy", async || service.is_healthy()).await;
    let scan = ScanId::generate().to_string();
    for part in [1, 2, 4] {
        let report = sample(&format!("part-{part}.report.jsonl"));
        let hitlog = (part != 2).then(|| sample(&format!("part-{part}.hitlog.jsonl")));
        service.commit(&scan, &report, hitlog.as_deref()).await;
    }
    let lease = service.catalog.lease(&scan);
    let digest = service.upload(&lease, "digest.json", &digest_line()).await;
    let request = pb::ComposeReportRequest {
        lease: Some(lease.clone()),
        digest_artifact_id: digest.unwrap().artifact_id,
    };
    let mut client = service.artifacts.clone();
    let composed = call(client.compose_report(request)).await.unwrap();
    service.catalog.commit_report(&composed.artifact_ids, 1);

    let report = download(&service, &scan, "report.jsonl").await;
    let summary = aegis_report::read(&report[..], aegis_report::Options::default()).unwrap();
    assert!(summary.run.is_completed && summary.run.has_digest);
    assert!(!download(&service, &scan, "hitlog.jsonl").await.is_empty());
    // They lie in the bucket, each with its index, and nothing is left in scratch.
    let objects = S3Store::open(&minio).unwrap().list("", None, 100).await;
    let objects = objects.unwrap();
    let sizes: Vec<u64> = objects.iter().map(|object| object.size).collect();
    assert!(sizes.contains(&(report.len() as u64)), "{objects:?}");
    assert_eq!(service.scratch(), 0);
}

/// A report of several parts of a multipart upload, with a hitlog that is made again.
#[tokio::test]
async fn a_scan_is_imported_on_seaweedfs() {
    let minio = bucket_at(S3Server::seaweedfs().endpoint(), S3Server::seaweedfs());
    let service = Service::with(on(&minio)).await;
    until("healthy", async || service.is_healthy()).await;
    let report = generated(Generated {
        attempts: 6_000,
        output_bytes: 2_000,
    });
    let scan = ScanId::generate().to_string();
    let header = ImportHeader {
        scan_id: scan.clone(),
        ..ImportHeader::default()
    };
    let begin = [Part::Header(header), Part::File("report.jsonl".to_owned())];
    let data = report.chunks(1 << 20);
    let data = data.map(|chunk| Part::Data(Bytes::copy_from_slice(chunk)));
    let parts: Vec<_> = begin.into_iter().chain(data).collect();
    let messages = parts
        .into_iter()
        .map(|part| ImportScanRequest { part: Some(part) });
    let messages: Vec<_> = messages.collect();
    let mut client = service.imports.clone();
    call(client.import_scan(stream::iter(messages)))
        .await
        .unwrap();
    assert_eq!(download(&service, &scan, "report.jsonl").await, report);
    let hitlog = download(&service, &scan, "hitlog.jsonl").await;
    let hits = (0..6_000).map(|n| {
        usize::from(Generated::hits_a(n)) + usize::from(Generated::score_b(n) == Some(1.0))
    });
    let lines = hitlog.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(lines, hits.sum::<usize>());
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn a_report_is_composed_on_seaweedfs() {
    upload_compose_download(S3Server::seaweedfs()).await;
}

#[tokio::test]
async fn a_report_is_composed_on_juicefs() {
    upload_compose_download(S3Server::juicefs()).await;
}

/// What is in scratch is not sent again, and the object is whole.
async fn an_upload_resumes(server: &S3Server) {
    let minio = bucket_at(server.endpoint(), server);
    let service = Service::with(on(&minio)).await;
    until("healthy", async || service.is_healthy()).await;
    let scan = ScanId::generate().to_string();
    let lease = service.catalog.lease(&scan);
    // Three parts in the store.
    let page: Vec<u8> = (0..12_000_000_u32).map(|n| (n % 251) as u8).collect();
    let upload = service.start_upload(&lease, "report.html").await.unwrap();
    let (half, rest) = page.split_at(7_000_000);
    let first = messages(&upload, &lease, 0, half, None);
    assert!(!service.write(first).await.unwrap().complete);
    let upload = service.start_upload(&lease, "report.html").await.unwrap();
    assert_eq!(upload.persisted_size, 7_000_000);
    let mut later = messages(&upload, &lease, 0, rest, Some(checksum(&page)));
    for message in &mut later {
        message.write_offset += 7_000_000;
    }
    let done = service.write(later).await.unwrap();
    assert!(done.complete);
    service.catalog.commit_report(&[done.artifact_id], 1);
    assert!(download(&service, &scan, "report.html").await == page);
    let store = S3Store::open(&minio).unwrap();
    assert_eq!(store.unfinished("").await.unwrap(), []);
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn an_upload_resumes_on_seaweedfs() {
    an_upload_resumes(S3Server::seaweedfs()).await;
}

#[tokio::test]
async fn an_upload_resumes_on_juicefs() {
    an_upload_resumes(S3Server::juicefs()).await;
}

#[tokio::test]
async fn it_starts_without_its_store_and_is_healthy_when_that_comes() {
    let server = S3Server::juicefs();
    let proxy = Proxy::to(server.address());
    proxy.plan(Direction::Request, 0, Mishap::Cut, usize::MAX);
    let service = Service::with(on(&bucket_at(proxy.endpoint(), server))).await;
    until("the store was asked", async || proxy.happened() >= 3).await;
    assert!(!service.is_healthy());
    let lease = service.catalog.lease(&ScanId::generate().to_string());
    let error = service
        .upload(&lease, "digest.json", b"{}")
        .await
        .unwrap_err();
    is(&error, Code::Unavailable, "DEPENDENCY_DOWN");
    proxy.behave();
    until("healthy", async || service.is_healthy()).await;
    // The bytes are here already, and go on into the store.
    let upload = service.start_upload(&lease, "digest.json").await.unwrap();
    let finish = messages(&upload, &lease, 2, b"{}", Some(checksum(b"{}")));
    assert!(service.write(finish).await.unwrap().complete);
}
