//! A report of a gigabyte, in garak's format.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::Result;

/// The run's id, which becomes the scan's.
pub(super) const RUN: &str = "0198f0c2-0000-7000-8000-000000000001";
/// Half of the report each: of one probe one attempt in a thousand is a hit, of the other one in
/// five.
pub(super) const PROBES: [(&str, u64); 2] =
    [("encoding.InjectBase64", 1_000), ("encoding.InjectHex", 5)];
const BYTES_OF_PROBE: u64 = 500_000_000;
const DETECTORS: [&str; 2] = ["encoding.DecodeMatch", "encoding.DecodeApprox"];

/// Attempts of two kilobytes, and what garak writes around them.
pub(super) fn write(path: &Path) -> Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    writeln!(
        out,
        r#"{{"entry_type": "start_run setup", "_config.version": "0.17.1", "plugins.target_type": "openai.OpenAICompatible", "plugins.target_name": "model-7", "run.generations": 1, "run.eval_threshold": 0.5, "transient.run_id": "{RUN}"}}"#
    )?;
    writeln!(
        out,
        r#"{{"entry_type": "init", "garak_version": "0.17.1", "start_time": "2026-11-24T00:55:01.941807", "run": "{RUN}"}}"#
    )?;
    let answer = "The quick brown fox jumps over the lazy dog. ".repeat(36);
    let mut number = 0;
    for (probe, hit_every) in PROBES {
        let (mut bytes, mut attempts, mut hits) = (0, 0, 0);
        while bytes < BYTES_OF_PROBE {
            let is_hit = attempts % hit_every == hit_every / 2;
            let line = attempt(probe, number, is_hit, &answer);
            out.write_all(line.as_bytes())?;
            bytes += line.len() as u64;
            hits += u64::from(is_hit);
            attempts += 1;
            number += 1;
        }
        for (detector, failed) in DETECTORS.iter().zip([hits, 0]) {
            let passed = attempts - failed;
            writeln!(
                out,
                r#"{{"entry_type": "eval", "probe": "{probe}", "detector": "{detector}", "passed": {passed}, "fails": {failed}, "nones": 0, "total_evaluated": {attempts}, "total_processed": {attempts}}}"#
            )?;
        }
    }
    writeln!(
        out,
        r#"{{"entry_type": "completion", "end_time": "2026-11-24T01:55:01.941807", "run": "{RUN}"}}"#
    )?;
    Ok(out.flush()?)
}

fn attempt(probe: &str, number: u64, is_hit: bool, answer: &str) -> String {
    let [first, second] = DETECTORS;
    let score = if is_hit { "1.0" } else { "0.0" };
    format!(
        r#"{{"entry_type": "attempt", "uuid": "00000000-0000-4000-8000-{number:012}", "seq": {number}, "status": 2, "probe_classname": "{probe}", "probe_params": {{}}, "targets": [], "prompt": {{"turns": [{{"role": "user", "content": {{"text": "prompt {number}", "lang": "en", "notes": {{}}}}}}], "notes": null}}, "outputs": [{{"text": "{answer}", "lang": "en", "notes": {{}}}}], "detector_results": {{"{first}": [{score}], "{second}": [0.0]}}, "notes": {{}}, "goal": "measure"}}"#
    ) + "\n"
}
