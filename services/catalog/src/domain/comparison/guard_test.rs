use std::collections::BTreeMap;

use aegis_proto::ids::{ProjectId, ScanId};
use serde_json::{Value, json};

use super::guard::{Concerns, differences};
use crate::domain::scan::{CustomProbeVersion, ReportStatus, Scan, ScanState, Totals};

/// A scan that has ended.
pub(super) fn scan() -> Scan {
    Scan {
        project: ProjectId::default_project(),
        id: ScanId::generate(),
        display_name: String::new(),
        spec: json!({"target": {"type": "test.Repeat", "name": "x"}}),
        target_type: "test.Repeat".to_owned(),
        target_name: "x".to_owned(),
        priority: 50,
        labels: BTreeMap::new(),
        garak_version: "0.17.1".to_owned(),
        plugin_catalogue: "a".repeat(64),
        effective_seed: 7,
        effective_eval_threshold: 0.5,
        max_in_flight: 16,
        lane: "target".to_owned(),
        created_by: "local".to_owned(),
        state: ScanState::Completed,
        cancel_requested_at: None,
        paused_at: None,
        in_flight: 0,
        queued: 0,
        running: 0,
        report_queued: false,
        waiting_noted: false,
        planned: 1,
        evaluated: 1,
        not_evaluated: 0,
        totals: Totals::default(),
        attempts_done: 1,
        attempts_total: 1,
        report: ReportStatus::default(),
        failure: None,
        last_sequence: 1,
        created_at: 0,
        started_at: Some(0),
        ended_at: Some(0),
        deleted_at: None,
        purge_at: None,
        template: String::new(),
        template_version: 0,
        defcon: None,
        custom_probes: Vec::new(),
        imported: false,
        original: None,
    }
}

fn with(spec: Value) -> Scan {
    let mut scan = scan();
    let fields = spec.as_object().unwrap().clone();
    scan.spec.as_object_mut().unwrap().extend(fields);
    scan
}

fn changed(change: impl FnOnce(&mut Scan)) -> Scan {
    let mut scan = scan();
    change(&mut scan);
    scan
}

fn custom(sha256: &str) -> Scan {
    changed(|scan| {
        scan.custom_probes.push(CustomProbeVersion {
            name: "acme".to_owned(),
            version: 1,
            sha256: sha256.to_owned(),
        });
    })
}

/// Each setting: what differs then, and whether it blocks.
#[test]
fn each_setting_is_listed_and_blocks_or_not() {
    let cases: [(Scan, &str, bool); 19] = [
        (
            changed(|s| s.garak_version = "0.18.0".to_owned()),
            "garak_version",
            true,
        ),
        (
            changed(|s| s.effective_eval_threshold = 0.7),
            "eval_threshold",
            true,
        ),
        (with(json!({"buffs": ["buffs.lowercase"]})), "buffs", true),
        (with(json!({"deprefix": false})), "deprefix", true),
        (
            changed(|s| s.target_type = "rest.RestGenerator".to_owned()),
            "target.type",
            false,
        ),
        (
            changed(|s| s.target_name = "y".to_owned()),
            "target.name",
            false,
        ),
        (
            with(json!({"target": {"options": {"temperature": 1}}})),
            "target.options",
            false,
        ),
        (
            with(json!({"systemPrompt": "be kind"})),
            "system_prompt",
            false,
        ),
        (with(json!({"generations": 10})), "generations", false),
        (changed(|s| s.effective_seed = 8), "seed", false),
        (
            with(json!({"detectors": ["always.Pass"]})),
            "detectors",
            false,
        ),
        (
            with(json!({"excludeDetectors": ["always.Pass"]})),
            "exclude_detectors",
            false,
        ),
        (
            with(json!({"extendedDetectors": false})),
            "extended_detectors",
            false,
        ),
        (
            with(json!({"pluginOptions": {"buffs": {"a": 1}}})),
            "plugin_options.buffs",
            true,
        ),
        (
            with(json!({"pluginOptions": {"generators": {"a": 1}}})),
            "plugin_options.generators",
            false,
        ),
        (
            with(json!({"pluginOptions": {"probes": {"dan": {"A": 1}}}})),
            "plugin_options.probes.dan",
            true,
        ),
        (
            with(json!({"pluginOptions": {"detectors": {"m": 1}}})),
            "plugin_options.detectors.m",
            true,
        ),
        (custom("b"), "custom_probes.acme", true),
        (custom("a"), "custom_probes.acme", true),
    ];
    for (other, field, blocking) in cases {
        let baseline = if other.custom_probes.is_empty() {
            scan()
        } else {
            custom("c")
        };
        let found = differences(&[&baseline, &other]);
        let fields: Vec<_> = found
            .iter()
            .map(|one| (one.field.as_str(), one.blocking))
            .collect();
        // With buffs it matters, too, whether the original prompts were asked.
        let fields: Vec<_> = fields
            .into_iter()
            .filter(|one| field != "buffs" || one.0 != "buffs_include_original_prompt")
            .collect();
        assert_eq!(fields, [(field, blocking)]);
        let blocks = |probe, detector| found[0].blocks(0, 1, probe, detector);
        assert_eq!(blocks("dan.A", "m.D") || blocks("acme.A", "x.Y"), blocking);
        assert!(!found[0].blocks(0, 0, "dan.A", "m.D") && !found[0].message.is_empty());
    }
}

#[test]
fn garaks_defaults_are_the_same_set_or_not() {
    let set = with(json!({
        "generations": 5, "extendedDetectors": true, "deprefix": true, "buffs": [],
        "systemPrompt": "", "target": {"options": {}}, "buffsIncludeOriginalPrompt": true,
    }));
    assert_eq!(differences(&[&scan(), &set]), []);
}

#[test]
fn lists_are_the_same_in_any_order() {
    let one = with(json!({"buffs": ["buffs.a", "buffs.b"]}));
    let other = with(json!({"buffs": ["buffs.b", "buffs.a"]}));
    assert_eq!(differences(&[&one, &other]), []);
}

#[test]
fn what_is_of_one_module_blocks_its_rows_alone() {
    let other = with(json!({"pluginOptions": {"probes": {"dan": {"A": 1}}}}));
    let found = differences(&[&scan(), &other]);
    assert_eq!(found[0].concerns, Concerns::Module("dan".to_owned()));
    for (probe, detector, blocked) in [
        ("dan.A", "x.Y", true),
        ("x.Y", "dan.DAN", true),
        ("danger.A", "x.Y", false),
        ("dan", "x.Y", false),
    ] {
        assert_eq!(
            found[0].blocks(0, 1, probe, detector),
            blocked,
            "{probe} {detector}"
        );
    }
}

#[test]
fn no_secret_is_told_and_nothing_long() {
    let options = json!({"target": {"options": {
        "api_key": "s3cret", "headers": {"Authorization": "s3cret", "X-Api-Keys": ["s3cret"]},
        "max_tokens": 64,
    }}});
    let found = differences(&[&scan(), &with(options)]);
    let told = found[0].told();
    assert!(!told[1].contains("s3cret"), "{told:?}");
    let json: Value = serde_json::from_str(&told[1]).unwrap();
    assert_eq!(json["max_tokens"], 64);
    assert_eq!(told[0], "{}");

    // Told alike, but not the same.
    let long = |end: &str| with(json!({"systemPrompt": "x".repeat(5_000) + end}));
    let found = differences(&[&long("a"), &long("b")]);
    let told = found[0].told();
    assert!(told.iter().all(|value| value.len() < 200), "{told:?}");
    assert_ne!(told[0], told[1]);
}
