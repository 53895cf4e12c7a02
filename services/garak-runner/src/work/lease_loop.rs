//! One slot: ask for a task, run it, ask again.

use std::{sync::Arc, time::Duration};

use aegis_mesh::{Code, Error, clock};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{Interrupt, Runner, catalogue, check, finish::finish, keeper::Keeper, probe, report};
use crate::{
    domain::ending::{Ending, Outcome},
    grpc::{HOLD, Leased, Poll, Work},
};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);
/// A poll that is answered sooner, with nothing, was not held.
const NOT_HELD: Duration = Duration::from_secs(1);
/// Longest last poll of a runner that drains.
const GIVE_BACK: Duration = Duration::from_secs(3);

/// Leases and runs tasks until the runner drains; one, if that is all it is for.
pub(crate) async fn lease_loop(runner: Arc<Runner>) {
    while !runner.is_draining() {
        let mut asking = Asking::default();
        let leased = tokio::select! {
            biased;
            leased = next(&runner, &mut asking) => leased,
            () = runner.draining() => return asking.give_back(&runner).await,
        };
        let Some(leased) = leased else {
            return;
        };
        run(&runner, leased).await;
        if runner.is_for_once() {
            return;
        }
    }
}

/// A poll of which it is not known whether a task was leased for it. Its repeat has the same id, so
/// that it gets the same lease.
#[derive(Default)]
struct Asking(Option<Uuid>);

impl Asking {
    /// The poll's id: the old one until it was answered.
    fn id(&mut self) -> Uuid {
        *self.0.get_or_insert_with(Uuid::new_v4)
    }

    fn is_answered(&mut self) {
        self.0 = None;
    }

    /// When a runner drains in the middle of a poll, a task may have been leased to it a moment ago:
    /// that one goes back at once, or it would wait until its lease expires.
    async fn give_back(self, runner: &Runner) {
        let Some(id) = self.0 else {
            return;
        };
        let repeat = poll(runner, id, Duration::ZERO);
        match timeout(GIVE_BACK, runner.tasks().lease(&repeat)).await {
            Ok(Ok(Some(leased))) => {
                let keeper = Keeper::new(runner.tasks().clone(), &leased);
                finish(runner.tasks(), keeper, &Ending::drained()).await;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => {
                tracing::warn!(reason = error.reason(), "a last poll was not answered");
            }
            Err(_) => tracing::warn!("a last poll was not answered in time"),
        }
    }
}

/// Asks until there is a task; a runner for once asks until it knows that there is none.
async fn next(runner: &Runner, asking: &mut Asking) -> Option<Leased> {
    let mut pause = FIRST_PAUSE;
    loop {
        // A lease for which there is no garak would only be a failure of its task.
        let _ = runner.warm().ready().await;
        // Nor would one for which there is no room be anything else.
        runner.room().await;
        let asked = clock::now();
        let answer = runner.tasks().lease(&poll(runner, asking.id(), HOLD)).await;
        if answer.is_ok() {
            asking.is_answered();
        }
        match answer {
            Ok(Some(leased)) => return Some(leased),
            Ok(None) if runner.is_for_once() => return None,
            Ok(None) => {
                pause = FIRST_PAUSE;
                if clock::now() - asked < NOT_HELD {
                    sleep(NOT_HELD).await;
                }
            }
            Err(error) => {
                tracing::warn!(reason = error.reason(), "a poll for work was not answered");
                if is_catalogue_unknown(&error) {
                    catalogue::publish(runner).await;
                }
                sleep(jittered(pause)).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

fn poll(runner: &Runner, id: Uuid, hold: Duration) -> Poll {
    Poll {
        hold,
        runner_id: runner.id().to_owned(),
        request_id: id.to_string(),
        plugin_catalogue: runner
            .published()
            .map(|published| published.sha256.clone())
            .unwrap_or_default(),
        slots: runner.slots(),
    }
}

/// The catalog may have been restored to a time before our catalogue was published.
fn is_catalogue_unknown(error: &Error) -> bool {
    error.code() == Code::FailedPrecondition
}

/// Between half and all of it.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

#[tracing::instrument(name = "run", skip_all, fields(
    task_id = leased.lease.task_id(), scan_id = leased.lease.scan_id(), epoch = leased.lease.epoch(),
))]
async fn run(runner: &Runner, leased: Leased) {
    let keeper = Keeper::new(runner.tasks().clone(), &leased);
    let ending = match work(runner, &keeper, leased).await {
        Ok(ending) => ending,
        Err(Interrupt::LeaseLost) => {
            tracing::warn!("a lease is lost; its run is forgotten");
            return;
        }
        Err(Interrupt::Cancelled) => {
            Ending::new(Outcome::Cancelled, "CANCELLED", "the task was cancelled")
        }
        Err(Interrupt::Drained) => Ending::drained(),
        Err(Interrupt::TimedOut) => Ending::permanent(
            "PROBE_TIMED_OUT",
            "the probe ran longer than the scan's probe_timeout",
        ),
    };
    finish(runner.tasks(), keeper, &ending).await;
}

/// Does the work in a scratch directory that is gone afterwards.
async fn work(runner: &Runner, keeper: &Keeper, leased: Leased) -> Result<Ending, Interrupt> {
    let lease = leased.lease;
    let entry = runner.board().enter(&lease);
    let work = match leased.work {
        Ok(work) => work,
        Err(refusal) => return Ok(refusal.into()),
    };
    // The id came over the network and becomes a path.
    let Ok(task) = lease.task_id().parse::<aegis_proto::ids::TaskId>() else {
        return Ok(Ending::permanent(
            "INVALID_LEASE",
            "the lease names no task",
        ));
    };
    let scratch = match runner
        .scratch()
        .directory(&format!("{task}-{}", lease.epoch()))
    {
        Ok(scratch) => scratch,
        Err(error) => {
            tracing::error!(%error, "cannot make a scratch directory");
            return Ok(Ending::out_of_space());
        }
    };
    match work {
        Work::Probe(work) => probe::run(runner, keeper, &entry, &scratch, &work).await,
        Work::Report(modules) => report::run(runner, keeper, &entry, &scratch, &modules).await,
        Work::Check(work) => check::run(runner, keeper, &entry, &scratch, &work).await,
    }
}
