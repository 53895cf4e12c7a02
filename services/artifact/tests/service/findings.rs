//! What a probe found across scans, and the graph of a scan.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use aegis_mesh::Code;
use aegis_proto::internal::catalog::v1::ScanMoment;
use aegis_proto::report::v1 as pb;

use crate::reading::{XSS, attempt, outcome, report, scan, with_parts};
use crate::support::{Service, call, is};

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
