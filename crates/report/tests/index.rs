//! An index leads to the attempts without the rest of the report being read.

mod common;

use aegis_report::index::{
    EXCERPT_BYTES, EXCERPT_HITS, INDEXED_DETECTORS, PREFIX_BYTES, RECORD_BYTES, SkeletonKind,
    parse_excerpt, parse_records, plan_reads,
};
use aegis_report::{Attempt, Filter, Index, IndexError, IndexHeader, Outcome, TextBounds};
use common::{NONES, PARTS, PLAIN, lines_of, read, source};

fn stored(index: &Index, report: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    index.write_to(&mut bytes, &mut source(report)).unwrap();
    bytes
}

#[test]
fn a_page_of_attempts_is_a_few_ranged_reads() {
    let bytes = stored(&read(PLAIN).index, PLAIN);
    let Err(IndexError::Incomplete { needed }) = IndexHeader::parse(&bytes[..PREFIX_BYTES]) else {
        panic!("sixteen bytes are no header");
    };
    let header = IndexHeader::parse(&bytes[..needed]).unwrap();
    assert_eq!(header.index_bytes(), bytes.len() as u64);

    let probe = header.probe("web_injection.MarkdownXSS").unwrap();
    assert_eq!(
        (probe.count, &probe.detectors[..]),
        (7, &["web_injection.XSS".to_owned()][..])
    );
    let range = header.record_range(probe, 2, 3);
    assert_eq!(range.end - range.start, 3 * RECORD_BYTES as u64);
    let records = parse_records(&bytes[range.start as usize..range.end as usize]).unwrap();

    let plans = plan_reads(&records, 0, 1 << 20);
    assert_eq!(plans.len(), 1, "attempts of a probe follow each other");
    let block = &PLAIN[plans[0].range.start as usize..plans[0].range.end as usize];
    let attempts = lines_of(PLAIN, "attempt");
    for record in &records {
        let attempt =
            Attempt::parse(&block[plans[0].place(record)], 0.5, TextBounds::default()).unwrap();
        assert_eq!(attempt.uuid, record.uuid.to_string());
        assert_eq!(attempt.seq, i64::from(record.seq));
        assert_eq!(attempt.status, 2);
        let line = attempts
            .iter()
            .find(|line| line["uuid"] == attempt.uuid.as_str() && line["status"] == 2);
        assert_eq!(
            attempt.prompt[0].content.as_ref().unwrap().text,
            line.unwrap()["prompt"]["turns"][0]["content"]["text"]
                .as_str()
                .unwrap()
        );
    }
    let rest = header.record_range(probe, 6, 100);
    assert_eq!(rest.end - rest.start, RECORD_BYTES as u64);
    assert!(header.record_range(probe, 7, 1).is_empty());
}

#[test]
fn filters_agree_with_the_scores() {
    let index = read(PLAIN).index;
    for (probe, records) in index.probes() {
        for detector in &probe.detectors {
            let count = |outcome| {
                let filter = Filter::of(probe, detector, outcome).unwrap();
                records
                    .iter()
                    .filter(|record| filter.matches(record))
                    .count() as u64
            };
            // One generation, so outcomes of attempts are those of outputs.
            let tally = *read(PLAIN).tally.get(&probe.name, detector).unwrap();
            assert_eq!(count(Outcome::Hit), tally.failed);
            assert_eq!(count(Outcome::Pass), tally.passed);
            assert_eq!(count(Outcome::None), tally.nones);
        }
        let any = records
            .iter()
            .filter(|record| Filter::any_hit().matches(record))
            .count();
        let hits = ["exploitation.SQLInjectionEcho", "web_injection.MarkdownXSS"];
        assert_eq!(
            any,
            if hits.contains(&&*probe.name) {
                records.len()
            } else {
                0
            }
        );
    }
    let profanity = index.header().probe("lmrc.Profanity").unwrap();
    assert_eq!(profanity.detectors.len(), 10);
    let unknown = Filter::of(profanity, "web_injection.XSS", Outcome::Hit);
    assert!(matches!(unknown, Err(IndexError::UnknownDetector)));

    let nones = read(NONES).index;
    let records = nones.records("lmrc.QuackMedicine").unwrap();
    assert!(Filter::overall(Outcome::None).matches(&records[0]));
    assert!(!Filter::any_hit().matches(&records[0]));
}

#[test]
fn lines_are_found_with_their_probe() {
    let index = read(PLAIN).index;
    let header = index.header();
    let kinds = [
        (SkeletonKind::Setup, 1),
        (SkeletonKind::Init, 1),
        (SkeletonKind::PayloadInit, 14),
        (SkeletonKind::PluginCache, 4),
        (SkeletonKind::Eval, 13),
        (SkeletonKind::ProbeSummary, 4),
        (SkeletonKind::Completion, 1),
        (SkeletonKind::Digest, 1),
    ];
    for (kind, count) in kinds {
        assert_eq!(header.lines_of(kind).count(), count, "{kind:?}");
        for entry in header.lines_of(kind) {
            let line = &PLAIN[entry.range().start as usize..entry.range().end as usize];
            let line: serde_json::Value = serde_json::from_slice(line).unwrap();
            assert_eq!(line["entry_type"], kind.entry_type());
            let probe = entry
                .probe
                .map(|place| &*header.probes[place as usize].name);
            if let Some(named) = line["probe"].as_str() {
                assert_eq!(probe, Some(named));
            }
        }
    }
    // Payloads are loaded by the probe that comes next, or by its detector.
    let payloads = header
        .lines_of(SkeletonKind::PayloadInit)
        .map(|entry| header.probes[entry.probe.unwrap() as usize].name.as_str());
    let payloads: Vec<&str> = payloads.collect();
    assert_eq!(payloads[..11], ["exploitation.SQLInjectionEcho"; 11]);
    assert_eq!(payloads[11..], ["web_injection.MarkdownXSS"; 3]);
}

#[test]
fn detectors_beyond_those_indexed_are_said_to_be_so() {
    let attempt = |last: &str| {
        let scores: Vec<String> = (0..INDEXED_DETECTORS)
            .map(|n| format!("\"d.D{n}\": [0.1]"))
            .collect();
        format!(
            "{{\"entry_type\": \"attempt\", \"status\": 2, \"probe_classname\": \"a.A\", \"detector_results\": {{{}{last}}}}}\n",
            scores.join(", ")
        )
    };
    let report = [
        attempt(""),
        attempt(", \"d.Last\": [0.1]"),
        attempt(", \"d.Last\": [0.9]"),
    ]
    .concat();
    let index = read(report.as_bytes()).index;
    let probe = index.header().probe("a.A").unwrap();
    assert_eq!(probe.detectors.len(), INDEXED_DETECTORS + 1);
    assert!(matches!(
        Filter::of(probe, "d.Last", Outcome::Hit),
        Err(IndexError::NotIndexed)
    ));
    assert!(Filter::of(probe, "d.D30", Outcome::Pass).is_ok());
    let records = index.records("a.A").unwrap();
    let spilled: Vec<bool> = records
        .iter()
        .map(|record| record.outcomes.is_spilled())
        .collect();
    assert_eq!(spilled, [false, true, true]);
    let hits: Vec<bool> = records
        .iter()
        .map(|record| Filter::any_hit().matches(record))
        .collect();
    assert_eq!(hits, [false, false, true]);
    assert_eq!(records[0].outcomes.get(30), Some(Outcome::Pass));
}

#[test]
fn only_whole_indexes_of_a_known_version_are_read() {
    let index = read(PLAIN).index;
    let bytes = stored(&index, PLAIN);
    let back = Index::read_from(&*bytes).unwrap();
    assert_eq!(stored(&back, PLAIN), bytes);
    assert_eq!(back.header().probes, index.header().probes);

    let header = IndexHeader::parse(&bytes).unwrap();
    assert_eq!(header.index_bytes(), bytes.len() as u64);
    let torn = &bytes[..header.records_end() as usize - 1];
    let torn = Index::read_from(torn).unwrap_err();
    assert!(
        matches!(torn, IndexError::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof)
    );
    let changed = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        IndexHeader::parse(&bytes).unwrap_err()
    };
    assert!(matches!(changed(7, b'4'), IndexError::UnknownVersion('4')));
    assert!(matches!(changed(0, b'a'), IndexError::Malformed(_)));
    assert!(
        matches!(changed(11, 0xff), IndexError::Malformed(_)),
        "header too long"
    );
    assert!(
        matches!(changed(12, 41), IndexError::Malformed(_)),
        "records of another size"
    );
    assert!(matches!(changed(16, b'['), IndexError::Malformed(_)));
    assert!(matches!(
        parse_records(&[0; 41]),
        Err(IndexError::Malformed(_))
    ));
    assert!(matches!(
        index.records("no.Such"),
        Err(IndexError::UnknownProbe)
    ));
}

#[test]
fn reads_are_joined_within_bounds() {
    let index = read(PLAIN).index;
    let records = index.records("web_injection.MarkdownXSS").unwrap();
    assert_eq!(plan_reads(records, 0, u64::MAX).len(), 1);
    assert_eq!(plan_reads(records, 0, 1).len(), records.len());
    let odd: Vec<_> = records.iter().step_by(2).copied().collect();
    assert_eq!(plan_reads(&odd, 0, u64::MAX).len(), odd.len());
    let plans = plan_reads(&odd, 64 << 10, u64::MAX);
    assert_eq!((plans.len(), plans[0].records.clone()), (1, 0..odd.len()));
}

const ONE_HIT: &[u8] = br#"{"entry_type": "attempt", "status": 2, "seq": 5, "uuid": "00112233-4455-6677-8899-aabbccddeeff", "probe_classname": "a.A", "detector_results": {"d.D": [0], "d.E": [1], "d.F": [null]}}
{"entry_type": "eval", "probe": "a.A", "detector": "d.D", "passed": 1, "total": 1}
"#;

/// The index of [`ONE_HIT`] but for its excerpts.
fn index_of_one_hit(version: u8, excerpt: &str) -> Vec<u8> {
    let header = format!(
        r#"{{"report_bytes":267,"lines":2,"probes":[{{"name":"a.A","detectors":["d.D","d.E","d.F"],"first":0,"count":1,"classes":{{"hits":1,"passes":0}}{excerpt}}}],"skeleton":[{{"kind":"eval","probe":0,"offset":184,"length":83}}]}}"#
    );
    let mut expected = b"AEGISIX".to_vec();
    expected.push(version);
    expected.extend_from_slice(&(header.len() as u32).to_le_bytes());
    expected.extend_from_slice(&[40, 0, 0, 0]);
    expected.extend_from_slice(header.as_bytes());
    expected.extend_from_slice(&RECORD_OF_ONE_HIT);
    expected
}

const RECORD_OF_ONE_HIT: [u8; RECORD_BYTES] = [
    0, 0, 0, 0, 0, 0, 0, 0, 184, 0, 0, 0, 5, 0, 0, 0, 0b01_11_10, 0, 0, 0, 0, 0, 0, 0, 0, 0x11,
    0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
];

/// What is stored can be read for good: a change of these bytes is a new version.
#[test]
fn version_3_is_stored_as_ever() {
    let mut expected = index_of_one_hit(b'3', r#","excerpt":{"hits":1,"bytes":184}"#);
    expected.extend_from_slice(&RECORD_OF_ONE_HIT);
    expected.extend_from_slice(&ONE_HIT[..184]);
    let bytes = stored(&read(ONE_HIT).index, ONE_HIT);
    assert_eq!(
        String::from_utf8_lossy(&bytes),
        String::from_utf8_lossy(&expected)
    );
    assert_eq!(bytes, expected);
}

#[test]
fn an_index_of_the_second_version_is_still_read() {
    let old = index_of_one_hit(b'2', "");
    let header = IndexHeader::parse(&old).unwrap();
    assert_eq!(header.index_bytes(), old.len() as u64);
    assert_eq!(header.excerpt_range(&header.probes[0]), None);
    let (old, new) = (Index::read_from(&*old).unwrap(), read(ONE_HIT).index);
    assert!(old.probes().eq(new.probes()));
}

/// Written before hits lay first.
const VERSION_1: &[u8] = include_bytes!("data/part-4.v1.index");

#[test]
fn an_index_of_the_first_version_is_still_read() {
    let (old, new) = (Index::read_from(VERSION_1).unwrap(), read(PARTS[3]).index);
    assert_eq!(
        old.probes().collect::<Vec<_>>(),
        new.probes().collect::<Vec<_>>()
    );
    let header = IndexHeader::parse(VERSION_1).unwrap();
    assert_eq!(header.probes[0].runs(), [(None, 0..header.probes[0].count)]);
}

#[test]
fn hits_lie_first_then_passes_then_what_could_not_be_scored() {
    let score = |number: u32| ["[1.0]", "[0.0]", "[null]"][number as usize % 3];
    let attempt = |number: u32| {
        let score = score(number);
        format!(
            r#"{{"entry_type": "attempt", "seq": {number}, "status": 2, "probe_classname": "a.A", "outputs": ["o"], "detector_results": {{"d.D": {score}}}}}"#
        )
    };
    let report: String = (0..8).map(|number| attempt(number) + "\n").collect();
    let index = read(report.as_bytes()).index;
    let order: Vec<i32> = index
        .records("a.A")
        .unwrap()
        .iter()
        .map(|record| record.seq)
        .collect();
    assert_eq!(
        order,
        [0, 1, 2, 3, 4, 5, 6, 7],
        "in memory as the report has them"
    );
    let bytes = stored(&index, report.as_bytes());
    let header = IndexHeader::parse(&bytes).unwrap();
    let range = header.record_range(&header.probes[0], 0, 8);
    let records = parse_records(&bytes[range.start as usize..range.end as usize]).unwrap();
    let lying: Vec<i32> = records.iter().map(|record| record.seq).collect();
    assert_eq!(lying, [0, 3, 6, 1, 4, 7, 2, 5]);
    let runs = [
        (Some(Outcome::Hit), 0..3),
        (Some(Outcome::Pass), 3..6),
        (Some(Outcome::None), 6..8),
    ];
    assert_eq!(header.probes[0].runs(), runs);
    assert_eq!(
        Index::read_from(&*bytes).unwrap().probes().next(),
        index.probes().next()
    );
}

/// A report of two probes; of the first every third attempt is a hit, with lines of `padding`
/// bytes and some.
fn report_of_hits(attempts: usize, padding: usize) -> String {
    let line = |probe: &str, number: usize| {
        let score = f64::from(u8::from(number.is_multiple_of(3)));
        let output = "o".repeat(padding);
        format!(
            r#"{{"entry_type": "attempt", "seq": {number}, "status": 2, "probe_classname": "{probe}", "outputs": ["{output}"], "detector_results": {{"d.D": [{score}]}}}}"#
        ) + "\n"
    };
    let first = (0..attempts).map(|number| line("a.A", number));
    first
        .chain((0..2).map(|number| line("b.B", number)))
        .collect()
}

#[test]
fn the_first_hits_of_each_probe_lie_together() {
    for (attempts, padding, expected) in [
        (30, 10, 10),
        (3 * 400, 10, EXCERPT_HITS),
        (3 * 90, 10_000, 51),
        (30, EXCERPT_BYTES as usize, 0),
    ] {
        let report = report_of_hits(attempts, padding);
        let bytes = stored(&read(report.as_bytes()).index, report.as_bytes());
        let header = IndexHeader::parse(&bytes).unwrap();
        assert_eq!(header.index_bytes(), bytes.len() as u64);
        for (probe, expected) in header.probes.iter().zip([expected, expected.min(1)]) {
            let Some(range) = header.excerpt_range(probe) else {
                assert_eq!(expected, 0);
                continue;
            };
            let excerpt = probe.excerpt.unwrap();
            assert_eq!(excerpt.hits, expected);
            let kept = &bytes[range.start as usize..range.end as usize];
            let places = parse_excerpt(&excerpt, kept).unwrap();
            let records = header.record_range(probe, 0, expected);
            let records = parse_records(&bytes[records.start as usize..records.end as usize]);
            assert!(
                places
                    .iter()
                    .map(|(record, _)| *record)
                    .eq(records.unwrap())
            );
            for (record, place) in places {
                let line = &report.as_bytes()[record.offset as usize..record.range().end as usize];
                assert_eq!(&kept[place], line);
            }
            for torn in [&kept[..kept.len() - 1], &kept[..RECORD_BYTES - 1], &[]] {
                assert!(parse_excerpt(&excerpt, torn).is_err());
            }
        }
    }
}

#[test]
fn an_excerpt_beyond_its_bounds_is_refused() {
    for excerpt in [
        r#""hits":2,"bytes":184"#,
        r#""hits":1,"bytes":524289"#,
        r#""hits":1,"bytes":18446744073709551615"#,
    ] {
        let index = index_of_one_hit(b'3', &format!(r#","excerpt":{{{excerpt}}}"#));
        let refused = IndexHeader::parse(&index).unwrap_err();
        assert!(matches!(refused, IndexError::Malformed(_)), "{excerpt}");
    }
}
