//! The services over gRPC, in one process and over TCP: fields, pages, streams, refusals.

use std::collections::HashMap;

use aegis_catalog::{Config, Deps};
use aegis_mesh::{CallContext, Error, MeshChannel, Principal, Shutdown, with_context};
use aegis_proto::{
    common::v1::Checksum,
    internal::{
        catalog::v1::{
            self as catalog, artifact_registry_service_client::ArtifactRegistryServiceClient,
            plugin_catalogue_service_client::PluginCatalogueServiceClient,
            scan_store_service_client::ScanStoreServiceClient,
            task_queue_service_client::TaskQueueServiceClient, watch_scan_response::Update,
        },
        task::v1 as task,
    },
    scan::v1::{self as scan, history_service_client::HistoryServiceClient, scan_event::Kind},
};
use tonic::Status;

#[path = "grpc/comparison.rs"]
mod comparison;
#[path = "grpc/queue.rs"]
mod queue;
#[path = "grpc/start.rs"]
mod start;
#[path = "grpc/statistics.rs"]
mod statistics;

const CATALOGUE: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A catalog on a fresh SQLite file, called as `local`.
struct Catalog {
    channel: MeshChannel,
    shutdown: Shutdown,
    _folder: tempfile::TempDir,
}

impl Catalog {
    async fn start() -> (Self, aegis_catalog::Running) {
        let folder = tempfile::tempdir().unwrap();
        let config = Config {
            data_dir: folder.path().join("not/there/yet"),
            ..Config::default()
        };
        let shutdown = Shutdown::new();
        let running = aegis_catalog::start(config, Deps::default(), shutdown.clone())
            .await
            .unwrap();
        let catalog = Self {
            channel: MeshChannel::local(running.routes()),
            shutdown,
            _folder: folder,
        };
        (catalog, running)
    }

    fn history(&self) -> HistoryServiceClient<MeshChannel> {
        HistoryServiceClient::new(self.channel.clone())
    }

    fn scans(&self) -> ScanStoreServiceClient<MeshChannel> {
        ScanStoreServiceClient::new(self.channel.clone())
    }

    fn tasks(&self) -> TaskQueueServiceClient<MeshChannel> {
        TaskQueueServiceClient::new(self.channel.clone())
    }

    fn artifacts(&self) -> ArtifactRegistryServiceClient<MeshChannel> {
        ArtifactRegistryServiceClient::new(self.channel.clone())
    }

    async fn create(&self, probes: usize) -> scan::Scan {
        let created = self.scans().create_scan(create(probes)).await;
        created.unwrap().into_inner().scan.unwrap()
    }

    async fn lease(&self) -> Option<task::LeasedTask> {
        let poll = catalog::LeaseTaskRequest {
            runner_id: "runner-1".to_owned(),
            request_id: uuid::Uuid::new_v4().to_string(),
            plugin_catalogue: CATALOGUE.to_owned(),
            slots: 1,
            wait: None,
            ttl: seconds(60),
            max_running_scans: 0,
        };
        let leased = self.tasks().lease_task(poll).await;
        leased.unwrap().into_inner().task
    }

    async fn upload(&self, lease: &task::Lease, name: &str, tally: catalog::Tally) -> String {
        let stage = catalog::StageArtifactRequest {
            lease: Some(lease.clone()),
            name: name.to_owned(),
        };
        let staged = self.artifacts().stage_artifact(stage).await.unwrap();
        let staged = staged.into_inner();
        assert!(staged.upload_deadline.is_some() && !staged.complete);
        assert_eq!(staged.eval_threshold, 0.5);
        let id = staged.artifact.unwrap().artifact_id;
        let complete = catalog::CompleteArtifactRequest {
            lease: Some(lease.clone()),
            artifact_id: id.clone(),
            checksum: Some(Checksum {
                sha256: "b".repeat(64),
                size_bytes: 7,
            }),
            tally: Some(tally),
        };
        self.artifacts().complete_artifact(complete).await.unwrap();
        id
    }

    async fn finish(&self, lease: task::Lease, artifact_ids: Vec<String>) {
        let finish = catalog::FinishTaskRequest {
            lease: Some(lease),
            outcome: Some(task::TaskOutcome {
                outcome: task::Outcome::Done.into(),
                artifact_ids,
                ..task::TaskOutcome::default()
            }),
            ..catalog::FinishTaskRequest::default()
        };
        self.tasks().finish_task(finish).await.unwrap();
    }
}

async fn as_local<T>(work: impl Future<Output = T>) -> T {
    with_context(CallContext::new(Principal::local()), work).await
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn create(probes: usize) -> catalog::CreateScanRequest {
    let tasks = (0..probes).map(|n| catalog::NewTask {
        probe: format!("test.Probe{n}"),
        ordinal: n as i32,
        planned_calls: 50,
        ..catalog::NewTask::default()
    });
    catalog::CreateScanRequest {
        display_name: "emoji 😀".to_owned(),
        spec: Some(scan::ScanSpec {
            target: Some(scan::Target {
                r#type: "test.Repeat".to_owned(),
                name: "x".to_owned(),
                ..scan::Target::default()
            }),
            include: vec!["probes.test".to_owned()],
            seed: Some(0),
            ..scan::ScanSpec::default()
        }),
        labels: HashMap::from([("team".to_owned(), "red".to_owned())]),
        garak_version: "0.17.1".to_owned(),
        plugin_catalogue: CATALOGUE.to_owned(),
        effective_eval_threshold: 0.5,
        max_in_flight: 8,
        lane: Some(catalog::Lane {
            key: "target".to_owned(),
            max_in_flight: 64,
        }),
        tasks: tasks.collect(),
        max_failures: 3,
        ..catalog::CreateScanRequest::default()
    }
}

fn tally(grades: Option<scan::Grades>) -> catalog::Tally {
    catalog::Tally {
        rows: vec![catalog::ProbeDetectorTally {
            probe: "test.Probe0".to_owned(),
            detector: "test.Detector".to_owned(),
            passed: 1,
            failed: 3,
            evaluated: 4,
            grades,
            ..catalog::ProbeDetectorTally::default()
        }],
        attempts: 10,
    }
}

/// Code, reason and fields of a refusal.
fn refused<T: std::fmt::Debug>(result: Result<T, Status>) -> (String, Vec<String>) {
    let error = Error::from(result.expect_err("a refusal"));
    let fields = error.fields().iter().map(|field| field.path.clone());
    let fields = fields.collect();
    (
        format!("{}/{}", error.code().name(), error.reason()),
        fields,
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_walks_from_creation_to_its_history() {
    let (catalog, running) = Catalog::start().await;
    as_local(walk(&catalog)).await;
    assert!(running.health().is_serving());
    catalog.shutdown.trigger();
    running.stopped().await.unwrap();
}

async fn walk(catalog: &Catalog) {
    let created = catalog.create(1).await;
    assert_eq!(created.state(), scan::scan::State::Pending);
    assert_eq!(created.spec, create(1).spec);
    assert_eq!(
        (created.created_by.as_str(), created.project_id.as_str()),
        ("local", "default")
    );
    assert!(!created.etag.is_empty() && created.report.is_none());
    assert_eq!(created.waiting_reason, "NO_MATCHING_RUNNER");
    let id = created.scan_id;

    let probe = catalog.lease().await.unwrap();
    let lease = probe.lease.unwrap();
    let Some(task::leased_task::Work::Probe(work)) = probe.work else {
        panic!("a probe comes first")
    };
    assert_eq!(
        (work.probe.as_str(), work.max_in_flight),
        ("test.Probe0", 8)
    );
    assert_eq!(work.spec, create(1).spec);
    assert_eq!(lease.ttl, seconds(60));
    report(catalog, &lease).await;
    let part = catalog.upload(&lease, "report.jsonl", tally(None)).await;
    catalog.finish(lease, vec![part]).await;

    let report = catalog.lease().await.unwrap();
    let lease = report.lease.unwrap();
    let list = catalog::ListReportPartsRequest {
        lease: Some(lease.clone()),
    };
    let parts = catalog.artifacts().list_report_parts(list).await.unwrap();
    let parts = parts.into_inner();
    assert_eq!((parts.parts.len(), parts.eval_threshold), (1, 0.5));
    assert_eq!(parts.include, ["probes.test"]);
    let grades = scan::Grades {
        detector_defcon: Some(2),
        ..scan::Grades::default()
    };
    let composed = catalog
        .upload(&lease, "report.jsonl", tally(Some(grades)))
        .await;
    catalog.finish(lease, vec![composed]).await;

    let get = scan::GetScanRequest {
        scan_id: id.clone(),
    };
    let ended = catalog.history().get_scan(get).await.unwrap();
    let ended = ended.into_inner().scan.unwrap();
    assert_eq!(ended.state(), scan::scan::State::Completed);
    assert_eq!(ended.totals.unwrap().pass_rate, Some(0.25));
    assert_eq!(ended.report.unwrap().artifacts, ["report.jsonl"]);
    let progress = ended.progress.unwrap();
    assert_eq!((progress.attempts_done, progress.attempts_total), (10, 10));
    let results = scan::ListProbeResultsRequest {
        scan_id: id.clone(),
        ..scan::ListProbeResultsRequest::default()
    };
    let results = catalog.history().list_probe_results(results).await.unwrap();
    let result = results.into_inner().results.remove(0);
    assert_eq!(result.pass_rate, Some(0.25));
    assert_eq!(result.grades.unwrap().detector_defcon, Some(2));
    watch(catalog, &id, ended.last_sequence).await;
}

async fn report(catalog: &Catalog, lease: &task::Lease) {
    let report = catalog::ReportTaskRequest {
        lease: Some(lease.clone()),
        progress: Some(task::TaskProgress {
            attempts_done: 5,
            attempts_total: 10,
            target_retries: 0,
            waits_for: "STORAGE_FULL".to_owned(),
        }),
        events: vec![task::TaskEvent {
            source_sequence: 1,
            kind: Some(task::task_event::Kind::DetectorFinished(
                task::DetectorFinished {
                    detector: "test.Detector".to_owned(),
                },
            )),
        }],
        ttl: seconds(60),
    };
    let reported = catalog.tasks().report_task(report).await.unwrap();
    let reported = reported.into_inner();
    assert_eq!(reported.directive(), task::Directive::Continue);
    assert_eq!(reported.committed_source_sequence, 1);
    assert_eq!(reported.lease.unwrap().token, lease.token);
}

async fn watch(catalog: &Catalog, id: &str, last: i64) {
    let watch = catalog::WatchScanRequest {
        scan_id: id.to_owned(),
        after_sequence: 0,
    };
    let mut stream = catalog
        .scans()
        .watch_scan(watch)
        .await
        .unwrap()
        .into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(matches!(first.update, Some(Update::Snapshot(snapshot)) if snapshot.scan_id == id));
    let mut kinds = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        let Some(Update::Event(event)) = message.update else {
            panic!("an ended scan has only events to tell")
        };
        assert_eq!(event.sequence, kinds.len() as i64 + 1);
        kinds.push(event.kind.unwrap());
    }
    assert_eq!(kinds.len() as i64, last);
    assert!(matches!(kinds[3], Kind::DetectorFinished(_)));
    assert!(matches!(&kinds[kinds.len() - 2], Kind::ReportReady(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_come_in_pages_that_belong_to_their_filter() {
    let (catalog, _running) = Catalog::start().await;
    as_local(pages(&catalog)).await;
}

async fn pages(catalog: &Catalog) {
    for _ in 0..5 {
        catalog.create(1).await;
    }
    let mut request = scan::ListScansRequest {
        page_size: 2,
        ..scan::ListScansRequest::default()
    };
    let mut ids = Vec::new();
    loop {
        let page = catalog.history().list_scans(request.clone()).await.unwrap();
        let page = page.into_inner();
        ids.extend(page.scans.into_iter().map(|scan| scan.scan_id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(ids.len(), 5);
    assert!(ids.is_sorted_by(|a, b| a > b), "newest first");
    let invalid = (
        "INVALID_ARGUMENT/PAGE_TOKEN_INVALID".to_owned(),
        "page_token",
    );
    let other_list = scan::ListScansRequest {
        filter: Some(scan::ScanFilter {
            target_name: "y".to_owned(),
            ..scan::ScanFilter::default()
        }),
        ..request.clone()
    };
    let forged = scan::ListScansRequest {
        page_token: "AAAA".to_owned(),
        ..request.clone()
    };
    let other_order = scan::ListScansRequest {
        order_by: scan::ScanOrder::Duration.into(),
        ..request.clone()
    };
    let other_way = scan::ListScansRequest {
        ascending: true,
        ..request.clone()
    };
    for request in [other_list, forged, other_order, other_way] {
        let (reason, fields) = refused(catalog.history().list_scans(request).await);
        assert_eq!((reason, fields[0].as_str()), invalid);
    }
    request.page_size = -1;
    let (_, fields) = refused(catalog.history().list_scans(request).await);
    assert_eq!(fields, ["page_size"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_one_message_however_long_its_specifications_are() {
    let (catalog, _running) = Catalog::start().await;
    as_local(async {
        for _ in 0..6 {
            let mut request = create(1);
            request.spec.as_mut().unwrap().system_prompt = Some("x".repeat(1 << 20));
            catalog.scans().create_scan(request).await.unwrap();
        }
        let mut request = scan::ListScansRequest::default();
        let mut listed = 0;
        loop {
            let page = catalog.history().list_scans(request.clone()).await.unwrap();
            let page = page.into_inner();
            listed += page.scans.len();
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        assert_eq!(listed, 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_fields_are_named() {
    let (catalog, _running) = Catalog::start().await;
    as_local(bad_fields(&catalog)).await;
}

async fn bad_fields(catalog: &Catalog) {
    for id in ["", "../etc/passwd", "0198C0DE-0000-7000-8000-000000000000"] {
        let get = scan::GetScanRequest {
            scan_id: id.to_owned(),
        };
        let refusal = refused(catalog.history().get_scan(get).await);
        assert_eq!(refusal.0, "INVALID_ARGUMENT/INVALID_FIELD");
        assert_eq!(refusal.1, ["scan_id"]);
    }
    type Change = fn(&mut catalog::CreateScanRequest);
    let bad: [(&str, Change); 8] = [
        ("spec", |request| request.spec = None),
        ("tasks", |request| request.tasks.clear()),
        ("tasks[1].probe", |request| {
            let twice = request.tasks[0].clone();
            request.tasks.push(twice);
        }),
        ("lane", |request| request.lane = None),
        ("max_in_flight", |request| request.max_in_flight = 0),
        ("plugin_catalogue", |request| {
            request.plugin_catalogue = "x".to_owned()
        }),
        ("display_name", |request| {
            request.display_name = "a\0b".to_owned()
        }),
        ("spec", |request| {
            request.spec.as_mut().unwrap().include = vec!["a\0b".to_owned()];
        }),
    ];
    for (field, change) in bad {
        let mut request = create(1);
        change(&mut request);
        let refusal = refused(catalog.scans().create_scan(request).await);
        assert_eq!(refusal.1, [field]);
    }
    let no_lease = catalog::FinishTaskRequest::default();
    let refusal = refused(catalog.tasks().finish_task(no_lease).await);
    assert_eq!(refusal.1, ["lease"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_plugin_catalogue_fits() {
    let (catalog, _running) = Catalog::start().await;
    let client = || {
        PluginCatalogueServiceClient::new(catalog.channel.clone())
            .max_decoding_message_size(9 << 20)
            .max_encoding_message_size(9 << 20)
    };
    use sha2::{Digest, Sha256};
    let content = vec![b' '; 8 << 20];
    let put = catalog::PutPluginCatalogueRequest {
        sha256: hex::encode(Sha256::digest(&content)),
        garak_version: "0.17.1".to_owned(),
        catalogue_json: content.clone(),
        allowance: Some(task::Allowance {
            secrets: vec!["A_KEY".to_owned()],
            ..task::Allowance::default()
        }),
    };
    as_local(async {
        let get = catalog::GetPluginCatalogueRequest::default();
        let (reason, _) = refused(client().get_plugin_catalogue(get.clone()).await);
        assert_eq!(reason, "FAILED_PRECONDITION/NO_PLUGIN_CATALOGUE");
        client().put_plugin_catalogue(put.clone()).await.unwrap();
        let found = client().get_plugin_catalogue(get).await.unwrap();
        let found = found.into_inner();
        assert_eq!(found.catalogue_json, content);
        assert_eq!(found.allowance, put.allowance);
    })
    .await;
}
