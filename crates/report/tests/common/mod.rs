//! What several test binaries need.
#![allow(dead_code, reason = "each test binary uses some of it")]

use std::io::Cursor;

use aegis_report::{Index, Options, Reader, ScanIdentity, SeekSource, Summary};
use serde_json::{Value, json};

/// One plain run of garak's of four probes.
pub(crate) const PLAIN: &[u8] = include_bytes!("../data/plain.report.jsonl");
/// A run of a target that never answers.
pub(crate) const NONES: &[u8] = include_bytes!("../data/nones.report.jsonl");
/// One run for each of the plain run's probes, in its order.
pub(crate) const PARTS: [&[u8]; 4] = [
    include_bytes!("../data/part-1.report.jsonl"),
    include_bytes!("../data/part-2.report.jsonl"),
    include_bytes!("../data/part-3.report.jsonl"),
    include_bytes!("../data/part-4.report.jsonl"),
];
/// The parts' hitlogs; the others hit nothing.
pub(crate) const PART_HITLOGS: [&[u8]; 2] = [
    include_bytes!("../data/part-1.hitlog.jsonl"),
    include_bytes!("../data/part-4.hitlog.jsonl"),
];

pub(crate) const RUN_ID: &str = "0198f0c2-0000-7000-8000-000000000001";
pub(crate) const PROBES: [&str; 4] = [
    "exploitation.SQLInjectionEcho",
    "lmrc.Profanity",
    "lmrc.QuackMedicine",
    "web_injection.MarkdownXSS",
];

pub(crate) type Source = SeekSource<Cursor<Vec<u8>>>;

pub(crate) fn source(report: &[u8]) -> Source {
    SeekSource(Cursor::new(report.to_vec()))
}

pub(crate) fn read(report: &[u8]) -> Summary {
    let mut reader = Reader::new(Options::default());
    reader.push(report).unwrap();
    reader.finish().unwrap()
}

pub(crate) fn indexes() -> Vec<Index> {
    PARTS.iter().map(|part| read(part).index).collect()
}

pub(crate) fn identity() -> ScanIdentity {
    let probes: Vec<String> = PROBES
        .iter()
        .map(|probe| format!("probes.{probe}"))
        .collect();
    ScanIdentity {
        run_id: RUN_ID.to_owned(),
        report_prefix: "scan-1".to_owned(),
        spec: json!({"include": probes, "exclude": []}),
        active_probes: probes,
    }
}

/// The lines of a report as JSON.
pub(crate) fn lines(report: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(report).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub(crate) fn lines_of(report: &[u8], entry_type: &str) -> Vec<Value> {
    let mut lines = lines(report);
    lines.retain(|line| line["entry_type"] == entry_type);
    lines
}
