//! Downloads: files and their ranges.

use aegis_mesh::{Code, MeshChannel, Result};
use aegis_proto::ids::ScanId;
use aegis_proto::report::v1::{self as pb, report_service_client::ReportServiceClient};

use crate::support::{Generated, Service, call, call_in, checksum, generated, sample};

fn scan() -> String {
    ScanId::generate().to_string()
}

/// Uploads files as a REPORT task would, and commits them.
async fn reported(service: &Service, scan: &str, revision: i32, files: &[(&str, &[u8])]) {
    let lease = service.catalog.lease(scan);
    let mut ids = Vec::new();
    for (name, bytes) in files {
        ids.push(
            service
                .upload(&lease, name, bytes)
                .await
                .unwrap()
                .artifact_id,
        );
    }
    service.catalog.commit_report(&ids, revision);
}

pub(crate) async fn read(
    service: &Service,
    request: pb::ReadArtifactRequest,
) -> Result<(pb::Artifact, Vec<u8>)> {
    let mut client = service.reports.clone();
    let mut messages = call(client.read_artifact(request)).await?;
    let first = messages.message().await?.unwrap();
    assert!(first.data.is_empty(), "the first message has no data");
    let mut bytes = Vec::new();
    while let Some(message) = messages.message().await? {
        assert!(message.artifact.is_none() && message.data.len() <= 256 << 10);
        bytes.extend_from_slice(&message.data);
    }
    Ok((first.artifact.unwrap(), bytes))
}

pub(crate) fn request(scan: &str, name: &str) -> pb::ReadArtifactRequest {
    pb::ReadArtifactRequest {
        scan_id: scan.to_owned(),
        name: name.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_scans_files_are_listed_with_names_to_download() {
    let (service, scan) = (Service::start().await, scan());
    let report = sample("plain.report.jsonl");
    let files: [(&str, &[u8]); 3] = [
        ("digest.json", b"{}"),
        ("report.html", b"<p>"),
        ("report.jsonl", &report),
    ];
    reported(&service, &scan, 1, &files).await;
    let mut client = service.reports.clone();
    let request = pb::ListArtifactsRequest {
        scan_id: scan.clone(),
        revision: 0,
    };
    let listed = call(client.list_artifacts(request))
        .await
        .unwrap()
        .artifacts;
    let names: Vec<_> = listed
        .iter()
        .map(|a| (a.name.as_str(), a.media_type.as_str()))
        .collect();
    let expected = [
        ("report.jsonl", "application/x-ndjson"),
        ("report.html", "text/html; charset=utf-8"),
    ];
    assert_eq!(names, expected, "the digest is not public");
    assert_eq!(listed[0].file_name, format!("garak.{scan}.report.jsonl"));
    assert_eq!(listed[0].checksum, Some(checksum(&report)));
    assert_eq!(listed[0].revision, 1);
    assert!(listed[0].create_time.is_some());
}

#[tokio::test]
async fn any_range_of_a_file_can_be_read() {
    let (service, scan) = (Service::start().await, scan());
    let report = generated(Generated {
        attempts: 300,
        output_bytes: 2_000,
    });
    reported(&service, &scan, 1, &[("report.jsonl", &report)]).await;
    let size = report.len();
    assert!(size > 512 << 10, "several chunks");
    for (offset, limit) in [
        (0, 0),
        (0, 1),
        (1, 262_144),
        (262_143, 3),
        (size - 1, 0),
        (size, 0),
        (size - 5, 1_000),
    ] {
        let asked = pb::ReadArtifactRequest {
            read_offset: offset as i64,
            read_limit: limit as i64,
            ..request(&scan, "report.jsonl")
        };
        let (artifact, bytes) = read(&service, asked).await.unwrap();
        let end = if limit == 0 {
            size
        } else {
            size.min(offset + limit)
        };
        assert!(bytes == report[offset..end], "{offset} {limit}");
        assert_eq!(artifact.checksum, Some(checksum(&report)), "of the whole");
    }
    for (offset, code) in [
        (size as i64 + 1, Code::OutOfRange),
        (-1, Code::InvalidArgument),
    ] {
        let asked = pb::ReadArtifactRequest {
            read_offset: offset,
            ..request(&scan, "report.jsonl")
        };
        assert_eq!(read(&service, asked).await.unwrap_err().code(), code);
    }
    let mut client = service.reports.clone();
    let other = call_in(
        "another",
        client.read_artifact(request(&scan, "report.jsonl")),
    );
    assert_eq!(
        other.await.unwrap_err().code(),
        Code::Internal,
        "the key is of another project"
    );
}

#[tokio::test]
async fn revisions_stay_readable() {
    let (service, scan) = (Service::start().await, scan());
    reported(&service, &scan, 1, &[("report.html", b"one")]).await;
    reported(&service, &scan, 2, &[("report.html", b"two")]).await;
    for (revision, expected) in [(0, "two"), (1, "one"), (2, "two")] {
        let asked = pb::ReadArtifactRequest {
            revision,
            ..request(&scan, "report.html")
        };
        let (artifact, bytes) = read(&service, asked).await.unwrap();
        assert_eq!(bytes, expected.as_bytes());
        assert_eq!(
            artifact.revision,
            revision.max(1) + i32::from(revision == 0)
        );
    }
    let asked = pb::ReadArtifactRequest {
        revision: 3,
        ..request(&scan, "report.html")
    };
    assert_eq!(
        read(&service, asked).await.unwrap_err().reason(),
        "ARTIFACT_NOT_FOUND"
    );
}

/// A reader of the newest report gets all of one revision, whatever comes in between.
#[tokio::test]
async fn a_download_stays_with_the_revision_that_it_began_with() {
    let (service, scan) = (Service::start().await, scan());
    let old = vec![b'1'; 2_000_000];
    reported(&service, &scan, 1, &[("report.html", &old)]).await;
    let mut client = service.reports.clone();
    let begin = async |client: &mut ReportServiceClient<MeshChannel>| {
        let mut messages = call(client.read_artifact(request(&scan, "report.html"))).await;
        let first = messages.as_mut().unwrap().message().await.unwrap().unwrap();
        (first.artifact.unwrap(), messages.unwrap())
    };
    let mut readers = Vec::new();
    for _ in 0..8 {
        readers.push(begin(&mut client).await);
    }
    let new = vec![b'2'; 1_000_000];
    reported(&service, &scan, 2, &[("report.html", &new)]).await;
    readers.push(begin(&mut client).await);
    for (number, (artifact, mut messages)) in readers.into_iter().enumerate() {
        let (revision, expected) = if number < 8 { (1, &old) } else { (2, &new) };
        assert_eq!(artifact.revision, revision);
        assert_eq!(artifact.checksum, Some(checksum(expected)));
        let mut bytes = Vec::new();
        while let Some(message) = messages.message().await.unwrap() {
            bytes.extend_from_slice(&message.data);
        }
        assert!(bytes == *expected, "{number}");
    }
}

#[tokio::test]
async fn strange_names_and_missing_files_are_told_apart() {
    let (service, scan) = (Service::start().await, scan());
    reported(
        &service,
        &scan,
        1,
        &[("report.html", b"x"), ("digest.json", b"{}")],
    )
    .await;
    for name in ["", "digest.json", "../report.html", "report.html\0"] {
        let error = read(&service, request(&scan, name)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.reason()),
            (Code::InvalidArgument, "INVALID_FIELD")
        );
        assert!(
            error
                .message()
                .contains("report.jsonl, hitlog.jsonl, report.html"),
            "{error}"
        );
    }
    let error = read(&service, request(&scan, "hitlog.jsonl"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::NotFound, "ARTIFACT_NOT_FOUND")
    );
    let error = read(&service, request("../x", "report.html"))
        .await
        .unwrap_err();
    assert_eq!(error.fields()[0].path, "scan_id");
}

#[tokio::test]
async fn lost_bytes_are_data_loss() {
    let (service, scan) = (Service::start().await, scan());
    reported(&service, &scan, 1, &[("report.html", b"0123456789")]).await;
    let path = service.path(&service.catalog.committed(&scan)[0].object_key);
    std::fs::write(&path, b"01234").unwrap();
    let error = read(&service, request(&scan, "report.html"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::DataLoss, "ARTIFACT_CORRUPT")
    );
    std::fs::remove_file(&path).unwrap();
    let error = read(&service, request(&scan, "report.html"))
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::DataLoss, "ARTIFACT_CORRUPT")
    );
}
