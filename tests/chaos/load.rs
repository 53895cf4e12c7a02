//! Users, who repeat what was not answered.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aegis_demo_target::DemoTarget;
use aegis_tests::{
    client::{Answer, Client, is_ended},
    cluster::Cluster,
};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::time::sleep;
use uuid::Uuid;

use crate::plan::{Act, PlannedScan};

/// Longest that a user tries to get an answer.
const PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(300);

/// What users were told, by which the end is judged.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    accepted: Mutex<Vec<(Uuid, String)>>,
}

impl Ledger {
    /// Requests that were answered, each with its scan.
    pub(crate) fn accepted(&self) -> Vec<(Uuid, String)> {
        let accepted = self.accepted.lock();
        accepted.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn accept(&self, request: Uuid, scan: &str) {
        let accepted = self.accepted.lock();
        let mut accepted = accepted.unwrap_or_else(PoisonError::into_inner);
        accepted.push((request, scan.to_owned()));
    }
}

/// Creates a scan at its time, and does with it what is planned.
pub(crate) async fn user(
    cluster: &Cluster,
    target: &DemoTarget,
    ledger: &Ledger,
    scan: &PlannedScan,
) -> Result<()> {
    sleep(scan.at).await;
    let request = json!({
        "requestId": scan.request_id,
        // By which its scans are counted.
        "displayName": scan.request_id,
        "spec": {
            "target": {
                "type": "openai.OpenAICompatible",
                "name": "demo",
                "options": {"uri": target.uri(scan.target), "stop": []},
            },
            "include": scan.probes.iter().map(|probe| format!("probes.{probe}")).collect::<Vec<_>>(),
            "generations": 1,
            "seed": "7",
        },
    });
    let client = cluster.client();
    let created = told(client, "/v1/scans", &request).await?.ok()?;
    let id = created["scan"]["scanId"].as_str().context("no scanId")?;
    ledger.accept(scan.request_id, id);
    let nothing = json!({});
    let verb = |verb: &str| format!("/v1/scans/{id}:{verb}");
    // An act that comes too late is refused, which is as well.
    match scan.act {
        Act::Wait => {}
        Act::Cancel(after) => {
            sleep(after).await;
            told(client, &verb("cancel"), &nothing).await?;
        }
        Act::Pause(after) => {
            sleep(after).await;
            told(client, &verb("pause"), &nothing).await?;
            sleep(after).await;
            told(client, &verb("resume"), &nothing).await?;
        }
        Act::Retry(after) => {
            sleep(after).await;
            told(client, &verb("cancel"), &nothing).await?;
            ended(client, id).await?;
            told(client, &verb("retry"), &nothing).await?;
        }
    }
    Ok(())
}

/// The answer, good or a refusal: what failed, or was not answered, is asked again.
pub(crate) async fn told(client: &Client, path: &str, body: &Value) -> Result<Answer> {
    let until = Instant::now() + PATIENCE;
    loop {
        let answer = client.post(path, body).await;
        match &answer {
            Ok(answer) if !may_be_repeated(answer) => return Ok(answer.clone()),
            _ if Instant::now() > until => bail!("{path} is not answered: {answer:?}"),
            _ => sleep(PAUSE).await,
        }
    }
}

/// Timeouts, conflicts that pass, too much at once, and what failed on the other side.
fn may_be_repeated(answer: &Answer) -> bool {
    matches!(answer.status.as_u16(), 408 | 409 | 429 | 499..=599)
}

async fn ended(client: &Client, id: &str) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !client.scan(id).await.is_ok_and(|scan| is_ended(&scan)) {
        if Instant::now() > until {
            bail!("scan {id} has not ended");
        }
        sleep(PAUSE).await;
    }
    Ok(())
}
