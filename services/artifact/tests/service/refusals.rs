//! What is never taken: other bytes than promised, reports that are none, other people's uploads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aegis_mesh::Code;
use aegis_proto::ids::ScanId;
use aegis_proto::internal::artifact::v1 as pb;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::support::{Service, call, call_in, checksum, is, messages, sample};

const REPORT: &str = "report.jsonl";

fn scan() -> String {
    ScanId::generate().to_string()
}

#[tokio::test]
async fn another_content_than_promised_is_refused() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-3.report.jsonl");
    let mut shorter = checksum(&report);
    shorter.size_bytes -= 1;
    for promised in [checksum(b"another"), shorter] {
        let upload = service.start_upload(&lease, REPORT).await.unwrap();
        assert_eq!(upload.persisted_size, 0, "each try starts again");
        let all = messages(&upload, &lease, 0, &report, Some(promised));
        let error = service.write(all).await.unwrap_err();
        is(&error, Code::InvalidArgument, "CHECKSUM_MISMATCH");
        assert_eq!(error.metadata()["sha256"], checksum(&report).sha256);
    }
    assert_eq!(service.scratch(), 0);
    assert!(
        service
            .upload(&lease, REPORT, &report)
            .await
            .unwrap()
            .complete
    );
}

#[tokio::test]
async fn a_malformed_report_is_refused_with_line_and_byte() {
    let service = Service::start().await;
    let report = sample("part-1.report.jsonl");
    let mut starts = vec![0];
    starts.extend(
        report
            .iter()
            .enumerate()
            .filter(|(_, b)| **b == b'\n')
            .map(|(at, _)| at + 1),
    );
    // The opening brace of the fifth line, and of the last.
    for line in [5, starts.len() - 1] {
        let lease = service.catalog.lease(&scan());
        let mut broken = report.clone();
        broken[starts[line - 1]] = b'(';
        let error = service.upload(&lease, REPORT, &broken).await.unwrap_err();
        is(&error, Code::InvalidArgument, "REPORT_MALFORMED");
        assert_eq!(error.metadata()["line"], line.to_string());
        assert_eq!(error.metadata()["offset"], starts[line - 1].to_string());
        assert!(error.message().contains(&format!("line {line}")), "{error}");
        let again = service.start_upload(&lease, REPORT).await.unwrap();
        assert_eq!((again.persisted_size, again.complete), (0, false));
    }
}

/// Two hundred megabytes in one line: refused once it is too long, not when it is over.
#[tokio::test]
async fn a_line_that_does_not_end_is_refused_early() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let piece = Bytes::from(vec![b'x'; 1 << 20]);
    let (id, first) = (upload.upload_id, lease.clone());
    let messages = stream::iter(0..200).map(move |n: i64| {
        count.fetch_add(1, Ordering::SeqCst);
        pb::WriteUploadRequest {
            upload_id: if n == 0 { id.clone() } else { String::new() },
            lease: (n == 0).then(|| first.clone()),
            write_offset: n << 20,
            data: piece.clone(),
            ..Default::default()
        }
    });
    let error = service.stream(messages).await.unwrap_err();
    is(&error, Code::InvalidArgument, "REPORT_MALFORMED");
    assert_eq!(error.metadata()["line"], "1");
    assert!(
        error.message().contains("longer than 33554432 bytes"),
        "{error}"
    );
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 60, "{sent} MiB were taken for 32");
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn what_garak_cannot_have_written_is_refused_with_its_byte() {
    let service = Service::start().await;
    let start = br#"{"entry_type": "attempt", "prompt": ""#;
    for (bytes, offset) in [
        (&b"\xff\xfe"[..], start.len()),
        (b"\0", start.len()),
        (b"\xed\xa0\x80", start.len()),
    ] {
        let lease = service.catalog.lease(&scan());
        let report = [start, bytes, b"\"}\n"].concat();
        let error = service.upload(&lease, REPORT, &report).await.unwrap_err();
        is(&error, Code::InvalidArgument, "REPORT_MALFORMED");
        let found: usize = error.metadata()["offset"].parse().unwrap();
        assert!(found.abs_diff(offset) <= 1, "{found}, not {offset}");
    }
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn a_truncated_report_is_refused_with_line_and_byte() {
    let service = Service::start().await;
    let report = sample("part-1.report.jsonl");
    let cut = &report[..report.len() - 20];
    let lease = service.catalog.lease(&scan());
    let error = service.upload(&lease, REPORT, cut).await.unwrap_err();
    is(&error, Code::InvalidArgument, "REPORT_MALFORMED");
    let lines = report.iter().filter(|b| **b == b'\n').count();
    assert_eq!(error.metadata()["line"], lines.to_string());
    assert_eq!(error.metadata()["offset"], cut.len().to_string());
    assert_eq!(service.scratch(), 0);

    let hitlog = sample("part-1.hitlog.jsonl");
    let cut = &hitlog[..hitlog.len() - 20];
    let error = service
        .upload(&lease, "hitlog.jsonl", cut)
        .await
        .unwrap_err();
    is(&error, Code::InvalidArgument, "REPORT_MALFORMED");
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let service = Service::with(|config| config.max_upload_bytes = 5_000).await;
    let lease = service.catalog.lease(&scan());
    let mut client = service.artifacts.clone();
    let request = |size| pb::StartUploadRequest {
        lease: Some(lease.clone()),
        name: REPORT.to_owned(),
        size_bytes: Some(size),
    };
    let error = call(client.start_upload(request(5_001))).await.unwrap_err();
    is(&error, Code::InvalidArgument, "UPLOAD_TOO_LARGE");
    let error = call(client.start_upload(request(-1))).await.unwrap_err();
    is(&error, Code::InvalidArgument, "INVALID_FIELD");
    // Who does not say so beforehand.
    let report = sample("part-3.report.jsonl");
    assert!(report.len() > 5_000);
    let error = service.upload(&lease, REPORT, &report).await.unwrap_err();
    is(&error, Code::InvalidArgument, "UPLOAD_TOO_LARGE");
    assert_eq!(service.scratch(), 0);
    // More than was announced.
    let upload = call(client.start_upload(request(10)))
        .await
        .unwrap()
        .upload
        .unwrap();
    let error = service
        .write(messages(&upload, &lease, 0, &report[..11], None))
        .await;
    is(
        &error.unwrap_err(),
        Code::InvalidArgument,
        "UPLOAD_TOO_LARGE",
    );
    // One message.
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    let mut one = messages(&upload, &lease, 0, b"", None);
    one[0].data = vec![b' '; (1 << 20) + 1].into();
    is(
        &service.write(one).await.unwrap_err(),
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
}

#[tokio::test]
async fn only_the_lease_that_opened_an_upload_writes_it() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    let mut forged = lease.clone();
    forged.token = b"guessed".to_vec();
    let write = service
        .write(messages(&upload, &forged, 0, b"x", None))
        .await;
    is(&write.unwrap_err(), Code::Aborted, "LEASE_LOST");
    is(
        &service.get_upload(&forged, &upload).await.unwrap_err(),
        Code::Aborted,
        "LEASE_LOST",
    );
    is(
        &service.start_upload(&forged, REPORT).await.unwrap_err(),
        Code::Aborted,
        "LEASE_LOST",
    );

    // Another run's lease is valid, but this upload is not its own.
    let other = service.catalog.lease(&scan());
    is(
        &service.get_upload(&other, &upload).await.unwrap_err(),
        Code::Aborted,
        "LEASE_LOST",
    );
    let service = service.restart().await;
    let error = service.get_upload(&other, &upload).await.unwrap_err();
    is(&error, Code::NotFound, "UPLOAD_NOT_FOUND");
}

#[tokio::test]
async fn a_lease_that_was_lost_meanwhile_leaves_no_artifact() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-3.report.jsonl");
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    service.catalog.fence(&lease);
    let all = messages(&upload, &lease, 0, &report, Some(checksum(&report)));
    is(
        &service.write(all).await.unwrap_err(),
        Code::Aborted,
        "LEASE_LOST",
    );
    assert_eq!(service.catalog.row(&upload.artifact_id).checksum, None);
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn a_key_that_leaves_the_project_is_never_written() {
    for prefix in ["other", "default/../other", "/default", ".."] {
        let service = Service::start().await;
        service.catalog.state().key_prefix = Some(prefix.to_owned());
        let lease = service.catalog.lease(&scan());
        let error = service.start_upload(&lease, REPORT).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal, "{prefix}");
        assert_eq!(service.scratch(), 0);
    }
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let request = pb::StartUploadRequest {
        lease: Some(lease),
        name: REPORT.to_owned(),
        size_bytes: None,
    };
    let mut client = service.artifacts.clone();
    let error = call_in("another", client.start_upload(request))
        .await
        .unwrap_err();
    assert_eq!(
        error.code(),
        Code::Internal,
        "the key is of the project default"
    );
}

#[tokio::test]
async fn strange_fields_are_named() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    for name in [
        "",
        "../report.jsonl",
        "report.jsonl\0",
        "report.json",
        "\u{1f600}",
    ] {
        let error = service.start_upload(&lease, name).await.unwrap_err();
        is(&error, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields()[0].path, "name");
    }
    let mut odd = lease.clone();
    odd.scan_id = "../x".to_owned();
    let error = service.start_upload(&odd, REPORT).await.unwrap_err();
    assert_eq!(error.fields()[0].path, "lease.scan_id");
    assert!(error.message().contains("../x"), "{error}");

    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    let mut odd = messages(&upload, &lease, 0, b"", None);
    odd[0].upload_id = "../../etc/passwd".to_owned();
    assert_eq!(
        service.write(odd).await.unwrap_err().fields()[0].path,
        "upload_id"
    );
    let mut odd = messages(&upload, &lease, 0, b"", Some(checksum(b"")));
    odd[0].finish.as_mut().unwrap().sha256.pop();
    assert_eq!(
        service.write(odd).await.unwrap_err().fields()[0].path,
        "finish.sha256"
    );
    assert_eq!(
        service.write(Vec::new()).await.unwrap_err().fields()[0].path,
        "upload_id"
    );
    let mut client = service.artifacts.clone();
    let error = call(client.get_upload(pb::GetUploadRequest {
        upload_id: upload.upload_id,
        lease: None,
    }));
    assert_eq!(error.await.unwrap_err().fields()[0].path, "lease");
}
