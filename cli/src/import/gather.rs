//! The scans of all sources, each once: rows with their reports, then what no row knows of.

use std::collections::BTreeSet;

use aegis_mesh::Error;
use futures_util::TryStreamExt;
use indicatif::ProgressBar;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    bucket::OldBucket,
    content::Content,
    database::{OldDatabase, Row, SCANS},
    folder::{Found, ReportFiles},
    scan::OldScan,
};

/// Every source of an import.
pub(super) struct Gathered {
    pub(super) found: Found,
    pub(super) database: Option<OldDatabase>,
    bucket: Option<OldBucket>,
}

/// Where the scans go.
struct Way {
    sender: mpsc::Sender<OldScan>,
    bar: ProgressBar,
}

impl Way {
    /// Whether anybody still takes them.
    async fn send(&self, scan: OldScan) -> bool {
        self.bar.inc_length(1);
        self.sender.send(scan).await.is_ok()
    }
}

impl Gathered {
    pub(super) fn new(
        found: Found,
        database: Option<OldDatabase>,
        bucket: Option<OldBucket>,
    ) -> Self {
        Self {
            found,
            database,
            bucket,
        }
    }

    /// Sends every scan. Ends early when nobody takes them any more.
    pub(super) async fn scans(
        &self,
        sender: mpsc::Sender<OldScan>,
        bar: ProgressBar,
    ) -> Result<(), Error> {
        let way = Way { sender, bar };
        let mut used: BTreeSet<usize> = BTreeSet::new();
        let mut seen: BTreeSet<Uuid> = BTreeSet::new();
        if let Some(database) = &self.database {
            let names = self.found.by_name();
            let mut pages = std::pin::pin!(database.rows(SCANS));
            while let Some(rows) = pages.try_next().await? {
                for row in rows {
                    let id = id_of(row.text("id"));
                    seen.insert(id);
                    let file = file_names(&row, id).iter().find_map(|name| names.get(name));
                    let files = file.map(|index| &self.found.reports[*index]);
                    used.extend(file);
                    if !way.send(self.of_row(row, id, files).await?).await {
                        return Ok(());
                    }
                }
            }
        }
        for (index, files) in self.found.reports.iter().enumerate() {
            seen.extend(files.scan_id);
            if !used.contains(&index) && !way.send(of_files(files)).await {
                return Ok(());
            }
        }
        self.rest_of_bucket(&way, &seen).await
    }

    async fn rest_of_bucket(&self, way: &Way, seen: &BTreeSet<Uuid>) -> Result<(), Error> {
        let Some(bucket) = &self.bucket else {
            return Ok(());
        };
        let mut pages = std::pin::pin!(bucket.scans());
        while let Some(ids) = pages.try_next().await? {
            for id in ids.into_iter().filter(|id| !seen.contains(id)) {
                let mut scan = OldScan {
                    source: format!("bucket:{}", OldBucket::key(id, "report.jsonl")),
                    id: Some(id),
                    ..OldScan::default()
                };
                of_bucket(&mut scan, bucket, id, &Row::default()).await?;
                if !way.send(scan).await {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A row's report lies in a folder, in the bucket, or nowhere any more.
    async fn of_row(
        &self,
        row: Row,
        id: Uuid,
        files: Option<&ReportFiles>,
    ) -> Result<OldScan, Error> {
        let mut scan = files.map(of_files).unwrap_or_default();
        scan.source = format!("scans row {:?}", row.text("id"));
        scan.id = Some(id);
        scan.is_guess = false;
        scan.name = String::new();
        if scan.report.is_none()
            && let Some(bucket) = &self.bucket
        {
            of_bucket(&mut scan, bucket, id, &row).await?;
        }
        scan.row = Some(row);
        Ok(scan)
    }

    /// Lets go of the database.
    pub(super) async fn close(self) -> Result<(), Error> {
        match self.database {
            Some(database) => database.close().await,
            None => Ok(()),
        }
    }
}

/// The id of a row: its text is a UUID, or gives one that is always the same.
fn id_of(text: &str) -> Uuid {
    Uuid::try_parse(text).unwrap_or_else(|_| {
        let digest = Sha256::digest(text.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid()
    })
}

/// What a row's report may be called. Paths are of the old machine.
fn file_names(row: &Row, id: Uuid) -> [String; 3] {
    let base = |column| {
        let path = row.text(column);
        path.rsplit(['/', '\\'])
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    [
        base("report_path"),
        base("report_key"),
        format!("garak.{id}.report.jsonl"),
    ]
}

fn of_files(files: &ReportFiles) -> OldScan {
    let name = files
        .report
        .file_name()
        .unwrap_or_default()
        .to_string_lossy();
    let stem = name.strip_suffix(".jsonl").unwrap_or(&name);
    let stem = stem.strip_suffix(".report").unwrap_or(stem);
    OldScan {
        source: files.report.display().to_string(),
        id: files.scan_id,
        // An id says nothing to people.
        name: match files.scan_id {
            Some(_) => String::new(),
            None => stem.to_owned(),
        },
        report: Some(Content::File(files.report.clone())),
        hitlog: files.hitlog.clone().map(Content::File),
        html: files.html.clone().map(Content::File),
        is_guess: !files.is_sure,
        ..OldScan::default()
    }
}

async fn of_bucket(
    scan: &mut OldScan,
    bucket: &OldBucket,
    id: Uuid,
    row: &Row,
) -> Result<(), Error> {
    let or = |column, end| match row.text(column) {
        "" => OldBucket::key(id, end),
        key => key.to_owned(),
    };
    scan.report = bucket.find(&or("report_key", "report.jsonl")).await?;
    if scan.report.is_some() {
        let hitlog = OldBucket::key(id, "hitlog.jsonl");
        scan.hitlog = bucket.find(&hitlog).await?;
        scan.html = bucket.find(&or("html_report_key", "report.html")).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_an_id_whatever_its_text() {
        let id = "0b2c8e0e-0000-4000-8000-000000000009";
        assert_eq!(id_of(&id.to_uppercase()).to_string(), id);
        assert_eq!(id_of("scan 7"), id_of("scan 7"));
        assert_ne!(id_of("scan 7"), id_of("scan 8"));
    }

    #[test]
    fn a_report_is_known_by_the_name_that_its_row_has() {
        let path = r"C:\garak\runs\garak.x.report.jsonl".to_owned();
        let row = Row([("report_path", path)].into());
        let id = id_of("7");
        let names = file_names(&row, id);
        assert_eq!(names[0], "garak.x.report.jsonl");
        assert_eq!(names[2], format!("garak.{id}.report.jsonl"));
    }
}
