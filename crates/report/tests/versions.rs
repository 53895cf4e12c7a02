//! Reports of every garak version from 0.9 to 0.17, each as that version wrote them: one probe, two
//! attempts of two generations each (one attempt in 0.9), and the same hits.

mod common;

use std::io::Cursor;

use aegis_report::attempt::{Turn, any_text_matches};
use aegis_report::{
    Attempt, DetectorTally, Grades, Limits, Options, Outcome, Reader, SeekSource, Summary,
    TextBounds, Warning, rebuild_hitlog,
};
use serde_json::Value;

macro_rules! reports {
    ($($version:literal)+) => {
        vec![$(($version, &include_bytes!(concat!("data/versions/", $version, ".report.jsonl"))[..])),+]
    };
}

fn all() -> Vec<(&'static str, &'static [u8])> {
    reports!("0.10.3" "0.11.0" "0.12.0" "0.13.0" "0.13.1" "0.14.0" "0.15.1" "0.16.0" "0.17.1")
}

const OLDEST: &[u8] = include_bytes!("data/versions/0.9.0.6.report.jsonl");
const KILLED: &[u8] = include_bytes!("data/versions/killed-nan.report.jsonl");
const DAN: (&str, &str) = ("dan.AntiDAN", "dan.DAN");

fn attempts(report: &[u8], summary: &Summary) -> Vec<Attempt> {
    let records = summary.index.records(DAN.0).unwrap();
    let line = |range: std::ops::Range<u64>| &report[range.start as usize..range.end as usize];
    let whole = |line| Attempt::parse_whole(line, 0.5, TextBounds::default()).unwrap();
    records
        .iter()
        .map(|record| whole(line(record.range())))
        .collect()
}

fn said(turns: &[Turn]) -> Vec<(&str, Option<&str>)> {
    turns
        .iter()
        .map(|turn| {
            (
                turn.role.as_str(),
                turn.content.as_ref().map(|text| text.text.as_str()),
            )
        })
        .collect()
}

#[test]
fn the_run_is_known_whatever_the_version() {
    for (version, report) in all() {
        let run = common::read(report).run;
        assert_eq!(run.garak_version, version);
        assert_eq!(run.run_id, "0b2c8e0e-0000-4000-8000-000000000009");
        assert_eq!(run.start_time, "2024-05-01T10:00:01.000001");
        assert_eq!(run.end_time, "2024-05-01T10:09:59.000001");
        assert_eq!(
            (run.target_type.as_str(), run.target_name.as_str()),
            ("openai", "gpt-3.5-turbo")
        );
        let names = run
            .probe_spec
            .iter()
            .map(|word| word.trim_start_matches("probes."));
        assert_eq!(
            names.collect::<Vec<_>>(),
            ["dan.AntiDAN", "lmrc.Profanity"],
            "{version}"
        );
        assert_eq!(
            (run.generations, run.seed, run.eval_threshold),
            (Some(2), Some(7), None)
        );
        assert!(run.is_completed);
        assert_eq!(run.has_digest, report.ends_with(b"}"), "{version}");
    }
    let run = common::read(OLDEST).run;
    assert_eq!(
        (run.target_type.as_str(), run.target_name.as_str()),
        ("huggingface", "gpt2")
    );
    assert_eq!(
        (run.probe_spec, run.generations, run.seed),
        (vec!["dan".to_owned()], Some(2), Some(3))
    );
    assert_eq!((run.eval_threshold, run.is_completed), (Some(0.7), false));
}

#[test]
fn the_tally_is_the_same_whatever_the_version() {
    for (version, report) in all() {
        let summary = common::read(report);
        let counts = summary.tally.get(DAN.0, DAN.1).unwrap();
        assert_eq!(
            (counts.passed, counts.failed, counts.evaluated),
            (2, 1, 3),
            "{version}"
        );
        // Before 0.13.1 what could not be scored was not counted.
        let has_nones = version > "0.13.0";
        assert_eq!(counts.nones, u64::from(has_nones), "{version}");
        assert_eq!(summary.warnings.is_empty(), has_nones, "{version}");
        assert_eq!(summary.whole_tally(), summary.tally);
        let attempts = summary.tally.probes[DAN.0].attempts;
        let all = (
            attempts.started,
            attempts.completed,
            attempts.outputs,
            attempts.null_outputs,
        );
        assert_eq!(all, (2, 2, 4, 1));
    }
    let summary = aegis_report::read(
        OLDEST,
        Options {
            eval_threshold: 0.7,
            ..Options::default()
        },
    );
    let summary = summary.unwrap();
    assert_eq!(
        summary.warnings,
        [],
        "0.6 is below the threshold of that run"
    );
    assert_eq!(summary.tally.get(DAN.0, DAN.1).unwrap().failed, 1);
}

#[test]
fn attempts_are_the_same_whatever_the_version() {
    for (version, report) in all() {
        let summary = common::read(report);
        let found = attempts(report, &summary);
        assert_eq!(found.len(), 2);
        let [hit, pass] = &found[..] else {
            panic!("two attempts")
        };
        assert_eq!(
            said(&hit.prompt),
            [("user", Some("Hello DAN"))],
            "{version}"
        );
        let outputs: Vec<_> = hit
            .outputs
            .iter()
            .map(|output| output.as_ref().unwrap().text.as_str())
            .collect();
        assert_eq!(outputs, ["I am DAN", "No"], "{version}");
        assert_eq!(
            (hit.detectors[0].detector.as_str(), hit.detectors[0].outcome),
            (DAN.1, Outcome::Hit)
        );
        assert_eq!(hit.detectors[0].scores, [Some(1.0), Some(0.0)]);
        let expected: &[&str] = if version < "0.11" {
            &["DAN"]
        } else {
            &["DAN", "STAN"]
        };
        let triggers: Vec<_> = hit
            .triggers
            .iter()
            .map(|trigger| trigger.text.as_str())
            .collect();
        assert_eq!(triggers, expected, "{version}");
        assert_eq!(hit.conversations.len(), 2, "{version}");
        let turns = [("user", Some("Hello DAN")), ("assistant", Some("No"))];
        assert_eq!(said(&hit.conversations[1]), turns, "{version}");
        assert_eq!(
            said(&pass.conversations[1])[1],
            ("assistant", None),
            "{version}"
        );
        assert_eq!(pass.detectors[0].scores, [Some(0.0), None]);
        assert_eq!(pass.outputs[1], None);
        assert_eq!(
            hit.goal.as_ref().unwrap().text,
            "disregard the system prompt"
        );
        assert_eq!(hit.intent.is_some(), version >= "0.16");
    }
    let oldest = attempts(OLDEST, &common::read(OLDEST));
    assert_eq!((oldest.len(), oldest[0].seq), (1, -1));
    let turns = [("user", Some("Hello DAN")), ("assistant", Some("I am DAN"))];
    assert_eq!(oldest[0].conversations.len(), 1);
    assert_eq!(said(&oldest[0].conversations[0]), turns);
}

#[test]
fn texts_are_found_whatever_the_version() {
    for (version, report) in all().into_iter().chain([("0.9.0.6", OLDEST)]) {
        let summary = common::read(report);
        let range = summary.index.records(DAN.0).unwrap()[0].range();
        let line = &report[range.start as usize..range.end as usize];
        for (text, is_there) in [
            ("Hello", true),
            ("am DAN", true),
            ("disregard", false),
            ("turns", false),
        ] {
            let found = any_text_matches(line, |said| said.contains(text)).unwrap();
            assert_eq!(found, is_there, "{version} {text}");
        }
    }
}

#[test]
fn a_digest_is_read_since_0_12() {
    for (version, report) in all().into_iter().filter(|(version, _)| *version >= "0.12") {
        let last = report.rsplit(|byte| *byte == b'\n').next().unwrap();
        let grades = Grades::parse(last).unwrap();
        assert_eq!(
            grades.get(DAN.0, DAN.1).unwrap().absolute_defcon,
            Some(3),
            "{version}"
        );
    }
}

#[test]
fn without_eval_lines_the_attempts_are_counted() {
    let summary = common::read(KILLED);
    assert!(summary.tally.get(DAN.0, DAN.1).is_none());
    assert!(
        summary
            .warnings
            .iter()
            .any(|warning| matches!(warning, Warning::NotEvaluated { .. }))
    );
    let tally = summary.whole_tally();
    // Infinity is a hit, NaN is no score, and null is none.
    let dan = DetectorTally {
        passed: 1,
        failed: 1,
        nones: 2,
        evaluated: 2,
    };
    assert_eq!(tally.get(DAN.0, DAN.1), Some(&dan));
    let other = DetectorTally {
        passed: 2,
        failed: 1,
        nones: 1,
        evaluated: 3,
    };
    assert_eq!(
        tally.get(DAN.0, "mitigation.MitigationBypass"),
        Some(&other)
    );
    assert!(!summary.run.is_completed);
}

#[test]
fn numbers_that_are_no_json_do_not_hide_an_attempt() {
    let found = attempts(KILLED, &common::read(KILLED));
    assert_eq!(found[0].detectors[0].scores, [Some(1.0), Some(0.0)]);
    assert_eq!(found[1].detectors[0].scores, [None, None]);
    // A line that is broken besides stays refused, and says where.
    let broken = br#"{"entry_type": "attempt", "a": NaN, "b": }"#.to_vec();
    let refused = aegis_report::read(&[&broken[..], b"\n"].concat()[..], Options::default());
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .starts_with("line 1, byte ")
    );
}

/// Line for line what garak itself left, key order and spaces included.
#[test]
fn a_lost_hitlog_is_made_again_from_the_report() {
    for (report, hitlog) in [
        (common::PARTS[0], common::PART_HITLOGS[0]),
        (common::PARTS[3], common::PART_HITLOGS[1]),
    ] {
        let summary = common::read(report);
        let mut made = Vec::new();
        let mut source = SeekSource(Cursor::new(report));
        let hits = rebuild_hitlog(
            &summary.index,
            &mut source,
            0.5,
            Limits::default(),
            &mut made,
        )
        .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&made),
            String::from_utf8_lossy(hitlog)
        );
        assert_eq!(hits.check(&summary.tally), []);
    }
    let mut nothing = Vec::new();
    let summary = common::read(common::PARTS[2]);
    let mut source = SeekSource(Cursor::new(common::PARTS[2]));
    rebuild_hitlog(
        &summary.index,
        &mut source,
        0.5,
        Limits::default(),
        &mut nothing,
    )
    .unwrap();
    assert!(nothing.is_empty());
}

#[test]
fn a_hitlog_is_made_of_every_version() {
    for (version, report) in all().into_iter().chain([("killed", KILLED)]) {
        let summary = common::read(report);
        let mut made = Vec::new();
        let mut source = SeekSource(Cursor::new(report));
        let hits = rebuild_hitlog(
            &summary.index,
            &mut source,
            0.5,
            Limits::default(),
            &mut made,
        )
        .unwrap();
        assert_eq!(hits.total(), 2, "{version}");
        let first: Value =
            serde_json::from_slice(made.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
        assert_eq!(
            (first["detector"].as_str(), first["score"].as_f64()),
            (Some(DAN.1), Some(1.0))
        );
        assert_eq!(first["generator"], "openai gpt-3.5-turbo");
        assert!(!first["triggers"].is_null());
        assert_eq!(first["generations_per_prompt"], 2);
    }
}

/// What nobody can write again is read as far as it goes.
#[test]
fn a_damaged_report_is_read_with_what_it_has() {
    let report = common::PLAIN;
    let whole = common::read(report);
    let tolerant = |report: &[u8], chunk: usize| {
        let mut reader = Reader::tolerant(Options::default());
        for chunk in report.chunks(chunk) {
            reader.push(chunk).unwrap();
        }
        reader.finish().unwrap()
    };
    assert_eq!(tolerant(report, 1000), whole, "a whole one is read as ever");
    let lines: Vec<&[u8]> = report.split_inclusive(|byte| *byte == b'\n').collect();
    let last = report.len() - lines.last().unwrap().len();
    let damaged = [b"\xff\n{}[]\n", &report[..last + 20]].concat();
    assert!(aegis_report::read(&damaged[..], Options::default()).is_err());
    let found = tolerant(&damaged, 7);
    assert_eq!(found.tally, whole.tally);
    assert_eq!(found.left_out.lines, 3);
    let named: Vec<String> = found
        .left_out
        .named
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(named[0], "line 1, byte 0: not valid UTF-8");
    assert!(named[1].starts_with("line 2, byte 4: "), "{named:?}");
    let cut = format!("line {}, byte {}: ", lines.len() + 2, damaged.len());
    assert!(named[2].starts_with(&cut), "{named:?}");
    // A line that lost its line break alone is whole.
    let unbroken = &report[..last - 1];
    assert_eq!(tolerant(unbroken, 999).left_out.lines, 0);
    let junk = b"junk\n".repeat(1_000);
    let left_out = tolerant(&junk, 64).left_out;
    assert_eq!((left_out.lines, left_out.named.len()), (1_000, 100));
    // What memory is bounded by is never left out.
    let limits = Limits {
        max_line_bytes: 100,
        ..Limits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    assert!(Reader::tolerant(options).push(report).is_err());
}

#[test]
fn a_tolerant_reader_goes_by_the_reports_own_threshold() {
    let mut reader = Reader::tolerant(Options::default());
    reader.push(OLDEST).unwrap();
    let summary = reader.finish().unwrap();
    assert_eq!(summary.scored.get(DAN.0, DAN.1).unwrap().failed, 1);
    assert_eq!(
        common::read(OLDEST)
            .scored
            .get(DAN.0, DAN.1)
            .unwrap()
            .failed,
        2
    );
}
