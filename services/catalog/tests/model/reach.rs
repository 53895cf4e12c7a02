//! Where the steps lead: a model test that never gets anywhere would pass.

use std::collections::{BTreeMap, BTreeSet};

use aegis_catalog::domain::task::TaskState;
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use proptest_state_machine::ReferenceStateMachine;

use crate::{
    STEPS,
    choice::{Machine, Reference},
    reference::{FileState, Model, Rest},
    step::{Answer, How, Step, Wish, Work},
};

/// Cases that are looked at; the store is not asked.
const CASES: usize = 100;
/// In so many of them each must occur: an ordinary run then has some.
const LEAST: usize = 3;

const WANTED: [&str; 37] = [
    "STATE_CHANGED PENDING",
    "STATE_CHANGED RUNNING",
    "STATE_CHANGED PAUSED",
    "STATE_CHANGED CANCELLING",
    "STATE_CHANGED COMPLETED",
    "STATE_CHANGED FAILED",
    "STATE_CHANGED CANCELLED",
    "PROBE_STARTED",
    "DETECTOR_FINISHED",
    "PROBE_EVALUATED",
    "PROBE_NOT_EVALUATED",
    "TASK_RETRIED",
    "WAITING",
    "REPORT_READY",
    "REPORT_FAILED",
    "Create REQUEST_ID_REUSED",
    "Create SCAN_NOT_FOUND",
    "Report LEASE_LOST",
    "Upload LEASE_LOST",
    "Finish LEASE_LOST",
    "Finish ARTIFACT_NOT_UPLOADED",
    "Wish SCAN_NOT_FOUND",
    "Wish SCAN_NOT_TERMINAL",
    "Wish NOTHING_TO_RETRY",
    "a run is to stop",
    "a second revision",
    "garbage is forgotten",
    "a scan is purged",
    "two at once",
    "an answer is lost",
    "a zombie's heartbeat while another run holds its task",
    "a zombie's end while another run holds its task",
    "a held run has files while unfinished ones are marked",
    "a probe that failed before is retried",
    "a scan past its time is restored",
    "a pause ends its lane's rest",
    "a target pushes back for too long",
];

#[test]
fn the_steps_lead_everywhere() {
    let steps = Machine::sequential_strategy(STEPS);
    let mut runner = TestRunner::deterministic();
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..CASES {
        let (mut state, steps, _) = steps.new_tree(&mut runner).unwrap().current();
        let mut here = BTreeSet::new();
        for step in steps {
            let before = state.model.clone();
            state = Machine::apply(state, &step);
            let mut inner = &step;
            while let Step::Lost(step) = inner {
                here.insert("an answer is lost".to_owned());
                inner = step;
            }
            told(inner, &state, &mut here);
            here.extend(special(inner, &before, &state.model).map(str::to_owned));
        }
        let said = state.model.scans.iter().flat_map(|scan| &scan.said);
        here.extend(said.map(ToString::to_string));
        for what in here {
            *met.entry(what).or_default() += 1;
        }
    }
    let times = |wanted: &str| met.get(wanted).copied().unwrap_or_default();
    let mut rare = WANTED.to_vec();
    rare.retain(|wanted| times(wanted) < LEAST);
    assert!(rare.is_empty(), "{rare:#?} are too rare in {met:#?}");
}

fn told(step: &Step, state: &Reference, here: &mut BTreeSet<String>) {
    let kind = format!("{step:?}");
    let kind = kind.split([' ', '(']).next().unwrap_or_default();
    match (step, &state.answer) {
        (_, Answer::Refused(reason)) => here.insert(format!("{kind} {reason}")),
        (_, Answer::Directive { stop: true, .. }) => here.insert("a run is to stop".to_owned()),
        (Step::ForgetGarbage, Answer::Number(1..)) => {
            here.insert("garbage is forgotten".to_owned())
        }
        (Step::Together(..), _) => here.insert("two at once".to_owned()),
        _ => false,
    };
    for scan in &state.model.scans {
        if scan.rest == Rest::Nothing {
            here.insert("a scan is purged".to_owned());
        }
        if scan.revision > 1 {
            here.insert("a second revision".to_owned());
        }
    }
}

/// What a rule is about, when the step is where it matters.
fn special<'a>(step: &Step, before: &Model, after: &Model) -> impl Iterator<Item = &'a str> {
    let mut found = Vec::new();
    match *step {
        Step::Report {
            lease,
            detectors: 0,
        } if before.is_taken_over(lease) => {
            found.push("a zombie's heartbeat while another run holds its task");
        }
        Step::Finish { lease, .. } if before.is_taken_over(lease) => {
            found.push("a zombie's end while another run holds its task");
        }
        Step::Finish {
            lease,
            how: How::Backpressure { .. },
        } if before.holds(lease) => {
            let lease = &before.leases[lease];
            let task = &after.scans[lease.scan].tasks[lease.task];
            if task.probe && task.state == TaskState::Failed {
                found.push("a target pushes back for too long");
            }
        }
        Step::Sweep {
            work: Work::Unfinished,
            dry_run: false,
        } => {
            let held = (0..before.leases.len()).filter(|lease| before.holds(*lease));
            let has_files = |lease: usize| {
                let lease = &before.leases[lease];
                let (scan, task) = (lease.scan, lease.task);
                let open = |state| matches!(state, FileState::Staged | FileState::Uploaded);
                before.files.iter().any(|(key, state)| {
                    (key.0, key.1, key.2) == (scan, task, lease.epoch) && open(*state)
                })
            };
            if held.into_iter().any(has_files) {
                found.push("a held run has files while unfinished ones are marked");
            }
        }
        Step::Wish {
            scan,
            wish: Wish::Retry,
        } if before.scans[scan].state.is_terminal() => {
            let again = before.scans[scan]
                .tasks
                .iter()
                .zip(&after.scans[scan].tasks);
            if again
                .into_iter()
                .any(|(was, is)| was.failures > 0 && is.failures == 0)
            {
                found.push("a probe that failed before is retried");
            }
        }
        Step::Wish {
            scan,
            wish: Wish::Pause,
        } => {
            let lane = before.scans[scan].plan.lane;
            let until = |model: &Model| model.lanes[lane].paused_until;
            if until(before) > before.now && until(after) == 0 {
                found.push("a pause ends its lane's rest");
            }
        }
        Step::Wish {
            scan,
            wish: Wish::Undelete,
        } => {
            let scan = &before.scans[scan];
            if scan.rest == Rest::All && scan.purge_at.is_some_and(|at| at <= before.now) {
                found.push("a scan past its time is restored");
            }
        }
        _ => {}
    }
    found.into_iter()
}
