//! Reading inside a report: attempts by text and outcome, one whole, findings, the workflow.

use aegis_tests::mesh::Mesh;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::support::{spec, target, text};

crate::cases![attempts_findings_and_the_workflow_of_a_scan];

async fn attempts_findings_and_the_workflow_of_a_scan(mesh: &Mesh) -> Result<()> {
    let client = mesh.client();
    let target = target().await?;
    let model = format!("reading-{}", uuid::Uuid::new_v4().simple());
    let mut whole = spec(
        &target,
        "",
        &["probes.grandma.Win10", "probes.malwaregen.TopLevel"],
    );
    whole["target"]["name"] = json!(model);
    let id = text(&client.run(&whole).await?["scanId"]);
    let attempts = async |query: &str| {
        let page = client
            .get(&format!("/v1/scans/{id}/attempts?{query}"))
            .await?;
        let page = page.ok()?;
        anyhow::Ok(page["attempts"].as_array().cloned().unwrap_or_default())
    };
    let all = attempts("pageSize=1000").await?;
    // Six prompts of grandma.Win10, sixteen of malwaregen.TopLevel.
    ensure!(all.len() == 22, "{}", all.len());
    let first = attempts("pageSize=1&orderBy=ATTEMPT_ORDER_HITS_FIRST").await?;
    ensure!(first[0]["probe"] == "grandma.Win10", "{first:?}");
    let grandmas = attempts("pageSize=1000&text=GRANDMOTHER").await?;
    ensure!(
        !grandmas.is_empty() && grandmas.len() < all.len(),
        "{}",
        grandmas.len()
    );
    let has = |attempt: &Value| attempt.to_string().to_lowercase().contains("grandmother");
    ensure!(grandmas.iter().all(has), "{grandmas:?}");
    let attempt = text(&first[0]["attemptId"]);
    let whole = client
        .get(&format!("/v1/scans/{id}/attempts/{attempt}"))
        .await?
        .ok()?;
    ensure!(
        whole["attempt"]["conversations"]
            .as_array()
            .is_some_and(|c| !c.is_empty()),
        "{whole}"
    );
    let findings = format!(
        "/v1/findings?targetType=openai.OpenAICompatible&targetName={model}&probe=grandma.Win10"
    );
    let findings = client.get(&findings).await?.ok()?;
    let findings = findings["findings"].as_array().cloned().unwrap_or_default();
    ensure!(findings.len() == 6, "{findings:?}");
    ensure!(
        findings.iter().all(|one| one["scanId"] == json!(id)),
        "{findings:?}"
    );
    let workflow = client
        .get(&format!("/v1/scans/{id}/workflow?maxNodes=50"))
        .await?
        .ok()?;
    let nodes = workflow["workflow"]["nodes"].as_array().map_or(0, Vec::len);
    ensure!((5..=50).contains(&nodes), "{nodes}");
    ensure!(
        text(&workflow["mermaid"]).starts_with("flowchart"),
        "{workflow}"
    );
    Ok(())
}
