//! Custom probes: kept, tried out, listed, and planned with.

mod support;

use std::time::Duration;

use aegis_mesh::{CallContext, Code, Error, MeshChannel, Principal, with_context};
use aegis_proto::{
    internal::{catalog::v1 as catalog, task::v1 as task},
    plugin::v1::{ListDetectorsRequest, ListProbesRequest},
    probe::v1::{
        self as pb, Problem, Validation, custom_probe::State,
        custom_probe_service_client::CustomProbeServiceClient,
    },
    scan::v1::{CreateScanRequest, ScanSpec},
};
use support::{Orchestrator, local, version};

const SOURCE: &str = "\"\"\"Leaks.\"\"\"\n";

fn client(mesh: &Orchestrator) -> CustomProbeServiceClient<MeshChannel> {
    CustomProbeServiceClient::new(MeshChannel::local(mesh.running.routes()))
}

fn creation(name: &str) -> pb::CreateCustomProbeRequest {
    pb::CreateCustomProbeRequest {
        name: name.to_owned(),
        description: "what it\nis for".to_owned(),
        source: SOURCE.to_owned(),
    }
}

fn trial(name: &str) -> pb::ValidateCustomProbeRequest {
    pb::ValidateCustomProbeRequest {
        name: name.to_owned(),
        source: SOURCE.to_owned(),
    }
}

fn spec(include: &[&str], custom: &[&str]) -> ScanSpec {
    let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect();
    aegis_proto::json::from_json(serde_json::json!({"target": {"type": "test.Repeat"}}))
        .map(|spec: ScanSpec| ScanSpec {
            include: owned(include),
            custom_probes: owned(custom),
            ..spec
        })
        .unwrap()
}

fn fields(error: &Error) -> Vec<(&str, &str)> {
    let fields = error.fields().iter();
    fields
        .map(|f| (f.path.as_str(), f.description.as_str()))
        .collect()
}

#[tokio::test]
async fn a_probe_is_kept_with_its_source_in_artifact() {
    let mesh = Orchestrator::start().await;
    let made = local(client(&mesh).create_custom_probe(creation("acme"))).await;
    let made = made.unwrap().into_inner().custom_probe.unwrap();
    assert_eq!((made.version, made.state()), (1, State::Checking));
    assert_eq!(made.source, SOURCE);
    let sha256 = mesh.seen().custom.created[0].sha256.clone();
    assert_eq!(mesh.seen().custom.sources[&sha256], SOURCE.as_bytes());
    let change = pb::UpdateCustomProbeRequest {
        name: "acme".to_owned(),
        source: Some("# two".to_owned()),
        etag: made.etag,
        description: None,
    };
    let updated = local(client(&mesh).update_custom_probe(change.clone())).await;
    let updated = updated.unwrap().into_inner().custom_probe.unwrap();
    assert_eq!((updated.version, updated.source.as_str()), (2, "# two"));
    let question = pb::GetCustomProbeRequest {
        name: "acme".to_owned(),
        version: 1,
    };
    let old = local(client(&mesh).get_custom_probe(question)).await;
    assert_eq!(
        old.unwrap().into_inner().custom_probe.unwrap().source,
        SOURCE
    );
    let no_etag = pb::UpdateCustomProbeRequest {
        etag: String::new(),
        ..change
    };
    let refusal = local(client(&mesh).update_custom_probe(no_etag)).await;
    assert_eq!(fields(&refusal.unwrap_err())[0].0, "etag");
    let list = pb::ListCustomProbesRequest {
        page_size: 7,
        ..Default::default()
    };
    let page = local(client(&mesh).list_custom_probes(list)).await.unwrap();
    assert_eq!(page.get_ref().custom_probes.len(), 2);
    // The catalog's own token.
    assert_eq!(page.get_ref().next_page_token, "after 7");
}

#[tokio::test]
async fn names_that_are_garaks_or_no_modules_are_refused() {
    let mesh = Orchestrator::start().await;
    for taken in ["dan", "always"] {
        for refusal in [
            local(client(&mesh).create_custom_probe(creation(taken)))
                .await
                .map(drop),
            local(client(&mesh).validate_custom_probe(trial(taken)))
                .await
                .map(drop),
        ] {
            let refusal = refusal.unwrap_err();
            assert_eq!(refusal.code(), Code::AlreadyExists, "{taken}");
            assert_eq!(refusal.reason(), "CUSTOM_PROBE_EXISTS");
        }
    }
    for wrong in ["", "Acme", "../x", "class", "all"] {
        let refusal = local(client(&mesh).create_custom_probe(creation(wrong))).await;
        assert_eq!(fields(&refusal.unwrap_err())[0].0, "name", "{wrong}");
    }
    let mut empty = creation("acme");
    empty.source = " \n".to_owned();
    empty.description = "\u{1b}".to_owned();
    let refusal = local(client(&mesh).create_custom_probe(empty))
        .await
        .unwrap_err();
    let paths: Vec<&str> = fields(&refusal).iter().map(|field| field.0).collect();
    assert_eq!(paths, ["description", "source"]);
    assert!(mesh.seen().custom.sources.is_empty());
    // Without a catalogue no name is known to be garak's.
    mesh.seen().catalogue = None;
    let made = local(client(&mesh).create_custom_probe(creation("dan"))).await;
    assert!(made.is_ok());
}

#[tokio::test]
async fn a_source_is_tried_out_without_being_kept() {
    let mesh = Orchestrator::start().await;
    let found = Validation {
        problems: vec![Problem {
            reason: "SYNTAX_ERROR".to_owned(),
            line: 3,
            column: 7,
            ..Problem::default()
        }],
        ..Validation::default()
    };
    let running = catalog::await_check_response::State::Running;
    mesh.seen().custom.checks.extend([
        catalog::AwaitCheckResponse {
            state: running.into(),
            validation: None,
        },
        catalog::AwaitCheckResponse {
            state: catalog::await_check_response::State::Ended.into(),
            validation: Some(found.clone()),
        },
    ]);
    let answer = local(client(&mesh).validate_custom_probe(trial("acme"))).await;
    assert_eq!(answer.unwrap().into_inner().validation, Some(found));
    let seen = mesh.seen();
    assert_eq!(seen.custom.queued[0].name, "acme");
    assert!(
        seen.custom
            .sources
            .contains_key(&seen.custom.queued[0].sha256)
    );
    assert!(seen.custom.created.is_empty());
}

#[tokio::test]
async fn a_trial_that_no_runner_takes_says_so_within_the_callers_time() {
    let mesh = Orchestrator::start().await;
    let context = CallContext::new(Principal::local()).within(Duration::from_millis(1_500));
    let mut client = client(&mesh);
    let call = with_context(context, client.validate_custom_probe(trial("acme")));
    let refusal = Error::from(call.await.unwrap_err());
    assert_eq!(refusal.code(), Code::Unavailable);
    assert_eq!(refusal.reason(), "NO_MATCHING_RUNNER");
    assert!(refusal.hint_text().is_some() && refusal.retry_delay().is_some());
}

#[tokio::test]
async fn a_delete_goes_to_the_catalog_and_its_refusal_comes_back() {
    let mesh = Orchestrator::start().await;
    let request = pb::DeleteCustomProbeRequest {
        name: "acme".to_owned(),
        etag: "e".to_owned(),
    };
    local(client(&mesh).delete_custom_probe(request.clone()))
        .await
        .unwrap();
    assert_eq!(mesh.seen().custom.deleted[0].etag, "e");
    let in_use = Error::failed_precondition("CUSTOM_PROBE_IN_USE", "scans use it").hint("wait");
    mesh.seen().custom.refusal = Some(in_use);
    let refusal = local(client(&mesh).delete_custom_probe(request)).await;
    let refusal = refusal.unwrap_err();
    assert_eq!(refusal.reason(), "CUSTOM_PROBE_IN_USE");
    assert_eq!(refusal.hint_text(), Some("wait"));
}

#[tokio::test]
async fn starters_are_listed() {
    let mesh = Orchestrator::start().await;
    let answer = local(client(&mesh).list_starters(pb::ListStartersRequest {})).await;
    let starters = answer.unwrap().into_inner().starters;
    let names: Vec<&str> = starters.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["minimal", "basic", "advanced"]);
    assert!(starters.iter().all(|s| s.source.contains("garak")));
}

#[tokio::test]
async fn plugin_lists_show_the_newest_valid_version() {
    let mesh = Orchestrator::start().await;
    mesh.seen().custom.probes = vec![
        version("acme", 1, State::Valid),
        version("acme", 2, State::Valid),
        version("acme", 3, State::Invalid),
        version("zeta", 1, State::Valid),
        version("fresh", 1, State::Checking),
    ];
    let mut page_token = String::new();
    let mut probes = Vec::new();
    loop {
        let request = ListProbesRequest {
            page_size: 2,
            page_token,
        };
        let page = local(mesh.plugins().list_probes(request)).await.unwrap();
        let page = page.into_inner();
        probes.extend(page.probes);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(probes.is_sorted_by_key(|probe| probe.name.clone()));
    let custom: Vec<_> = probes.iter().filter(|probe| probe.custom).collect();
    let names: Vec<_> = custom
        .iter()
        .map(|p| (p.name.as_str(), p.custom_version))
        .collect();
    assert_eq!(names, [("acme.Leak", 2), ("zeta.Leak", 1)]);
    assert_eq!((custom[0].prompts, custom[0].tier), (4, 2));
    assert_eq!(custom[0].primary_detector, "acme.Judge");
    assert!(probes.iter().any(|p| !p.custom && p.custom_version == 0));
    let request = ListDetectorsRequest {
        page_size: 1_000,
        page_token: String::new(),
    };
    let detectors = local(mesh.plugins().list_detectors(request)).await.unwrap();
    let detectors = detectors.into_inner().detectors;
    let judge = detectors.iter().find(|d| d.name == "acme.Judge").unwrap();
    assert!(judge.custom && judge.loadable);
    assert_eq!(judge.custom_version, 2);
}

#[tokio::test]
async fn a_scan_is_planned_with_and_pinned_to_what_it_lists() {
    let mesh = Orchestrator::start().await;
    let (one, two) = (
        version("acme", 1, State::Valid),
        version("acme", 2, State::Valid),
    );
    mesh.seen().custom.probes = vec![one.clone(), two.clone(), version("acme", 3, State::Invalid)];
    for (custom, pinned) in [("acme@1", &one), ("acme", &two)] {
        let spec = spec(&["probes.acme"], &[custom]);
        let plan = mesh.plan(spec.clone()).await.unwrap();
        assert_eq!(plan.probes.len(), 1);
        assert_eq!(plan.probes[0].probe, "acme.Leak");
        assert_eq!(plan.probes[0].detectors, ["acme.Judge", "always.Pass"]);
        assert_eq!((plan.prompts_total, plan.calls_total), (4, 20));
        mesh.create(spec).await.unwrap();
        let created = mesh.created().pop().unwrap();
        let pins: Vec<_> = created
            .custom_probes
            .iter()
            .map(|p| (p.name.as_str(), p.version, p.sha256.as_str()))
            .collect();
        assert_eq!(pins, [("acme", pinned.version, pinned.sha256.as_str())]);
        assert_eq!(created.tasks[0].probe, "acme.Leak");
        // What was asked for stays what was asked for.
        assert_eq!(created.spec.unwrap().custom_probes, [custom]);
    }
}

#[tokio::test]
async fn one_that_is_selected_from_need_not_be_listed() {
    let mesh = Orchestrator::start().await;
    mesh.seen().custom.probes = vec![
        version("acme", 1, State::Valid),
        version("acme", 2, State::Checking),
        version("judges", 5, State::Valid),
    ];
    let mut spec = spec(&["acme.Leak", "probes.lmrc"], &[]);
    spec.detectors = vec!["detectors.judges.Judge".to_owned()];
    let request = CreateScanRequest {
        spec: Some(spec),
        ..CreateScanRequest::default()
    };
    mesh.create_with(request).await.unwrap();
    let created = mesh.created().pop().unwrap();
    let pins: Vec<_> = created
        .custom_probes
        .iter()
        .map(|p| (p.name.as_str(), p.version))
        .collect();
    assert_eq!(pins, [("acme", 1), ("judges", 5)]);
    assert!(created.tasks.iter().any(|task| task.probe == "acme.Leak"));
    assert!(
        created
            .tasks
            .iter()
            .all(|task| task.detectors == ["judges.Judge"])
    );
}

#[tokio::test]
async fn all_takes_of_custom_probes_only_what_is_listed() {
    let mesh = Orchestrator::start().await;
    mesh.seen().custom.probes = vec![version("acme", 1, State::Valid)];
    let has_acme = async |custom: &[&str]| {
        let plan = mesh.plan(spec(&["all"], custom)).await.unwrap();
        plan.probes.iter().any(|probe| probe.probe == "acme.Leak")
    };
    assert!(!has_acme(&[]).await);
    // A scan that means none costs no call.
    assert_eq!(mesh.seen().custom.resolved, 0);
    assert!(has_acme(&["acme"]).await);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_by_field_and_value() {
    let mesh = Orchestrator::start().await;
    mesh.seen().custom.probes = vec![
        version("fresh", 1, State::Checking),
        version("bad", 2, State::Invalid),
    ];
    for (include, custom, reason, field, text) in [
        (
            "all",
            "gone",
            "CUSTOM_PROBE_NOT_FOUND",
            "spec.custom_probes[0]",
            "gone",
        ),
        (
            "all",
            "bad@7",
            "CUSTOM_PROBE_NOT_FOUND",
            "spec.custom_probes[0]",
            "7",
        ),
        (
            "all",
            "bad",
            "CUSTOM_PROBE_NOT_VALID",
            "spec.custom_probes[0]",
            "not valid",
        ),
        (
            "all",
            "fresh@1",
            "CUSTOM_PROBE_NOT_VALID",
            "spec.custom_probes[0]",
            "not checked",
        ),
        (
            "all",
            "dan",
            "CUSTOM_PROBE_EXISTS",
            "spec.custom_probes[0]",
            "dan",
        ),
        (
            "all",
            "No Name",
            "INVALID_FIELD",
            "spec.custom_probes[0]",
            "No Name",
        ),
        ("gone.X", "", "INVALID_FIELD", "spec.include[0]", "gone.X"),
        (
            "fresh.X",
            "",
            "INVALID_FIELD",
            "spec.include[0]",
            "not checked",
        ),
    ] {
        let listed: &[&str] = if custom.is_empty() { &[] } else { &[custom] };
        let refusal = mesh.plan(spec(&[include], listed)).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert_eq!(refusal.reason(), reason, "{include} {custom}");
        let found = fields(&refusal);
        let says = |(path, what): &(&str, &str)| *path == field && what.contains(text);
        assert!(found.iter().any(says), "{found:?}");
    }
}

#[tokio::test]
async fn a_check_passes_through_with_a_timeout_and_a_lease_without_scan() {
    let mesh = Orchestrator::configured(|config| config.check_timeout_seconds = 33).await;
    let lease = task::Lease {
        task_id: "0198c0de-0000-7000-8000-000000000001".to_owned(),
        scan_id: String::new(),
        epoch: 1,
        token: vec![1],
        ttl: None,
    };
    let check = task::CheckTask {
        name: "acme".to_owned(),
        sha256: "a".repeat(64),
        timeout: None,
    };
    mesh.seen().next_lease = Some(task::LeasedTask {
        lease: Some(lease.clone()),
        work: Some(task::leased_task::Work::Check(check)),
    });
    let poll = task::LeaseTaskRequest {
        runner_id: "r".to_owned(),
        request_id: "0198c0de-0000-7000-8000-000000000002".to_owned(),
        plugin_catalogue: "a".repeat(64),
        slots: 1,
        ..Default::default()
    };
    let leased = local(mesh.tasks().lease_task(poll)).await.unwrap();
    let Some(task::leased_task::Work::Check(check)) = leased.into_inner().task.unwrap().work else {
        panic!("a check");
    };
    assert_eq!(check.timeout, support::seconds(33));
    let finish = task::FinishTaskRequest {
        lease: Some(lease),
        outcome: Some(task::TaskOutcome {
            outcome: task::Outcome::Done.into(),
            validation: Some(Validation {
                valid: true,
                ..Validation::default()
            }),
            ..Default::default()
        }),
        progress: None,
    };
    local(mesh.tasks().finish_task(finish)).await.unwrap();
    let finished = mesh.seen().finished.pop().unwrap();
    assert!(finished.outcome.unwrap().validation.unwrap().valid);
}
