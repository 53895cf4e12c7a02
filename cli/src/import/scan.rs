//! Scans: what their rows, their reports' ends and their names say, and their way in.

use std::time::Duration;

use aegis_mesh::{Code, Error, RetryPolicy, retry};
use aegis_proto::report::v1::{
    ImportHeader, ImportScanRequest, ImportScanResponse, import_scan_request::Part,
};
use jiff::tz::TimeZone;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};
use uuid::Uuid;

use super::{
    content::Content,
    database::Row,
    facts::{self, Facts},
    journal::{Done, Failure, Kind, Outcome, Refusal},
    row::Prepared,
};
use crate::client::Client;

/// Messages between a file and the network.
const IN_FLIGHT: usize = 2;
/// Longest wait for the mesh to take a piece.
const STALLED: Duration = Duration::from_secs(120);
/// Longest wait for its answer, when it has everything.
const ANSWERED: Duration = Duration::from_secs(600);
const RETRIES: RetryPolicy = RetryPolicy {
    max_tries: 8,
    first_delay: Duration::from_millis(200),
    max_delay: Duration::from_secs(15),
    max_total: Duration::from_secs(90),
};
/// The scan is here with another report than this one.
const HERE: &str = "SCAN_EXISTS";
const MAX_NAME_CHARS: usize = 200;

/// A scan of the old system, or a report of garak's.
#[derive(Clone, Default)]
pub(super) struct OldScan {
    pub(super) source: String,
    /// Known without looking into the report.
    pub(super) id: Option<Uuid>,
    pub(super) row: Option<Row>,
    /// For people; empty for none.
    pub(super) name: String,
    pub(super) report: Option<Content>,
    pub(super) hitlog: Option<Content>,
    pub(super) html: Option<Content>,
    /// Not taken for a report unless it looks like one.
    pub(super) is_guess: bool,
}

/// How scans are taken in.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) client: Client,
    pub(super) zone: TimeZone,
    pub(super) dry_run: bool,
}

impl Way {
    /// Takes one scan in.
    pub(super) async fn import(&self, scan: OldScan) -> Done {
        let source = scan.source.clone();
        let mut warnings = Vec::new();
        let outcome = self.try_import(scan, &mut warnings).await;
        Done {
            kind: Kind::Scan,
            source,
            outcome,
            left_out: Vec::new(),
            warnings,
        }
    }

    async fn try_import(
        &self,
        scan: OldScan,
        warnings: &mut Vec<String>,
    ) -> Result<Outcome, Failure> {
        let facts = match &scan.report {
            Some(report) => facts::read(report, &self.zone).await?,
            None => Facts::default(),
        };
        if scan.is_guess && !facts.is_garaks {
            return Ok(Outcome::Ignored);
        }
        let id = match (scan.id.or(facts.run_id), &scan.report) {
            (Some(id), _) => id,
            (None, Some(report)) => facts::derived_id(report).await?,
            (None, None) => return Err(Refusal::new("SCAN_ID_MISSING", "has no id").into()),
        };
        let prepared = self.prepare(id, &scan, &facts);
        warnings.extend(prepared.warnings);
        let header = prepared.header;
        let answer = retry(RETRIES, || self.send(&header, &scan)).await;
        let answer = match answer.map_err(Failure::from) {
            Err(Failure::One(refusal)) if scan.report.is_none() && refusal.reason == HERE => {
                warnings.push("it is here with a report already".to_owned());
                return Ok(Outcome::Unchanged);
            }
            answer => answer??,
        };
        if answer.unchanged {
            // What was odd about it was said when it came.
            warnings.clear();
            return Ok(Outcome::Unchanged);
        }
        warnings.extend(answer.warnings);
        Ok(Outcome::Imported)
    }

    fn prepare(&self, id: Uuid, scan: &OldScan, facts: &Facts) -> Prepared {
        let start = facts.start.or(facts.modified);
        let mut prepared = Prepared {
            header: ImportHeader {
                scan_id: id.to_string(),
                display_name: scan.name.chars().take(MAX_NAME_CHARS).collect(),
                create_time: start,
                start_time: facts.start.or(start),
                end_time: facts.end,
                dry_run: self.dry_run,
                ..ImportHeader::default()
            },
            warnings: Vec::new(),
        };
        if let Some(row) = &scan.row {
            prepared.take_row(row, &self.zone, scan.report.is_none());
        }
        prepared
    }

    /// One try. What is wrong with the files is no error of the call's.
    async fn send(
        &self,
        header: &ImportHeader,
        scan: &OldScan,
    ) -> aegis_mesh::Result<Result<ImportScanResponse, Refusal>> {
        let (sender, receiver) = mpsc::channel(IN_FLIGHT);
        let mut client = self.client.imports();
        let call = client.import_scan(ReceiverStream::new(receiver));
        tokio::pin!(call);
        let fed = tokio::select! {
            // Refused before it was all there.
            answer = &mut call => return answered(answer),
            fed = feed(&sender, header, scan) => fed,
        };
        match fed {
            Ok(()) => {}
            // The call is dropped before its sender: an end of the stream would be taken for the file's.
            Err(Fed::Unreadable(refusal)) => return Ok(Err(refusal)),
            Err(Fed::Stalled) => return Err(too_slow(STALLED)),
        }
        drop(sender);
        match tokio::time::timeout(ANSWERED, call).await {
            Ok(answer) => answered(answer),
            Err(_) => Err(too_slow(ANSWERED)),
        }
    }
}

/// What the mesh lost on its side is sent again from the start.
fn answered(
    answer: Result<Response<ImportScanResponse>, Status>,
) -> aegis_mesh::Result<Result<ImportScanResponse, Refusal>> {
    match answer.map_err(Error::from) {
        Ok(answer) => Ok(Ok(answer.into_inner())),
        Err(error) if error.code() == Code::Aborted => {
            let message = error.message().to_owned();
            Err(Error::unavailable(
                "IMPORT_ABORTED",
                message,
                Duration::ZERO,
            ))
        }
        Err(error) => Err(error),
    }
}

fn too_slow(limit: Duration) -> Error {
    let message = format!("the mesh did not go on for {} s", limit.as_secs());
    Error::deadline_exceeded("IMPORT_STALLED", message)
}

enum Fed {
    Unreadable(Refusal),
    Stalled,
}

/// Sends everything, piece by piece. Never ends when nobody takes it any more: the call then does.
async fn feed(
    sender: &mpsc::Sender<ImportScanRequest>,
    header: &ImportHeader,
    scan: &OldScan,
) -> Result<(), Fed> {
    send(sender, Part::Header(header.clone())).await?;
    let files = [
        ("report.jsonl", &scan.report),
        ("hitlog.jsonl", &scan.hitlog),
        ("report.html", &scan.html),
    ];
    for (name, content) in files {
        let Some(content) = content else { continue };
        let unreadable = |error: super::content::ReadError| {
            let refusal = Refusal::new(error.reason(), format!("{content}: {error}"));
            Fed::Unreadable(refusal)
        };
        let opened = content.open().await.map_err(unreadable)?;
        let mut chunks = opened.chunks().await.map_err(unreadable)?;
        send(sender, Part::File(name.to_owned())).await?;
        while let Some(chunk) = chunks.next().await.map_err(unreadable)? {
            send(sender, Part::Data(chunk)).await?;
        }
    }
    Ok(())
}

async fn send(sender: &mpsc::Sender<ImportScanRequest>, part: Part) -> Result<(), Fed> {
    let request = ImportScanRequest { part: Some(part) };
    match tokio::time::timeout(STALLED, sender.send(request)).await {
        Ok(Ok(())) => Ok(()),
        // Nobody listens: the call has ended, and says how.
        Ok(Err(_)) => std::future::pending().await,
        Err(_) => Err(Fed::Stalled),
    }
}
