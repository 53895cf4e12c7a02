//! Reading inside reports: orders, texts, single attempts, findings, graphs.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use aegis_mesh::{Code, Result};
use aegis_proto::ids::ScanId;
use aegis_proto::internal::catalog::v1::ScanMoment;
use aegis_proto::report::v1 as pb;

use crate::support::{Generated, Service, call, call_in, digest_line, generated, is, sample};

const PARTS: [&str; 3] = [
    "part-1.report.jsonl",
    "part-3.report.jsonl",
    "part-4.report.jsonl",
];
const XSS: &str = "web_injection.MarkdownXSS";

fn scan() -> String {
    ScanId::generate().to_string()
}

async fn list(
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

fn outcome(attempt: &pb::Attempt) -> pb::Outcome {
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
fn attempt(id: &str, prompt: &str, output: &str, score: &str) -> String {
    let (prompt, output) = (serde_json::json!(prompt), serde_json::json!(output));
    format!(
        r#"{{"entry_type": "attempt", "uuid": "{id}", "seq": 0, "status": 2, "probe_classname": "a.A", "prompt": {prompt}, "outputs": [{output}], "notes": {{"triggers": ["t1", "t2"]}}, "detector_results": {{"d.D": [{score}]}}, "messages": [[{{"role": "user", "content": {prompt}}}, {{"role": "assistant", "content": {output}}}, {{"role": "user", "content": "go on"}}]]}}"#
    ) + "\n"
}

fn report(attempts: &str, failed: usize) -> Vec<u8> {
    let eval = format!(
        r#"{{"entry_type": "eval", "probe": "a.A", "detector": "d.D", "passed": 0, "fails": {failed}, "nones": 0, "total_evaluated": {failed}}}"#
    );
    format!("{attempts}{eval}\n").into_bytes()
}

async fn with_parts() -> (Service, String) {
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
        (2, 0),
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
async fn findings_of_a_probe_come_from_all_scans_newest_first() {
    let service = Service::start().await;
    let scans: Vec<String> = (0..40).map(|_| scan()).collect();
    for (number, scan) in scans.iter().enumerate() {
        let hits = number % 3; // 0, 1 or 2 of three
        let lines = (0..3).map(|n| {
            let id = format!("00000000-0000-4000-8000-{:012}", number * 10 + n);
            attempt(&id, "p", "o", if n < hits { "1.0" } else { "0.0" })
        });
        service
            .commit(scan, &report(&lines.collect::<String>(), hits), None)
            .await;
    }
    let newest_first = (0..40)
        .rev()
        .flat_map(|number| (0..number % 3).map(move |n| number * 10 + n));
    let expected: Vec<usize> = newest_first.collect();
    for (page_size, detector) in [(1, ""), (7, "d.D"), (1_000, "")] {
        let mut asked = pb::ListFindingsRequest {
            target_type: "openai".to_owned(),
            target_name: "gpt".to_owned(),
            probe: "a.A".to_owned(),
            detector: detector.to_owned(),
            page_size,
            ..Default::default()
        };
        let (mut found, mut pages) = (Vec::new(), 0);
        loop {
            let answer = call(service.reports.clone().list_findings(asked.clone()))
                .await
                .unwrap();
            assert!(answer.findings.len() <= page_size as usize);
            for finding in answer.findings {
                let attempt = finding.attempt.unwrap();
                let id: usize = attempt.attempt_id[24..].parse().unwrap();
                assert_eq!(finding.scan_id, scans[id / 10]);
                assert!(finding.scan_end_time.is_some());
                assert_eq!(outcome(&attempt), pb::Outcome::Hit);
                found.push(id);
            }
            pages += 1;
            if answer.next_page_token.is_empty() {
                break;
            }
            asked.page_token = answer.next_page_token;
        }
        assert_eq!(found, expected, "{page_size} on a page");
        assert!(pages <= expected.len());
    }
    let mut none = pb::ListFindingsRequest {
        target_type: "openai".to_owned(),
        probe: "b.B".to_owned(),
        ..Default::default()
    };
    let answer = call(service.reports.clone().list_findings(none.clone()))
        .await
        .unwrap();
    assert_eq!(answer, pb::ListFindingsResponse::default());
    none.page_token = "made-up".to_owned();
    let error = call(service.reports.clone().list_findings(none.clone()))
        .await
        .unwrap_err();
    is(&error, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
    none.probe = String::new();
    let error = call(service.reports.clone().list_findings(none))
        .await
        .unwrap_err();
    is(&error, Code::InvalidArgument, "INVALID_FIELD");
}

async fn workflow(service: &Service, scan: &str, max_nodes: i32) -> (pb::Workflow, String) {
    let request = pb::GetWorkflowRequest {
        scan_id: scan.to_owned(),
        max_nodes,
        ..Default::default()
    };
    let answer = call(service.reports.clone().get_workflow(request))
        .await
        .unwrap();
    (answer.workflow.unwrap(), answer.mermaid)
}

#[tokio::test]
async fn a_workflow_is_a_bounded_graph_with_hits_first() {
    use pb::workflow_node::Kind;
    let (service, scan) = with_parts().await;
    let at = |seconds| {
        Some(prost_types::Timestamp::from(
            SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        ))
    };
    service.catalog.state().moments = vec![
        ScanMoment {
            time: at(1),
            probe: XSS.to_owned(),
            kind: "PROBE_STARTED".to_owned(),
        },
        ScanMoment {
            time: at(2),
            probe: XSS.to_owned(),
            kind: "PROBE_EVALUATED".to_owned(),
        },
        ScanMoment {
            time: at(3),
            probe: String::new(),
            kind: "SCAN_COMPLETED".to_owned(),
        },
    ];
    let (whole, mermaid) = workflow(&service, &scan, 0).await;
    assert_eq!(whole.omitted, 0);
    let of_kind = |kind: Kind| {
        whole
            .nodes
            .iter()
            .filter(|node| node.kind() == kind)
            .count()
    };
    let kinds = [Kind::Probe, Kind::Prompt, Kind::Output, Kind::Finding].map(of_kind);
    assert_eq!(kinds, [3, 18, 18, 17]);
    // A tree: each node but a probe has one that leads to it, which comes before it.
    let place = |id: &str| {
        whole
            .nodes
            .iter()
            .position(|node| node.node_id == id)
            .unwrap()
    };
    let children: HashSet<&str> = whole
        .edges
        .iter()
        .map(|edge| edge.to_node_id.as_str())
        .collect();
    assert_eq!((children.len(), whole.edges.len()), (53, 53));
    assert!(
        whole
            .edges
            .iter()
            .all(|edge| place(&edge.from_node_id) < place(&edge.to_node_id))
    );
    assert_eq!(mermaid.lines().count(), 1 + 56 + 53);
    assert!(mermaid.starts_with("flowchart LR\n  n1([\"exploitation.SQLInjectionEcho\"])\n"));
    assert!(
        whole
            .nodes
            .iter()
            .all(|node| node.label.chars().count() <= 200)
    );
    let moments: Vec<_> = whole
        .timeline
        .iter()
        .map(|m| (m.kind.as_str(), m.hits, m.attempts))
        .collect();
    assert_eq!(
        moments,
        [
            ("PROBE_STARTED", 0, 0),
            ("PROBE_EVALUATED", 7, 7),
            ("SCAN_COMPLETED", 0, 0)
        ]
    );

    let (small, _) = workflow(&service, &scan, 20).await;
    assert!(small.nodes.len() <= 20);
    let prompts = small
        .nodes
        .iter()
        .filter(|node| node.kind() == Kind::Prompt)
        .count();
    assert_eq!(small.omitted, 18 - prompts as i64);
    let findings = small
        .nodes
        .iter()
        .filter(|node| node.kind() == Kind::Finding)
        .count();
    assert_eq!(findings, prompts, "hits are kept first");

    let mut client = service.reports.clone();
    for max_nodes in [-1, 2_001] {
        let request = pb::GetWorkflowRequest {
            scan_id: scan.clone(),
            max_nodes,
            ..Default::default()
        };
        let error = call(client.get_workflow(request)).await.unwrap_err();
        is(&error, Code::InvalidArgument, "INVALID_FIELD");
    }
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
