//! A runner and its lease.

use std::time::Duration;

use rand::{RngExt, rngs::SmallRng};
use turmoil::Sim;

use crate::{
    catalog::{Catalog, Task},
    fault::{Fault, Kind, millis},
    garak::{Run, Runs, Script, detector},
    world::{add_catalog, add_orchestrator, add_runner, for_each_seed, until},
};

const TO_ORCHESTRATOR: (&str, &str) = ("runner", "orchestrator");
const TO_CATALOG: (&str, &str) = ("orchestrator", "catalog");

/// One task, a runner, an orchestrator and the catalog.
struct Bench {
    catalog: Catalog,
    runs: Runs,
    folder: tempfile::TempDir,
    lease_seconds: u64,
    script: Script,
}

impl Bench {
    fn new(seed: u64, lasts: Duration) -> Self {
        Self {
            catalog: Catalog::with_tasks(1),
            runs: Runs::default(),
            folder: tempfile::tempdir().expect("a folder"),
            lease_seconds: 60,
            script: Script {
                starts_after: Duration::ZERO,
                seed,
                detectors: 8,
                lasts,
            },
        }
    }

    /// Runs until the task has ended and what came of it is known; answers with the task.
    fn run(&self, mut sim: Sim<'_>, goes_on: impl Fn(&Task) -> bool + 'static) -> Task {
        let lease_seconds = self.lease_seconds;
        add_catalog(&mut sim, &self.catalog);
        add_orchestrator(&mut sim, "orchestrator", move |config| {
            config.lease_seconds = lease_seconds;
        });
        self.add_runner(&mut sim, "runner", "orchestrator");
        self.finish(sim, goes_on)
    }

    fn add_runner(&self, sim: &mut Sim<'_>, name: &'static str, orchestrators: &'static str) {
        self.add_runner_after(sim, name, orchestrators, Duration::ZERO);
    }

    fn add_runner_after(
        &self,
        sim: &mut Sim<'_>,
        name: &'static str,
        orchestrators: &'static str,
        starts_after: Duration,
    ) {
        let script = Script {
            starts_after,
            ..self.script.clone()
        };
        let folder = self.folder.path();
        add_runner(sim, name, orchestrators, folder, &script, &self.runs);
    }

    fn finish(&self, mut sim: Sim<'_>, goes_on: impl Fn(&Task) -> bool + 'static) -> Task {
        let catalog = self.catalog.clone();
        sim.client("test", async move {
            until(|| {
                let store = catalog.store();
                let task = &store.tasks[0];
                task.outcome.is_some() && !goes_on(task)
            })
            .await;
            Ok(())
        });
        sim.run().expect("it ends");
        let store = self.catalog.store();
        assert_eq!(store.violations, Vec::<String>::new());
        let task = store.tasks[0].clone();
        let outcome = task.outcome.clone().expect("ended");
        assert_eq!(outcome.reason, "SIMULATED", "{outcome:?}");
        let names: Vec<String> = task.events.values().cloned().collect();
        let all: Vec<String> = (1..=self.script.detectors).map(detector).collect();
        assert_eq!(names, all, "every event once, in order");
        task
    }

    fn runs(&self) -> Vec<Run> {
        self.runs.lock().expect("whole").clone()
    }
}

fn either(rng: &mut SmallRng) -> Kind {
    match rng.random() {
        true => Kind::Cut,
        false => Kind::Held,
    }
}

/// The lease is 12 s: the runner fences itself 9 s after the question that was last answered, and
/// the catalog gives the task to the next only 3 s later.
#[test]
fn a_runner_that_is_cut_off_stops_before_its_task_is_anothers() {
    let stale = std::cell::Cell::new(0);
    for_each_seed(|seed, mut rng, mut sim| {
        let bench = Bench {
            lease_seconds: 12,
            ..Bench::new(seed, Duration::from_secs(20))
        };
        // After one of its first reports, for longer than the lease.
        let kind = either(&mut rng);
        let lasts = millis(&mut rng, 13_000..16_000);
        let fault = Fault {
            link: TO_ORCHESTRATOR,
            kind,
            lasts,
        };
        bench.catalog.store().on_report = vec![fault];
        // Too late for the first lease.
        let later = Duration::from_secs(5);
        bench.add_runner_after(&mut sim, "another", "orchestrator", later);
        let task = bench.run(sim, |_| false);
        let runs = bench.runs();
        assert_eq!((task.epoch, runs.len()), (2, 2), "{runs:?}");
        let granted = bench.catalog.store().granted.clone();
        for again in &granted[1..] {
            let mut earlier = runs.iter().filter(|run| run.began < *again);
            let is_over = earlier.all(|run| run.ended.is_some_and(|ended| ended < *again));
            assert!(
                is_over,
                "a run went on when its task was another's: {runs:?}, {granted:?}"
            );
        }
        stale.set(stale.get() + bench.catalog.store().stale);
    });
    // What was held on the way came in the end, and was refused.
    assert!(stale.get() > 0, "no seed had a late write");
}

#[test]
fn a_lease_whose_answer_is_lost_is_the_same_when_asked_again() {
    for_each_seed(|seed, mut rng, sim| {
        let bench = Bench::new(seed, Duration::from_secs(4));
        let link = [TO_ORCHESTRATOR, TO_CATALOG][rng.random_range(0..2)];
        let lasts = millis(&mut rng, 300..3_000);
        bench.catalog.store().on_lease = Some(Fault::cut(link, lasts));
        let task = bench.run(sim, |_| false);
        let runs = bench.runs();
        assert_eq!((task.epoch, runs.len()), (1, 1), "{runs:?}");
        assert!(
            bench.catalog.store().repeated_leases > 0,
            "nothing was lost"
        );
    });
}

#[test]
fn an_end_whose_answer_is_lost_is_told_again_and_stored_once() {
    for_each_seed(|seed, mut rng, sim| {
        let bench = Bench::new(seed, Duration::from_secs(4));
        let link = [TO_ORCHESTRATOR, TO_CATALOG][rng.random_range(0..2)];
        let lasts = millis(&mut rng, 300..3_000);
        bench.catalog.store().on_finish = Some(Fault::cut(link, lasts));
        let task = bench.run(sim, |task| task.repeats == 0);
        assert_eq!((task.epoch, bench.runs().len()), (1, 1));
    });
}

#[test]
fn events_come_once_and_in_order_whatever_happens_to_reports() {
    let doubled = std::cell::Cell::new(0);
    for_each_seed(|seed, mut rng, sim| {
        // Long enough for a connection that was cut to be given up, which takes 20 s.
        let bench = Bench::new(seed, Duration::from_secs(50));
        let mut fault = |kind| Fault {
            link: [TO_ORCHESTRATOR, TO_CATALOG][rng.random_range(0..2)],
            kind,
            lasts: millis(&mut rng, 100..4_000),
        };
        let faults = [Kind::Held, Kind::Cut, Kind::Held].map(&mut fault);
        bench.catalog.store().on_report = faults.to_vec();
        let task = bench.run(sim, |_| false);
        assert_eq!(task.epoch, 1, "the lease outlives such faults");
        doubled.set(doubled.get() + task.doubled);
    });
    assert!(doubled.get() > 0, "no seed had a report that came twice");
}

/// One of two orchestrators is out of reach for good: the lease is kept through the other.
#[test]
fn a_runner_that_loses_one_of_two_orchestrators_keeps_its_lease() {
    for_each_seed(|seed, mut rng, mut sim| {
        let bench = Bench {
            lease_seconds: 30,
            ..Bench::new(seed, Duration::from_secs(40))
        };
        let lost = ["orchestrator-1", "orchestrator-2"][rng.random_range(0..2)];
        let fault = Fault::cut(("runner", lost), Duration::from_secs(500));
        bench.catalog.store().on_report = vec![fault];
        add_catalog(&mut sim, &bench.catalog);
        for name in ["orchestrator-1", "orchestrator-2"] {
            add_orchestrator(&mut sim, name, |config| config.lease_seconds = 30);
        }
        let both = "orchestrator-1+orchestrator-2";
        bench.add_runner(&mut sim, "runner", both);
        let task = bench.finish(sim, |_| false);
        assert_eq!((task.epoch, bench.runs().len()), (1, 1));
    });
}
