//! Between messages and what is read inside reports.

use aegis_mesh::{Result, page_size};
use aegis_proto::report::v1 as pb;

use super::convert::{self, invalid};
use crate::domain::reading::{
    AttemptQuery, Finding, FindingQuery, Node, NodeKind, Order, Query, TextMatch, Timed, Workflow,
    WorkflowQuery,
};

/// Longest name of a probe, detector, target or attempt that is looked for.
const MAX_NAME_BYTES: usize = 256;
const MAX_TARGET_NAME_BYTES: usize = 4096;
const DEFAULT_NODES: i32 = 200;
const MAX_NODES: i32 = 2_000;

pub(super) fn attempts_query(request: &pb::ListAttemptsRequest) -> Result<Query> {
    let text = Some(&request.text).filter(|text| !text.is_empty());
    Ok(Query {
        scan: convert::id("scan_id", &request.scan_id)?,
        probe: optional("probe", &request.probe)?,
        detector: optional("detector", &request.detector)?,
        outcome: convert::outcome(request.outcome)?,
        text: text.map(|text| TextMatch::new(text)).transpose()?,
        order: order(request.order_by)?,
        from: None,
        page_size: page_size(request.page_size)? as usize,
    })
}

fn order(order: i32) -> Result<Order> {
    use pb::AttemptOrder::{HitsFirst, Report, Unspecified};
    match pb::AttemptOrder::try_from(order) {
        Ok(Unspecified | Report) => Ok(Order::Report),
        Ok(HitsFirst) => Ok(Order::HitsFirst),
        Err(_) => Err(invalid(
            "order_by",
            format!("{order} is none of the orders"),
        )),
    }
}

pub(super) fn attempt_query(request: pb::GetAttemptRequest) -> Result<AttemptQuery> {
    Ok(AttemptQuery {
        scan: convert::id("scan_id", &request.scan_id)?,
        attempt: required("attempt_id", &request.attempt_id)?,
        probe: optional("probe", &request.probe)?,
    })
}

pub(super) fn finding_query(request: &pb::ListFindingsRequest) -> Result<FindingQuery> {
    let name = &request.target_name;
    Ok(FindingQuery {
        target_type: required("target_type", &request.target_type)?,
        target_name: bounded("target_name", name, MAX_TARGET_NAME_BYTES)?.to_owned(),
        probe: required("probe", &request.probe)?,
        detector: optional("detector", &request.detector)?,
        from: None,
        page_size: page_size(request.page_size)? as usize,
    })
}

pub(super) fn workflow_query(request: pb::GetWorkflowRequest) -> Result<WorkflowQuery> {
    let max_nodes = match request.max_nodes {
        0 => DEFAULT_NODES,
        nodes @ 1..=MAX_NODES => nodes,
        other => {
            let what = format!("{other} is not within 0 to {MAX_NODES}");
            return Err(invalid("max_nodes", what));
        }
    };
    Ok(WorkflowQuery {
        scan: convert::id("scan_id", &request.scan_id)?,
        probe: optional("probe", &request.probe)?,
        max_nodes: max_nodes as usize,
    })
}

pub(super) fn finding_message(finding: Finding) -> pb::Finding {
    pb::Finding {
        scan_id: finding.scan.to_string(),
        scan_end_time: finding.scan_end_time.map(Into::into),
        attempt: Some(convert::attempt_message(finding.attempt)),
    }
}

pub(super) fn workflow_message(workflow: Workflow) -> pb::Workflow {
    let nodes = (1..).zip(workflow.graph.nodes).map(node_message);
    let edges = workflow
        .graph
        .edges
        .iter()
        .map(|(from, to)| pb::WorkflowEdge {
            from_node_id: node_id(from + 1),
            to_node_id: node_id(to + 1),
        });
    pb::Workflow {
        nodes: nodes.collect(),
        edges: edges.collect(),
        timeline: workflow.timeline.into_iter().map(moment_message).collect(),
        omitted: convert::count(workflow.omitted),
    }
}

/// As the flowchart has it.
fn node_id(number: usize) -> String {
    format!("n{number}")
}

fn node_message((number, node): (usize, Node)) -> pb::WorkflowNode {
    use pb::workflow_node::Kind;
    let (kind, detector, score) = match node.kind {
        NodeKind::Probe => (Kind::Probe, String::new(), None),
        NodeKind::Prompt => (Kind::Prompt, String::new(), None),
        NodeKind::Output => (Kind::Output, String::new(), None),
        NodeKind::Finding { detector, score } => (Kind::Finding, detector, Some(score)),
    };
    pb::WorkflowNode {
        node_id: node_id(number),
        kind: kind.into(),
        probe: node.probe,
        attempt_id: node.attempt,
        label: node.label,
        detector,
        score,
    }
}

fn moment_message(moment: Timed) -> pb::WorkflowMoment {
    pb::WorkflowMoment {
        time: moment.time.map(Into::into),
        probe: moment.probe,
        kind: moment.kind,
        hits: convert::count(moment.hits),
        attempts: convert::count(moment.attempts),
    }
}

fn optional(field: &str, name: &str) -> Result<Option<String>> {
    let name = bounded(field, name, MAX_NAME_BYTES)?;
    Ok(Some(name.to_owned()).filter(|name| !name.is_empty()))
}

fn required(field: &str, name: &str) -> Result<String> {
    optional(field, name)?.ok_or_else(|| invalid(field, "required"))
}

fn bounded<'a>(field: &str, name: &'a str, max: usize) -> Result<&'a str> {
    if name.len() > max || name.chars().any(char::is_control) {
        return Err(invalid(field, format!("not {max} printable bytes at most")));
    }
    Ok(name)
}
