//! Uploads: what is taken, what is refused, and what survives what.

use std::os::unix::fs::PermissionsExt;

use aegis_mesh::Code;
use aegis_proto::ids::ScanId;
use aegis_proto::internal::artifact::v1 as pb;
use aegis_proto::internal::task::v1::Lease;
use aegis_report::Index;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::support::{Service, call, checksum, is, messages, sample, sum_of, until};

const REPORT: &str = "report.jsonl";

fn scan() -> String {
    ScanId::generate().to_string()
}

#[tokio::test]
async fn a_report_becomes_an_object_with_an_index_and_a_tally() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-1.report.jsonl");
    let started = service.start_upload(&lease, REPORT).await.unwrap();
    assert_eq!((started.persisted_size, started.complete), (0, false));
    assert!(started.expire_time.is_some());
    let upload = service.upload(&lease, REPORT, &report).await.unwrap();
    assert!(upload.complete);
    assert_eq!(upload.persisted_size, report.len() as i64);

    let row = service.catalog.row(&upload.artifact_id);
    assert_eq!(row.checksum, Some(checksum(&report)));
    assert_eq!(
        service.catalog.tally(&upload.artifact_id),
        Some(sum_of(&[&report]))
    );
    let path = service.path(&row.object_key);
    assert_eq!(std::fs::read(&path).unwrap(), report);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let index = std::fs::read(service.path(&format!("{}.index", row.object_key))).unwrap();
    let index = Index::read_from(index.as_slice()).unwrap();
    assert_eq!(
        index
            .records("exploitation.SQLInjectionEcho")
            .unwrap()
            .len(),
        10
    );
    assert_eq!(service.scratch(), 0, "nothing is left in scratch");
}

#[tokio::test]
async fn other_files_are_kept_as_they_are() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let hitlog = sample("part-1.hitlog.jsonl");
    for (name, bytes) in [
        ("hitlog.jsonl", hitlog.as_slice()),
        ("report.html", b"<html>"),
        ("digest.json", b""),
    ] {
        let upload = service.upload(&lease, name, bytes).await.unwrap();
        assert!(upload.complete, "{name}");
        let row = service.catalog.row(&upload.artifact_id);
        assert_eq!(std::fs::read(service.path(&row.object_key)).unwrap(), bytes);
        assert_eq!(service.catalog.tally(&upload.artifact_id), None);
        assert!(
            !service
                .path(&format!("{}.index", row.object_key))
                .try_exists()
                .unwrap()
        );
    }
}

#[tokio::test]
async fn outcomes_are_indexed_with_the_scans_threshold() {
    use aegis_report::Outcome;
    for (threshold, expected) in [(0.5, Outcome::Pass), (0.2, Outcome::Hit)] {
        let service = Service::start().await;
        service.catalog.state().eval_threshold = Some(threshold);
        let report = crate::support::generated(crate::support::Generated {
            attempts: 2,
            output_bytes: 1,
        });
        let lease = service.catalog.lease(&scan());
        let upload = service.upload(&lease, REPORT, &report).await.unwrap();
        let key = service.catalog.row(&upload.artifact_id).object_key;
        let index = std::fs::read(service.path(&format!("{key}.index"))).unwrap();
        let index = Index::read_from(index.as_slice()).unwrap();
        // Attempt 1 has 0.25 by the second detector.
        let outcomes = index.records("test.Big").unwrap()[1].outcomes;
        assert_eq!(outcomes.get(1), Some(expected), "{threshold}");
    }
}

#[tokio::test]
async fn a_broken_stream_resumes_where_it_broke() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-1.report.jsonl");
    let upload = service.start_upload(&lease, REPORT).await.unwrap();

    let (send, receive) = mpsc::channel(8);
    for message in messages(&upload, &lease, 0, &report[..30_000], None) {
        send.send(message).await.unwrap();
    }
    {
        let mut broken = std::pin::pin!(service.stream(ReceiverStream::new(receive)));
        until("the bytes are persisted", async || {
            tokio::select! {
                ended = &mut broken => panic!("{ended:?}"),
                now = service.get_upload(&lease, &upload) => now.unwrap().persisted_size == 30_000,
            }
        })
        .await;
        // Dropped here, as when a connection is lost.
    }
    until("the writer is gone", async || {
        let rest = messages(&upload, &lease, 30_000, &report[..40_000], None);
        service.write(rest).await.is_ok()
    })
    .await;
    let resumed = service.start_upload(&lease, REPORT).await.unwrap();
    assert_eq!(
        resumed.upload_id, upload.upload_id,
        "the same lease and name resume"
    );
    assert_eq!(resumed.persisted_size, 40_000);
    let rest = messages(&upload, &lease, 40_000, &report, Some(checksum(&report)));
    assert!(service.write(rest).await.unwrap().complete);
    assert_eq!(
        service.catalog.tally(&upload.artifact_id),
        Some(sum_of(&[&report]))
    );
}

#[tokio::test]
async fn after_a_restart_an_upload_starts_again() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-2.report.jsonl");
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    let part = messages(&upload, &lease, 0, &report[..10_000], None);
    assert_eq!(service.write(part).await.unwrap().persisted_size, 10_000);

    let service = service.restart().await;
    assert_eq!(service.scratch(), 0, "what the process before left is gone");
    let now = service.get_upload(&lease, &upload).await.unwrap();
    assert_eq!((now.persisted_size, now.complete), (0, false));
    assert_eq!(now.upload_id, upload.upload_id);
    let rest = messages(&upload, &lease, 10_000, &report, Some(checksum(&report)));
    let error = service.write(rest).await.unwrap_err();
    is(&error, Code::OutOfRange, "WRITE_OFFSET");
    assert_eq!(error.metadata()["persisted_size"], "0");
    let all = messages(&upload, &lease, 0, &report, Some(checksum(&report)));
    assert!(service.write(all).await.unwrap().complete);
}

#[tokio::test]
async fn a_wrong_offset_says_the_right_one() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-2.report.jsonl");
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    service
        .write(messages(&upload, &lease, 0, &report[..5_000], None))
        .await
        .unwrap();
    for offset in [0, 4_999, 5_001] {
        let error = service
            .write(messages(&upload, &lease, offset, &report, None))
            .await;
        let error = error.unwrap_err();
        is(&error, Code::OutOfRange, "WRITE_OFFSET");
        assert_eq!(error.metadata()["persisted_size"], "5000");
    }
    let rest = messages(&upload, &lease, 5_000, &report, Some(checksum(&report)));
    assert!(service.write(rest).await.unwrap().complete);
}

#[tokio::test]
async fn a_chunk_that_was_damaged_on_its_way_is_sent_again() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-2.report.jsonl");
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    let mut damaged = messages(&upload, &lease, 0, &report, Some(checksum(&report)));
    damaged[1].crc32c = Some(1);
    let error = service.write(damaged).await.unwrap_err();
    is(&error, Code::InvalidArgument, "CHECKSUM_MISMATCH");
    assert_eq!(error.metadata()["persisted_size"], "10000");
    assert_eq!(
        service
            .get_upload(&lease, &upload)
            .await
            .unwrap()
            .persisted_size,
        10_000
    );
    let rest = messages(&upload, &lease, 10_000, &report, Some(checksum(&report)));
    assert!(service.write(rest).await.unwrap().complete);
}

#[tokio::test]
async fn of_two_writers_the_second_is_turned_away() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-2.report.jsonl");
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    let (send, receive) = mpsc::channel(8);
    let first = service.stream(ReceiverStream::new(receive));
    let second = async {
        for message in messages(&upload, &lease, 0, &report[..10_000], None) {
            send.send(message).await.unwrap();
        }
        until("the first writer writes", async || {
            service
                .get_upload(&lease, &upload)
                .await
                .unwrap()
                .persisted_size
                == 10_000
        })
        .await;
        let rest = messages(&upload, &lease, 10_000, &report, Some(checksum(&report)));
        let error = service.write(rest.clone()).await.unwrap_err();
        is(&error, Code::Aborted, "CONCURRENT_WRITE");
        drop(send);
        rest
    };
    let (first, rest) = tokio::join!(first, second);
    let first = first.unwrap();
    assert_eq!((first.persisted_size, first.complete), (10_000, false));
    assert!(service.write(rest).await.unwrap().complete);
}

#[tokio::test]
async fn a_finish_may_be_repeated_with_the_same_checksum() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-3.report.jsonl");
    let upload = service.upload(&lease, REPORT, &report).await.unwrap();
    let size = report.len();
    let again = messages(&upload, &lease, size, &report, Some(checksum(&report)));
    assert_eq!(service.write(again).await.unwrap(), upload);
    assert_eq!(service.start_upload(&lease, REPORT).await.unwrap(), upload);
    assert_eq!(service.get_upload(&lease, &upload).await.unwrap(), upload);

    let mut other = checksum(b"another");
    other.size_bytes = size as i64;
    let other = messages(&upload, &lease, size, &report, Some(other));
    is(
        &service.write(other).await.unwrap_err(),
        Code::InvalidArgument,
        "CHECKSUM_MISMATCH",
    );
    let all = messages(&upload, &lease, 0, &report, Some(checksum(&report)));
    is(
        &service.write(all).await.unwrap_err(),
        Code::OutOfRange,
        "WRITE_OFFSET",
    );
}

#[tokio::test]
async fn what_fails_between_the_store_and_the_row_is_repeated() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-3.report.jsonl");
    service.catalog.state().failing_completes = 1;
    let error = service.upload(&lease, REPORT, &report).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    assert_eq!(
        (upload.persisted_size, upload.complete),
        (report.len() as i64, false)
    );
    let end = messages(
        &upload,
        &lease,
        report.len(),
        &report,
        Some(checksum(&report)),
    );
    assert!(service.write(end).await.unwrap().complete);
    assert_eq!(
        service.catalog.tally(&upload.artifact_id),
        Some(sum_of(&[&report]))
    );
}

#[tokio::test]
async fn an_object_without_its_row_is_written_again_after_a_crash() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-3.report.jsonl");
    service.catalog.state().failing_completes = 1;
    service.upload(&lease, REPORT, &report).await.unwrap_err();

    let service = service.restart().await;
    let upload = service.upload(&lease, REPORT, &report).await.unwrap();
    assert!(upload.complete);
    let row = service.catalog.row(&upload.artifact_id);
    assert_eq!(
        std::fs::read(service.path(&row.object_key)).unwrap(),
        report
    );
}

#[tokio::test]
async fn a_full_store_is_named_and_the_upload_goes_on_when_there_is_room() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-3.report.jsonl");
    service.store.set_full(true);
    let error = service.upload(&lease, REPORT, &report).await.unwrap_err();
    is(&error, Code::Unavailable, "STORAGE_FULL");
    assert_eq!(error.metadata()["dependency"], "object store");
    assert!(error.retry_delay().is_some());
    service.store.set_full(false);
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    assert_eq!(
        upload.persisted_size,
        report.len() as i64,
        "nothing is sent twice"
    );
    let end = messages(
        &upload,
        &lease,
        report.len(),
        &report,
        Some(checksum(&report)),
    );
    assert!(service.write(end).await.unwrap().complete);
}

/// What does not fit waits for what is under way; nothing of it is sent twice.
#[tokio::test]
async fn uploads_under_way_share_a_bounded_folder() {
    let service = Service::with(|config| {
        config.max_upload_bytes = 100_000;
        config.max_scratch_bytes = 100_000;
    })
    .await;
    let start = async |lease: &Lease| service.start_upload(lease, "report.html").await.unwrap();
    let page = vec![b'x'; 60_000];
    let (one, other) = (
        service.catalog.lease(&scan()),
        service.catalog.lease(&scan()),
    );
    let first = start(&one).await;
    service
        .write(messages(&first, &one, 0, &page, None))
        .await
        .unwrap();
    let second = start(&other).await;
    let whole = messages(&second, &other, 0, &page, Some(checksum(&page)));
    let error = service.write(whole).await.unwrap_err();
    is(&error, Code::Unavailable, "STORAGE_FULL");
    let kept = start(&other).await.persisted_size as usize;
    assert_eq!(kept, 40_000, "as much as there was room for");
    // The first becomes an object, and its room is there again.
    let end = messages(&first, &one, page.len(), &page, Some(checksum(&page)));
    assert!(service.write(end).await.unwrap().complete);
    let rest = messages(&second, &other, kept, &page, Some(checksum(&page)));
    assert!(service.write(rest).await.unwrap().complete);
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn many_uploads_at_once_are_bounded() {
    let service = Service::with(|config| config.max_uploads = 3).await;
    let report = sample("part-3.report.jsonl");
    let mut open = Vec::new();
    for _ in 0..3 {
        let lease = service.catalog.lease(&scan());
        let upload = service.start_upload(&lease, REPORT).await.unwrap();
        open.push((lease, upload));
    }
    let late = service.catalog.lease(&scan());
    let error = service.start_upload(&late, REPORT).await.unwrap_err();
    is(&error, Code::ResourceExhausted, "UPLOADS_FULL");
    assert!(error.retry_delay().is_some() && error.is_retryable());
    assert_eq!(service.scratch(), 3);

    let (lease, upload) = &open[0];
    let all = messages(upload, lease, 0, &report, Some(checksum(&report)));
    service.write(all).await.unwrap();
    assert!(
        service
            .upload(&late, REPORT, &report)
            .await
            .unwrap()
            .complete
    );
}

#[tokio::test]
async fn an_upload_that_nobody_writes_is_collected() {
    let change = |config: &mut aegis_artifact::Config| {
        (config.upload_idle_seconds, config.sweep_seconds) = (1, 1);
    };
    let service = Service::with(change).await;
    let lease = service.catalog.lease(&scan());
    let report = sample("part-3.report.jsonl");
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    service
        .write(messages(&upload, &lease, 0, &report[..1_000], None))
        .await
        .unwrap();
    assert_eq!(service.scratch(), 1);
    until("it is collected", async || service.scratch() == 0).await;
    assert_eq!(
        service
            .get_upload(&lease, &upload)
            .await
            .unwrap()
            .persisted_size,
        0
    );
}

#[tokio::test]
async fn an_aborted_upload_starts_again() {
    let service = Service::start().await;
    let lease = service.catalog.lease(&scan());
    let upload = service.start_upload(&lease, REPORT).await.unwrap();
    service
        .write(messages(&upload, &lease, 0, b"{\"entry", None))
        .await
        .unwrap();
    let request = pb::AbortUploadRequest {
        upload_id: upload.upload_id.clone(),
        lease: Some(lease.clone()),
    };
    let mut client = service.artifacts.clone();
    call(client.abort_upload(request.clone())).await.unwrap();
    call(client.abort_upload(request)).await.unwrap();
    assert_eq!(service.scratch(), 0);
    assert_eq!(
        service
            .start_upload(&lease, REPORT)
            .await
            .unwrap()
            .persisted_size,
        0
    );
}
