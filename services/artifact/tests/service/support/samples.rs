//! Reports: real ones of garak's, and large ones in its format.

use std::fmt::Write;
use std::path::Path;

use aegis_proto::internal::catalog::v1::{ProbeDetectorTally, Tally};
use aegis_report::{DetectorTally, Options};

/// A file that garak left; see generate.sh beside it.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/report/tests/data");
    std::fs::read(folder.join(name)).unwrap()
}

/// The digest of a run of all the sample parts' probes.
pub(crate) fn digest_line() -> Vec<u8> {
    let plain = sample("plain.report.jsonl");
    plain
        .split(|b| *b == b'\n')
        .rfind(|line| !line.is_empty())
        .unwrap()
        .to_vec()
}

/// What the catalog must be told about reports taken together, without grades.
pub(crate) fn sum_of(reports: &[&[u8]]) -> Tally {
    let mut sum = aegis_report::Tally::default();
    for report in reports {
        sum.add(
            &aegis_report::read(*report, Options::default())
                .unwrap()
                .tally,
        );
    }
    let attempts = sum
        .probes
        .values()
        .map(|of| of.attempts.completed as i64)
        .sum();
    let rows = sum.probes.iter().flat_map(|(probe, of)| {
        of.detectors
            .iter()
            .map(|(detector, counts)| row(probe, detector, counts))
    });
    Tally {
        rows: rows.collect(),
        attempts,
    }
}

fn row(probe: &str, detector: &str, counts: &DetectorTally) -> ProbeDetectorTally {
    ProbeDetectorTally {
        probe: probe.to_owned(),
        detector: detector.to_owned(),
        passed: counts.passed as i64,
        failed: counts.failed as i64,
        nones: counts.nones as i64,
        evaluated: counts.evaluated as i64,
        grades: None,
    }
}

/// A report of one probe, `test.Big`, with detectors `test.A` and `test.B`.
#[derive(Clone, Copy)]
pub(crate) struct Generated {
    pub(crate) attempts: usize,
    /// Bytes of each output.
    pub(crate) output_bytes: usize,
}

impl Generated {
    pub(crate) const PROBE: &str = "test.Big";

    /// Every 100th attempt.
    pub(crate) fn hits_a(number: usize) -> bool {
        number.is_multiple_of(100)
    }

    /// Every third attempt has no score of B; of the others every seventh is a hit.
    pub(crate) fn score_b(number: usize) -> Option<f64> {
        (!number.is_multiple_of(3)).then_some(if number.is_multiple_of(7) { 1.0 } else { 0.25 })
    }
}

/// Writes such a report.
pub(crate) fn generated(report: Generated) -> Vec<u8> {
    let mut text = String::new();
    let output = "x".repeat(report.output_bytes);
    for number in 0..report.attempts {
        let a = if Generated::hits_a(number) {
            "1.0"
        } else {
            "0.0"
        };
        let b = Generated::score_b(number).map_or("null".to_owned(), |score| score.to_string());
        let line = format!(
            r#"{{"entry_type": "attempt", "uuid": "00000000-0000-4000-8000-{number:012}", "seq": {number}, "status": 2, "probe_classname": "test.Big", "prompt": {{"turns": [{{"role": "user", "content": {{"text": "prompt {number}"}}}}]}}, "outputs": [{{"text": "{output}"}}], "detector_results": {{"test.A": [{a}], "test.B": [{b}]}}, "notes": {{}}, "goal": "test"}}"#
        );
        writeln!(text, "{line}").unwrap();
    }
    for detector in ["test.A", "test.B"] {
        writeln!(
            text,
            r#"{{"entry_type": "eval", "probe": "test.Big", "detector": "{detector}", "passed": 1, "fails": 1, "nones": 0, "total_evaluated": 2, "total_processed": 2}}"#
        )
        .unwrap();
    }
    text.into_bytes()
}
