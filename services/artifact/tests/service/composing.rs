//! Composing a scan's report from its parts.

use aegis_mesh::{Code, Result};
use aegis_proto::ids::ScanId;
use aegis_proto::internal::artifact::v1 as pb;
use aegis_proto::internal::task::v1::Lease;
use aegis_report::{Options, Summary};
use serde_json::{Value, json};

use crate::support::{Service, call, digest_line, is, sample, sum_of};

const PROBES: [&str; 3] = [
    "exploitation.SQLInjectionEcho",
    "lmrc.Profanity",
    "web_injection.MarkdownXSS",
];

/// A scan with the sample parts 1, 2 and 4 committed.
async fn with_parts() -> (Service, String) {
    let (service, scan) = (Service::start().await, ScanId::generate().to_string());
    for part in [1, 2, 4] {
        let report = sample(&format!("part-{part}.report.jsonl"));
        let hitlog = (part != 2).then(|| sample(&format!("part-{part}.hitlog.jsonl")));
        service.commit(&scan, &report, hitlog.as_deref()).await;
    }
    (service, scan)
}

pub(crate) async fn compose(service: &Service, lease: &Lease) -> Result<Vec<String>> {
    let digest = service.upload(lease, "digest.json", &digest_line()).await?;
    compose_with(service, lease, digest.artifact_id).await
}

async fn compose_with(service: &Service, lease: &Lease, digest: String) -> Result<Vec<String>> {
    let request = pb::ComposeReportRequest {
        lease: Some(lease.clone()),
        digest_artifact_id: digest,
    };
    let mut client = service.artifacts.clone();
    Ok(call(client.compose_report(request)).await?.artifact_ids)
}

pub(crate) async fn skeleton(service: &Service, lease: &Lease) -> Result<Vec<u8>> {
    let request = pb::ReadSkeletonRequest {
        lease: Some(lease.clone()),
    };
    let mut client = service.artifacts.clone();
    let mut messages = call(client.read_skeleton(request)).await?;
    let mut bytes = Vec::new();
    while let Some(message) = messages.message().await? {
        bytes.extend_from_slice(&message.data);
    }
    Ok(bytes)
}

fn object(service: &Service, artifact: &str) -> Vec<u8> {
    std::fs::read(service.path(&service.catalog.row(artifact).object_key)).unwrap()
}

fn lines(bytes: &[u8]) -> Vec<Value> {
    let lines = bytes.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

fn summary(report: &[u8]) -> Summary {
    aegis_report::read(report, Options::default()).unwrap()
}

#[tokio::test]
async fn three_parts_become_one_report_and_one_hitlog() {
    let (service, scan) = with_parts().await;
    let lease = service.catalog.lease(&scan);
    let ids = compose(&service, &lease).await.unwrap();
    assert_eq!(ids.len(), 2);
    let (report, hitlog) = (object(&service, &ids[0]), object(&service, &ids[1]));

    let parts: Vec<_> = [1, 2, 4]
        .map(|n| sample(&format!("part-{n}.report.jsonl")))
        .into();
    let mut expected = sum_of(&[&parts[0], &parts[1], &parts[2]]);
    let mut tally = service.catalog.tally(&ids[0]).unwrap();
    let graded = tally.rows.iter().filter(|row| row.grades.is_some()).count();
    assert_eq!(
        graded,
        expected.rows.len(),
        "garak's digest grades each of them"
    );
    let digest: Value = serde_json::from_slice(&digest_line()).unwrap();
    for row in &mut tally.rows {
        let group = row.probe.split('.').next().unwrap();
        let theirs = &digest["eval"][group][&row.probe][&row.detector];
        let ours = row.grades.take().unwrap();
        assert_eq!(
            ours.absolute_defcon.map(i64::from),
            theirs["absolute_defcon"].as_i64()
        );
        assert_eq!(
            ours.relative_defcon.map(i64::from),
            theirs["relative_defcon"].as_i64()
        );
        assert_eq!(
            ours.detector_defcon.map(i64::from),
            theirs["detector_defcon"].as_i64()
        );
    }
    let by_name = |row: &aegis_proto::internal::catalog::v1::ProbeDetectorTally| {
        (row.probe.clone(), row.detector.clone())
    };
    expected.rows.sort_by_key(by_name);
    tally.rows.sort_by_key(by_name);
    assert_eq!(tally, expected);

    let composed = summary(&report);
    assert!(composed.run.has_digest && composed.run.is_completed);
    assert_eq!(composed.run.run_id, scan);
    let probes: Vec<_> = composed
        .index
        .header()
        .probes
        .iter()
        .map(|p| p.name.as_str())
        .collect();
    assert_eq!(probes, PROBES, "in the scan's order");
    let setup = &lines(&report)[0];
    assert_eq!(setup["transient.run_id"], scan);
    assert_eq!(
        setup["transient.active_probes"],
        json!(PROBES.map(|p| format!("probes.{p}")))
    );
    assert_eq!(
        setup["run.spec"],
        json!({"include": ["probes.lmrc"], "exclude": []})
    );
    assert_eq!(setup["reporting.report_prefix"], format!("garak.{scan}"));

    let hits = lines(&hitlog);
    let expected_hits: usize = [1, 4]
        .map(|n| lines(&sample(&format!("part-{n}.hitlog.jsonl"))).len())
        .iter()
        .sum();
    assert_eq!(hits.len(), expected_hits);
    assert!(hits.iter().all(|hit| hit["run_id"] == scan));
    // The stored index is that of the composed report.
    let key = service.catalog.row(&ids[0]).object_key;
    let index = std::fs::read(service.path(&format!("{key}.index"))).unwrap();
    let index = aegis_report::Index::read_from(index.as_slice()).unwrap();
    assert_eq!(index.header().probes, composed.index.header().probes);
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn composing_may_be_repeated() {
    let (service, scan) = with_parts().await;
    let lease = service.catalog.lease(&scan);
    let ids = compose(&service, &lease).await.unwrap();
    let before = object(&service, &ids[0]);
    assert_eq!(compose(&service, &lease).await.unwrap(), ids);
    assert!(object(&service, &ids[0]) == before);

    // And after it failed half way: the report is there, its row is not.
    let lease = service.catalog.lease(&scan);
    let digest = service
        .upload(&lease, "digest.json", &digest_line())
        .await
        .unwrap();
    service.catalog.state().failing_completes = 1;
    let failed = compose_with(&service, &lease, digest.artifact_id.clone()).await;
    assert_eq!(failed.unwrap_err().code(), Code::Internal);
    assert_eq!(service.scratch(), 0);
    let again = compose_with(&service, &lease, digest.artifact_id)
        .await
        .unwrap();
    assert!(object(&service, &again[0]) == before);
}

#[tokio::test]
async fn the_skeleton_is_what_garaks_writer_needs_and_no_attempt() {
    let (service, scan) = with_parts().await;
    let lease = service.catalog.lease(&scan);
    service.store.take_read_of_files();
    let bytes = skeleton(&service, &lease).await.unwrap();
    let lines = lines(&bytes);
    let kinds: Vec<_> = lines
        .iter()
        .map(|line| line["entry_type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds[..2], ["start_run setup", "init"]);
    let needed = ["payload_init", "plugin_cache", "eval", "probe_summary"];
    assert!(
        kinds[2..].iter().all(|kind| needed.contains(kind)),
        "{kinds:?}"
    );
    assert_eq!(kinds.iter().filter(|kind| **kind == "eval").count(), 12);
    assert_eq!(
        kinds
            .iter()
            .filter(|kind| **kind == "probe_summary")
            .count(),
        3
    );
    assert_eq!(lines[1]["run"], scan);
    let whole: usize = [1, 2, 4]
        .iter()
        .map(|n| sample(&format!("part-{n}.report.jsonl")).len())
        .sum();
    let read = service.store.take_read_of_files() as usize;
    assert!(read < whole / 2, "{read} of {whole} bytes");
}

/// Its hitlog is another matter: see [`crate::lost`].
#[tokio::test]
async fn a_part_that_was_changed_is_data_loss() {
    let (service, scan) = with_parts().await;
    let lease = service.catalog.lease(&scan);
    let parts = service.catalog.committed(&scan);
    let part = parts.iter().find(|row| row.name == "report.jsonl");
    let path = service.path(&part.unwrap().object_key);
    let whole = std::fs::read(&path).unwrap();
    let mut changed = whole.clone();
    // One letter within a text: still a fine report, but not this one.
    let at = whole.windows(2).rposition(|pair| pair == b"th").unwrap();
    changed[at] = b'T';
    for bytes in [changed.as_slice(), &whole[..whole.len() / 2], b""] {
        std::fs::write(&path, bytes).unwrap();
        let error = compose(&service, &lease).await.unwrap_err();
        is(&error, Code::DataLoss, "ARTIFACT_CORRUPT");
        assert!(error.metadata().contains_key("artifact_id"));
    }
    std::fs::remove_file(&path).unwrap();
    let error = compose(&service, &lease).await.unwrap_err();
    is(&error, Code::DataLoss, "ARTIFACT_CORRUPT");
    std::fs::write(&path, whole).unwrap();
    assert_eq!(compose(&service, &lease).await.unwrap().len(), 2);
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn a_skeleton_of_a_lost_part_ends_with_the_error() {
    let (service, scan) = with_parts().await;
    let lease = service.catalog.lease(&scan);
    let last = service.catalog.committed(&scan).pop().unwrap();
    let report = service.path(&last.object_key.replace("hitlog", "report"));
    std::fs::remove_file(report).unwrap();
    let error = skeleton(&service, &lease).await.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::DataLoss, "ARTIFACT_CORRUPT")
    );
}

#[tokio::test]
async fn a_retry_makes_a_revision_of_the_old_report_and_the_new_part() {
    let (service, scan) = with_parts().await;
    let first = compose(&service, &service.catalog.lease(&scan))
        .await
        .unwrap();
    service.catalog.commit_report(&first, 1);
    service
        .commit(&scan, &sample("part-3.report.jsonl"), None)
        .await;

    let ids = compose(&service, &service.catalog.lease(&scan))
        .await
        .unwrap();
    let all: Vec<_> = [1, 2, 3, 4]
        .map(|n| sample(&format!("part-{n}.report.jsonl")))
        .into();
    let sum = sum_of(&[&all[0], &all[1], &all[2], &all[3]]);
    let tally = service.catalog.tally(&ids[0]).unwrap();
    assert_eq!(
        (tally.attempts, tally.rows.len()),
        (sum.attempts, sum.rows.len())
    );
    let (old, new) = (object(&service, &first[0]), object(&service, &ids[0]));
    let count = |bytes: &[u8], kind: &str| {
        lines(bytes)
            .iter()
            .filter(|line| line["entry_type"] == kind)
            .count()
    };
    assert_eq!(count(&new, "payload_init"), count(&old, "payload_init"));
    assert_eq!(count(&new, "eval"), count(&old, "eval") + 1);
    assert!(
        object(&service, &ids[1]) == object(&service, &first[1]),
        "the same hits"
    );
}

#[tokio::test]
async fn without_hits_there_is_no_hitlog() {
    let (service, scan) = (Service::start().await, ScanId::generate().to_string());
    service
        .commit(&scan, &sample("part-2.report.jsonl"), None)
        .await;
    let ids = compose(&service, &service.catalog.lease(&scan))
        .await
        .unwrap();
    assert_eq!(ids.len(), 1);
    assert_eq!(service.catalog.row(&ids[0]).name, "report.jsonl");
}

/// What is in memory, and what is made in scratch, is bounded whatever the parts say.
#[tokio::test]
async fn parts_that_are_too_much_are_refused() {
    let service = Service::with(|config| config.max_compose_index_bytes = 500).await;
    let scan = ScanId::generate().to_string();
    let part = sample("part-2.report.jsonl");
    service.commit(&scan, &part, None).await;
    let refused = compose(&service, &service.catalog.lease(&scan)).await;
    is(
        &refused.unwrap_err(),
        Code::ResourceExhausted,
        "REPORT_TOO_LARGE",
    );

    // Each of its hits repeats the prompt.
    let service = Service::with(|config| config.max_upload_bytes = 100_000).await;
    let scan = ScanId::generate().to_string();
    let mut line: Value =
        serde_json::from_slice(part.split(|b| *b == b'\n').nth(5).unwrap()).unwrap();
    line["status"] = json!(2);
    line["prompt"] = json!("p".repeat(5_000));
    line["outputs"] = json!(vec!["o"; 200]);
    line["detector_results"] = json!({"d.D": vec![1.0; 200]});
    let part = [&part[..], format!("{line}\n").as_bytes()].concat();
    service.commit(&scan, &part, None).await;
    let refused = compose(&service, &service.catalog.lease(&scan)).await;
    is(
        &refused.unwrap_err(),
        Code::ResourceExhausted,
        "REPORT_TOO_LARGE",
    );
    assert_eq!(service.scratch(), 0);
}

#[tokio::test]
async fn only_the_runs_own_digest_is_taken() {
    let (service, scan) = with_parts().await;
    let lease = service.catalog.lease(&scan);
    let staged = service.start_upload(&lease, "digest.json").await.unwrap();
    let error = compose_with(&service, &lease, staged.artifact_id.clone())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::FailedPrecondition, "ARTIFACT_NOT_UPLOADED")
    );
    let other = service.catalog.lease(&scan);
    let other = service
        .upload(&other, "digest.json", &digest_line())
        .await
        .unwrap();
    let error = compose_with(&service, &lease, other.artifact_id)
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::NotFound, "ARTIFACT_NOT_FOUND")
    );
    let error = compose_with(&service, &lease, "x".to_owned())
        .await
        .unwrap_err();
    assert_eq!(error.fields()[0].path, "digest_artifact_id");
    for bytes in [b"".as_slice(), b"{\"entry_type\": \"eval\"}", b"not json"] {
        let lease = service.catalog.lease(&scan);
        let digest = service.upload(&lease, "digest.json", bytes).await.unwrap();
        let error = compose_with(&service, &lease, digest.artifact_id)
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.reason()),
            (Code::InvalidArgument, "DIGEST_MALFORMED")
        );
    }
}

#[tokio::test]
async fn a_lost_lease_composes_nothing() {
    let (service, scan) = with_parts().await;
    let lease = service.catalog.lease(&scan);
    let digest = service
        .upload(&lease, "digest.json", &digest_line())
        .await
        .unwrap();
    service.catalog.fence(&lease);
    let error = compose_with(&service, &lease, digest.artifact_id)
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Aborted, "LEASE_LOST")
    );
    let error = skeleton(&service, &lease).await.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::Aborted, "LEASE_LOST")
    );
}

#[tokio::test]
async fn a_scan_without_parts_has_no_report() {
    let (service, scan) = (Service::start().await, ScanId::generate().to_string());
    let lease = service.catalog.lease(&scan);
    let error = compose(&service, &lease).await.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::FailedPrecondition, "NOTHING_EVALUATED")
    );
}
