//! A **stand-in** for garak: it says what a probe's child says, at times that the seed gives.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aegis_garak_runner::process::{
    JobRequest, StandIn,
    protocol::{ChildEvent, JobKind, JobResult},
};
use futures_util::{StreamExt, stream};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::sleep;

const FINGERPRINT: &str = "5e1f";

/// When a runner starts, what a probe's run says, and how long it takes.
#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) starts_after: Duration,
    pub(crate) seed: u64,
    pub(crate) detectors: usize,
    pub(crate) lasts: Duration,
}

/// Runs of probes: when each began and ended, in the simulation's time.
pub(crate) type Runs = Arc<Mutex<Vec<Run>>>;

#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) began: Duration,
    /// None while it runs.
    pub(crate) ended: Option<Duration>,
}

/// Puts the catalogue where a runner looks for one that was kept.
pub(crate) fn keep_catalogue(folder: &Path, catalogue: &[u8]) {
    std::fs::create_dir_all(folder).expect("a folder");
    let kept = folder.join(format!("catalogue-{FINGERPRINT}.json"));
    std::fs::write(kept, catalogue).expect("written");
}

/// Says that a detector is done now and then, and at the end that there is no result: so the run
/// ends without an upload, and needs no artifact service.
pub(crate) fn stand_in(script: Script, runs: Runs) -> StandIn {
    Arc::new(move |request: JobRequest| match request.kind {
        JobKind::Probe => probe(&script, &runs),
        _ => stream::iter([ChildEvent::Result(JobResult {
            outcome: "made".to_owned(),
            fingerprint: Some(FINGERPRINT.to_owned()),
            ..JobResult::default()
        })])
        .boxed(),
    })
}

/// The run is over when it is dropped, too: then its child was killed.
struct Noted(Runs, usize);

impl Drop for Noted {
    fn drop(&mut self) {
        self.0.lock().expect("whole")[self.1].ended = Some(now());
    }
}

fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

fn probe(script: &Script, runs: &Runs) -> stream::BoxStream<'static, ChildEvent> {
    let number = {
        let mut runs = runs.lock().expect("whole");
        runs.push(Run {
            began: now(),
            ended: None,
        });
        runs.len() - 1
    };
    let noted = Noted(runs.clone(), number);
    let mut rng = SmallRng::seed_from_u64(script.seed + number as u64);
    let step = script.lasts / (script.detectors as u32 + 1);
    let detectors = (1..=script.detectors).map(|n| ChildEvent::DetectorFinished {
        detector: detector(n),
    });
    let end = ChildEvent::Result(JobResult {
        outcome: "not_evaluated".to_owned(),
        reason: Some("SIMULATED".to_owned()),
        class: Some("permanent".to_owned()),
        ..JobResult::default()
    });
    stream::iter(detectors.chain([end]))
        .then(move |event| {
            let pause = step.mul_f64(rng.random_range(0.5..1.5));
            let _noted = &noted;
            async move {
                sleep(pause).await;
                event
            }
        })
        .boxed()
}

/// The name of the `n`th detector.
pub(crate) fn detector(n: usize) -> String {
    format!("always.D{n}")
}
