//! A scan's report made from the reports of its probes.

mod common;

use std::collections::BTreeSet;

use aegis_report::compose::{self, Part, Selection};
use aegis_report::hitlog::compose_hitlog;
use aegis_report::{
    ComposeError, HitlogPart, HitlogReader, Index, Limits, Options, ReportError, Summary, Tally,
    Warning,
};
use common::{
    NONES, PART_HITLOGS, PARTS, PLAIN, PROBES, RUN_ID, Source, identity, indexes, lines, lines_of,
    source,
};

fn digest() -> &'static [u8] {
    PLAIN.split(|byte| *byte == b'\n').next_back().unwrap()
}

type Written = Result<(Vec<u8>, Summary), ComposeError>;

fn composed_of(reports: &[(&[u8], Selection<'_>)]) -> Written {
    let indexes: Vec<Index> = reports
        .iter()
        .map(|(report, _)| common::read(report).index)
        .collect();
    let mut sources: Vec<Source> = reports.iter().map(|(report, _)| source(report)).collect();
    let parts = indexes.iter().zip(&mut sources).zip(reports);
    let mut parts: Vec<Part<'_>> = parts
        .map(|((index, source), (_, probes))| Part {
            index,
            source,
            probes: *probes,
        })
        .collect();
    let mut out = Vec::new();
    let summary = compose::compose(
        &mut parts,
        &identity(),
        digest(),
        Options::default(),
        &mut out,
    )?;
    Ok((out, summary))
}

fn composed() -> (Vec<u8>, Summary) {
    composed_of(&PARTS.map(|part| (part, Selection::All))).unwrap()
}

#[test]
fn a_composed_report_has_the_order_and_the_lines_of_a_plain_one() {
    let (report, _) = composed();
    let kinds = |report: &[u8]| -> Vec<(String, i64, String)> {
        let started = |line: &serde_json::Value| line["status"] == 1;
        let kept = lines(report).into_iter().filter(|line| !started(line));
        kept.map(|line| {
            let text = |field: &str| line[field].as_str().unwrap_or_default().to_owned();
            let probe = text("probe") + &text("probe_classname") + &text("payload_name");
            (
                text("entry_type"),
                line["seq"].as_i64().unwrap_or_default(),
                probe,
            )
        })
        .collect()
    };
    assert_eq!(kinds(&report), kinds(PLAIN));
    assert_eq!(lines_of(PLAIN, "attempt").len(), 40);
    assert_eq!(lines_of(&report, "attempt").len(), 20);
    assert!(
        !report.ends_with(b"\n"),
        "garak ends a report with its digest and no line break"
    );
    assert!(report.ends_with(digest()));
}

#[test]
fn the_scan_stands_in_for_its_parts() {
    let (report, summary) = composed();
    let setup = &lines_of(&report, "start_run setup")[0];
    assert_eq!(setup["transient.run_id"], RUN_ID);
    assert_eq!(setup["reporting.report_prefix"], "scan-1");
    assert_eq!(setup["run.spec"], identity().spec);
    assert_eq!(
        setup["transient.active_probes"][3],
        "probes.web_injection.MarkdownXSS"
    );
    assert_eq!(setup["run.seed"], 7);
    for path in [
        "_config.config_files",
        "transient.report_filename",
        "reporting.report_dir",
    ] {
        assert!(setup.get(path).is_none(), "{path}");
    }
    for kind in ["init", "plugin_cache", "completion"] {
        let lines = lines_of(&report, kind);
        assert!(
            !lines.is_empty() && lines.iter().all(|line| line["run"] == RUN_ID),
            "{kind}"
        );
    }
    let all = |kind: &str, field: &str| -> BTreeSet<String> {
        let lines = PARTS.iter().flat_map(|part| lines_of(part, kind));
        lines
            .map(|line| line[field].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        Some(&summary.run.start_time),
        all("init", "start_time").first()
    );
    assert_eq!(
        Some(&summary.run.end_time),
        all("completion", "end_time").last()
    );
    // Field order is garak's own: what is not the scan's is copied as it is.
    let text = String::from_utf8(report).unwrap();
    assert!(text.starts_with(
        r#"{"entry_type": "start_run setup", "_config.DICT_CONFIG_AFTER_LOAD": false, "#
    ));
}

#[test]
fn the_tally_is_the_sum_of_the_parts() {
    let (report, summary) = composed();
    let mut sum = Tally::default();
    PARTS
        .iter()
        .for_each(|part| sum.add(&common::read(part).tally));
    for probe in sum.probes.values_mut() {
        assert!(probe.attempts.started > 0);
        probe.attempts.started = 0; // dropped, see aegis_report::compose
    }
    assert_eq!(summary.tally, sum);
    assert_eq!(summary.warnings, []);
    assert_eq!(
        common::read(&report).tally,
        summary.tally,
        "the same when read again"
    );
    assert_eq!(summary.bytes, report.len() as u64);
}

#[test]
fn attempts_evals_and_summaries_are_copied_byte_by_byte() {
    let (report, _) = composed();
    let copied = |line: &&[u8]| {
        let line = &line[..line.len().min(80)];
        let starts = |with: &str| line.starts_with(with.as_bytes());
        starts(r#"{"entry_type": "eval""#)
            || starts(r#"{"entry_type": "probe_summary""#)
            || starts(r#"{"entry_type": "payload_init""#)
    };
    let of_parts: Vec<&[u8]> = PARTS
        .iter()
        .flat_map(|part| part.split(|byte| *byte == b'\n'))
        .filter(copied)
        .collect();
    let of_report: Vec<&[u8]> = report.split(|byte| *byte == b'\n').filter(copied).collect();
    assert_eq!(of_report, of_parts);
    let attempts: Vec<_> = PARTS
        .iter()
        .flat_map(|part| lines_of(part, "attempt"))
        .filter(|line| line["status"] == 2)
        .collect();
    assert_eq!(lines_of(&report, "attempt"), attempts);
}

#[test]
fn the_skeleton_is_the_report_without_attempts_and_end() {
    let (report, _) = composed();
    let indexes = indexes();
    let mut sources = PARTS.map(source);
    let mut parts: Vec<Part<'_>> = indexes
        .iter()
        .zip(&mut sources)
        .map(|(index, source)| Part {
            index,
            source,
            probes: Selection::All,
        })
        .collect();
    let mut skeleton = Vec::new();
    compose::skeleton(&mut parts, &identity(), Options::default(), &mut skeleton).unwrap();
    let dropped = ["attempt", "completion", "digest"];
    let mut kept = lines(&report);
    kept.retain(|line| !dropped.contains(&line["entry_type"].as_str().unwrap()));
    assert_eq!(lines(&skeleton), kept);
    assert!(skeleton.len() < 40_000, "{}", skeleton.len());
}

#[test]
fn a_retried_scan_takes_probes_from_its_former_report() {
    let (whole, _) = composed();
    let old = [
        PROBES[0].to_owned(),
        PROBES[1].to_owned(),
        PROBES[2].to_owned(),
    ];
    let (report, summary) =
        composed_of(&[(&whole, Selection::Only(&old)), (PARTS[3], Selection::All)]).unwrap();
    assert_eq!(report, whole);
    let one = [PROBES[3].to_owned()];
    let (part, other) = composed_of(&[(&whole, Selection::Only(&one))]).unwrap();
    assert_eq!(lines_of(&part, "payload_init").len(), 3);
    assert_eq!(lines_of(&part, "plugin_cache").len(), 1);
    assert_eq!(lines_of(&part, "attempt").len(), 7);
    assert_eq!(other.tally.probes.keys().collect::<Vec<_>>(), [PROBES[3]]);
    assert_eq!(
        other.tally.probes[PROBES[3]],
        summary.tally.probes[PROBES[3]]
    );
}

#[test]
fn what_does_not_belong_together_is_refused() {
    let error = composed_of(&[]).unwrap_err();
    assert!(matches!(error, ComposeError::NoParts));
    let error = composed_of(&[(PARTS[0], Selection::All), (NONES, Selection::All)]).unwrap_err();
    assert!(matches!(
        error,
        ComposeError::Differs {
            part: 1,
            field: "plugins.target_type"
        }
    ));
    let headless = PARTS[1].splitn(2, |byte| *byte == b'\n').last().unwrap();
    let error = composed_of(&[(PARTS[0], Selection::All), (headless, Selection::All)]).unwrap_err();
    assert!(matches!(
        error,
        ComposeError::Missing {
            part: 1,
            entry_type: "start_run setup"
        }
    ));
}

#[test]
fn bytes_that_were_not_indexed_and_digests_that_are_none_are_refused() {
    let index = common::read(PARTS[0]).index;
    let write = |bytes: &[u8], digest: &[u8]| {
        let mut source = source(bytes);
        let mut parts = [Part {
            index: &index,
            source: &mut source,
            probes: Selection::All,
        }];
        compose::compose(
            &mut parts,
            &identity(),
            digest,
            Options::default(),
            &mut Vec::new(),
        )
    };
    let mut changed = PARTS[0].to_vec();
    let attempt = index.records(PROBES[0]).unwrap()[0].offset as usize;
    changed[attempt] = b'x';
    assert!(matches!(
        write(&changed, digest()),
        Err(ComposeError::Report(ReportError::Malformed { .. }))
    ));
    let short = &PARTS[0][..PARTS[0].len() / 2];
    assert!(matches!(write(short, digest()), Err(ComposeError::Io(_))));
    assert!(matches!(
        write(PARTS[0], b"{\"entry_type\": \"eval\"}"),
        Err(ComposeError::NotADigest)
    ));
    assert!(write(PARTS[0], digest()).is_ok());
}

fn hitlog_of(parts: &[(&[u8], Selection<'_>)]) -> Result<(Vec<u8>, u64), ComposeError> {
    let mut sources: Vec<&[u8]> = parts.iter().map(|(hitlog, _)| *hitlog).collect();
    let mut parts: Vec<HitlogPart<'_>> = sources
        .iter_mut()
        .zip(parts)
        .map(|(source, (_, probes))| HitlogPart {
            source,
            probes: *probes,
        })
        .collect();
    let mut out = Vec::new();
    let summary = compose_hitlog(&mut parts, RUN_ID, Limits::default(), &mut out)?;
    assert_eq!(summary.bytes, out.len() as u64);
    Ok((out, summary.total()))
}

#[test]
fn a_hitlog_is_that_of_the_parts_with_the_scans_id() {
    let (hitlog, total) = hitlog_of(&PART_HITLOGS.map(|part| (part, Selection::All))).unwrap();
    let without_run = |hitlog: &[u8]| -> Vec<serde_json::Value> {
        let mut hits = lines(hitlog);
        for hit in &mut hits {
            hit["run_id"] = "".into();
        }
        hits
    };
    assert_eq!(without_run(&hitlog), without_run(&PART_HITLOGS.concat()));
    assert!(lines(&hitlog).iter().all(|hit| hit["run_id"] == RUN_ID));
    assert_eq!(total, 17);
    assert_eq!(
        hitlog.len(),
        PART_HITLOGS.concat().len(),
        "an id is as long as another"
    );

    let one = [PROBES[3].to_owned()];
    assert_eq!(hitlog_of(&[(&hitlog, Selection::Only(&one))]).unwrap().1, 7);
    assert_eq!(
        hitlog_of(&[(b"", Selection::All)]).unwrap(),
        (Vec::new(), 0)
    );
}

#[test]
fn a_hitlog_has_one_line_for_each_hit_of_the_tally() {
    let mut reader = HitlogReader::new(Limits::default());
    PART_HITLOGS
        .concat()
        .chunks(1000)
        .for_each(|chunk| reader.push(chunk).unwrap());
    let summary = reader.finish().unwrap();
    let tally = common::read(PLAIN).tally;
    assert_eq!(summary.check(&tally), []);
    let warnings = summary.check(&common::read(PARTS[0]).tally);
    let [
        Warning::HitsDiffer {
            probe,
            failed: 0,
            hits: 7,
            ..
        },
    ] = &warnings[..]
    else {
        panic!("{warnings:?}");
    };
    assert_eq!(probe, PROBES[3]);
}

#[test]
fn a_torn_or_malformed_hitlog_is_refused() {
    let torn = &PART_HITLOGS[0][..PART_HITLOGS[0].len() - 1];
    let mut reader = HitlogReader::new(Limits::default());
    reader.push(torn).unwrap();
    let truncated = ReportError::Truncated {
        line: 10,
        offset: torn.len() as u64,
    };
    assert_eq!(reader.finish().unwrap_err(), truncated);
    let error = hitlog_of(&[(torn, Selection::All)]).unwrap_err();
    assert!(matches!(error, ComposeError::Report(error) if error == truncated));
    let mut reader = HitlogReader::new(Limits::default());
    let error = reader.push(b"{\"probe\": \"a.A\"}\n").unwrap_err();
    assert!(matches!(error, ReportError::Malformed { line: 1, .. }));
}
