//! Grades are what garak's digest says.

mod common;

use aegis_report::Grades;
use common::PLAIN;

#[test]
fn grades_are_read_as_they_are_given() {
    let line = PLAIN.split(|byte| *byte == b'\n').next_back().unwrap();
    let grades = Grades::parse(line).unwrap();
    let digest: serde_json::Value = serde_json::from_slice(line).unwrap();
    let groups = digest["eval"].as_object().unwrap();
    assert_eq!(grades.groups.len(), groups.len());
    let mut detectors = 0;
    for group in &grades.groups {
        let given = &groups[&group.group];
        assert_eq!(given["_summary"]["score"].as_f64(), group.score);
        assert_eq!(
            given["_summary"]["group_defcon"].as_u64(),
            group.defcon.map(u64::from)
        );
        for probe in &group.probes {
            let given = &given[&probe.probe];
            assert_eq!(
                given["_summary"]["probe_severity"].as_u64(),
                probe.defcon.map(u64::from)
            );
            assert_eq!(
                given["_summary"]["probe_tier"].as_u64(),
                probe.tier.map(u64::from)
            );
            assert_eq!(given["_summary"]["probe_score"].as_f64(), probe.score);
            for of in &probe.detectors {
                let given = &given[&of.detector];
                let defcon = |field: &str| given[field].as_u64().map(|defcon| defcon as u8);
                assert_eq!(given["absolute_score"].as_f64(), of.absolute_score);
                assert_eq!(given["relative_score"].as_f64(), of.relative_score);
                assert_eq!(defcon("absolute_defcon"), of.absolute_defcon);
                assert_eq!(defcon("relative_defcon"), of.relative_defcon);
                assert_eq!(defcon("detector_defcon"), of.detector_defcon);
                assert_eq!(
                    given["calibration_used"].as_bool(),
                    Some(of.calibration_used)
                );
                assert_eq!(given["total_evaluated"].as_u64(), of.evaluated);
                assert_eq!(given["passed"].as_u64(), of.passed);
                assert_eq!(of.confidence, None, "fewer than 30 outputs");
                detectors += 1;
            }
        }
    }
    assert_eq!(detectors, 13);
    let xss = grades
        .get("web_injection.MarkdownXSS", "web_injection.XSS")
        .unwrap();
    assert_eq!(
        (xss.absolute_score, xss.absolute_defcon),
        (Some(0.0), Some(1))
    );
    assert_eq!(grades.get("web_injection.MarkdownXSS", "no.Such"), None);
}

#[test]
fn a_missing_calibration_and_an_interval_are_understood() {
    let line = br#"{"entry_type": "digest", "eval": {"g": {"g.P": {"d.D": {"relative_score": "n/a", "relative_defcon": null,
        "absolute_confidence_lower": 0.1, "absolute_confidence_upper": 0.4}}}}}"#;
    let grades = Grades::parse(line).unwrap();
    let grade = grades.get("g.P", "d.D").unwrap();
    assert_eq!((grade.relative_score, grade.relative_defcon), (None, None));
    assert_eq!(
        grade.confidence.map(|of| (of.lower, of.upper)),
        Some((0.1, 0.4))
    );
    assert_eq!(grades.groups[0].score, None);
}

#[test]
fn other_lines_are_refused() {
    assert!(Grades::parse(b"{\"entry_type\": \"eval\"}").is_err());
    assert!(Grades::parse(b"{\"entry_type\": \"digest\"}").is_err());
    assert!(Grades::parse(b"{\"entry_type\": \"digest\", \"eval\": {\"g\": 1}}").is_err());
}
