//! How fast a report is checked, tallied and indexed, with its SHA-256 in the
//! same pass, and how much memory that takes.
//!
//! ```sh
//! cargo run --release -p aegis-report --example scan_speed -- generate /tmp/big.report.jsonl 1000000000
//! cargo run --release -p aegis-report --example scan_speed -- measure /tmp/big.report.jsonl
//! sha256sum /tmp/big.report.jsonl
//! ```

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::time::Instant;

use aegis_report::{Options, Reader};
use sha2::{Digest, Sha256};

type Outcome = Result<(), Box<dyn Error>>;

/// A real report of four probes.
const SAMPLE: &str = include_str!("../tests/data/plain.report.jsonl");

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["generate", path, bytes] => generate(path, bytes.parse()?),
        ["measure", path] => measure(path),
        _ => Err("usage: scan_speed generate PATH BYTES | measure PATH".into()),
    }
}

/// Repeats the sample's lines, but for those of which a report has one only.
fn generate(path: &str, bytes: u64) -> Outcome {
    let mut out = BufWriter::new(File::create(path)?);
    let (end, body): (Vec<&str>, Vec<&str>) = SAMPLE.lines().partition(|line| {
        line.contains(r#""entry_type": "completion""#) || line.contains(r#""entry_type": "digest""#)
    });
    let attempts = |line: &&&str| line.starts_with(r#"{"entry_type": "attempt""#);
    let mut written = 0;
    let mut lines = body.iter().chain(body.iter().filter(attempts).cycle());
    while let Some(line) = lines.next().filter(|_| written < bytes) {
        writeln!(out, "{line}")?;
        written += line.len() as u64 + 1;
    }
    out.write_all(end.join("\n").as_bytes())?;
    Ok(out.flush()?)
}

fn measure(path: &str) -> Outcome {
    let rest = peak_memory()?;
    time("read only", path, |_| Ok(()))?;
    let mut hash = Sha256::new();
    time("sha256", path, |chunk| {
        hash.update(chunk);
        Ok(())
    })?;
    let mut reader = Reader::new(Options::default());
    time("tally and index", path, |chunk| Ok(reader.push(chunk)?))?;
    drop(reader.finish()?);
    let mut hash = Sha256::new();
    let mut reader = Reader::new(Options::default());
    time("tally, index and sha256", path, |chunk| {
        hash.update(chunk);
        Ok(reader.push(chunk)?)
    })?;
    let summary = reader.finish()?;
    let attempts: usize = summary
        .index
        .probes()
        .map(|(_, records)| records.len())
        .sum();
    println!("{} lines, {attempts} completed attempts", summary.lines);
    println!("memory: {rest} KiB at rest, {} KiB at most", peak_memory()?);
    Ok(())
}

fn time(what: &str, path: &str, mut each: impl FnMut(&[u8]) -> Outcome) -> Outcome {
    let mut file = File::open(path)?;
    let mut chunk = vec![0; 256 << 10];
    let (start, mut bytes) = (Instant::now(), 0);
    loop {
        let taken = file.read(&mut chunk)?;
        if taken == 0 {
            break;
        }
        each(&chunk[..taken])?;
        bytes += taken;
    }
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "{what:24} {seconds:6.2} s {:8.0} MB/s",
        bytes as f64 / 1e6 / seconds
    );
    Ok(())
}

/// The most memory that this process has had, in KiB.
fn peak_memory() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line
        .and_then(|line| line.split_whitespace().next())
        .ok_or("no VmHWM")?;
    Ok(number.parse()?)
}
