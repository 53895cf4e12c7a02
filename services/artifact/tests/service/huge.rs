//! A report of ten million attempts: its index is a file with a hole, for only what is read counts.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;

use aegis_mesh::Code;
use aegis_proto::ids::ScanId;
use aegis_proto::report::v1 as pb;
use serde_json::{Value, json};

use crate::reading::{attempt, list, report};
use crate::support::{Service, call, is};

const ATTEMPTS: u64 = 10_000_000;
const RECORD: u64 = 40;

/// A scan whose one attempt is said to be ten million; with the classes of its records, or as old
/// indexes are.
async fn ten_million(classes: Value) -> (Service, String) {
    let (service, scan) = (Service::start().await, ScanId::generate().to_string());
    let line = attempt("00000000-0000-4000-8000-000000000001", "p", "o", "1.0");
    service.commit(&scan, &report(&line, 1), None).await;
    let key = service.catalog.committed(&scan)[0].object_key.clone();
    let path = service.path(&format!("{key}.index"));
    let index = std::fs::read(&path).unwrap();
    let length = u32::from_le_bytes(index[8..12].try_into().unwrap()) as usize;
    let (header, record) = index[16..].split_at(length);
    let mut header: Value = serde_json::from_slice(header).unwrap();
    header["probes"][0]["count"] = json!(ATTEMPTS);
    header["probes"][0]["classes"] = classes;
    header["probes"][0]
        .as_object_mut()
        .unwrap()
        .remove("excerpt");
    let header = serde_json::to_vec(&header).unwrap();
    let mut file: File = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    file.write_all(&index[..8]).unwrap();
    file.write_all(&(header.len() as u32).to_le_bytes())
        .unwrap();
    file.write_all(&index[12..16]).unwrap();
    file.write_all(&header).unwrap();
    // The one attempt is the very last.
    let records = 16 + header.len() as u64;
    let record = &record[..RECORD as usize];
    file.write_all_at(record, records + (ATTEMPTS - 1) * RECORD)
        .unwrap();
    service.store.take_read();
    (service, scan)
}

fn hits(scan: &str) -> pb::ListAttemptsRequest {
    pb::ListAttemptsRequest {
        scan_id: scan.to_owned(),
        outcome: pb::Outcome::Hit.into(),
        ..Default::default()
    }
}

/// In an old index hits lie anywhere: each call looks at a bounded part of it, and goes on.
#[tokio::test]
async fn a_call_looks_at_a_bounded_part_of_ten_million_records() {
    let (service, scan) = ten_million(Value::Null).await;
    let mut asked = hits(&scan);
    let mut calls = 0;
    loop {
        let answer = list(&service, asked.clone()).await.unwrap();
        calls += 1;
        let read = service.store.take_read();
        assert!(read < 12 << 20, "{read} bytes in a call");
        if answer.next_page_token.is_empty() {
            assert_eq!(answer.attempts.len(), 1);
            break;
        }
        assert!(answer.attempts.is_empty() && calls < 60, "{calls}");
        asked.page_token = answer.next_page_token;
    }
    assert!(calls > 30, "{calls}");
}

#[tokio::test]
async fn what_lies_first_costs_nothing_among_ten_million() {
    let classes = json!({"hits": 0, "passes": ATTEMPTS});
    let (service, scan) = ten_million(classes).await;
    let answer = list(&service, hits(&scan)).await.unwrap();
    assert_eq!(
        (answer.attempts.len(), answer.next_page_token.as_str()),
        (0, "")
    );
    assert!(service.store.take_read() < 1 << 20);
    // One attempt is looked for by its probe, or not at all.
    let request = pb::GetAttemptRequest {
        scan_id: scan,
        attempt_id: "00000000-0000-4000-8000-000000000001".to_owned(),
        probe: String::new(),
    };
    let error = call(service.reports.clone().get_attempt(request))
        .await
        .unwrap_err();
    is(&error, Code::FailedPrecondition, "PROBE_REQUIRED");
    assert!(service.store.take_read() < 1 << 20);
}
