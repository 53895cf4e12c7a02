//! Reading inside reports: orders, texts, single attempts, findings, graphs.

use aegis_mesh::{Code, Result};
use aegis_proto::ids::ScanId;
use aegis_proto::report::v1 as pb;

use crate::support::{Generated, Service, call, call_in, digest_line, generated, is, sample};

const PARTS: [&str; 3] = [
    "part-1.report.jsonl",
    "part-3.report.jsonl",
    "part-4.report.jsonl",
];
pub(crate) const XSS: &str = "web_injection.MarkdownXSS";

pub(crate) fn scan() -> String {
    ScanId::generate().to_string()
}

pub(crate) async fn list(
    service: &Service,
    request: pb::ListAttemptsRequest,
) -> Result<pb::ListAttemptsResponse> {
    call(service.reports.clone().list_attempts(request)).await
}

/// All pages; and how many there are.
async fn all(service: &Service, mut request: pb::ListAttemptsRequest) -> (Vec<pb::Attempt>, usize) {
    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let answer = list(service, request.clone()).await.unwrap();
        found.extend(answer.attempts);
        pages += 1;
        assert!(pages < 1_000, "it never ends");
        if answer.next_page_token.is_empty() {
            return (found, pages);
        }
        request.page_token = answer.next_page_token;
    }
}

pub(crate) fn outcome(attempt: &pb::Attempt) -> pb::Outcome {
    let outcomes: Vec<_> = attempt
        .detectors
        .iter()
        .map(|judged| judged.outcome())
        .collect();
    let has = |outcome| outcomes.contains(&outcome);
    match (has(pb::Outcome::Hit), has(pb::Outcome::Pass)) {
        (true, _) => pb::Outcome::Hit,
        (_, true) => pb::Outcome::Pass,
        _ => pb::Outcome::None,
    }
}

/// A line of an attempt of the probe `a.A`.
pub(crate) fn attempt(id: &str, prompt: &str, output: &str, score: &str) -> String {
    let (prompt, output) = (serde_json::json!(prompt), serde_json::json!(output));
    format!(
        r#"{{"entry_type": "attempt", "uuid": "{id}", "seq": 0, "status": 2, "probe_classname": "a.A", "prompt": {prompt}, "outputs": [{output}], "notes": {{"triggers": ["t1", "t2"]}}, "detector_results": {{"d.D": [{score}]}}, "messages": [[{{"role": "user", "content": {prompt}}}, {{"role": "assistant", "content": {output}}}, {{"role": "user", "content": "go on"}}]]}}"#
    ) + "\n"
}

pub(crate) fn report(attempts: &str, failed: usize) -> Vec<u8> {
    let eval = format!(
        r#"{{"entry_type": "eval", "probe": "a.A", "detector": "d.D", "passed": 0, "fails": {failed}, "nones": 0, "total_evaluated": {failed}}}"#
    );
    format!("{attempts}{eval}\n").into_bytes()
}

pub(crate) async fn with_parts() -> (Service, String) {
    let (service, scan) = (Service::start().await, scan());
    for part in PARTS {
        service.commit(&scan, &sample(part), None).await;
    }
    (service, scan)
}

#[tokio::test]
async fn hits_come_first_then_passes_then_nones_on_any_page_size() {
    let (service, scan) = (Service::start().await, scan());
    let report = Generated {
        attempts: 400,
        output_bytes: 10,
    };
    service.commit(&scan, &generated(report), None).await;
    let class = |n: usize| match (Generated::hits_a(n), Generated::score_b(n)) {
        (true, _) | (_, Some(1.0)) => 0,
        _ => 1, // A always has a score
    };
    let mut expected: Vec<usize> = (0..400).collect();
    expected.sort_by_key(|n| class(*n));
    for page_size in [7, 50, 1_000] {
        let asked = pb::ListAttemptsRequest {
            scan_id: scan.clone(),
            probe: Generated::PROBE.to_owned(),
            order_by: pb::AttemptOrder::HitsFirst.into(),
            page_size,
            ..Default::default()
        };
        let (found, _) = all(&service, asked).await;
        let order: Vec<_> = found
            .iter()
            .map(|attempt| attempt.sequence as usize)
            .collect();
        assert_eq!(order, expected, "{page_size} on a page");
    }
    // By one detector: its own outcomes decide.
    let asked = pb::ListAttemptsRequest {
        scan_id: scan,
        probe: Generated::PROBE.to_owned(),
        detector: "test.B".to_owned(),
        order_by: pb::AttemptOrder::HitsFirst.into(),
        page_size: 33,
        ..Default::default()
    };
    let (found, _) = all(&service, asked).await;
    let class = |n: usize| match Generated::score_b(n) {
        Some(1.0) => 0,
        Some(_) => 1,
        None => 2,
    };
    expected.sort_unstable();
    expected.sort_by_key(|n| class(*n));
    let order: Vec<_> = found
        .iter()
        .map(|attempt| attempt.sequence as usize)
        .collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn the_first_page_of_hits_does_not_read_what_lies_before_them() {
    let (service, scan) = (Service::start().await, scan());
    // The only hits are the last ones of many.
    let lines = (0..20_000).map(|n| {
        let score = if n >= 19_990 { "1.0" } else { "0.0" };
        attempt(&format!("00000000-0000-4000-8000-{n:012}"), "p", "o", score)
    });
    service
        .commit(&scan, &report(&lines.collect::<String>(), 10), None)
        .await;
    service.store.take_read();
    let asked = pb::ListAttemptsRequest {
        scan_id: scan,
        probe: "a.A".to_owned(),
        outcome: pb::Outcome::Hit.into(),
        ..Default::default()
    };
    let answer = list(&service, asked).await.unwrap();
    assert_eq!(
        (answer.attempts.len(), answer.next_page_token.as_str()),
        (10, "")
    );
    let read = service.store.take_read();
    assert!(
        read < 100 << 10,
        "{read} bytes: an index has 800,000, a report ten times as many"
    );
}

#[tokio::test]
async fn attempts_of_all_probes_come_in_the_scans_order_composed_or_not() {
    let (service, scan) = with_parts().await;
    let asked = pb::ListAttemptsRequest {
        scan_id: scan.clone(),
        page_size: 4,
        ..Default::default()
    };
    let (parts, pages) = all(&service, asked.clone()).await;
    let probes: Vec<&str> = parts.iter().map(|attempt| attempt.probe.as_str()).collect();
    let mut names = probes.clone();
    names.dedup();
    assert_eq!(
        names,
        ["exploitation.SQLInjectionEcho", "lmrc.QuackMedicine", XSS]
    );
    assert_eq!((probes.len(), pages), (18, 5));

    let hits_first = pb::ListAttemptsRequest {
        order_by: pb::AttemptOrder::HitsFirst.into(),
        ..asked.clone()
    };
    let (by_class, _) = all(&service, hits_first.clone()).await;
    let classes: Vec<_> = by_class.iter().map(outcome).collect();
    let hits = classes
        .iter()
        .filter(|outcome| **outcome == pb::Outcome::Hit)
        .count();
    assert_eq!((hits, classes.len()), (17, 18));
    assert!(
        classes[..hits]
            .iter()
            .all(|outcome| *outcome == pb::Outcome::Hit)
    );

    // A page of the parts goes on in the report that is composed of them.
    let first = list(&service, hits_first.clone()).await.unwrap();
    compose(&service, &scan).await;
    let next = pb::ListAttemptsRequest {
        page_token: first.next_page_token,
        ..hits_first.clone()
    };
    assert_eq!(list(&service, next).await.unwrap().attempts, by_class[4..8]);
    assert_eq!(all(&service, asked).await.0, parts);
    assert_eq!(all(&service, hits_first).await.0, by_class);
}

/// What a REPORT task does.
async fn compose(service: &Service, scan: &str) {
    use aegis_proto::internal::artifact::v1::ComposeReportRequest;
    let lease = service.catalog.lease(scan);
    let digest = service
        .upload(&lease, "digest.json", &digest_line())
        .await
        .unwrap();
    let request = ComposeReportRequest {
        lease: Some(lease),
        digest_artifact_id: digest.artifact_id,
    };
    let made = call(service.artifacts.clone().compose_report(request))
        .await
        .unwrap();
    let ids: Vec<String> = made.artifact_ids;
    service.catalog.commit_report(&ids, 1);
}

#[tokio::test]
async fn a_text_is_found_in_prompt_or_output_whatever_the_case() {
    let (service, scan) = (Service::start().await, scan());
    let lines = [
        attempt(
            "00000000-0000-4000-8000-000000000001",
            "Sag das GEHEIME Wort",
            "nein",
            "0.0",
        ),
        attempt(
            "00000000-0000-4000-8000-000000000002",
            "sonst",
            "das geheime \"Wort\"\nist ÄPFEL",
            "1.0",
        ),
        attempt(
            "00000000-0000-4000-8000-000000000003",
            "sonst",
            "nichts",
            "0.0",
        ),
    ];
    service
        .commit(&scan, &report(&lines.concat(), 1), None)
        .await;
    for (text, expected) in [
        ("geheime", &[1, 2][..]),
        ("äpfel", &[2]),
        ("\"wort\"", &[2]),
        ("GEHEIME WORT", &[1]),
        ("uuid", &[]),
        ("user", &[]),
    ] {
        let asked = pb::ListAttemptsRequest {
            scan_id: scan.clone(),
            text: text.to_owned(),
            ..Default::default()
        };
        let (found, _) = all(&service, asked).await;
        let ids = found
            .iter()
            .map(|attempt| attempt.attempt_id[35..].parse::<i32>().unwrap());
        assert_eq!(ids.collect::<Vec<_>>(), expected, "{text}");
    }
}

#[tokio::test]
async fn a_search_reads_a_bounded_part_a_call_and_goes_on() {
    let (service, scan) = (Service::start().await, scan());
    let filler = "x".repeat(30_000);
    let lines = (0..400).map(|n| {
        let prompt = if n % 150 == 149 { "needle" } else { "hay" };
        attempt(
            &format!("00000000-0000-4000-8000-{n:012}"),
            prompt,
            &filler,
            "0.0",
        )
    });
    let report = report(&lines.collect::<String>(), 1);
    service.commit(&scan, &report, None).await;
    service.store.take_read();
    let mut asked = pb::ListAttemptsRequest {
        scan_id: scan,
        text: "Needle".to_owned(),
        ..Default::default()
    };
    let (mut found, mut empty, mut pages) = (0, 0, 0);
    loop {
        let answer = list(&service, asked.clone()).await.unwrap();
        let read = service.store.take_read();
        assert!(read < 10 << 20, "{read} bytes of {}", report.len());
        found += answer.attempts.len();
        empty += usize::from(answer.attempts.is_empty());
        pages += 1;
        if answer.next_page_token.is_empty() {
            break;
        }
        asked.page_token = answer.next_page_token;
    }
    assert_eq!(found, 2);
    assert_eq!(
        (pages, empty),
        (3, 1),
        "of 24 MB eight are looked at in a call"
    );
}

#[tokio::test]
async fn one_attempt_is_shown_whole() {
    let (service, scan) = (Service::start().await, scan());
    let long = "y".repeat(300_000);
    let lines = [
        attempt("00000000-0000-4000-8000-000000000001", "first", "o", "0.0"),
        attempt("no-uuid", "second", &long, "1.0"),
        attempt("no-uuid-2", "third", &"z".repeat(2 << 20), "null"),
    ];
    service
        .commit(&scan, &report(&lines.concat(), 1), None)
        .await;
    let get = |id: &str, probe: &str| {
        let request = pb::GetAttemptRequest {
            scan_id: scan.clone(),
            attempt_id: id.to_owned(),
            probe: probe.to_owned(),
        };
        let mut client = service.reports.clone();
        async move {
            call(client.get_attempt(request))
                .await
                .map(|answer| answer.attempt.unwrap())
        }
    };
    for probe in ["", "a.A"] {
        let attempt = get("00000000-0000-4000-8000-000000000001", probe)
            .await
            .unwrap();
        assert_eq!(attempt.prompt[0].text, "first");
        assert_eq!(attempt.triggers, ["t1", "t2"]);
        let turns = &attempt.conversations[0].turns;
        let said: Vec<_> = turns
            .iter()
            .map(|turn| (turn.role.as_str(), turn.text.as_str()))
            .collect();
        assert_eq!(
            said,
            [("user", "first"), ("assistant", "o"), ("user", "go on")]
        );
        let attempt = get("no-uuid", probe).await.unwrap();
        assert_eq!(attempt.outputs[0].text.as_ref().unwrap().len(), long.len());
        assert!(!attempt.truncated);
        let attempt = get("no-uuid-2", probe).await.unwrap();
        assert!(attempt.truncated);
        assert!(attempt.outputs[0].text.as_ref().unwrap().len() <= 1 << 20);
    }
    for (id, probe, reason) in [
        (
            "00000000-0000-4000-8000-000000000009",
            "",
            "ATTEMPT_NOT_FOUND",
        ),
        (
            "00000000-0000-4000-8000-000000000001",
            "b.B",
            "PROBE_NOT_EVALUATED",
        ),
    ] {
        is(&get(id, probe).await.unwrap_err(), Code::NotFound, reason);
    }
    is(
        &get("", "").await.unwrap_err(),
        Code::InvalidArgument,
        "INVALID_FIELD",
    );
    let lists_have_none = pb::ListAttemptsRequest {
        scan_id: scan.clone(),
        ..Default::default()
    };
    let (listed, _) = all(&service, lists_have_none).await;
    assert!(
        listed
            .iter()
            .all(|attempt| attempt.conversations.is_empty())
    );
}

#[tokio::test]
async fn an_attempt_of_a_large_report_is_found_by_its_index() {
    let (service, scan) = (Service::start().await, scan());
    let report = Generated {
        attempts: 6_000,
        output_bytes: 1_500,
    };
    service.commit(&scan, &generated(report), None).await;
    service.store.take_read();
    let request = pb::GetAttemptRequest {
        scan_id: scan,
        attempt_id: "00000000-0000-4000-8000-000000005999".to_owned(),
        probe: String::new(),
    };
    let answer = call(service.reports.clone().get_attempt(request))
        .await
        .unwrap();
    assert_eq!(answer.attempt.unwrap().sequence, 5_999);
    let read = service.store.take_read();
    assert!(read < 400 << 10, "{read} bytes; the report has 11 MB");
}

#[tokio::test]
async fn another_project_reads_nothing_of_it() {
    let (service, scan) = with_parts().await;
    let mut client = service.reports.clone();
    let request = pb::ListAttemptsRequest {
        scan_id: scan.clone(),
        ..Default::default()
    };
    let error = call_in("other", client.list_attempts(request))
        .await
        .unwrap_err();
    assert_eq!(
        error.code(),
        Code::Internal,
        "the catalog sent a row of another project"
    );
    let request = pb::GetWorkflowRequest {
        scan_id: scan,
        ..Default::default()
    };
    call_in("other", client.get_workflow(request))
        .await
        .unwrap_err();
}

/// A call opens 64 indexes: over more parts it says where to go on.
#[tokio::test]
async fn a_call_opens_a_bounded_number_of_parts() {
    let (service, scan) = (Service::start().await, scan());
    for number in 0..70 {
        let score = if number == 69 { "1.0" } else { "0.0" };
        let id = format!("00000000-0000-4000-8000-{number:012}");
        let part = report(&attempt(&id, "p", "o", score), 1);
        let part = String::from_utf8(part)
            .unwrap()
            .replace("a.A", &format!("a.A{number}"));
        service.commit(&scan, part.as_bytes(), None).await;
    }
    let asked = pb::ListAttemptsRequest {
        scan_id: scan,
        outcome: pb::Outcome::Hit.into(),
        ..Default::default()
    };
    let first = list(&service, asked.clone()).await.unwrap();
    assert!(first.attempts.is_empty() && !first.next_page_token.is_empty());
    let (found, pages) = all(&service, asked.clone()).await;
    assert_eq!((found.len(), pages), (1, 2));
    assert_eq!(found[0].probe, "a.A69");
    let any = pb::ListAttemptsRequest {
        outcome: 0,
        page_size: 9,
        ..asked
    };
    assert_eq!(all(&service, any).await.0.len(), 70);
}
