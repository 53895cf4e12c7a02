//! docs/scan-options.md is what the planner does: a test a row.

mod support;

use aegis_proto::{json, scan::v1::ScanSpec};
use serde_json::{Value, json};

/// Option, what becomes of it, and the snippet.
fn rows() -> Vec<(String, String, Value)> {
    let text = include_str!("../../../docs/scan-options.md");
    let rows = text
        .lines()
        .filter(|line| line.contains("| honoured |") || line.contains("| refused |"));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let snippet = serde_json::from_str(cells[2].trim_matches('`')).expect(row);
        (
            cells[0].trim_start_matches("| ").to_owned(),
            cells[1].to_owned(),
            snippet,
        )
    })
    .collect()
}

fn with_base(snippet: &Value) -> Value {
    let mut spec = json!({"target": {"type": "test.Repeat"}, "include": ["probes.dan.AntiDAN"]});
    for (key, value) in snippet.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    spec
}

#[tokio::test]
async fn every_honoured_option_is_planned_with() {
    let mesh = support::Orchestrator::start().await;
    let honoured: Vec<_> = rows()
        .into_iter()
        .filter(|row| row.1 == "honoured")
        .collect();
    assert!(honoured.len() >= 20, "{}", honoured.len());
    for (option, _, snippet) in honoured {
        let spec: ScanSpec =
            json::from_json(with_base(&snippet)).unwrap_or_else(|e| panic!("{option}: {e}"));
        let planned = mesh.plan(spec.clone()).await;
        assert!(planned.is_ok(), "{option}: {planned:?}");
        // What is asked for reaches the runner as it was asked for.
        mesh.create(spec.clone())
            .await
            .unwrap_or_else(|e| panic!("{option}: {e}"));
        assert_eq!(
            mesh.created()
                .last()
                .and_then(|created| created.spec.clone()),
            Some(spec),
            "{option}"
        );
    }
}

#[test]
fn every_refused_option_is_an_unknown_field_that_is_named() {
    let refused: Vec<_> = rows()
        .into_iter()
        .filter(|row| row.1 == "refused")
        .collect();
    assert!(refused.len() >= 9, "{}", refused.len());
    for (option, _, snippet) in refused {
        let error = json::from_json::<ScanSpec>(with_base(&snippet)).expect_err(&option);
        let field = snippet
            .as_object()
            .and_then(|o| o.keys().next())
            .expect("a field");
        assert!(
            error.to_string().contains(field.as_str()),
            "{option}: {error}"
        );
    }
}
