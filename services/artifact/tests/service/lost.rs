//! What is lost beside a report is made again from it, wherever it lies: hitlogs and indexes.

use std::sync::Arc;

use aegis_artifact::config::MinioConfig;
use aegis_artifact::domain::key::ObjectKey;
use aegis_artifact::store::{ObjectStore, S3Store, read_range};
use aegis_mesh::{Code, Result};
use aegis_proto::ids::ScanId;
use aegis_proto::report::v1 as pb;
use aegis_report::{HitlogPart, Limits, Selection, hitlog};
use aegis_testkit::S3Server;
use futures_util::future::join_all;
use tempfile::NamedTempFile;

use crate::composing::{compose, skeleton};
use crate::downloads::{read, request};
use crate::on_s3::{bucket_at, on};
use crate::reading::list;
use crate::support::{Service, call, is, sample, until};

const PARTS: [(&str, Option<&str>); 3] = [
    ("part-1.report.jsonl", Some("part-1.hitlog.jsonl")),
    ("part-2.report.jsonl", None),
    ("part-4.report.jsonl", Some("part-4.hitlog.jsonl")),
];

/// A service, and a way to its objects behind its back.
struct Bed {
    service: Service,
    store: Arc<dyn ObjectStore>,
    scan: String,
}

/// What happens to an object.
#[derive(Debug, Clone, Copy)]
enum Harm {
    Lost,
    /// So many bytes are left.
    Cut(usize),
    /// A byte is another one.
    Changed(usize),
}

impl Bed {
    async fn local() -> Self {
        let service = Service::start().await;
        let store = Arc::new(service.store.clone());
        Self::of(service, store)
    }

    async fn seaweedfs() -> Self {
        let server = S3Server::seaweedfs();
        let minio: MinioConfig = bucket_at(server.endpoint(), server);
        let service = Service::with(on(&minio)).await;
        until("healthy", async || service.is_healthy()).await;
        Self::of(service, Arc::new(S3Store::open(&minio).unwrap()))
    }

    fn of(service: Service, store: Arc<dyn ObjectStore>) -> Self {
        let scan = ScanId::generate().to_string();
        Self {
            service,
            store,
            scan,
        }
    }

    /// The sample parts, with their hitlogs or without.
    async fn with_parts(self, hitlogs: bool) -> Self {
        for (report, hitlog) in PARTS {
            let (report, hitlog) = (sample(report), hitlog.filter(|_| hitlogs).map(sample));
            let commit = self.service.commit(&self.scan, &report, hitlog.as_deref());
            commit.await;
        }
        self
    }

    /// The ids of the composed files.
    async fn compose(&self) -> Result<Vec<String>> {
        compose(&self.service, &self.service.catalog.lease(&self.scan)).await
    }

    /// The keys of what is committed under this name.
    fn keys(&self, name: &str) -> Vec<ObjectKey> {
        let rows = self.service.catalog.committed(&self.scan);
        let of_name = rows.iter().filter(|row| row.name == name);
        of_name.map(|row| key(&row.object_key)).collect()
    }

    async fn bytes(&self, key: &ObjectKey) -> Option<Vec<u8>> {
        let size = self.store.stat(key).await.unwrap()?;
        Some(read_range(&*self.store, key, 0..size).await.unwrap())
    }

    async fn object(&self, artifact: &str) -> Vec<u8> {
        let row = self.service.catalog.row(artifact);
        self.bytes(&key(&row.object_key)).await.unwrap()
    }

    async fn put(&self, key: &ObjectKey, bytes: &[u8]) {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        self.store.put(key, file.path()).await.unwrap();
    }

    async fn harm(&self, key: &ObjectKey, harm: Harm) {
        let mut bytes = self.bytes(key).await.unwrap();
        match harm {
            Harm::Lost => return self.store.delete(key).await.unwrap(),
            Harm::Cut(left) => bytes.truncate(left),
            Harm::Changed(at) => bytes[at] ^= 1,
        }
        self.put(key, &bytes).await;
    }

    async fn download(&self, name: &str) -> Result<Vec<u8>> {
        let (artifact, bytes) = read(&self.service, request(&self.scan, name)).await?;
        let size = artifact.checksum.unwrap().size_bytes;
        assert_eq!(size, bytes.len() as i64, "as many as promised");
        Ok(bytes)
    }

    async fn attempts(&self) -> Result<pb::ListAttemptsResponse> {
        let asked = pb::ListAttemptsRequest {
            scan_id: self.scan.clone(),
            order_by: pb::AttemptOrder::HitsFirst.into(),
            page_size: 1000,
            ..Default::default()
        };
        list(&self.service, asked).await
    }

    fn is_corrupt<T: std::fmt::Debug>(&self, done: Result<T>) {
        is(&done.unwrap_err(), Code::DataLoss, "ARTIFACT_CORRUPT");
        assert_eq!(self.service.scratch(), 0);
    }
}

fn key(text: &str) -> ObjectKey {
    ObjectKey::parse(text).unwrap()
}

/// What garak's own hitlogs are as one, with the scan's run id.
fn whole_hitlog(scan: &str) -> Vec<u8> {
    let hitlogs: Vec<_> = PARTS
        .iter()
        .filter_map(|(_, hitlog)| hitlog.map(sample))
        .collect();
    let mut sources: Vec<_> = hitlogs.iter().map(Vec::as_slice).collect();
    let part = |source| HitlogPart {
        source,
        probes: Selection::All,
    };
    let mut parts: Vec<_> = sources.iter_mut().map(|source| part(source)).collect();
    let mut whole = Vec::new();
    hitlog::compose_hitlog(&mut parts, scan, Limits::default(), &mut whole).unwrap();
    whole
}

macro_rules! on_store {
    ($store:ident: $($case:ident),+) => {
        mod $store {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::Bed::$store().await).await;
            })+
        }
    };
}

macro_rules! on_both_stores {
    ($($case:ident),+; local: $here:ident; seaweedfs: $there:ident) => {
        on_store!(local: $($case,)+ $here);
        on_store!(seaweedfs: $($case,)+ $there);
    };
}

on_both_stores!(
    hitlogs_that_were_never_taken_are_in_the_composed_one,
    a_parts_hitlog_that_is_not_what_it_was_is_made_again,
    a_reports_lost_hitlog_is_downloaded_and_put_back,
    many_readers_of_a_lost_hitlog_all_get_it,
    a_hitlog_that_would_be_another_is_data_loss,
    a_lost_index_is_made_again_for_readers,
    a_lost_index_is_made_again_for_composing,
    an_index_is_made_of_the_reports_own_bytes_only;
    local: a_repair_for_which_there_is_no_room_says_so;
    seaweedfs: a_link_to_a_lost_hitlog_leads_to_it
);

async fn hitlogs_that_were_never_taken_are_in_the_composed_one(bed: Bed) {
    let bed = bed.with_parts(false).await;
    let ids = bed.compose().await.unwrap();
    assert_eq!(ids.len(), 2, "a report and a hitlog");
    assert!(bed.object(&ids[1]).await == whole_hitlog(&bed.scan));
    assert_eq!(bed.service.scratch(), 0);
    // The next revision is made of the composed report.
    bed.service.catalog.commit_report(&ids, 1);
    let third = sample("part-3.report.jsonl");
    bed.service.commit(&bed.scan, &third, None).await;
    bed.harm(&bed.keys("hitlog.jsonl")[0], Harm::Lost).await;
    let again = bed.compose().await.unwrap();
    assert!(bed.object(&again[1]).await == whole_hitlog(&bed.scan));
}

async fn a_parts_hitlog_that_is_not_what_it_was_is_made_again(bed: Bed) {
    let bed = bed.with_parts(true).await;
    let keys = bed.keys("hitlog.jsonl");
    for harm in [Harm::Lost, Harm::Cut(0), Harm::Cut(500), Harm::Changed(40)] {
        let before = bed.bytes(&keys[0]).await.unwrap();
        bed.harm(&keys[0], harm).await;
        let ids = bed.compose().await.unwrap();
        assert!(
            bed.object(&ids[1]).await == whole_hitlog(&bed.scan),
            "{harm:?}"
        );
        bed.put(&keys[0], &before).await;
    }
    assert_eq!(bed.service.scratch(), 0);
}

async fn a_reports_lost_hitlog_is_downloaded_and_put_back(bed: Bed) {
    let bed = bed.with_parts(true).await;
    let ids = bed.compose().await.unwrap();
    bed.service.catalog.commit_report(&ids, 1);
    let hitlog = key(&bed.service.catalog.row(&ids[1]).object_key);
    let whole = whole_hitlog(&bed.scan);
    for harm in [Harm::Lost, Harm::Cut(0), Harm::Cut(700)] {
        bed.harm(&hitlog, harm).await;
        assert!(
            bed.download("hitlog.jsonl").await.unwrap() == whole,
            "{harm:?}"
        );
        assert!(bed.bytes(&hitlog).await.unwrap() == whole, "it is back");
        assert_eq!(bed.service.scratch(), 0);
    }
    // A range of it, and with the index lost, too.
    bed.harm(&hitlog, Harm::Lost).await;
    let report = key(&bed.service.catalog.row(&ids[0]).object_key);
    bed.harm(&report.index(), Harm::Lost).await;
    let asked = pb::ReadArtifactRequest {
        read_offset: 100,
        read_limit: 50,
        ..request(&bed.scan, "hitlog.jsonl")
    };
    let (_, bytes) = read(&bed.service, asked).await.unwrap();
    assert!(bytes == whole[100..150]);
}

async fn many_readers_of_a_lost_hitlog_all_get_it(bed: Bed) {
    let bed = bed.with_parts(true).await;
    let ids = bed.compose().await.unwrap();
    bed.service.catalog.commit_report(&ids, 1);
    let hitlog = key(&bed.service.catalog.row(&ids[1]).object_key);
    bed.harm(&hitlog, Harm::Lost).await;
    let whole = whole_hitlog(&bed.scan);
    let readers = join_all((0..12).map(|_| bed.download("hitlog.jsonl"))).await;
    assert!(readers.into_iter().all(|bytes| bytes.unwrap() == whole));
    assert_eq!(bed.service.scratch(), 0);
}

/// What is served under a revision's name is what it was, or nothing.
async fn a_hitlog_that_would_be_another_is_data_loss(bed: Bed) {
    let lease = bed.service.catalog.lease(&bed.scan);
    let mut ids = Vec::new();
    let other = sample("part-4.hitlog.jsonl");
    for (name, bytes) in [
        ("report.jsonl", &sample("part-1.report.jsonl")),
        ("hitlog.jsonl", &other),
    ] {
        let upload = bed.service.upload(&lease, name, bytes).await.unwrap();
        ids.push(upload.artifact_id);
    }
    bed.service.catalog.commit_part(&ids[0], Some(&ids[1]));
    bed.service.catalog.commit_report(&ids, 1);
    assert!(bed.download("hitlog.jsonl").await.unwrap() == other);
    let hitlog = key(&bed.service.catalog.row(&ids[1]).object_key);
    bed.harm(&hitlog, Harm::Lost).await;
    bed.is_corrupt(bed.download("hitlog.jsonl").await);
    assert_eq!(bed.bytes(&hitlog).await, None);
    // And of a report that is lost, too, nothing can be made.
    let report = key(&bed.service.catalog.row(&ids[0]).object_key);
    bed.harm(&report, Harm::Lost).await;
    bed.is_corrupt(bed.download("hitlog.jsonl").await);
}

async fn a_lost_index_is_made_again_for_readers(bed: Bed) {
    let bed = bed.with_parts(false).await;
    let listed = bed.attempts().await.unwrap();
    assert!(listed.attempts.len() > 10);
    let report = &bed.keys("report.jsonl")[0];
    let index = bed.bytes(&report.index()).await.unwrap();
    let harms = [
        Harm::Lost,
        Harm::Cut(0),
        Harm::Cut(10),
        Harm::Cut(100),
        Harm::Cut(index.len() - 40),
        Harm::Cut(index.len() - 1),
        // Its magic bytes, its version, its header.
        Harm::Changed(0),
        Harm::Changed(7),
        Harm::Changed(16),
    ];
    for harm in harms {
        bed.harm(&report.index(), harm).await;
        assert_eq!(bed.attempts().await.unwrap(), listed, "{harm:?}");
        let again = bed.bytes(&report.index()).await.unwrap();
        assert!(again == index, "{harm:?}: it is what it was");
    }
    // The index of another report.
    let other = bed
        .bytes(&bed.keys("report.jsonl")[2].index())
        .await
        .unwrap();
    bed.put(&report.index(), &other).await;
    assert_eq!(bed.attempts().await.unwrap(), listed);
    assert_eq!(bed.service.scratch(), 0);
}

async fn a_lost_index_is_made_again_for_composing(bed: Bed) {
    let bed = bed.with_parts(true).await;
    let before = bed.compose().await.unwrap();
    for harm in [Harm::Lost, Harm::Cut(50)] {
        for report in bed.keys("report.jsonl") {
            bed.harm(&report.index(), harm).await;
        }
        let lease = bed.service.catalog.lease(&bed.scan);
        let lines = skeleton(&bed.service, &lease).await.unwrap();
        assert!(lines.len() > 1000, "{harm:?}");
        for report in bed.keys("report.jsonl") {
            bed.harm(&report.index(), Harm::Lost).await;
        }
        let ids = bed.compose().await.unwrap();
        for (one, other) in ids.iter().zip(&before) {
            assert!(bed.object(one).await == bed.object(other).await, "{harm:?}");
        }
    }
}

async fn an_index_is_made_of_the_reports_own_bytes_only(bed: Bed) {
    let bed = bed.with_parts(false).await;
    let report = &bed.keys("report.jsonl")[0];
    let whole = bed.bytes(report).await.unwrap();
    // Still a fine report, a fine report that is shorter, none.
    let text = whole.windows(2).rposition(|pair| pair == b"th").unwrap();
    let line = whole.iter().rposition(|byte| *byte == b'\n').unwrap();
    let line = whole[..line]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap();
    for harm in [
        Harm::Changed(text),
        Harm::Cut(line + 1),
        Harm::Cut(9),
        Harm::Lost,
    ] {
        bed.put(report, &whole).await;
        bed.attempts().await.unwrap();
        bed.harm(report, harm).await;
        bed.harm(&report.index(), Harm::Lost).await;
        bed.is_corrupt(bed.attempts().await);
        assert_eq!(bed.bytes(&report.index()).await, None, "{harm:?}");
    }
}

async fn a_repair_for_which_there_is_no_room_says_so(bed: Bed) {
    let bed = bed.with_parts(false).await;
    bed.harm(&bed.keys("report.jsonl")[0].index(), Harm::Lost)
        .await;
    bed.service.store.set_full(true);
    let error = bed.attempts().await.unwrap_err();
    is(&error, Code::Unavailable, "STORAGE_FULL");
    bed.service.store.set_full(false);
    bed.attempts().await.unwrap();
    assert_eq!(bed.service.scratch(), 0);
}

async fn a_link_to_a_lost_hitlog_leads_to_it(bed: Bed) {
    let bed = bed.with_parts(true).await;
    let ids = bed.compose().await.unwrap();
    bed.service.catalog.commit_report(&ids, 1);
    let link = async |name: &str| {
        let request = pb::CreateArtifactLinkRequest {
            scan_id: bed.scan.clone(),
            name: name.to_owned(),
            ..Default::default()
        };
        call(bed.service.reports.clone().create_artifact_link(request)).await
    };
    bed.harm(
        &key(&bed.service.catalog.row(&ids[1]).object_key),
        Harm::Lost,
    )
    .await;
    let url = link("hitlog.jsonl").await.unwrap().url;
    let answer = reqwest::get(url).await.unwrap().error_for_status().unwrap();
    assert!(answer.bytes().await.unwrap() == whole_hitlog(&bed.scan));
    bed.harm(
        &key(&bed.service.catalog.row(&ids[0]).object_key),
        Harm::Lost,
    )
    .await;
    bed.is_corrupt(link("report.jsonl").await);
}

/// Else a hitlog that takes longer than callers wait would never be made.
#[tokio::test]
async fn a_repair_goes_on_when_nobody_waits_for_it() {
    let bed = Bed::local().await.with_parts(true).await;
    let ids = bed.compose().await.unwrap();
    bed.service.catalog.commit_report(&ids, 1);
    let hitlog = key(&bed.service.catalog.row(&ids[1]).object_key);
    bed.harm(&hitlog, Harm::Lost).await;
    let closed = bed.service.store.close().await;
    tokio::select! {
        _ = bed.download("hitlog.jsonl") => unreachable!("its report cannot be read"),
        () = until("the report is read", async || bed.service.store.waiting() > 0) => {}
    }
    assert_eq!(bed.store.stat(&hitlog).await.unwrap(), None);
    drop(closed);
    let is_back = async || bed.store.stat(&hitlog).await.unwrap().is_some();
    until("the hitlog is back", is_back).await;
    assert!(bed.download("hitlog.jsonl").await.unwrap() == whole_hitlog(&bed.scan));
}
