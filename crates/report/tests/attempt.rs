//! A full view of an attempt, whichever version wrote it.

mod common;

use aegis_report::{Attempt, Limits, LineError, Outcome, TextBounds, rebuild_hitlog};
use common::{NONES, PLAIN};
use serde_json::json;

fn parse(line: serde_json::Value) -> Attempt {
    Attempt::parse(line.to_string().as_bytes(), 0.5, TextBounds::default()).unwrap()
}

fn texts(attempt: &Attempt) -> Vec<Option<&str>> {
    attempt
        .outputs
        .iter()
        .map(|output| output.as_ref().map(|text| &*text.text))
        .collect()
}

#[test]
fn a_view_has_all_of_a_real_attempt() {
    let lines = PLAIN.split_inclusive(|byte| *byte == b'\n');
    let attempts: Vec<(serde_json::Value, Attempt)> = lines
        .filter(|line| line.starts_with(b"{\"entry_type\": \"attempt\""))
        .map(|line| {
            let attempt = Attempt::parse(line, 0.5, TextBounds::default()).unwrap();
            (serde_json::from_slice(line).unwrap(), attempt)
        })
        .collect();
    assert_eq!(attempts.len(), 40);
    for (line, attempt) in attempts {
        assert_eq!(line["uuid"], attempt.uuid.as_str());
        assert_eq!(line["goal"], attempt.goal.as_ref().unwrap().text.as_str());
        assert_eq!(
            line["intent"],
            attempt.intent.as_ref().unwrap().text.as_str()
        );
        assert_eq!(line["probe_classname"], attempt.probe.as_str());
        assert_eq!(
            line["prompt"]["turns"].as_array().unwrap().len(),
            attempt.prompt.len()
        );
        assert_eq!(
            line["prompt"]["turns"][0]["role"],
            attempt.prompt[0].role.as_str()
        );
        assert_eq!(texts(&attempt), [line["outputs"][0]["text"].as_str()]);
        for of in &attempt.detectors {
            assert_eq!(line["detector_results"][&of.detector], json!(of.scores));
        }
        assert_eq!(
            line["detector_results"].as_object().unwrap().len(),
            attempt.detectors.len()
        );
        assert!(!attempt.is_truncated);
    }
}

#[test]
fn no_answer_is_no_output() {
    let line = NONES
        .split(|byte| *byte == b'\n')
        .rfind(|line| line.starts_with(b"{\"entry_type\": \"attempt\""));
    let attempt = Attempt::parse(line.unwrap(), 0.5, TextBounds::default()).unwrap();
    assert_eq!(texts(&attempt), [None, None]);
    assert_eq!(attempt.detectors[0].scores, [None, None]);
    assert_eq!(attempt.detectors[0].outcome, Outcome::None);
}

#[test]
fn older_shapes_are_understood() {
    let attempt = parse(json!({
        "entry_type": "attempt", "uuid": "u", "status": 2, "probe_classname": "probes.a.A",
        "prompt": "one \"string\"", "outputs": ["out", null, "put"],
        "detector_results": {"detector.d.D": [0.2, null, 0.5]}, "notes": {"trigger": "t"},
        "goal": null, "messages": [],
    }));
    assert_eq!((attempt.probe.as_str(), attempt.seq), ("a.A", -1));
    assert_eq!(attempt.prompt[0].role, "user");
    assert_eq!(
        attempt.prompt[0].content.as_ref().unwrap().text,
        "one \"string\""
    );
    assert_eq!(texts(&attempt), [Some("out"), None, Some("put")]);
    assert_eq!(attempt.detectors[0].detector, "d.D");
    assert_eq!(
        attempt.detectors[0].outcome,
        Outcome::Hit,
        "a score at the threshold is a hit"
    );
    assert_eq!(attempt.detectors[0].scores, [Some(0.2), None, Some(0.5)]);
    assert_eq!(attempt.triggers[0].text, "t");
    assert_eq!((attempt.goal, attempt.intent), (None, None));

    let message = parse(json!({
        "entry_type": "attempt", "prompt": {"text": "p", "lang": "en"}, "outputs": [{"text": null}],
        "notes": {"triggers": ["a", 1, null, {"text": "b"}]},
    }));
    assert_eq!(message.prompt[0].content.as_ref().unwrap().text, "p");
    assert_eq!(texts(&message), [None]);
    let triggers: Vec<&str> = message.triggers.iter().map(|text| &*text.text).collect();
    assert_eq!(triggers, ["a", "1", r#"{"text":"b"}"#]);
}

#[test]
fn text_is_cut_between_characters_and_said_to_be() {
    let line = json!({
        "entry_type": "attempt", "uuid": "u", "prompt": "äöü", "outputs": ["abcdef", "gh", "ij"],
    });
    let bounds = TextBounds {
        max_text_bytes: 5,
        max_total_bytes: 12,
    };
    let attempt = Attempt::parse(line.to_string().as_bytes(), 0.5, bounds).unwrap();
    let prompt = attempt.prompt[0].content.as_ref().unwrap();
    assert_eq!((prompt.text.as_str(), prompt.truncated), ("äö", true));
    assert!(attempt.is_truncated);
    let kept: usize = texts(&attempt).into_iter().flatten().map(str::len).sum();
    assert!(kept + prompt.text.len() <= 12, "{attempt:?}");
    let last = attempt.outputs[2].as_ref().unwrap();
    assert!(last.truncated && last.text.is_empty());
}

#[test]
fn long_lists_are_cut_and_said_to_be() {
    let attempt = parse(json!({
        "entry_type": "attempt", "status": 2, "probe_classname": "a.A",
        "outputs": vec!["x"; 2000], "detector_results": {"d.D": vec![0; 2000]},
    }));
    assert_eq!(attempt.outputs.len(), aegis_report::attempt::MAX_LISTED);
    assert_eq!(
        attempt.detectors[0].scores.len(),
        aegis_report::attempt::MAX_LISTED
    );
    assert_eq!(attempt.detectors[0].counts.passed, 2000);
    assert!(attempt.is_truncated);
}

#[test]
fn other_lines_are_refused() {
    let refuse = |line: &[u8]| Attempt::parse(line, 0.5, TextBounds::default()).unwrap_err();
    assert!(matches!(
        refuse(b"{\"entry_type\": \"eval\"}"),
        LineError::Malformed { .. }
    ));
    assert_eq!(refuse(b"{\"entry_type\": \"attempt\""), LineError::Torn);
}

/// Python reads the last of several fields of one name, and so does garak.
#[test]
fn of_fields_of_one_name_the_last_counts() {
    let twice = |fields: &str| {
        format!(
            r#"{{"entry_type": "attempt", "status": 2, "probe_classname": "a.A", "uuid": "u", "outputs": ["o"], "detector_results": {{"d.D": [1.0]}}, {fields}}}"#
        ) + "\n"
    };
    for (fields, prompt, goal) in [
        (r#""prompt": "x", "prompt": "y""#, Some("y"), None),
        (r#""prompt": "x", "prompt": null"#, None, None),
        (
            r#""prompt": "x", "goal": "a", "goal": "b""#,
            Some("x"),
            Some("b"),
        ),
        (
            r#""prompt": "x", "notes": {}, "notes": {"trigger": 1, "trigger": 2}"#,
            Some("x"),
            None,
        ),
    ] {
        let line = twice(fields);
        let attempt = Attempt::parse_whole(line.as_bytes(), 0.5, TextBounds::default()).unwrap();
        let said = attempt
            .prompt
            .first()
            .and_then(|turn| turn.content.as_ref());
        assert_eq!(said.map(|text| text.text.as_str()), prompt, "{line}");
        assert_eq!(
            attempt.goal.map(|text| text.text).as_deref(),
            goal,
            "{line}"
        );
        let summary = common::read(line.as_bytes());
        let mut made = Vec::new();
        let mut source = common::source(line.as_bytes());
        rebuild_hitlog(
            &summary.index,
            &mut source,
            0.5,
            Limits::default(),
            &mut made,
        )
        .unwrap();
        let hit: serde_json::Value = serde_json::from_slice(&made).unwrap();
        assert_eq!(hit["prompt"].as_str(), prompt, "{line}");
    }
}
