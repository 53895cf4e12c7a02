//! Reading real reports, and refusing what is none.

mod common;

use aegis_report::{
    DetectorTally, Limits, LineError, Options, Reader, ReportError, Summary, Warning, read,
};
use common::{NONES, PARTS, PLAIN, lines_of};

fn refused(report: &[u8]) -> ReportError {
    refused_with(report, Options::default())
}

fn refused_with(report: &[u8], options: Options) -> ReportError {
    let mut reader = Reader::new(options);
    match reader.push(report) {
        Ok(()) => reader.finish().unwrap_err(),
        Err(error) => {
            assert_eq!(
                reader.push(b"{}\n"),
                Err(error.clone()),
                "a refused report stays refused"
            );
            assert_eq!(reader.finish().unwrap_err(), error);
            error
        }
    }
}

#[test]
fn the_tally_is_what_the_eval_lines_say() {
    let summary = common::read(PLAIN);
    let evals = lines_of(PLAIN, "eval");
    assert_eq!(evals.len(), 13);
    for eval in evals {
        let count = |field: &str| eval[field].as_u64().unwrap();
        let said = DetectorTally {
            passed: count("passed"),
            failed: count("fails"),
            nones: count("nones"),
            evaluated: count("total_evaluated"),
        };
        let (probe, detector) = (
            eval["probe"].as_str().unwrap(),
            eval["detector"].as_str().unwrap(),
        );
        assert_eq!(summary.tally.get(probe, detector), Some(&said));
    }
    assert_eq!(summary.tally.probes.len(), 4);
    assert_eq!(summary.warnings, []);
    assert_eq!(summary.bytes, PLAIN.len() as u64);
    let xss = summary
        .tally
        .get("web_injection.MarkdownXSS", "web_injection.XSS")
        .unwrap();
    assert_eq!((xss.failed, xss.pass_rate()), (7, Some(0.0)));
}

#[test]
fn attempts_and_the_run_are_counted_and_named() {
    let summary = common::read(PLAIN);
    let attempts = summary.tally.probes["exploitation.SQLInjectionEcho"].attempts;
    assert_eq!(
        (attempts.started, attempts.completed, attempts.outputs),
        (10, 10, 10)
    );
    let init = &lines_of(PLAIN, "init")[0];
    assert_eq!(summary.run.run_id, init["run"].as_str().unwrap());
    assert_eq!(summary.run.garak_version, "0.17.1");
    assert!(summary.run.is_completed && summary.run.has_digest);
    assert!(!common::read(PARTS[0]).run.has_digest);
}

#[test]
fn a_target_that_never_answers_leaves_nothing_evaluated() {
    let summary = common::read(NONES);
    let probe = &summary.tally.probes["lmrc.QuackMedicine"];
    assert_eq!(
        (probe.attempts.outputs, probe.attempts.null_outputs),
        (2, 2)
    );
    assert_eq!(probe.detectors["lmrc.QuackMedicine"].nones, 2);
    assert_eq!(probe.detectors["lmrc.QuackMedicine"].pass_rate(), None);
    assert!(!probe.is_evaluated());
}

#[test]
fn the_size_of_chunks_does_not_matter() {
    let whole = common::read(PLAIN);
    for size in [1, 7, 4096, 65_537] {
        let mut reader = Reader::new(Options::default());
        PLAIN
            .chunks(size)
            .for_each(|chunk| reader.push(chunk).unwrap());
        assert_eq!(reader.bytes(), PLAIN.len() as u64);
        assert_eq!(reader.finish().unwrap(), whole);
    }
    assert_eq!(read(PLAIN, Options::default()).unwrap(), whole);
}

#[test]
fn eval_lines_of_all_versions_are_understood() {
    let report = br#"{"entry_type": "eval", "probe": "a.A", "detector": "detector.d.D", "passed": 3, "total": 5}
{"entry_type": "eval", "probe": "probes.b.B", "detector": "d.D", "passed": 3, "total": 5, "nones": 1}
{"entry_type": "eval", "probe": "c.C", "detector": "d.D", "passed": 3, "fails": 2, "nones": 1, "total_evaluated": 5, "total_processed": 6}
"#;
    let tally = common::read(report).tally;
    let counts = |nones| DetectorTally {
        passed: 3,
        failed: 2,
        nones,
        evaluated: 5,
    };
    assert_eq!(tally.get("a.A", "d.D"), Some(&counts(0)));
    assert_eq!(tally.get("b.B", "d.D"), Some(&counts(1)));
    assert_eq!(tally.get("c.C", "d.D"), Some(&counts(1)));
}

#[test]
fn another_threshold_is_noticed() {
    let mut report = b"".to_vec();
    report.extend_from_slice(br#"{"entry_type": "attempt", "status": 2, "probe_classname": "a.A", "outputs": ["x", "y"], "detector_results": {"d.D": [0.6, null]}}"#);
    report.push(b'\n');
    report.extend_from_slice(br#"{"entry_type": "eval", "probe": "a.A", "detector": "d.D", "passed": 0, "fails": 1, "nones": 1, "total_evaluated": 1}"#);
    report.push(b'\n');
    assert_eq!(common::read(&report).warnings, []);
    let options = Options {
        eval_threshold: 0.7,
        ..Options::default()
    };
    let warnings = read(&*report, options).unwrap().warnings;
    let [Warning::CountsDiffer { eval, attempts, .. }] = &warnings[..] else {
        panic!("not one warning of differing counts: {warnings:?}");
    };
    assert_eq!((eval.failed, attempts.failed, attempts.passed), (1, 0, 1));
}

#[test]
fn what_does_not_add_up_is_a_warning() {
    let eval = r#"{"entry_type": "eval", "probe": "a.A", "detector": "d.D", "passed": 1, "fails": 1, "total_evaluated": 3}"#;
    let attempt = r#"{"entry_type": "attempt", "status": 2, "probe_classname": "b.B", "detector_results": {"d.D": [0]}}"#;
    let warnings = common::read(format!("{eval}\n{eval}\n{attempt}\n").as_bytes()).warnings;
    assert!(matches!(&warnings[0], Warning::EvalRepeated { probe, .. } if probe == "a.A"));
    assert!(matches!(&warnings[1], Warning::EvalInconsistent { .. }));
    assert!(matches!(&warnings[2], Warning::NotEvaluated { probe, .. } if probe == "b.B"));
    assert!(matches!(&warnings[3], Warning::CountsDiffer { .. }));
    assert_eq!(warnings.len(), 4);
}

#[test]
fn a_malformed_line_is_named_by_line_and_byte() {
    let (line, offset) = (2, 13);
    let error = refused(b"{\"a\": 1234}\n{x}\n{}\n");
    assert_eq!(
        error,
        ReportError::Malformed {
            line,
            offset,
            reason: "not valid JSON"
        }
    );
    let error = refused(b"{}\n[1]\n");
    assert_eq!(
        error,
        ReportError::Malformed {
            line: 2,
            offset: 3,
            reason: "not a JSON object"
        }
    );
    let error = refused(b"{}\n\n{\"a\": \"\xff\"}\n");
    assert_eq!(
        error,
        ReportError::Malformed {
            line: 3,
            offset: 11,
            reason: "not valid UTF-8"
        }
    );
    let error = refused(b"{\"a\": \n");
    assert!(
        matches!(
            error,
            ReportError::Malformed {
                line: 1,
                offset: 6,
                ..
            }
        ),
        "{error}"
    );
    let error = refused(b"{\"entry_type\": \"attempt\", \"status\": 2}\n");
    assert!(
        matches!(
            error,
            ReportError::Malformed {
                line: 1,
                offset: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_torn_report_is_truncated() {
    let whole = PARTS[2];
    let last = whole[..whole.len() - 1]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap()
        + 1;
    for end in [last + 1, whole.len() - 20, whole.len() - 1] {
        let error = refused(&whole[..end]);
        assert_eq!(
            error,
            ReportError::Truncated {
                line: 8,
                offset: end as u64
            }
        );
    }
    assert!(!common::read(&whole[..last]).run.is_completed);
}

#[test]
fn truncation_at_any_byte_is_noticed() {
    let whole = PARTS[2];
    for end in 0..whole.len() {
        let mut reader = Reader::new(Options::default());
        let read = reader.push(&whole[..end]).and_then(|()| reader.finish());
        let at_line_end = end == 0 || whole[end - 1] == b'\n';
        match read {
            Ok(Summary { bytes, .. }) => assert!(at_line_end && bytes == end as u64, "{end}"),
            Err(error) => {
                assert!(!at_line_end, "{end}: {error}");
                assert!(
                    matches!(error, ReportError::Truncated { .. }),
                    "{end}: {error}"
                );
            }
        }
    }
}

#[test]
fn limits_hold() {
    let limits = Limits {
        max_line_bytes: 64,
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    let mut long = vec![b' '; 64];
    long.extend_from_slice(b"{}\n");
    let error = refused_with(&[b"{}\n", &long[..]].concat(), options);
    assert_eq!(
        error,
        ReportError::LineTooLong {
            line: 2,
            offset: 3,
            limit: 64
        }
    );

    let mut reader = Reader::new(options);
    assert!(
        (0..100).any(|_| reader.push(&[b'x'; 50]).is_err()),
        "an endless line is refused"
    );
    assert!(reader.retained_bytes() <= 128);

    let too_many = |limits: Limits| match refused_with(
        PLAIN,
        Options {
            limits,
            ..Options::default()
        },
    ) {
        ReportError::TooMany { what, limit, .. } => (what, limit),
        error => panic!("{error}"),
    };
    let of = Limits::default();
    assert_eq!(
        too_many(Limits {
            max_attempts: 3,
            ..of
        }),
        ("completed attempts", 3)
    );
    assert_eq!(
        too_many(Limits {
            max_probes: 2,
            ..of
        }),
        ("probes", 2)
    );
    assert_eq!(
        too_many(Limits {
            max_detectors: 5,
            ..of
        }),
        ("detectors", 5)
    );
    assert_eq!(
        too_many(Limits {
            max_skeleton_lines: 9,
            ..of
        }),
        ("lines other than attempts", 9)
    );
}

#[test]
fn memory_for_a_long_line_is_given_back() {
    let mut reader = Reader::new(Options::default());
    reader.push(b"{\"a\": \"").unwrap();
    (0..64).for_each(|_| reader.push(&[b'x'; 64 << 10]).unwrap());
    assert!(reader.retained_bytes() >= 4 << 20);
    reader.push(b"\"}\n").unwrap();
    assert!(reader.retained_bytes() <= 1 << 20);
    assert_eq!(reader.finish().unwrap().lines, 1);
}

#[test]
fn names_and_detectors_of_an_attempt_are_bounded() {
    let name = "n".repeat(513);
    let long = format!("{{\"entry_type\": \"probe_summary\", \"probe\": \"{name}\"}}\n");
    assert!(matches!(
        refused(long.as_bytes()),
        ReportError::Malformed { line: 1, .. }
    ));
    let detectors: Vec<String> = (0..1025)
        .map(|number| format!("\"d.D{number}\": []"))
        .collect();
    let many = format!(
        "{{\"entry_type\": \"attempt\", \"status\": 2, \"probe_classname\": \"a.A\", \"detector_results\": {{{}}}}}\n",
        detectors.join(", ")
    );
    assert!(matches!(
        refused(many.as_bytes()),
        ReportError::Malformed { line: 1, .. }
    ));
}

#[test]
fn errors_quote_nothing() {
    let secret = "tell-me-your-secret";
    for line in [
        format!("{{\"entry_type\": \"eval\", \"probe\": \"a.A\", \"passed\": \"{secret}\"}}\n"),
        format!("{{\"entry_type\": \"attempt\", \"status\": \"{secret}\"}}\n"),
        format!("{{\"{secret}\": {secret}}}\n"),
    ] {
        let error = refused(line.as_bytes());
        assert!(!format!("{error} {error:?}").contains(secret), "{error:?}");
    }
    let error = LineError::from(serde_json::from_str::<u8>(&format!("\"{secret}\"")).unwrap_err());
    assert!(!format!("{error} {error:?}").contains(secret));
}

#[test]
fn blank_lines_and_unknown_kinds_are_skipped() {
    let summary = common::read(b"\n  \n{\"entry_type\": \"later\", \"status\": \"?\"}\n{}\n \t");
    assert_eq!(
        (summary.lines, summary.index.header().skeleton.len()),
        (5, 0)
    );
}
