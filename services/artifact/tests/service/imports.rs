//! Imports: reports of every garak there was, whole and damaged, and what is refused.

use aegis_artifact::store::ObjectStore;
use aegis_mesh::{Code, Result};
use aegis_proto::internal::catalog::v1 as rows;
use aegis_proto::report::v1::{
    self as pb, ImportHeader, ImportScanRequest, ImportScanResponse, import_scan_request::Part,
};
use aegis_report::Index;
use bytes::Bytes;
use futures_util::{StreamExt, stream};

use crate::support::{Generated, Service, call, checksum, generated, is, sample, until};

const SCAN: &str = "6f0f7a9e-3c35-4a51-9d7c-0a4e0d4b1c11";
const REPORT: &str = "report.jsonl";

fn header() -> ImportHeader {
    ImportHeader {
        scan_id: SCAN.to_owned(),
        ..ImportHeader::default()
    }
}

fn message(part: Part) -> ImportScanRequest {
    ImportScanRequest { part: Some(part) }
}

/// The messages of a header and files, in small pieces.
fn messages(header: ImportHeader, files: &[(&str, &[u8])]) -> Vec<ImportScanRequest> {
    let mut messages = vec![message(Part::Header(header))];
    for (name, bytes) in files {
        messages.push(message(Part::File((*name).to_owned())));
        let pieces = bytes.chunks(9_973);
        messages.extend(pieces.map(|piece| message(Part::Data(Bytes::copy_from_slice(piece)))));
    }
    messages
}

async fn send(service: &Service, messages: Vec<ImportScanRequest>) -> Result<ImportScanResponse> {
    let mut client = service.imports.clone();
    call(client.import_scan(stream::iter(messages))).await
}

async fn import(
    service: &Service,
    header: ImportHeader,
    files: &[(&str, &[u8])],
) -> Result<ImportScanResponse> {
    send(service, messages(header, files)).await
}

fn last(service: &Service) -> rows::CommitImportRequest {
    service.catalog.state().imports.last().unwrap().clone()
}

fn committed(service: &Service, name: &str) -> Option<rows::StoredArtifact> {
    let rows = service.catalog.committed(SCAN);
    rows.into_iter().find(|row| row.name == name)
}

fn stored(service: &Service, name: &str) -> Vec<u8> {
    std::fs::read(service.path(&committed(service, name).unwrap().object_key)).unwrap()
}

/// Objects in the store.
async fn objects(service: &Service) -> usize {
    service.store.list("", None, 100).await.unwrap().len()
}

#[tokio::test]
async fn a_whole_scan_is_taken_in_as_it_is() {
    let service = Service::start().await;
    let (report, hitlog) = (sample("plain.report.jsonl"), sample("part-1.hitlog.jsonl"));
    let html = b"<!DOCTYPE html>\n<p>report".to_vec();
    let files = [
        (REPORT, &report[..]),
        ("hitlog.jsonl", &hitlog),
        ("report.html", &html),
    ];
    let answer = import(&service, header(), &files).await.unwrap();
    assert_eq!(answer.scan.unwrap().scan_id, SCAN);
    assert!(!answer.unchanged);
    assert_eq!(answer.warnings, ["of the catalog"]);
    for (name, bytes) in files {
        assert_eq!(stored(&service, name), bytes, "{name}");
        assert_eq!(
            committed(&service, name).unwrap().checksum,
            Some(checksum(bytes))
        );
    }
    let commit = last(&service);
    let found = commit.report.unwrap();
    assert_eq!(found.garak_version, "0.17.1");
    assert_eq!(found.probes.len(), 4);
    assert_eq!((found.probes[0].attempts, found.eval_threshold), (10, 0.5));
    let (began, ended) = (found.start_time.unwrap(), found.end_time.unwrap());
    assert!(ended.seconds >= began.seconds);
    let rows = found.tally.unwrap().rows;
    let graded = rows
        .iter()
        .filter_map(|row| row.grades.as_ref()?.detector_defcon);
    assert!(graded.count() > 0, "{rows:?}");
    let key = committed(&service, REPORT).unwrap().object_key;
    let index = std::fs::read(service.path(&format!("{key}.index"))).unwrap();
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

/// The same hits in all of them; a lost hitlog is made again.
#[tokio::test]
async fn reports_of_every_garak_are_read() {
    for version in [
        "0.9.0.6", "0.10.3", "0.11.0", "0.12.0", "0.13.0", "0.13.1", "0.14.0", "0.15.1", "0.16.0",
        "0.17.1",
    ] {
        let service = Service::start().await;
        let report = sample(&format!("versions/{version}.report.jsonl"));
        let given = ImportHeader::default();
        let mut messages = messages(given, &[(REPORT, &report)]);
        // No scan id: the run's own.
        messages.retain(|message| message.part.is_some());
        let answer = send(&service, messages).await.unwrap();
        let commit = last(&service);
        assert_eq!(
            commit.scan_id, "0b2c8e0e-0000-4000-8000-000000000009",
            "{version}"
        );
        let found = commit.report.unwrap();
        assert_eq!(found.garak_version, version);
        assert!(!found.target_type.is_empty(), "{version}");
        assert_eq!(
            found.start_time.unwrap().seconds,
            1_714_557_601,
            "{version}"
        );
        let tally = found.tally.unwrap();
        let row = tally
            .rows
            .iter()
            .find(|row| row.detector == "dan.DAN")
            .unwrap();
        let expected = if version == "0.9.0.6" { (1, 1) } else { (2, 1) };
        assert_eq!((row.passed, row.failed), expected, "{version}");
        // The oldest names a threshold of its own, by which 0.6 is no hit.
        let own = version == "0.9.0.6";
        assert_eq!(found.eval_threshold_known, own);
        assert_eq!(found.eval_threshold, if own { 0.7 } else { 0.5 });
        let names: Vec<_> = commit.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, [REPORT, "hitlog.jsonl"], "{version}");
        let said = |text: &str| answer.warnings.iter().any(|warning| warning.contains(text));
        assert!(
            said("hitlog.jsonl was made again"),
            "{version} {:?}",
            answer.warnings
        );
        assert_eq!(said("no completion line"), own, "{version}");
    }
}

#[tokio::test]
async fn a_damaged_report_is_taken_with_what_it_has() {
    let service = Service::start().await;
    let mut report = sample("versions/killed-nan.report.jsonl");
    report.extend_from_slice(b"not json\n{\"entry_type\": \"attempt\", \"uuid\": \"0000");
    let answer = import(&service, header(), &[(REPORT, &report)])
        .await
        .unwrap();
    let lines = report.split(|byte| *byte == b'\n').count();
    let left_out: Vec<_> = answer
        .warnings
        .iter()
        .filter(|line| line.starts_with("left out"))
        .collect();
    assert_eq!(left_out.len(), 2, "{:?}", answer.warnings);
    assert!(
        left_out[0].contains(&format!("line {}, byte ", lines - 1)),
        "{left_out:?}"
    );
    assert!(
        left_out[1].contains("ends before its JSON object does"),
        "{left_out:?}"
    );
    // The bytes stay what they were, and what could be read was counted.
    assert_eq!(stored(&service, REPORT), report);
    let tally = last(&service).report.unwrap().tally.unwrap();
    assert!(tally.rows.iter().any(|row| row.failed > 0));
    assert!(
        answer
            .warnings
            .iter()
            .any(|line| line.contains("no eval line"))
    );
}

#[tokio::test]
async fn warnings_are_a_hundred_at_most() {
    let service = Service::start().await;
    let mut report = b"junk\n".repeat(250);
    report.extend_from_slice(&sample("part-2.report.jsonl"));
    let answer = import(&service, header(), &[(REPORT, &report)])
        .await
        .unwrap();
    assert_eq!(answer.warnings.len(), 100);
    assert!(
        answer.warnings[99].starts_with("and 15"),
        "{}",
        answer.warnings[99]
    );
}

#[tokio::test]
async fn what_nobody_can_read_is_refused_with_its_place() {
    let service = Service::start().await;
    let refusals: [(&[u8], &str, &str); 4] = [
        (b"", "1", "0"),
        (b"\xff\xfe\x00binary", "1", "0"),
        (b"{\"a\": 1}\n{\"b\": 2}\n", "1", "0"),
        (b"\n\nnope\n", "3", "2"),
    ];
    for (report, line, offset) in refusals {
        let error = import(&service, header(), &[(REPORT, report)])
            .await
            .unwrap_err();
        is(&error, Code::InvalidArgument, "REPORT_MALFORMED");
        let place = (&*error.metadata()["line"], &*error.metadata()["offset"]);
        assert_eq!(place, (line, offset), "{error:?}");
    }
    assert!(service.catalog.state().imports.is_empty());
    assert!(service.catalog.committed(SCAN).is_empty());
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn other_files_are_warned_of_and_kept() {
    let service = Service::start().await;
    let report = sample("part-1.report.jsonl");
    let files: [(&str, &[u8]); 3] = [
        (REPORT, &report),
        ("hitlog.jsonl", b"{broken\n"),
        ("report.html", b"%PDF"),
    ];
    let answer = import(&service, header(), &files).await.unwrap();
    for (name, bytes) in files {
        assert_eq!(stored(&service, name), bytes, "{name}");
    }
    assert_eq!(answer.warnings.len(), 3, "{:?}", answer.warnings);
    assert!(answer.warnings[0].starts_with("hitlog.jsonl is kept as it is, but line 1"));
    assert!(answer.warnings[1].starts_with("report.html is kept as it is"));
}

#[tokio::test]
async fn the_same_again_changes_nothing_and_another_is_refused() {
    let service = Service::start().await;
    let (one, other) = (sample("part-1.report.jsonl"), sample("part-2.report.jsonl"));
    import(&service, header(), &[(REPORT, &one)]).await.unwrap();
    let before = objects(&service).await;
    let again = import(&service, header(), &[(REPORT, &one)]).await.unwrap();
    assert!(again.unchanged);
    assert_eq!(objects(&service).await, before, "nothing is stored again");
    let error = import(&service, header(), &[(REPORT, &other)])
        .await
        .unwrap_err();
    is(&error, Code::AlreadyExists, "SCAN_EXISTS");
    assert_eq!(stored(&service, REPORT), one);
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn a_dry_run_checks_and_keeps_nothing() {
    let service = Service::start().await;
    let report = sample("part-1.report.jsonl");
    let dry = ImportHeader {
        dry_run: true,
        ..header()
    };
    let answer = import(&service, dry.clone(), &[(REPORT, &report)])
        .await
        .unwrap();
    assert_eq!(answer.scan.unwrap().scan_id, SCAN);
    assert!(last(&service).task_id.is_empty());
    assert!(service.catalog.committed(SCAN).is_empty());
    assert_eq!((objects(&service).await, service.scratch()), (0, 0));
    let error = import(&service, dry, &[(REPORT, b"x")]).await.unwrap_err();
    is(&error, Code::InvalidArgument, "REPORT_MALFORMED");
}

#[tokio::test]
async fn a_scan_may_come_without_its_report() {
    let service = Service::start().await;
    import(&service, header(), &[]).await.unwrap();
    let commit = last(&service);
    assert!(commit.report.is_none() && commit.files.is_empty());
    let error = import(&service, ImportHeader::default(), &[])
        .await
        .unwrap_err();
    is(&error, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(error.fields()[0].path, "header.scan_id");
}

#[tokio::test]
async fn what_is_out_of_order_is_refused_and_named() {
    let service = Service::start().await;
    let report = sample("part-1.report.jsonl");
    let file = |name: &str| message(Part::File(name.to_owned()));
    let data = |bytes: &[u8]| message(Part::Data(Bytes::copy_from_slice(bytes)));
    let head = || message(Part::Header(header()));
    let odd_id = ImportHeader {
        scan_id: "../etc".to_owned(),
        ..ImportHeader::default()
    };
    let long = ImportHeader {
        display_name: "x".repeat(201),
        ..header()
    };
    for (messages, field) in [
        (vec![], "header"),
        (vec![file(REPORT)], "header"),
        (vec![message(Part::Header(odd_id))], "header.scan_id"),
        (vec![message(Part::Header(long))], "header.display_name"),
        (vec![head(), head()], "header"),
        (vec![head(), ImportScanRequest { part: None }], "part"),
        (vec![head(), data(&report)], "data"),
        (vec![head(), file("digest.json")], "file"),
        (vec![head(), file("/etc/passwd")], "file"),
        (vec![head(), file("hitlog.jsonl")], "file"),
        (
            vec![head(), file(REPORT), data(&report), file(REPORT)],
            "file",
        ),
        (
            vec![head(), file(REPORT), data(&vec![b' '; (1 << 20) + 1])],
            "data",
        ),
    ] {
        let error = send(&service, messages).await.unwrap_err();
        is(&error, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(error.fields()[0].path, field, "{error:?}");
    }
    assert!(service.catalog.state().imports.is_empty());
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn size_places_and_patience_are_those_of_uploads() {
    let service = Service::with(|config| {
        config.max_uploads = 1;
        config.max_upload_bytes = 1_000_000;
        config.upload_idle_seconds = 1;
    })
    .await;
    let large = generated(Generated {
        attempts: 1_000,
        output_bytes: 1_000,
    });
    let error = import(&service, header(), &[(REPORT, &large)])
        .await
        .unwrap_err();
    is(&error, Code::InvalidArgument, "UPLOAD_TOO_LARGE");

    // One that stalls has the place until it is given up.
    let stalled = messages(header(), &[(REPORT, b"{")]);
    let stalled = stream::iter(stalled).chain(stream::pending());
    let mut client = service.imports.clone();
    let stalled = aegis_mesh::spawn(
        "stalled",
        async move { call(client.import_scan(stalled)).await },
    );
    until("it has the place", async || service.scratch() == 1).await;
    let report = sample("part-2.report.jsonl");
    let error = import(&service, header(), &[(REPORT, &report)])
        .await
        .unwrap_err();
    is(&error, Code::ResourceExhausted, "UPLOADS_FULL");
    assert!(error.retry_delay().is_some());
    is(
        &stalled.await.unwrap().unwrap_err(),
        Code::Aborted,
        "IMPORT_IDLE",
    );
    until("the scratch file is gone", async || service.scratch() == 0).await;
    import(&service, header(), &[(REPORT, &report)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_leaves_nothing() {
    let service = Service::start().await;
    let report = sample("part-1.report.jsonl");
    let half = messages(header(), &[(REPORT, &report[..20_000])]);
    let endless = stream::iter(half).chain(stream::pending());
    let mut client = service.imports.clone();
    let left = aegis_mesh::spawn(
        "left",
        async move { call(client.import_scan(endless)).await },
    );
    until("bytes came", async || service.scratch() == 1).await;
    drop(left);
    until("nothing is left", async || service.scratch() == 0).await;
    assert!(service.catalog.state().imports.is_empty());
    assert!(service.catalog.committed(SCAN).is_empty());
    import(&service, header(), &[(REPORT, &report)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_store_that_fails_is_tried_again_by_the_same_import() {
    let service = Service::start().await;
    let report = sample("part-1.report.jsonl");
    service.store.set_full(true);
    let error = import(&service, header(), &[(REPORT, &report)])
        .await
        .unwrap_err();
    is(&error, Code::Unavailable, "STORAGE_FULL");
    service.store.set_full(false);
    assert!(service.catalog.committed(SCAN).is_empty());
    import(&service, header(), &[(REPORT, &report)])
        .await
        .unwrap();
    assert_eq!(stored(&service, REPORT), report);
    assert_eq!(service.scratch(), 0);
}

/// The options' threshold counts where the report names none.
#[tokio::test]
async fn the_threshold_of_the_options_is_taken() {
    let service = Service::start().await;
    let options = aegis_proto::json::object_from_json(serde_json::json!({"eval_threshold": 0.9}));
    let header = ImportHeader {
        original_options: Some(options.unwrap()),
        ..header()
    };
    let report = generated(Generated {
        attempts: 10,
        output_bytes: 10,
    });
    import(&service, header, &[(REPORT, &report)])
        .await
        .unwrap();
    let found = last(&service).report.unwrap();
    assert_eq!(
        (found.eval_threshold, found.eval_threshold_known),
        (0.9, true)
    );
}

/// What was imported is read as what ran here is.
#[tokio::test]
async fn attempts_of_an_import_are_read() {
    let service = Service::start().await;
    let report = sample("versions/0.10.3.report.jsonl");
    import(&service, header(), &[(REPORT, &report)])
        .await
        .unwrap();
    let request = pb::ListArtifactsRequest {
        scan_id: SCAN.to_owned(),
        revision: 0,
    };
    let mut client = service.reports.clone();
    let artifacts = call(client.list_artifacts(request))
        .await
        .unwrap()
        .artifacts;
    let files: Vec<_> = artifacts
        .iter()
        .map(|file| file.file_name.as_str())
        .collect();
    assert!(
        files.contains(&&*format!("garak.{SCAN}.report.jsonl")),
        "{files:?}"
    );
    assert!(
        files.contains(&&*format!("garak.{SCAN}.hitlog.jsonl")),
        "{files:?}"
    );
}
