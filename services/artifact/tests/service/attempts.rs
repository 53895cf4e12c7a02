//! Pages of a probe's attempts.

use aegis_mesh::{Code, Result};
use aegis_proto::ids::ScanId;
use aegis_proto::report::v1 as pb;

use crate::support::{Generated, Service, call, generated, is, sample};

fn scan() -> String {
    ScanId::generate().to_string()
}

const BIG: Generated = Generated {
    attempts: 6_000,
    output_bytes: 1_500,
};

async fn with_attempts(report: Generated) -> (Service, String) {
    let (service, scan) = (Service::start().await, scan());
    service.commit(&scan, &generated(report), None).await;
    service.store.take_read();
    (service, scan)
}

fn attempts_of(scan: &str) -> pb::ListAttemptsRequest {
    pb::ListAttemptsRequest {
        scan_id: scan.to_owned(),
        probe: Generated::PROBE.to_owned(),
        ..Default::default()
    }
}

async fn page(
    service: &Service,
    request: pb::ListAttemptsRequest,
) -> Result<pb::ListAttemptsResponse> {
    let mut client = service.reports.clone();
    call(client.list_attempts(request)).await
}

/// The sequence numbers on all pages, and how many pages there are.
async fn all(service: &Service, mut request: pb::ListAttemptsRequest) -> (Vec<usize>, usize) {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let answer = page(service, request.clone()).await.unwrap();
        found.extend(
            answer
                .attempts
                .iter()
                .map(|attempt| attempt.sequence as usize),
        );
        pages += 1;
        if answer.next_page_token.is_empty() {
            return (found, pages);
        }
        request.page_token = answer.next_page_token;
    }
}

#[tokio::test]
async fn a_page_of_hits_reads_ranges_only() {
    let (service, scan) = with_attempts(BIG).await;
    let asked = pb::ListAttemptsRequest {
        detector: "test.A".to_owned(),
        outcome: pb::Outcome::Hit.into(),
        page_size: 10,
        ..attempts_of(&scan)
    };
    let answer = page(&service, asked.clone()).await.unwrap();
    let found: Vec<_> = answer.attempts.iter().map(|a| a.sequence).collect();
    assert_eq!(found, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900]);
    assert!(!answer.next_page_token.is_empty());
    let read = service.store.take_read();
    // The first hundred lines of two KB, the index's header, and the records up to the eleventh hit.
    assert!(
        read < 300 << 10,
        "{read} bytes of a report of {} MB",
        (BIG.attempts * 1_900) >> 20
    );

    let last = pb::ListAttemptsRequest {
        page_token: answer.next_page_token,
        ..asked.clone()
    };
    assert_eq!(
        page(&service, last).await.unwrap().attempts[0].sequence,
        1_000
    );
    let (found, pages) = all(&service, asked).await;
    let expected: Vec<_> = (0..BIG.attempts)
        .filter(|n| Generated::hits_a(*n))
        .collect();
    assert_eq!(
        (found, pages),
        (expected, 6),
        "sixty hits, and no empty page at the end"
    );
}

#[tokio::test]
async fn the_first_hits_are_read_together() {
    let (service, scan) = with_attempts(BIG).await;
    let hits: Vec<usize> = (0..BIG.attempts)
        .filter(|n| Generated::hits_a(*n) || Generated::score_b(*n).is_some_and(|b| b >= 0.5))
        .collect();
    let mut asked = pb::ListAttemptsRequest {
        outcome: pb::Outcome::Hit.into(),
        page_size: 40,
        ..attempts_of(&scan)
    };
    service.store.take_reads();
    let mut reads = Vec::new();
    for expected in hits.chunks(40).take(4) {
        let answer = page(&service, asked.clone()).await.unwrap();
        let found = answer.attempts.iter().map(|a| a.sequence as usize);
        assert!(found.eq(expected.iter().copied()));
        reads.push(service.store.take_reads());
        asked.page_token = answer.next_page_token;
    }
    // A hundred lie together: two pages and a half.
    assert_eq!(reads[..2], [0, 0], "{reads:?}");
    assert!(0 < reads[2] && reads[2] < reads[3], "{reads:?}");
}

#[tokio::test]
async fn every_filter_finds_what_the_attempts_say() {
    let report = Generated {
        attempts: 700,
        output_bytes: 10,
    };
    let (service, scan) = with_attempts(report).await;
    let a = |n: usize| Some(if Generated::hits_a(n) { 1.0 } else { 0.0 });
    let b = Generated::score_b;
    let is = |score: Option<f64>, outcome: pb::Outcome| match score {
        None => outcome == pb::Outcome::None,
        Some(score) => {
            outcome
                == if score >= 0.5 {
                    pb::Outcome::Hit
                } else {
                    pb::Outcome::Pass
                }
        }
    };
    for outcome in [pb::Outcome::Hit, pb::Outcome::Pass, pb::Outcome::None] {
        for detector in ["", "test.A", "test.B"] {
            let asked = pb::ListAttemptsRequest {
                detector: detector.to_owned(),
                outcome: outcome.into(),
                page_size: 64,
                ..attempts_of(&scan)
            };
            let expected = (0..report.attempts).filter(|n| match detector {
                "test.A" => is(a(*n), outcome),
                "test.B" => is(b(*n), outcome),
                _ => is(a(*n), outcome) || is(b(*n), outcome),
            });
            let (found, _) = all(&service, asked).await;
            assert_eq!(
                found,
                expected.collect::<Vec<_>>(),
                "{detector} {outcome:?}"
            );
        }
    }
    let (found, pages) = all(&service, attempts_of(&scan)).await;
    assert_eq!(
        (found, pages),
        ((0..700).collect(), 14),
        "fifty on a page by default"
    );
    let judged = pb::ListAttemptsRequest {
        detector: "test.B".to_owned(),
        page_size: 5_000,
        ..attempts_of(&scan)
    };
    let (found, pages) = all(&service, judged).await;
    assert_eq!((found.len(), pages), (700, 1));
}

#[tokio::test]
async fn an_attempt_is_shown_in_full() {
    let (service, scan) = with_attempts(Generated {
        attempts: 8,
        output_bytes: 3,
    })
    .await;
    let answer = page(&service, attempts_of(&scan)).await.unwrap();
    let attempt = &answer.attempts[7];
    assert_eq!(attempt.attempt_id, "00000000-0000-4000-8000-000000000007");
    assert_eq!(
        (attempt.probe.as_str(), attempt.goal.as_str()),
        ("test.Big", "test")
    );
    assert_eq!(attempt.prompt[0].role, "user");
    assert_eq!(attempt.prompt[0].text, "prompt 7");
    assert_eq!(attempt.outputs[0].text.as_deref(), Some("xxx"));
    let judged: Vec<_> = attempt
        .detectors
        .iter()
        .map(|d| (d.detector.as_str(), d.outcome(), d.scores[0].value))
        .collect();
    let expected = [
        ("test.A", pb::Outcome::Pass, Some(0.0)),
        ("test.B", pb::Outcome::Hit, Some(1.0)),
    ];
    assert_eq!(judged, expected);
    assert!(!attempt.truncated);
    assert_eq!(answer.attempts[3].detectors[1].outcome(), pb::Outcome::None);
    assert_eq!(answer.attempts[3].detectors[1].scores[0].value, None);
}

#[tokio::test]
async fn a_page_ends_after_a_mebibyte_of_text() {
    let (service, scan) = with_attempts(Generated {
        attempts: 120,
        output_bytes: 60_000,
    })
    .await;
    let asked = pb::ListAttemptsRequest {
        page_size: 1_000,
        ..attempts_of(&scan)
    };
    let answer = page(&service, asked.clone()).await.unwrap();
    assert_eq!(
        answer.attempts.len(),
        18,
        "18 of 60,000 bytes are just over 1 MiB"
    );
    let read = service.store.take_read();
    assert!(read < 3 << 20, "{read} bytes of 7 MB");
    let (found, _) = all(&service, asked).await;
    assert_eq!(found, (0..120).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_long_text_is_cut_and_says_so() {
    let (service, scan) = with_attempts(Generated {
        attempts: 1,
        output_bytes: 70_000,
    })
    .await;
    let answer = page(&service, attempts_of(&scan)).await.unwrap();
    assert_eq!(
        answer.attempts[0].outputs[0].text.as_ref().unwrap().len(),
        64 << 10
    );
    assert!(answer.attempts[0].truncated);
}

#[tokio::test]
async fn real_attempts_of_a_real_report_can_be_paged() {
    let (service, scan) = (Service::start().await, scan());
    service
        .commit(&scan, &sample("part-4.report.jsonl"), None)
        .await;
    let asked = pb::ListAttemptsRequest {
        probe: "web_injection.MarkdownXSS".to_owned(),
        page_size: 3,
        ..attempts_of(&scan)
    };
    let (found, pages) = all(&service, asked).await;
    assert_eq!((found.len(), pages), (7, 3));
}

/// The index has the outcomes of 31 detectors; for the others the attempts themselves are read.
#[tokio::test]
async fn detectors_beyond_those_indexed_can_be_filtered_by() {
    let (service, scan) = (Service::start().await, scan());
    let mut report = String::new();
    for number in 0..30 {
        let score = |detector| u8::from(detector == 32 && number % 4 == 0);
        let results: Vec<_> = (0..33)
            .map(|d| format!(r#""test.D{d}": [{}.0]"#, score(d)))
            .collect();
        report += &format!(
            r#"{{"entry_type": "attempt", "uuid": "", "seq": {number}, "status": 2, "probe_classname": "test.Big", "prompt": "p", "outputs": ["o"], "detector_results": {{{}}}}}"#,
            results.join(", ")
        );
        report += "\n";
    }
    report += r#"{"entry_type": "eval", "probe": "test.Big", "detector": "test.D0", "passed": 1, "fails": 0, "nones": 0, "total_evaluated": 1}"#;
    report += "\n";
    service.commit(&scan, report.as_bytes(), None).await;
    let hits: Vec<usize> = (0..30).step_by(4).collect();
    for (detector, expected) in [("test.D32", &hits), ("test.D31", &vec![]), ("", &hits)] {
        let asked = pb::ListAttemptsRequest {
            detector: detector.to_owned(),
            outcome: pb::Outcome::Hit.into(),
            page_size: 3,
            ..attempts_of(&scan)
        };
        assert_eq!(all(&service, asked).await.0, *expected, "{detector:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_listed_says_why() {
    let (service, scan) = with_attempts(Generated {
        attempts: 200,
        output_bytes: 10,
    })
    .await;
    let base = attempts_of(&scan);
    let with = |change: fn(&mut pb::ListAttemptsRequest)| {
        let mut changed = base.clone();
        change(&mut changed);
        page(&service, changed)
    };
    let error = with(|r| r.probe = "test.Other".to_owned())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::NotFound, "PROBE_NOT_EVALUATED")
    );
    let error = with(|r| r.detector = "test.C".to_owned())
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::InvalidArgument, "UNKNOWN_DETECTOR")
    );
    assert_eq!(error.metadata()["detectors"], "test.A, test.B");
    for (error, field) in [
        (with(|r| r.probe = "a\0".to_owned()).await, "probe"),
        (with(|r| r.detector = "x".repeat(300)).await, "detector"),
        (with(|r| r.scan_id = "x".to_owned()).await, "scan_id"),
        (with(|r| r.outcome = 9).await, "outcome"),
        (with(|r| r.order_by = 9).await, "order_by"),
        (with(|r| r.text = "x".to_owned()).await, "text"),
        (with(|r| r.text = "x".repeat(201)).await, "text"),
        (with(|r| r.page_size = -1).await, "page_size"),
        (
            with(|r| r.page_token = "made-up".to_owned()).await,
            "page_token",
        ),
    ] {
        let error = error.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
        assert_eq!(error.fields()[0].path, field);
    }
}

/// Not with another scan, filter or order, nor as another list's, nor with a letter changed.
#[tokio::test]
async fn a_token_goes_on_with_the_list_that_it_began() {
    let report = Generated {
        attempts: 200,
        output_bytes: 10,
    };
    let (service, scan_id) = with_attempts(report).await;
    let other_scan = scan();
    service.commit(&other_scan, &generated(report), None).await;
    let base = attempts_of(&scan_id);
    let token = page(&service, base.clone()).await.unwrap().next_page_token;
    let with = |change: &dyn Fn(&mut pb::ListAttemptsRequest)| {
        let mut changed = pb::ListAttemptsRequest {
            page_token: token.clone(),
            ..base.clone()
        };
        change(&mut changed);
        page(&service, changed)
    };
    let invalid = [
        with(&|r| r.scan_id = other_scan.clone()).await,
        with(&|r| r.outcome = pb::Outcome::Hit.into()).await,
        with(&|r| r.detector = "test.A".to_owned()).await,
        with(&|r| r.text = "prompt".to_owned()).await,
        with(&|r| r.order_by = pb::AttemptOrder::HitsFirst.into()).await,
        with(&|r| r.page_token = token.chars().rev().collect()).await,
        with(&|r| r.page_token = token[..token.len() - 4].to_owned()).await,
    ];
    for error in invalid {
        is(
            &error.unwrap_err(),
            Code::InvalidArgument,
            "PAGE_TOKEN_INVALID",
        );
    }
    let findings = pb::ListFindingsRequest {
        target_type: "openai".to_owned(),
        probe: Generated::PROBE.to_owned(),
        page_token: token.clone(),
        ..Default::default()
    };
    let error = call(service.reports.clone().list_findings(findings)).await;
    is(
        &error.unwrap_err(),
        Code::InvalidArgument,
        "PAGE_TOKEN_INVALID",
    );
    assert_eq!(with(&|_| ()).await.unwrap().attempts[0].sequence, 50);
}

#[tokio::test]
async fn a_damaged_report_is_data_loss() {
    let (service, scan) = with_attempts(Generated {
        attempts: 20,
        output_bytes: 10,
    })
    .await;
    let key = service.catalog.committed(&scan)[0].object_key.clone();
    let report = std::fs::read(service.path(&key)).unwrap();
    for (path, bytes) in [
        (key.clone(), report[..report.len() / 4].to_vec()),
        (key.clone(), vec![b' '; report.len()]),
    ] {
        let path = service.path(&path);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
        let error = page(&service, attempts_of(&scan)).await.unwrap_err();
        assert_eq!(
            (error.code(), error.reason()),
            (Code::DataLoss, "ARTIFACT_CORRUPT")
        );
        std::fs::write(&path, whole).unwrap();
    }
    assert_eq!(
        page(&service, attempts_of(&scan))
            .await
            .unwrap()
            .attempts
            .len(),
        20
    );
}
