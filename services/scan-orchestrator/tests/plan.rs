//! What a scan will do, and what is refused before it does anything.

mod support;

use aegis_mesh::{Code, Error};
use aegis_proto::{
    json,
    scan::v1::{CreateScanRequest, PlanScanResponse, ScanSpec},
};
use serde_json::{Value, json};
use sha2::Digest;
use support::{CATALOGUE, Orchestrator};

fn spec(more: Value) -> ScanSpec {
    let mut spec = json!({"target": {"type": "test.Repeat"}, "include": ["probes.dan"]});
    for (key, value) in more.as_object().expect("an object") {
        spec[key] = value.clone();
    }
    json::from_json(spec).expect("a spec")
}

fn probes(plan: &PlanScanResponse) -> Vec<&str> {
    plan.probes
        .iter()
        .map(|probe| probe.probe.as_str())
        .collect()
}

fn fields(error: &Error) -> Vec<&str> {
    error
        .fields()
        .iter()
        .map(|field| field.path.as_str())
        .collect()
}

#[tokio::test]
async fn selection_is_garaks() {
    let mesh = Orchestrator::start().await;
    let cases = [
        (
            json!({"include": ["probes.dan"]}),
            vec![
                "dan.Ablation_Dan_11_0",
                "dan.AutoDANCached",
                "dan.DanInTheWild",
            ],
        ),
        (json!({"include": ["dan.AntiDAN"]}), vec!["dan.AntiDAN"]),
        (
            json!({"include": ["probes.dan"], "exclude": ["probes.dan.DanInTheWild"]}),
            vec!["dan.Ablation_Dan_11_0", "dan.AutoDANCached"],
        ),
        (
            json!({"include": ["all"], "tiers": [1], "tags": ["owasp:llm02"]}),
            vec!["web_injection.MarkdownXSS", "web_injection.TaskXSS"],
        ),
        (
            json!({"include": ["probes.web_injection", "probes.dan.AntiDAN"]}),
            vec![
                "dan.AntiDAN",
                "web_injection.MarkdownXSS",
                "web_injection.TaskXSS",
            ],
        ),
    ];
    for (more, expected) in cases {
        let plan = mesh
            .plan(spec(more.clone()))
            .await
            .unwrap_or_else(|e| panic!("{more}: {e}"));
        assert_eq!(probes(&plan), expected, "{more}");
    }
}

#[tokio::test]
async fn calls_are_prompts_times_generations_of_what_can_be_evaluated() {
    let mesh = Orchestrator::start().await;
    let plan = mesh
        .plan(spec(json!({"include": ["probes.lmrc"], "generations": 3})))
        .await
        .expect("a plan");
    let bullying = &plan.probes[0];
    assert_eq!(bullying.probe, "lmrc.Bullying");
    let not = bullying.not_evaluated.as_ref().expect("needs torch");
    assert_eq!(not.reason, "DETECTOR_UNAVAILABLE");
    assert_eq!((plan.prompts_total, plan.calls_total), (2, 6));
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let mesh = Orchestrator::start().await;
    let error = mesh
        .plan(spec(json!({
            "target": {"type": "test.Repeat", "name": "a\u{0}b", "options": {"api_key": "x"}, "secret": "sk-123"},
            "include": ["probes.dna", "probes.lmrc.Bullying"],
            "generations": 1_000_000, "evalThreshold": 2, "seed": "-1", "maxInFlight": 0,
            "detectors": ["nope.Nope"], "buffs": ["nope"], "tiers": [11], "probeTimeout": "0s",
            "pluginOptions": {"probes": {"dan": {"AntiDAN": {"nope": 1}}}, "x": {}},
        })))
        .await
        .expect_err("refused");
    assert_eq!(error.code(), Code::InvalidArgument);
    for field in [
        "spec.target.name",
        "spec.target.options.api_key",
        "spec.target.secret",
        "spec.include[0]",
        "spec.include[1]",
        "spec.generations",
        "spec.eval_threshold",
        "spec.seed",
        "spec.max_in_flight",
        "spec.detectors[0]",
        "spec.buffs[0]",
        "spec.tiers[0]",
        "spec.probe_timeout",
        "spec.plugin_options.probes.dan.AntiDAN.nope",
        "spec.plugin_options.x",
    ] {
        assert!(
            fields(&error).contains(&field),
            "{field}: {:?}",
            fields(&error)
        );
    }
    assert!(
        !format!("{error:?}").contains("sk-123"),
        "a secret is never repeated"
    );
}

#[tokio::test]
async fn each_refusal_has_its_reason_and_a_hint() {
    let mesh = Orchestrator::start().await;
    let cases = [
        (
            json!({"target": {"type": "function.Single", "name": "os#system"}}),
            "GENERATOR_NOT_ALLOWED",
            "spec.target.type",
        ),
        (
            json!({"target": {"type": "openai.OpenAICompatible", "options": {"extra_params": {}}}}),
            "OPTION_NOT_ALLOWED",
            "spec.target.options.extra_params",
        ),
        (
            json!({"target": {"type": "test.Repeat", "secret": "env:PATH"}}),
            "SECRET_NOT_ALLOWED",
            "spec.target.secret",
        ),
        (
            json!({"target": {"type": "test.Repeet"}}),
            "INVALID_FIELD",
            "spec.target.type",
        ),
        (json!({"include": []}), "EMPTY_SELECTION", "spec.include"),
        (
            json!({"exclude": ["probes.dan"]}),
            "EMPTY_SELECTION",
            "spec.include",
        ),
        (
            json!({"include": ["probes.dan.AntiDan"]}),
            "INVALID_FIELD",
            "spec.include[0]",
        ),
        (
            json!({"customProbes": ["mine"]}),
            "CUSTOM_PROBE_NOT_FOUND",
            "spec.custom_probes[0]",
        ),
    ];
    for (more, reason, field) in cases {
        let error = mesh
            .plan(spec(more.clone()))
            .await
            .expect_err(&more.to_string());
        assert_eq!(error.reason(), reason, "{more}");
        assert!(
            fields(&error).contains(&field),
            "{more}: {:?}",
            fields(&error)
        );
        assert!(error.hint_text().is_some(), "{more}");
    }
    let all = mesh.plan(spec(json!({"include": ["probes.atkgen", "probes.lmrc"], "exclude": ["lmrc.QuackMedicine", "lmrc.SlurUsage"]}))).await;
    assert_eq!(
        all.expect_err("nothing works").reason(),
        "NOTHING_EVALUABLE"
    );
}

#[tokio::test]
async fn detectors_are_named_to_garak_only_when_they_are_not_its_own_choice() {
    let mesh = Orchestrator::start().await;
    for (more, expected) in [
        (json!({"include": ["dan.AntiDAN"]}), vec![]),
        (
            json!({"include": ["dan.AntiDAN"], "detectors": ["always"]}),
            vec!["always.Fail", "always.Pass"],
        ),
        (
            json!({"include": ["dan.AntiDAN"], "excludeDetectors": ["mitigation.MitigationBypass"]}),
            vec!["dan.AntiDAN"],
        ),
        (
            json!({"include": ["dan.AntiDAN"], "extendedDetectors": false}),
            vec![],
        ),
    ] {
        mesh.create(spec(more.clone()))
            .await
            .unwrap_or_else(|e| panic!("{more}: {e}"));
        let created = mesh.created();
        let task = &created.last().expect("created").tasks[0];
        assert_eq!(task.detectors, expected, "{more}");
    }
}

#[tokio::test]
async fn one_request_id_makes_one_scan() {
    let mesh = Orchestrator::start().await;
    let request = CreateScanRequest {
        spec: Some(spec(json!({}))),
        request_id: "5f0c9a52-3f0e-4c8b-9f0e-0d6c2f6b8a11".to_owned(),
        labels: [("a", "1"), ("b", "2"), ("c", "3")]
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .into(),
        ..CreateScanRequest::default()
    };
    let first = mesh.create_with(request.clone()).await.expect("created");
    let second = mesh.create_with(request.clone()).await.expect("found");
    assert_eq!(first.scan_id, second.scan_id);
    assert_eq!(mesh.created().len(), 1);
    let other = CreateScanRequest {
        display_name: "other".to_owned(),
        ..request
    };
    assert_eq!(
        mesh.create_with(other).await.expect_err("refused").reason(),
        "REQUEST_ID_REUSED"
    );
}

#[tokio::test]
async fn a_seed_and_a_threshold_are_always_chosen() {
    let mesh = Orchestrator::start().await;
    mesh.create(spec(json!({}))).await.expect("created");
    mesh.create(spec(json!({"seed": "0", "evalThreshold": 0})))
        .await
        .expect("created");
    let created = mesh.created();
    assert_eq!(created[0].effective_eval_threshold, 0.5);
    assert!((0..=i64::from(u32::MAX)).contains(&created[0].effective_seed));
    assert_eq!(
        (
            created[1].effective_seed,
            created[1].effective_eval_threshold
        ),
        (0, 0.0),
        "a set zero is a zero"
    );
}

/// Statistics are kept by garak's own tags.
#[tokio::test]
async fn a_task_has_the_tags_of_its_probe() {
    let mesh = Orchestrator::start().await;
    let one = spec(json!({"include": ["dan.AntiDAN"]}));
    mesh.create(one).await.expect("created");
    let created = mesh.created();
    let tags = &created[0].tasks[0].tags;
    for tag in ["owasp:llm01", "avid-effect:security:S0403"] {
        assert!(tags.iter().any(|has| has == tag), "{tags:?}");
    }
}

/// As the catalogue, of an installation that has torch.
fn with_torch() -> Vec<u8> {
    let mut catalogue: Value = serde_json::from_slice(CATALOGUE).expect("JSON");
    catalogue["capabilities"] = json!(["torch"]);
    let bullying = &mut catalogue["probes"]["lmrc.Bullying"];
    bullying["not_evaluable"] = Value::Null;
    bullying["unavailable_detectors"] = json!([]);
    catalogue["detectors"]["unsafe_content.ToxicCommentModel"]["not_loadable"] = Value::Null;
    serde_json::to_vec(&catalogue).expect("JSON")
}

fn sha256(json: &[u8]) -> String {
    hex::encode(sha2::Sha256::digest(json))
}

#[tokio::test]
async fn runners_that_can_evaluate_more_are_taken() {
    let mesh = Orchestrator::start().await;
    let torch = with_torch();
    mesh.seen().present = vec![CATALOGUE.to_vec(), torch.clone()];
    for (include, planned_with) in [
        ("probes.lmrc", torch.as_slice()),
        // Both can: those that came last.
        ("dan.AntiDAN", CATALOGUE),
    ] {
        mesh.create(spec(json!({"include": [include]})))
            .await
            .expect("created");
        let created = mesh.created();
        let created = created.last().expect("one");
        assert_eq!(created.plugin_catalogue, sha256(planned_with), "{include}");
        assert!(
            created
                .tasks
                .iter()
                .all(|task| task.not_evaluated.is_none())
        );
    }
}

#[tokio::test]
async fn what_a_scan_requires_is_held_against_the_runners() {
    let mesh = Orchestrator::start().await;
    let torch = with_torch();
    mesh.seen().present = vec![CATALOGUE.to_vec(), torch.clone()];
    let requires = |what: Value| spec(json!({"include": ["dan.AntiDAN"], "requires": what}));
    mesh.create(requires(json!(["torch", "garak==0.17.1"])))
        .await
        .expect("created");
    assert_eq!(mesh.created()[0].plugin_catalogue, sha256(&torch));
    let error = mesh.create(requires(json!(["torch", "gpu"]))).await;
    let error = error.expect_err("nobody has one");
    assert_eq!(error.reason(), "NO_SUCH_RUNNER");
    assert_eq!(fields(&error).last(), Some(&"spec.requires[1]"));
}
