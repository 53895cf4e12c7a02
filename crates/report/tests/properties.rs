//! What must hold for every input.

mod common;

use std::collections::BTreeMap;
use std::io::Cursor;

use aegis_report::attempt::any_text_matches;
use aegis_report::index::parse_records;
use aegis_report::{
    Attempt, DetectorTally, Grades, HitlogReader, Index, IndexHeader, Limits, Options, Part,
    Reader, ReportError, SeekSource, Selection, Summary, Tally, TextBounds, compose,
    rebuild_hitlog,
};
use common::{PLAIN, identity};
use proptest::prelude::*;
use serde_json::json;

const MAX_LINE_BYTES: usize = 4096;
/// Flat messages, names with prefixes.
const OLD: &[u8] = include_bytes!("data/versions/0.9.0.6.report.jsonl");
/// Numbers that are no JSON, nothing evaluated.
const KILLED: &[u8] = include_bytes!("data/versions/killed-nan.report.jsonl");

fn options() -> Options {
    let limits = Limits {
        max_line_bytes: MAX_LINE_BYTES,
        ..Limits::default()
    };
    Options {
        limits,
        ..Options::default()
    }
}

/// Reads in chunks of some size and watches the memory held back.
fn read(report: &[u8], chunk: usize) -> Result<Summary, ReportError> {
    let mut reader = Reader::new(options());
    for chunk in report.chunks(chunk) {
        let pushed = reader.push(chunk);
        assert!(reader.retained_bytes() <= 2 * MAX_LINE_BYTES);
        pushed?;
    }
    reader.finish()
}

/// Lines of a report with something in them changed, cut or left as it is.
fn mangled() -> impl Strategy<Value = Vec<u8>> {
    let reports = [PLAIN, OLD, KILLED].into_iter();
    let lines: Vec<&[u8]> = reports
        .flat_map(|report| report.split_inclusive(|byte| *byte == b'\n'))
        .collect();
    let change = prop_oneof![
        4 => Just(None),
        1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(Some),
    ];
    let line = (prop::sample::select(lines), change).prop_map(|(line, change)| {
        let mut line = line.to_vec();
        if let Some((at, byte)) = change {
            let at = at.index(line.len());
            line[at] = byte;
        }
        line
    });
    let lines = prop::collection::vec(line, 0..12);
    (lines, any::<prop::sample::Index>()).prop_map(|(lines, end)| {
        let mut report = lines.concat();
        report.truncate(end.index(report.len() + 1));
        report
    })
}

/// A part: one probe with some attempts, scored by some detectors, and evals
/// that agree with them.
fn part() -> impl Strategy<Value = (String, Vec<u8>)> {
    let scores = prop::collection::vec(prop::option::of(0.0..1.0f64), 0..4);
    let attempts = prop::collection::vec(prop::collection::vec(scores, 1..4), 0..8);
    ("[a-z]{1,6}\\.[A-Z][a-z]{0,6}", attempts, "\\PC{0,20}")
        .prop_map(|(probe, attempts, text)| (probe.clone(), report(&probe, &attempts, &text)))
}

fn report(probe: &str, attempts: &[Vec<Vec<Option<f64>>>], text: &str) -> Vec<u8> {
    let cache = json!({"probes": {format!("probes.{probe}"): {}}});
    let mut lines = vec![
        json!({"entry_type": "start_run setup", "_config.version": "0.17.1", "note": text}),
        json!({"entry_type": "init", "run": "r", "start_time": "2026-01-01T00:00:00"}),
        json!({"entry_type": "payload_init", "payload_name": text}),
        json!({"entry_type": "plugin_cache", "run": "r", "plugin_cache": cache}),
    ];
    let mut counts: BTreeMap<String, DetectorTally> = BTreeMap::new();
    for (seq, detectors) in attempts.iter().enumerate() {
        let mut results = serde_json::Map::new();
        for (place, scores) in detectors.iter().enumerate() {
            let name = format!("d.D{place}");
            let count = counts.entry(name.clone()).or_default();
            for score in scores {
                match score {
                    None => count.nones += 1,
                    Some(score) if *score < 0.5 => count.passed += 1,
                    Some(_) => count.failed += 1,
                }
            }
            count.evaluated = count.passed + count.failed;
            results.insert(name, json!(scores));
        }
        lines.push(
            json!({"entry_type": "attempt", "status": 2, "seq": seq, "probe_classname": probe,
            "prompt": text, "outputs": [text, null], "detector_results": results}),
        );
    }
    for (detector, of) in counts {
        lines.push(
            json!({"entry_type": "eval", "probe": probe, "detector": detector, "passed": of.passed,
            "fails": of.failed, "nones": of.nones, "total_evaluated": of.evaluated}),
        );
    }
    lines.push(json!({"entry_type": "completion", "run": "r", "end_time": "2026-01-01T00:00:01"}));
    lines
        .iter()
        .flat_map(|line| format!("{line}\n").into_bytes())
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_makes_the_readers_panic(
        report in prop_oneof![mangled(), prop::collection::vec(any::<u8>(), 0..2000)],
        chunk in 1..3000usize,
    ) {
        let whole = read(&report, report.len().max(1));
        if let Ok(summary) = &whole {
            for record in summary.index.probes().flat_map(|(_, records)| records) {
                let line = &report[record.offset as usize..][..record.length as usize];
                let shown = Attempt::parse_whole(line, 0.5, TextBounds::default());
                prop_assert!(shown.is_ok(), "what is taken in can be shown: {:?}", shown);
                prop_assert!(any_text_matches(line, str::is_empty).is_ok());
            }
            let mut source = SeekSource(Cursor::new(&report));
            let limits = options().limits;
            let made = rebuild_hitlog(&summary.index, &mut source, 0.5, limits, &mut Vec::new());
            // Of a setup line garak may have written anything.
            if let Ok(hits) = made {
                let failed = summary.scored.probes.values().flat_map(|of| of.detectors.values());
                let failed: u64 = failed.map(|counts| counts.failed).sum();
                prop_assert_eq!(hits.total(), failed);
            }
        }
        prop_assert_eq!(read(&report, chunk), whole, "whatever the chunks");
        let mut hitlog = HitlogReader::new(options().limits);
        let _ = report.chunks(chunk).try_for_each(|chunk| hitlog.push(chunk));
        let _ = hitlog.finish();
        for line in report.split(|byte| *byte == b'\n') {
            let _ = Attempt::parse(line, 0.5, TextBounds::default());
            let _ = Attempt::parse_whole(line, 0.5, TextBounds::default());
            let _ = any_text_matches(line, str::is_empty);
            let _ = Grades::parse(line);
        }
    }

    #[test]
    fn errors_lie_within_the_report(report in mangled(), chunk in 1..3000usize) {
        let (line, offset) = match read(&report, chunk) {
            Ok(_) => return Ok(()),
            Err(ReportError::Malformed { line, offset, .. })
            | Err(ReportError::Truncated { line, offset })
            | Err(ReportError::LineTooLong { line, offset, .. })
            | Err(ReportError::TooMany { line, offset, .. }) => (line, offset as usize),
        };
        prop_assert!(offset <= report.len());
        let before = report[..offset].iter().filter(|byte| **byte == b'\n').count() as u64;
        prop_assert!(before + 1 == line, "byte {} is not in line {}", offset, line);
    }

    #[test]
    fn an_index_survives_being_stored((_, report) in part()) {
        let index = read(&report, 100).unwrap().index;
        let mut stored = Vec::new();
        index.write_to(&mut stored, &mut SeekSource(Cursor::new(&report))).unwrap();
        let back = Index::read_from(&*stored).unwrap();
        let header = IndexHeader::parse(&stored).unwrap();
        prop_assert_eq!(header.index_bytes(), stored.len() as u64);
        prop_assert_eq!(back.header(), &header);
        prop_assert_eq!(&header.skeleton, &index.header().skeleton);
        for ((probe, records), (entry, others)) in header.probes.iter().map(|probe| {
            let range = header.record_range(probe, 0, u64::MAX);
            (probe, parse_records(&stored[range.start as usize..range.end as usize]).unwrap())
        }).zip(index.probes()) {
            prop_assert_eq!(probe, entry);
            let mut in_order = records;
            in_order.sort_by_key(|record| record.offset);
            prop_assert_eq!(&in_order[..], others);
        }
    }

    #[test]
    fn no_bytes_make_an_index_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        length in 0..400u32,
        has_magic: bool,
    ) {
        if has_magic && bytes.len() >= 16 {
            bytes[..8].copy_from_slice(if length % 2 == 0 { b"AEGISIX1" } else { b"AEGISIX3" });
            bytes[8..12].copy_from_slice(&length.to_le_bytes());
            bytes[12..16].copy_from_slice(&40u32.to_le_bytes());
        }
        let _ = IndexHeader::parse(&bytes);
        let _ = Index::read_from(&*bytes);
        let _ = parse_records(&bytes);
    }

    #[test]
    fn a_composed_tally_is_the_sum_of_the_parts(parts in prop::collection::vec(part(), 1..5)) {
        let summaries: Vec<Summary> =
            parts.iter().map(|(_, report)| read(report, 1000).unwrap()).collect();
        let mut sum = Tally::default();
        summaries.iter().for_each(|summary| sum.add(&summary.tally));
        let mut sources: Vec<_> =
            parts.iter().map(|(_, report)| SeekSource(Cursor::new(report.clone()))).collect();
        let mut parts: Vec<Part<'_>> = summaries.iter().zip(&mut sources).map(|(summary, source)| {
            Part { index: &summary.index, source, probes: Selection::All }
        }).collect();
        let mut out = Vec::new();
        let digest = br#"{"entry_type": "digest", "eval": {}}"#;
        let composed =
            compose::compose(&mut parts, &identity(), digest, options(), &mut out).unwrap();
        prop_assert_eq!(&composed.tally, &sum);
        prop_assert_eq!(&read(&out, 1000).unwrap(), &composed);
    }
}
