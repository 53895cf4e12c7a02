//! Users, each of whom begins with the next scan once the last is done.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use aegis_demo_target::DemoTarget;
use aegis_tests::client::{Answer, Client, is_ended};
use anyhow::{Context, Result, ensure};
use futures_util::future::join_all;
use reqwest::{Method, header};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::watch::watch;

/// One more than scans that run at once by default: somebody always waits.
const USERS: usize = 6;
/// Longest wait for an answer, and for a scan's end.
const PATIENCE: Duration = Duration::from_secs(180);
/// Until a user thinks better of it.
const THOUGHT: Duration = Duration::from_secs(1);

/// Few prompts each; the second one finds something.
const PROBES: [&str; 2] = ["goodside.ThreatenJSON", "grandma.Win10"];
const TARGET: &str = "openai.OpenAICompatible";
const NAME: &str = "soak";
const FILES: [&str; 3] = ["report.jsonl", "hitlog.jsonl", "report.html"];

/// What a user does with a scan, besides watching it to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Act {
    /// Reads all that there is to read.
    Read,
    /// Pauses it and has it go on.
    Pause,
    /// Deletes it once it has ended.
    Delete,
    Cancel,
    /// Cancels it, and has it retried once it has ended.
    Retry,
}

/// In turn, each user beginning with another one.
const ACTS: [Act; 7] = [
    Act::Read,
    Act::Pause,
    Act::Delete,
    Act::Read,
    Act::Cancel,
    Act::Read,
    Act::Retry,
];

/// What was done.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    scans: BTreeMap<Act, u64>,
    answers: u64,
    events: u64,
    sent_away: u64,
    bytes: u64,
    /// Answers that were not good, and what else went wrong.
    pub(crate) failures: Vec<String>,
}

impl Figures {
    /// Scans in all; none when something was not done at all.
    pub(crate) fn scans(&self) -> u64 {
        match ACTS.iter().all(|act| self.scans.contains_key(act)) {
            true => self.scans.values().sum(),
            false => 0,
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} scans {:?}, {} answers, {} events, {} streams ended early, {} KiB of reports",
            self.scans.values().sum::<u64>(),
            self.scans,
            self.answers,
            self.events,
            self.sent_away,
            self.bytes >> 10
        )
    }
}

/// Constant load until then.
pub(crate) async fn work(base: &str, target: &DemoTarget, until: Instant) -> Result<Figures> {
    let figures = Mutex::default();
    let users = (0..USERS).map(|number| {
        let user = User {
            client: Client::with_timeout(base, PATIENCE)?,
            spec: spec(target),
            figures: &figures,
        };
        anyhow::Ok(async move { user.work(number, until).await })
    });
    let users = users.collect::<Result<Vec<_>>>()?;
    join_all(users).await;
    Ok(figures.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn spec(target: &DemoTarget) -> Value {
    json!({
        "target": {
            "type": TARGET,
            "name": NAME,
            "options": {"uri": target.uri("latency/50"), "stop": []},
        },
        "include": PROBES.map(|probe| format!("probes.{probe}")),
        "generations": 1,
        "seed": "7",
    })
}

struct User<'a> {
    client: Client,
    spec: Value,
    figures: &'a Mutex<Figures>,
}

impl User<'_> {
    async fn work(&self, number: usize, until: Instant) {
        for act in ACTS.iter().cycle().skip(number) {
            if Instant::now() >= until {
                break;
            }
            let Err(error) = self.scan(*act).await else {
                continue;
            };
            let failure = format!("user {number}, {act:?}: {error:#}");
            self.note(|figures| figures.failures.push(failure));
            // The load stays what it is.
            sleep(THOUGHT).await;
        }
    }

    async fn scan(&self, act: Act) -> Result<()> {
        let scan = self.create().await?;
        let id = scan["scanId"].as_str().context("no scanId")?;
        match act {
            Act::Read | Act::Delete => {}
            Act::Pause => {
                sleep(THOUGHT).await;
                self.ask(id, "pause").await?.ok()?;
                sleep(THOUGHT).await;
                self.ask(id, "resume").await?.ok()?;
            }
            Act::Cancel | Act::Retry => {
                sleep(THOUGHT).await;
                self.ask(id, "cancel").await?.ok()?;
            }
        }
        let last = self.watch(id, 0).await?;
        match act {
            Act::Read | Act::Pause => self.read_all(id).await?,
            Act::Delete => self.delete(id).await?,
            Act::Cancel => {}
            Act::Retry => {
                let retried = self.ask(id, "retry").await?;
                // It was not cancelled in time.
                if retried.reason() != "NOTHING_TO_RETRY" {
                    retried.ok()?;
                    self.watch(id, last).await?;
                }
                self.read_all(id).await?;
            }
        }
        self.note(|figures| *figures.scans.entry(act).or_default() += 1);
        Ok(())
    }

    async fn create(&self) -> Result<Value> {
        let request = json!({
            "requestId": uuid::Uuid::new_v4(),
            "spec": self.spec,
            "labels": {"by": "soak"},
        });
        let created = self.answer(self.client.post("/v1/scans", &request).await?);
        Ok(created.ok()?["scan"].take())
    }

    async fn ask(&self, id: &str, what: &str) -> Result<Answer> {
        let path = format!("/v1/scans/{id}:{what}");
        let asked = self.client.post(&path, &json!({})).await;
        Ok(self.answer(asked.with_context(|| path)?))
    }

    /// Returns the number of the last event.
    async fn watch(&self, id: &str, last: i64) -> Result<i64> {
        let seen = watch(&self.client, id, last).await?;
        self.note(|figures| {
            figures.events += seen.events;
            figures.sent_away += seen.sent_away;
        });
        let scan = self.get(&format!("/v1/scans/{id}")).await?["scan"].take();
        ensure!(
            is_ended(&scan),
            "its watch has ended, and it has not: {scan:#}"
        );
        Ok(seen.last)
    }

    /// Everything of a scan that was evaluated.
    async fn read_all(&self, id: &str) -> Result<()> {
        let results = self.get(&format!("/v1/scans/{id}/results")).await?;
        let rows = results["results"].as_array().map_or(0, Vec::len);
        ensure!(rows >= PROBES.len(), "{id}: {results:#}");
        let findings = format!("targetType={TARGET}&targetName={NAME}&probe={}", PROBES[1]);
        for path in [
            "/v1/statistics".to_owned(),
            "/v1/statistics/DIMENSION_PROBE".to_owned(),
            format!("/v1/findings?{findings}"),
            format!("/v1/scans/{id}/workflow?maxNodes=50"),
            format!("/v1/scans/{id}/attempts?text=grandmother"),
            format!("/v1/scans/{id}/artifacts"),
        ] {
            self.get(&path).await?;
        }
        self.two_pages("/v1/scans?pageSize=5&includeTotalSize=true")
            .await?;
        self.two_pages(&format!("/v1/scans/{id}/attempts?pageSize=3"))
            .await?;
        for name in FILES {
            self.download(id, name).await?;
        }
        Ok(())
    }

    async fn two_pages(&self, path: &str) -> Result<()> {
        let first = self.get(path).await?;
        let next = first["nextPageToken"].as_str().unwrap_or_default();
        if !next.is_empty() {
            self.get(&format!("{path}&pageToken={next}")).await?;
        }
        Ok(())
    }

    /// The whole, and a part of it.
    async fn download(&self, id: &str, name: &str) -> Result<()> {
        let path = format!("/v1/scans/{id}/artifacts/{name}");
        let get = || self.client.request(Method::GET, &path);
        let whole = get().send().await?.error_for_status()?.bytes().await?;
        let part = get().header(header::RANGE, "bytes=0-9");
        let part = part.send().await?.error_for_status()?.bytes().await?;
        ensure!(part.len() == 10 && whole.starts_with(&part), "{path}");
        self.note(|figures| {
            figures.answers += 2;
            figures.bytes += whole.len() as u64;
        });
        Ok(())
    }

    async fn delete(&self, id: &str) -> Result<()> {
        let path = format!("/v1/scans/{id}");
        self.answer(self.client.delete(&path).await?).ok()?;
        let gone = self.answer(self.client.get(&path).await?);
        ensure!(gone.reason() == "SCAN_NOT_FOUND", "{gone:?}");
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let got = self.client.get(path).await;
        let got = got.with_context(|| path.to_owned())?;
        self.answer(got).ok().with_context(|| path.to_owned())
    }

    fn answer(&self, answer: Answer) -> Answer {
        self.note(|figures| figures.answers += 1);
        answer
    }

    fn note(&self, what: impl FnOnce(&mut Figures)) {
        let figures = self.figures.lock();
        what(&mut figures.unwrap_or_else(PoisonError::into_inner));
    }
}
