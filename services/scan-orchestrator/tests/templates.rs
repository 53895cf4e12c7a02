//! Templates: presets that cannot be broken, and scans that start from one.

mod support;

use aegis_mesh::{Code, Error};
use aegis_proto::{
    json,
    scan::v1::{CreateScanRequest, PlanScanRequest, ScanSpec},
    template::v1::{
        CreateTemplateRequest, DeleteTemplateRequest, GetTemplateRequest,
        ListTemplateVersionsRequest, ListTemplatesRequest, UpdateTemplateRequest,
    },
};
use serde_json::{Value, json};
use support::{Orchestrator, local};

fn spec(json: Value) -> ScanSpec {
    json::from_json(json).unwrap()
}

fn new(name: &str, template: Value) -> CreateTemplateRequest {
    CreateTemplateRequest {
        name: name.to_owned(),
        spec: Some(spec(template)),
        ..CreateTemplateRequest::default()
    }
}

async fn create(mesh: &Orchestrator, request: CreateTemplateRequest) -> Result<(), Error> {
    local(mesh.templates().create_template(request)).await?;
    Ok(())
}

async fn names(mesh: &Orchestrator, page_size: i32) -> Vec<String> {
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListTemplatesRequest {
            page_size,
            page_token,
        };
        let page = local(mesh.templates().list_templates(request)).await;
        let page = page.unwrap().into_inner();
        assert!(page.templates.len() <= page_size as usize);
        names.extend(page.templates.into_iter().map(|one| one.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return names;
        }
    }
}

#[tokio::test]
async fn presets_come_first_and_every_template_once_whatever_the_page() {
    let mesh = Orchestrator::start().await;
    for name in ["nightly", "a"] {
        create(&mesh, new(name, json!({}))).await.unwrap();
    }
    let all = ["default", "full", "owasp", "quick", "a", "nightly"];
    for page_size in 1..8 {
        assert_eq!(names(&mesh, page_size).await, all, "{page_size} on a page");
    }
}

#[tokio::test]
async fn a_preset_cannot_be_broken() {
    let mesh = Orchestrator::start().await;
    let taken = create(&mesh, new("quick", json!({}))).await.unwrap_err();
    assert_eq!(
        (taken.code(), taken.reason()),
        (Code::AlreadyExists, "TEMPLATE_EXISTS")
    );
    let change = UpdateTemplateRequest {
        name: "quick".to_owned(),
        etag: "preset-1".to_owned(),
        ..UpdateTemplateRequest::default()
    };
    let change = local(mesh.templates().update_template(change)).await;
    assert_eq!(change.unwrap_err().reason(), "TEMPLATE_PRESET");
    let delete = DeleteTemplateRequest {
        name: "owasp".to_owned(),
        ..DeleteTemplateRequest::default()
    };
    let delete = local(mesh.templates().delete_template(delete)).await;
    assert_eq!(delete.unwrap_err().reason(), "TEMPLATE_PRESET");
    assert!(mesh.seen().templates.is_empty());
    let versions = ListTemplateVersionsRequest {
        name: "full".to_owned(),
        ..ListTemplateVersionsRequest::default()
    };
    let versions = local(mesh.templates().list_template_versions(versions)).await;
    let versions = versions.unwrap().into_inner().templates;
    assert!(versions.len() == 1 && versions[0].preset);
    let missing = GetTemplateRequest {
        name: "full".to_owned(),
        version: 9,
    };
    let missing = local(mesh.templates().get_template(missing)).await;
    assert_eq!(missing.unwrap_err().reason(), "TEMPLATE_NOT_FOUND");
}

#[tokio::test]
async fn a_template_is_checked_as_far_as_it_goes() {
    let mesh = Orchestrator::start().await;
    let bad = CreateTemplateRequest {
        name: "Nightly".to_owned(),
        display_name: "a\tb".to_owned(),
        description: "x".repeat(2_001),
        spec: Some(spec(json!({"generations": 501, "evalThreshold": 1.5}))),
    };
    let error = create(&mesh, bad).await.unwrap_err();
    let fields: Vec<&str> = error.fields().iter().map(|f| f.path.as_str()).collect();
    assert_eq!(
        fields,
        [
            "name",
            "display_name",
            "description",
            "spec.generations",
            "spec.eval_threshold"
        ]
    );
    let change = UpdateTemplateRequest {
        name: "nightly".to_owned(),
        ..UpdateTemplateRequest::default()
    };
    let change = local(mesh.templates().update_template(change)).await;
    assert_eq!(change.unwrap_err().fields()[0].path, "etag");
    assert!(mesh.seen().templates.is_empty());
}

#[tokio::test]
async fn a_scan_starts_from_a_template_and_its_own_fields_win() {
    let mesh = Orchestrator::start().await;
    let base = json!({"include": ["probes.goodside"], "generations": 3, "seed": 11});
    create(&mesh, new("nightly", base)).await.unwrap();
    let changed = UpdateTemplateRequest {
        name: "nightly".to_owned(),
        spec: Some(spec(json!({"include": ["all"], "generations": 4}))),
        etag: "v1".to_owned(),
        ..UpdateTemplateRequest::default()
    };
    local(mesh.templates().update_template(changed))
        .await
        .unwrap();
    let create = async |template: &str, own: Value| {
        mesh.create_with(CreateScanRequest {
            template: template.to_owned(),
            spec: Some(spec(own)),
            ..CreateScanRequest::default()
        })
        .await
    };
    let target = json!({"target": {"type": "test.Repeat"}, "generations": 2});
    create("nightly@1", target.clone()).await.unwrap();
    let made = mesh.created().remove(0);
    assert_eq!(
        (made.template.as_str(), made.template_version),
        ("nightly", 1)
    );
    assert_eq!(made.effective_seed, 11);
    let ran = made.spec.unwrap();
    assert_eq!(ran.generations, Some(2));
    assert_eq!(ran.include, ["probes.goodside"]);
    let probes: Vec<_> = made.tasks.iter().map(|task| task.probe.as_str()).collect();
    assert_eq!(
        probes,
        [
            "goodside.Tag",
            "goodside.ThreatenJSON",
            "goodside.WhoIsRiley"
        ]
    );
    create("nightly", target).await.unwrap();
    assert_eq!(mesh.created()[1].template_version, 2);
    let missing = create("nightly@7", json!({})).await.unwrap_err();
    assert_eq!(missing.reason(), "TEMPLATE_NOT_FOUND");
    assert_eq!(missing.fields()[0].path, "template");
    assert_eq!(mesh.created().len(), 2);
}

#[tokio::test]
async fn a_plan_shows_what_a_template_makes_of_it() {
    let mesh = Orchestrator::start().await;
    for template in ["default", "full", "owasp"] {
        let request = PlanScanRequest {
            template: template.to_owned(),
            spec: Some(spec(json!({"target": {"type": "test.Repeat"}}))),
        };
        let plan = local(mesh.client().plan_scan(request)).await.unwrap();
        let plan = plan.into_inner();
        let effective = plan.effective_spec.unwrap();
        assert_eq!(effective.include, ["all"], "{template}");
        assert!(plan.prompts_total > 0, "{template}");
    }
}
