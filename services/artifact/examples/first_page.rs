//! How long the first page of a probe's hits takes in a large report, and how much memory.
//!
//! ```sh
//! cargo run --release -p aegis-artifact --example first_page -- seed /tmp/big 1000000000
//! cargo run --release -p aegis-artifact --example first_page -- measure /tmp/big
//! ```
//!
//! `seed` leaves two objects, `report.jsonl` and `report.jsonl.index`, under the key that it prints;
//! they can be copied into any other store.

use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use aegis_artifact::domain::checksum::Checksum;
use aegis_artifact::domain::indexes::Indexes;
use aegis_artifact::domain::key::ObjectKey;
use aegis_artifact::domain::name::ArtifactName;
use aegis_artifact::domain::reading::{Order, Query, Reports, TextMatch};
use aegis_artifact::domain::registry::{
    FindingReport, FindingReportQuery, Lease, Moment, Registry, ReportParts, ReportTally,
    ScanPosition, Source, Staged, StoredArtifact,
};
use aegis_artifact::domain::repair::Repairs;
use aegis_artifact::domain::scratch::Scratch;
use aegis_artifact::store::LocalStore;
use aegis_mesh::Result;
use aegis_proto::ids::{ArtifactId, ProjectId, ScanId};
use aegis_report::{Options, Outcome, Reader, SeekSource};
use async_trait::async_trait;

const PROBE: &str = "test.Big";
const KEY: &str = "default/scans/0198f0c2-0000-7000-8000-000000000001/big/1/report.jsonl";
/// One attempt of so many is a hit.
const HIT_EVERY: usize = 1_000;
const ROUNDS: usize = 300;

type Done = Result<(), Box<dyn Error>>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Done {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["seed", folder, bytes] => seed(Path::new(folder), bytes.parse()?),
        ["measure", folder] => measure(Path::new(folder)).await,
        _ => Err("usage: first_page seed FOLDER BYTES | measure FOLDER".into()),
    }
}

/// Attempts of two kilobytes, of which few are hits.
fn seed(folder: &Path, bytes: u64) -> Done {
    let path = folder.join("objects").join(KEY);
    std::fs::create_dir_all(path.parent().ok_or("no folder")?)?;
    let mut out = BufWriter::new(File::create(&path)?);
    let mut reader = Reader::new(Options::default());
    let answer = "The quick brown fox jumps over the lazy dog. ".repeat(36);
    let mut number = 0;
    while reader.bytes() < bytes {
        let is_hit = number % HIT_EVERY == HIT_EVERY / 2;
        let score = if is_hit { "1.0" } else { "0.0" };
        let line = format!(
            r#"{{"entry_type": "attempt", "uuid": "00000000-0000-4000-8000-{number:012}", "seq": {number}, "status": 2, "probe_classname": "{PROBE}", "probe_params": {{}}, "targets": [], "prompt": {{"turns": [{{"role": "user", "content": {{"text": "prompt {number}", "lang": "en", "notes": {{}}}}}}], "notes": null}}, "outputs": [{{"text": "{answer}", "lang": "en", "notes": {{}}}}], "detector_results": {{"test.A": [{score}], "test.B": [0.0]}}, "notes": {{}}, "goal": "measure"}}"#
        ) + "\n";
        reader.push(line.as_bytes())?;
        out.write_all(line.as_bytes())?;
        number += 1;
    }
    out.flush()?;
    let summary = reader.finish()?;
    let index = File::create(path.with_extension("jsonl.index"))?;
    let mut report = SeekSource(File::open(&path)?);
    summary.index.write_to(BufWriter::new(index), &mut report)?;
    println!("{} bytes, {number} attempts, key {KEY}", summary.bytes);
    Ok(())
}

async fn measure(folder: &Path) -> Done {
    let store = Arc::new(LocalStore::open(&folder.join("objects"))?);
    let project = ProjectId::default_project();
    let scan: ScanId = "0198f0c2-0000-7000-8000-000000000001".parse()?;
    let source = Source {
        report: StoredArtifact {
            id: ArtifactId::generate(),
            scan,
            name: ArtifactName::Report,
            key: ObjectKey::of(&project, KEY)?,
            checksum: None::<Checksum>,
            create_time: None,
            revision: 1,
        },
        probe: Some(PROBE.to_owned()),
        eval_threshold: 0.5,
    };
    let scratch = Scratch::open(&folder.join("uploads"))?;
    let repairs = Repairs::new(store.clone(), scratch, 0);
    let indexes = Indexes::new(store.clone(), repairs);
    let reports = Reports::new(Arc::new(OneReport(source)), store, indexes);
    let query = |outcome, order, text: Option<&str>| -> Result<Query> {
        Ok(Query {
            scan,
            probe: Some(PROBE.to_owned()),
            detector: None,
            outcome,
            text: text.map(TextMatch::new).transpose()?,
            order,
            from: None,
            page_size: 50,
        })
    };
    let rest = peak_memory()?;
    for (what, query, rounds) in [
        (
            "first page of hits",
            query(Some(Outcome::Hit), Order::Report, None)?,
            ROUNDS,
        ),
        (
            "first page, hits first",
            query(None, Order::HitsFirst, None)?,
            ROUNDS,
        ),
        ("first page", query(None, Order::Report, None)?, ROUNDS),
        (
            "search, one call",
            query(None, Order::Report, Some("no such text"))?,
            10,
        ),
    ] {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let start = Instant::now();
            let page = reports.list(&project, &query).await?;
            times.push(start.elapsed());
            assert!(
                query.text.is_some() || page.attempts.len() == 50,
                "a full page"
            );
        }
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        println!(
            "{what:24} median {:8.2?}  p99 {:8.2?}  most {:8.2?}",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    println!("memory: {rest} KiB at rest, {} KiB at most", peak_memory()?);
    Ok(())
}

/// A registry of one report.
struct OneReport(Source);

#[async_trait]
impl Registry for OneReport {
    async fn locate(&self, _: &ProjectId, _: ScanId, _: &str) -> Result<Source> {
        Ok(self.0.clone())
    }

    async fn locate_all(&self, _: &ProjectId, _: ScanId) -> Result<Vec<Source>> {
        Ok(vec![self.0.clone()])
    }

    async fn stage(&self, _: &ProjectId, _: &Lease, _: ArtifactName) -> Result<Staged> {
        none()
    }

    async fn complete(
        &self,
        _: &Lease,
        _: ArtifactId,
        _: &Checksum,
        _: Option<&ReportTally>,
    ) -> Result<()> {
        none()
    }

    async fn report_parts(&self, _: &ProjectId, _: &Lease) -> Result<ReportParts> {
        none()
    }

    async fn report_artifacts(
        &self,
        _: &ProjectId,
        _: ScanId,
        _: i32,
    ) -> Result<Vec<StoredArtifact>> {
        none()
    }

    async fn finding_reports(
        &self,
        _: &ProjectId,
        _: &FindingReportQuery,
    ) -> Result<(Vec<FindingReport>, Option<ScanPosition>)> {
        none()
    }

    async fn moments(&self, _: &ProjectId, _: ScanId) -> Result<Vec<Moment>> {
        none()
    }
}

fn none<T>() -> Result<T> {
    Err(aegis_mesh::Error::internal("not of this registry"))
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
