//! A check over gRPC: the queue's own calls, with a lease that has no scan.

use aegis_catalog::{Config, Deps};
use aegis_mesh::{CallContext, Error, MeshChannel, Principal, Shutdown, with_context};
use aegis_proto::{
    internal::{
        catalog::v1::{
            self as catalog, custom_probe_store_service_client::CustomProbeStoreServiceClient,
            plugin_catalogue_service_client::PluginCatalogueServiceClient,
            task_queue_service_client::TaskQueueServiceClient,
        },
        task::v1 as task,
    },
    probe::v1::{CustomClass, Validation, custom_class::Kind, custom_probe::State},
};
use sha2::{Digest, Sha256};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_walks_from_its_version_to_its_verdict() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        data_dir: folder.path().join("data"),
        ..Config::default()
    };
    let shutdown = Shutdown::new();
    let running = aegis_catalog::start(config, Deps::default(), shutdown.clone());
    let running = running.await.unwrap();
    let channel = MeshChannel::local(running.routes());
    with_context(CallContext::new(Principal::local()), walk(channel)).await;
    shutdown.trigger();
    running.stopped().await.unwrap();
}

async fn walk(channel: MeshChannel) {
    let mut probes = CustomProbeStoreServiceClient::new(channel.clone());
    let mut tasks = TaskQueueServiceClient::new(channel.clone());
    let source = sha256(b"source");
    let stage = catalog::StageSourceRequest {
        sha256: source.clone(),
        size_bytes: 6,
    };
    probes.stage_source(stage).await.unwrap();
    let commit = catalog::CommitSourceRequest {
        sha256: source.clone(),
    };
    probes.commit_source(commit).await.unwrap();
    let create = catalog::CreateCustomProbeRequest {
        name: "acme".to_owned(),
        description: "leaks".to_owned(),
        sha256: source.clone(),
    };
    let made = probes.create_custom_probe(create).await.unwrap();
    let made = made.into_inner().custom_probe.unwrap();
    assert_eq!(
        (made.state(), made.created_by.as_str()),
        (State::Checking, "local")
    );
    assert!(made.source.is_empty() && made.create_time.is_some());

    let lease = lease(channel, &mut tasks, &source).await;
    let report = catalog::ReportTaskRequest {
        lease: Some(lease.clone()),
        ttl: seconds(60),
        events: vec![task::TaskEvent {
            source_sequence: 4,
            kind: None,
        }],
        ..Default::default()
    };
    let reported = tasks.report_task(report).await.unwrap().into_inner();
    assert_eq!(reported.directive(), task::Directive::Continue);
    assert_eq!(reported.committed_source_sequence, 4);
    assert_eq!(reported.lease.unwrap().scan_id, "");
    let wait = catalog::AwaitDirectiveRequest {
        lease: Some(lease.clone()),
        wait: None,
    };
    let directive = tasks.await_directive(wait).await.unwrap().into_inner();
    assert_eq!(directive.directive(), task::Directive::Continue);
    let find = catalog::FindLeasedSourceRequest {
        lease: Some(lease.clone()),
        sha256: source.clone(),
    };
    let found = probes.find_leased_source(find.clone()).await.unwrap();
    let found = found.into_inner().source.unwrap();
    let folder = format!("default/sources/{source}/");
    assert!(found.object_key.starts_with(&folder), "{found:?}");

    let finish = finish(lease);
    for _ in 0..2 {
        tasks.finish_task(finish.clone()).await.unwrap();
    }
    let lost = Error::from(probes.find_leased_source(find).await.unwrap_err());
    assert_eq!(lost.reason(), "LEASE_LOST");
    let list = catalog::ListValidCustomProbesRequest::default();
    let valid = probes.list_valid_custom_probes(list).await.unwrap();
    let valid = valid.into_inner().custom_probes;
    assert_eq!((valid.len(), valid[0].state()), (1, State::Valid));
    assert_eq!(valid[0].validation, finish.outcome.unwrap().validation);
    assert_eq!(valid[0].etag, made.etag);
}

/// The check's lease, as a runner with a published catalogue gets it.
async fn lease(
    channel: MeshChannel,
    tasks: &mut TaskQueueServiceClient<MeshChannel>,
    source: &str,
) -> task::Lease {
    let put = catalog::PutPluginCatalogueRequest {
        sha256: sha256(b"{}"),
        garak_version: "0.17.1".to_owned(),
        catalogue_json: b"{}".to_vec(),
        allowance: Some(task::Allowance::default()),
    };
    let mut plugins = PluginCatalogueServiceClient::new(channel);
    plugins.put_plugin_catalogue(put).await.unwrap();
    let poll = catalog::LeaseTaskRequest {
        runner_id: "runner-1".to_owned(),
        request_id: uuid::Uuid::new_v4().to_string(),
        plugin_catalogue: sha256(b"{}"),
        slots: 1,
        wait: None,
        ttl: seconds(60),
        max_running_scans: 0,
    };
    let leased = tasks.lease_task(poll).await.unwrap().into_inner();
    let leased = leased.task.unwrap();
    let Some(task::leased_task::Work::Check(check)) = leased.work else {
        panic!("a check")
    };
    assert_eq!(
        (check.name.as_str(), check.sha256.as_str()),
        ("acme", source)
    );
    let lease = leased.lease.unwrap();
    assert_eq!((lease.scan_id.as_str(), lease.epoch), ("", 1));
    lease
}

fn finish(lease: task::Lease) -> catalog::FinishTaskRequest {
    let validation = Validation {
        valid: true,
        classes: vec![CustomClass {
            kind: Kind::Probe.into(),
            name: "acme.Leak".to_owned(),
            prompts: 3,
            ..CustomClass::default()
        }],
        garak_version: "0.17.1".to_owned(),
        ..Validation::default()
    };
    catalog::FinishTaskRequest {
        lease: Some(lease),
        outcome: Some(task::TaskOutcome {
            outcome: task::Outcome::Done.into(),
            validation: Some(validation),
            ..Default::default()
        }),
        ..Default::default()
    }
}
