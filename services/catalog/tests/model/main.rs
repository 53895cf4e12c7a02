//! The catalog's store against a model of it: two runners, users, the reaper and the collector, in
//! any order, with answers that are lost, steps at once on two replicas, and time that passes.
//!
//! `PROPTEST_CASES=2000 cargo test -p aegis-catalog --test model` tries more than the few cases of
//! an ordinary run. A failure is shown as the shortest list of steps that still fails, and can be
//! had again by `PROPTEST_RNG_SEED`.

mod choice;
mod garbage;
mod leads;
mod reach;
mod reference;
mod runners;
mod step;
mod system;
mod time;
mod users;
mod view;

#[path = "../conformance/invariants.rs"]
mod invariants;
#[path = "../conformance/world.rs"]
#[allow(dead_code, reason = "conformance has more use for it")]
mod world;

use std::{ops::Range, sync::LazyLock};

use proptest::prelude::ProptestConfig;
use proptest_state_machine::{StateMachineTest, prop_state_machine};
use tokio::runtime::Runtime;

use choice::{Machine, Reference};
use reference::Model;
use step::{Answer, Step};
use system::System;
use view::View;

/// Cases of an ordinary run.
const CASES: u32 = 32;
/// Steps of a case.
const STEPS: Range<usize> = 40..100;

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn the_store_does_what_the_model_says(sequential STEPS => Test);
}

fn config() -> ProptestConfig {
    // It takes the number from PROPTEST_CASES by itself.
    let given = ProptestConfig::default();
    let asked = std::env::var_os("PROPTEST_CASES").is_some();
    ProptestConfig {
        cases: if asked { given.cases } else { CASES },
        max_shrink_iters: 500,
        failure_persistence: None,
        ..given
    }
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

struct Test;

impl StateMachineTest for Test {
    type SystemUnderTest = System;
    type Reference = Machine;

    fn init_test(_: &Reference) -> System {
        RUNTIME.block_on(System::new())
    }

    fn apply(mut system: System, state: &Reference, step: Step) -> System {
        let told = RUNTIME.block_on(system.apply(&step, &state.model));
        let agrees = agrees(&told, &state.answer) || state.other.as_ref() == Some(&told);
        assert!(agrees, "{step:?}: told {told:?}, not {:?}", state.answer);
        system
    }

    fn check_invariants(system: &System, state: &Reference) {
        RUNTIME.block_on(check(system, &state.model));
    }

    fn teardown(system: System, _: Reference) {
        RUNTIME.block_on(run_out(&system));
    }
}

/// Two that take away at once share the work somehow.
fn agrees(told: &Answer, expected: &Answer) -> bool {
    let sum = |answer: &Answer| match answer {
        Answer::Both(one, other) => match (&**one, &**other) {
            (Answer::Number(one), Answer::Number(other)) => Some(one + other),
            _ => None,
        },
        _ => None,
    };
    told == expected || sum(told).is_some_and(|told| Some(told) == sum(expected))
}

async fn check(system: &System, model: &Model) {
    let expected = View::of_model(model);
    let found = View::of_store(&system.world, &system.scans).await;
    for (index, scan) in &found.scans {
        assert_eq!(Some(scan), expected.scans.get(index), "scan {index}");
    }
    assert_eq!(found, expected);
    invariants::check(&system.world).await;
}

/// Whatever has happened, with time and runners every scan ends.
async fn run_out(system: &System) {
    const ROUNDS: usize = 20;
    let world = &system.world;
    for _ in 0..ROUNDS {
        let open = "SELECT id FROM scans WHERE ended_at IS NULL";
        let open = world.sql(open, vec![]).await;
        if open.is_empty() {
            return invariants::check(world).await;
        }
        for row in open {
            let id = row.try_get("", "id").unwrap();
            let id = aegis_proto::ids::ScanId(id);
            world.store.resume(&world.project, id).await.unwrap();
        }
        system.pass(5).await;
        system.expire().await;
        world.work_off().await;
    }
    panic!("scans are still open after {ROUNDS} rounds");
}
