//! The rest of the public face: plugins in pages, cancel and retry, and no catalogue yet.

mod support;

use std::time::{Duration, Instant};

use aegis_mesh::{Code, MeshChannel, Shutdown};
use aegis_proto::{
    json,
    plugin::v1::{
        ListBuffsRequest, ListDetectorsRequest, ListGeneratorsRequest, ListProbesRequest,
    },
    scan::v1::{CancelScanRequest, CreateScanRequest, RetryScanRequest, ScanSpec},
};
use serde_json::json;
use support::{Fake, Orchestrator, local};

const ID: &str = "0198c0de-0000-7000-8000-000000000000";

fn spec() -> ScanSpec {
    json::from_json(json!({"target": {"type": "test.Repeat"}, "include": ["all"]})).unwrap()
}

#[tokio::test]
async fn probes_come_in_pages_and_every_one_once() {
    let mesh = Orchestrator::start().await;
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListProbesRequest {
            page_size: 5,
            page_token,
        };
        let page = local(mesh.plugins().list_probes(request))
            .await
            .unwrap()
            .into_inner();
        assert!(page.probes.len() <= 5);
        assert_eq!(page.garak_version, "0.17.1");
        names.extend(page.probes.into_iter().map(|probe| probe.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names.len(), 16);
    assert!(names.is_sorted());
}

#[tokio::test]
async fn plugins_say_what_can_be_done_here() {
    let mesh = Orchestrator::start().await;
    let probes = local(mesh.plugins().list_probes(ListProbesRequest::default()))
        .await
        .unwrap();
    let probes = probes.into_inner().probes;
    let bullying = probes.iter().find(|p| p.name == "lmrc.Bullying").unwrap();
    assert_eq!(bullying.not_evaluable_reason, "DETECTOR_UNAVAILABLE");
    assert!(bullying.not_evaluable_message.contains("torch"));
    let dan = probes.iter().find(|p| p.name == "dan.AntiDAN").unwrap();
    assert_eq!((dan.active, dan.prompts, dan.tier), (false, 1, 9));
    assert_eq!(dan.primary_detector, "dan.AntiDAN");

    let detectors = local(
        mesh.plugins()
            .list_detectors(ListDetectorsRequest::default()),
    )
    .await;
    let detectors = detectors.unwrap().into_inner().detectors;
    let toxic = detectors
        .iter()
        .find(|d| d.name == "unsafe_content.ToxicCommentModel");
    assert!(!toxic.unwrap().loadable);

    let generators = local(
        mesh.plugins()
            .list_generators(ListGeneratorsRequest::default()),
    )
    .await;
    let generators = generators.unwrap().into_inner().generators;
    let find = |name: &str| generators.iter().find(|g| g.name == name).unwrap().clone();
    assert!(!find("function.Single").allowed && find("function.Single").option_keys.is_empty());
    let openai = find("openai.OpenAICompatible");
    assert!(openai.allowed && openai.loadable);
    assert_eq!(openai.option_keys, ["max_tokens", "uri"]);
    assert_eq!(openai.key_env_var, "OPENAICOMPATIBLE_API_KEY");

    let buffs = local(mesh.plugins().list_buffs(ListBuffsRequest::default()))
        .await
        .unwrap();
    assert_eq!(buffs.into_inner().buffs[0].name, "lowercase.Lowercase");
}

#[tokio::test]
async fn a_page_is_of_its_own_list() {
    let mesh = Orchestrator::start().await;
    let request = ListProbesRequest {
        page_size: 1,
        ..ListProbesRequest::default()
    };
    let first = local(mesh.plugins().list_probes(request))
        .await
        .unwrap()
        .into_inner();
    let other = ListDetectorsRequest {
        page_token: first.next_page_token,
        page_size: 1,
    };
    let error = local(mesh.plugins().list_detectors(other))
        .await
        .unwrap_err();
    assert_eq!(error.reason(), "PAGE_TOKEN_INVALID");
    let negative = ListProbesRequest {
        page_size: -1,
        ..ListProbesRequest::default()
    };
    let error = local(mesh.plugins().list_probes(negative))
        .await
        .unwrap_err();
    assert_eq!(error.fields()[0].path, "page_size");
}

#[tokio::test]
async fn a_catalogue_is_fetched_once_and_the_allowance_each_time() {
    let mesh = Orchestrator::start().await;
    for _ in 0..3 {
        mesh.plan(spec()).await.unwrap();
    }
    let known = mesh.seen().known.clone();
    assert_eq!(known.len(), 3);
    assert!(known[0].is_empty() && known[1].len() == 64 && known[1] == known[2]);
}

#[tokio::test]
async fn without_a_catalogue_callers_learn_when_to_come_back_and_replays_still_work() {
    let mesh = Orchestrator::start().await;
    let request = CreateScanRequest {
        spec: Some(spec()),
        request_id: ID.to_owned(),
        ..CreateScanRequest::default()
    };
    let first = mesh.create_with(request.clone()).await.unwrap();
    mesh.seen().catalogue = None;
    assert_eq!(mesh.create_with(request).await.unwrap(), first);
    let error = mesh.plan(spec()).await.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::FailedPrecondition, "NO_PLUGIN_CATALOGUE")
    );
    assert_eq!(error.retry_delay(), Some(Duration::from_secs(2)));
    assert!(error.hint_text().is_some());
}

#[tokio::test]
async fn cancel_and_retry_are_checked_and_the_catalog_decides() {
    let mesh = Orchestrator::start().await;
    let cancel = CancelScanRequest {
        scan_id: ID.to_owned(),
        reason: "enough".to_owned(),
    };
    let scan = local(mesh.client().cancel_scan(cancel))
        .await
        .unwrap()
        .into_inner()
        .scan;
    assert_eq!(scan.unwrap().scan_id, ID);
    assert_eq!(mesh.seen().cancelled[0].reason, "enough");
    let bad = CancelScanRequest {
        scan_id: "../x".to_owned(),
        reason: "x".repeat(201),
    };
    let error = local(mesh.client().cancel_scan(bad)).await.unwrap_err();
    let fields: Vec<&str> = error.fields().iter().map(|f| f.path.as_str()).collect();
    assert_eq!(fields, ["scan_id", "reason"]);
    let retry = RetryScanRequest {
        scan_id: ID.to_owned(),
    };
    let error = local(mesh.client().retry_scan(retry)).await.unwrap_err();
    assert_eq!(
        (error.code(), error.reason()),
        (Code::FailedPrecondition, "SCAN_NOT_TERMINAL")
    );
    // The catalog's details arrive whole.
    assert_eq!(error.hint_text(), Some("cancel it first"));
    assert_eq!(error.preconditions().len(), 1);
}

#[tokio::test]
async fn a_creation_is_checked_whole_and_answered_at_once() {
    let mesh = Orchestrator::start().await;
    let bad = CreateScanRequest {
        display_name: "x".repeat(201),
        template: "Not a name".to_owned(),
        labels: [(String::new(), "x".to_owned())].into(),
        spec: Some(ScanSpec {
            generations: Some(0),
            ..spec()
        }),
        ..CreateScanRequest::default()
    };
    let error = mesh.create_with(bad).await.unwrap_err();
    let fields: Vec<&str> = error.fields().iter().map(|f| f.path.as_str()).collect();
    assert_eq!(
        fields,
        ["display_name", "labels", "template", "spec.generations"]
    );
    assert!(mesh.seen().created.is_empty());
    let began = Instant::now();
    mesh.create(spec()).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    let created = mesh.created().remove(0);
    assert_eq!((created.max_in_flight, created.max_failures), (16, 3));
    assert_eq!(created.lane.unwrap().max_in_flight, 64);
    assert!(
        created
            .tasks
            .iter()
            .zip(0..)
            .all(|(task, n)| task.ordinal == n && task.shard_count == 1)
    );
    assert!(
        created
            .tasks
            .iter()
            .any(|task| task.not_evaluated.is_some())
    );
}

#[tokio::test]
async fn configuration_out_of_range_is_refused_at_start() {
    let config = aegis_scan_orchestrator::Config {
        lease_seconds: 0,
        ..aegis_scan_orchestrator::Config::default()
    };
    let deps = aegis_scan_orchestrator::Deps::new(
        MeshChannel::local(Fake::default().routes()),
        MeshChannel::local(Fake::default().artifact()),
    );
    let refused = aegis_scan_orchestrator::start(config, deps, Shutdown::new()).await;
    assert_eq!(
        refused.err().map(|e| e.reason().to_owned()).as_deref(),
        Some("INVALID_CONFIG")
    );
}
