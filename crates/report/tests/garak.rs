//! The real garak reads what is composed here, and makes of it what it makes of
//! its own report.
//!
//! The Python that has garak is named by `AEGIS_GARAK_PYTHON`; without it the
//! one that the workspace installs is used.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use aegis_report::compose::{self, Part, Selection};
use aegis_report::{Grades, Index, Options};
use common::{PARTS, PLAIN, Source, identity, indexes, source};
use serde_json::{Value, json};
use tempfile::TempDir;

fn python() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let installed = workspace.join(".tools/garak/bin/python");
    let python = std::env::var_os("AEGIS_GARAK_PYTHON").map_or(installed, PathBuf::from);
    assert!(
        python.try_exists().unwrap(),
        "no garak at {}: set AEGIS_GARAK_PYTHON to the Python that has it",
        python.display()
    );
    python
}

/// Runs garak's own report writer.
fn report_digest(scratch: &Path, report: &Path, arguments: &[&str]) -> PathBuf {
    let html = report.with_extension("html");
    let output = Command::new(python())
        .args(["-m", "garak.analyze.report_digest", "-r"])
        .arg(report)
        .arg("-o")
        .arg(&html)
        .args(arguments)
        .env("XDG_DATA_HOME", scratch.join("data"))
        .env("XDG_CONFIG_HOME", scratch.join("config"))
        .env("XDG_CACHE_HOME", scratch.join("cache"))
        .current_dir(scratch)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "garak refused the report: {stderr}"
    );
    let size = std::fs::metadata(&html).unwrap().len();
    assert!(size > 100_000, "garak wrote a page of {size} bytes");
    html
}

/// A digest's trees of grades and techniques; the order of a probe's detectors is chance (garak
/// makes the list of a Python set).
fn eval_tree(digest: &[u8]) -> Value {
    let mut digest: Value = serde_json::from_slice(digest).unwrap();
    for group in digest["eval"].as_object_mut().unwrap().values_mut() {
        for probe in group.as_object_mut().unwrap().values_mut() {
            let counts = probe.pointer_mut("/_summary/probe_counts/detection_counts/detectors");
            if let Some(Value::Array(detectors)) = counts {
                detectors.sort_by_key(|name| name.as_str().map(str::to_owned));
            }
        }
    }
    let (eval, matrix) = (
        digest["eval"].take(),
        digest["technique_intent_matrix"].take(),
    );
    assert_eq!(eval.as_object().unwrap().len(), 3, "groups of probes");
    assert!(!matrix.as_object().unwrap().is_empty());
    json!({"eval": eval, "technique_intent_matrix": matrix})
}

fn last_line(report: &[u8]) -> &[u8] {
    report
        .trim_ascii_end()
        .split(|byte| *byte == b'\n')
        .next_back()
        .unwrap()
}

fn parts<'a>(indexes: &'a [Index], sources: &'a mut [Source]) -> Vec<Part<'a>> {
    let parts = indexes.iter().zip(sources);
    parts
        .map(|(index, source)| Part {
            index,
            source,
            probes: Selection::All,
        })
        .collect()
}

#[test]
fn garak_grades_a_composed_report_as_its_own() {
    let scratch = TempDir::new().unwrap();
    let indexes = indexes();
    let mut sources = PARTS.map(source);
    let mut parts = parts(&indexes, &mut sources);

    let path = scratch.path().join("scan-1.report.jsonl");
    let mut skeleton = Vec::new();
    compose::skeleton(&mut parts, &identity(), Options::default(), &mut skeleton).unwrap();
    std::fs::write(&path, &skeleton).unwrap();
    report_digest(scratch.path(), &path, &["-w"]);
    let written = std::fs::read(&path).unwrap();
    let digest = last_line(&written);
    assert_eq!(eval_tree(digest), eval_tree(last_line(PLAIN)));

    let mut report = Vec::new();
    let summary = compose::compose(
        &mut parts,
        &identity(),
        digest,
        Options::default(),
        &mut report,
    )
    .unwrap();
    let path = scratch.path().join("composed.report.jsonl");
    std::fs::write(&path, &report).unwrap();
    report_digest(scratch.path(), &path, &[]);

    // With a taxonomy garak does not take the digest that is there: it reads
    // the whole report and grades it again.
    report_digest(scratch.path(), &path, &["-t", "None", "-w"]);
    let again = std::fs::read(&path).unwrap();
    assert_eq!(eval_tree(last_line(&again)), eval_tree(last_line(PLAIN)));

    let grades = Grades::parse(digest).unwrap();
    for (probe, tally) in &summary.tally.probes {
        for (detector, counts) in &tally.detectors {
            let grade = grades.get(probe, detector).unwrap();
            assert_eq!(grade.passed, Some(counts.passed));
            assert_eq!(grade.evaluated, Some(counts.evaluated));
            assert_eq!(grade.absolute_score, counts.pass_rate());
        }
    }
}
