//! Which steps there are at any time, and how likely each is.

use aegis_catalog::domain::scan::ScanState;
use proptest::{prelude::*, sample::select, strategy::Union};
use proptest_state_machine::ReferenceStateMachine;

use crate::{
    leads::{losses, onward, pairs, refusals, tidying},
    reference::{FileState, LANES, Model, Rest, Scan},
    step::{Answer, Content, How, Plan, Step, Wish, Work},
};

/// More scans are no other cases.
const SCANS: usize = 4;

/// The model, and what the last step's actor is told.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) model: Model,
    pub(crate) answer: Answer,
    /// Of two steps at once, had they come in the other order.
    pub(crate) other: Option<Answer>,
    mood: Mood,
}

/// What a case is like: one in which all is equally likely never gets far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// Scans come to their end.
    Busy,
    /// Runs fail or are lost, and are heard again later.
    Lossy,
    /// A target pushes back.
    Refused,
    /// Scans are deleted, restored and retried, and garbage is collected.
    Tidy,
}

/// Most that has to be met is met late, in the last one.
const MOODS: [Mood; 5] = [
    Mood::Busy,
    Mood::Lossy,
    Mood::Refused,
    Mood::Tidy,
    Mood::Tidy,
];

pub(crate) struct Machine;

impl ReferenceStateMachine for Machine {
    type State = Reference;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Reference> {
        select(MOODS.to_vec())
            .prop_map(|mood| Reference {
                model: Model::default(),
                answer: Answer::Accepted,
                other: None,
                mood,
            })
            .boxed()
    }

    fn transitions(state: &Reference) -> BoxedStrategy<Step> {
        let model = &state.model;
        let asked = asked(model, state.mood);
        let waits = |scan: &Scan| scan.rest == Rest::All && scan.purge_at > Some(model.now);
        let time = match state.mood {
            Mood::Busy => 1,
            Mood::Lossy | Mood::Refused => 3,
            Mood::Tidy if model.scans.iter().any(waits) => 12,
            Mood::Tidy => 4,
        };
        let mut all = vec![
            (16, asked.clone()),
            (4, asked.prop_map(|step| Step::Lost(Box::new(step))).boxed()),
            (
                time,
                (1..=4_i64).prop_map(|tens| Step::Pass { tens }).boxed(),
            ),
            (
                1,
                (0..2_usize)
                    .prop_map(|replica| Step::Restart { replica })
                    .boxed(),
            ),
        ];
        let pairs = pairs(model);
        if !pairs.is_empty() {
            let together = select(pairs)
                .prop_map(|(one, other)| Step::Together(Box::new(one), Box::new(other)));
            all.push((3, together.boxed()));
        }
        Union::new_weighted(all).boxed()
    }

    fn preconditions(state: &Reference, step: &Step) -> bool {
        possible(&state.model, step)
    }

    fn apply(mut state: Reference, step: &Step) -> Reference {
        state.other = match step {
            Step::Together(one, other) => {
                let mut model = state.model.clone();
                let (other, one) = (model.apply(other), model.apply(one));
                Some(Answer::Both(Box::new(one), Box::new(other)))
            }
            _ => None,
        };
        state.answer = state.model.apply(step);
        state
    }
}

/// Whether what it names is there, and the outcome is certain.
fn possible(model: &Model, step: &Step) -> bool {
    match step {
        Step::Wish { scan, .. } => *scan < model.scans.len(),
        Step::PollAgain { lease }
        | Step::Report { lease, .. }
        | Step::Stage { lease }
        | Step::Upload { lease, .. }
        | Step::Finish { lease, .. } => *lease < model.leases.len(),
        Step::Lost(step) => possible(model, step),
        Step::Together(one, other) => {
            possible(model, one) && possible(model, other) && model.commute(one, other)
        }
        _ => true,
    }
}

/// What somebody asks the catalog for.
fn asked(model: &Model, mood: Mood) -> BoxedStrategy<Step> {
    let poll = (0..2_usize).prop_map(|runner| Step::Poll { runner });
    let fresh = if model.scans.len() < SCANS { 6 } else { 0 };
    let mut all = vec![
        (8, poll.boxed()),
        (4, Just(Step::Expire).boxed()),
        (6, of_collector(model)),
    ];
    if fresh > 0 || model.requests.is_empty() {
        all.push((fresh.max(1), create(model.requests.len())));
    }
    if !model.requests.is_empty() {
        let known: Vec<usize> = model.requests.keys().copied().collect();
        let requests = model.requests.clone();
        let again = select(known.clone()).prop_map(move |request| Step::Create {
            request,
            plan: requests[&request].plan.clone(),
        });
        all.push((1, again.boxed()));
        all.push((1, select(known).prop_flat_map(create).boxed()));
    }
    if !model.scans.is_empty() {
        all.push((6, wish(model)));
    }
    if !model.leases.is_empty() {
        all.push((18, of_lease(model)));
    }
    let fitting = |own: Mood| if mood == own { 40 } else { 4 };
    let worth = [
        (60, onward(model)),
        (fitting(Mood::Lossy), losses(model)),
        (fitting(Mood::Refused), refusals(model)),
        (fitting(Mood::Tidy), tidying(model)),
    ];
    for (weight, steps) in worth {
        if !steps.is_empty() {
            all.push((weight, select(steps).boxed()));
        }
    }
    Union::new_weighted(all).boxed()
}

/// What it finds to do is likelier.
fn of_collector(model: &Model) -> BoxedStrategy<Step> {
    let sweep = (select(WORK.to_vec()), prop::bool::weighted(0.3))
        .prop_map(|(work, dry_run)| Step::Sweep { work, dry_run });
    let mut all = vec![
        (3, sweep.boxed()),
        (1, Just(Step::ListGarbage).boxed()),
        (1, Just(Step::ForgetGarbage).boxed()),
    ];
    let due = |scan: &Scan| scan.purge_at.is_some_and(|at| at <= model.now);
    let left = |scan: &&Scan| scan.rest != Rest::Nothing;
    if model.scans.iter().filter(left).any(due) {
        let (work, dry_run) = (Work::Purge, false);
        all.push((3, Just(Step::Sweep { work, dry_run }).boxed()));
    }
    let marked = |file: &FileState| matches!(file, FileState::Deleting(_));
    if model.files.values().any(marked) {
        all.push((2, Just(Step::ListGarbage).boxed()));
    }
    if !model.listed.is_empty() {
        all.push((2, Just(Step::ForgetGarbage).boxed()));
    }
    Union::new_weighted(all).boxed()
}

/// Any of any scan, and more often one that does something.
fn wish(model: &Model) -> BoxedStrategy<Step> {
    let any = [
        Wish::Cancel,
        Wish::Pause,
        Wish::Resume,
        Wish::Retry,
        Wish::Delete,
        Wish::Undelete,
    ];
    let mut all = Vec::new();
    for (index, scan) in model.scans.iter().enumerate() {
        all.extend(any.map(|wish| Step::Wish { scan: index, wish }));
        let likelier = match (scan.purge_at, scan.state.is_terminal()) {
            (Some(_), _) => vec![Wish::Undelete],
            (None, true) => vec![Wish::Retry, Wish::Retry, Wish::Retry, Wish::Delete],
            (None, false) if scan.state == ScanState::Paused => vec![Wish::Resume; 3],
            (None, false) => vec![],
        };
        all.extend(
            likelier
                .into_iter()
                .map(|wish| Step::Wish { scan: index, wish }),
        );
    }
    select(all).boxed()
}

pub(crate) const WORK: [Work; 6] = [
    Work::Unfinished,
    Work::Parts,
    Work::Purge,
    Work::Requests,
    Work::Runs,
    Work::Events,
];

const ENDS: [How; 7] = [
    How::Done,
    How::Retryable,
    How::Permanent,
    How::Backpressure { asked: false },
    How::Backpressure { asked: true },
    How::Released,
    How::Cancelled,
];

fn create(request: usize) -> BoxedStrategy<Step> {
    let plan = (
        1..=3_usize,
        prop::option::weighted(0.2, 0..3_usize),
        0..LANES,
        1..=4_i64,
        1..=3_i64,
        select(vec![10, 50]),
    );
    plan.prop_map(
        move |(probes, hopeless, lane, lane_calls, calls, priority)| {
            let plan = Plan {
                probes,
                hopeless: hopeless.map(|index| index % probes),
                lane,
                lane_calls,
                calls,
                priority,
            };
            Step::Create { request, plan }
        },
    )
    .boxed()
}

/// Of one that is held, mostly; or of a zombie.
fn of_lease(model: &Model) -> BoxedStrategy<Step> {
    let any: Vec<usize> = (0..model.leases.len()).collect();
    let (held, lost): (Vec<usize>, Vec<usize>) = any.iter().partition(|l| model.holds(**l));
    // Their tasks have another run now.
    let zombies = lost.into_iter().filter(|l| model.is_taken_over(*l));
    let zombies: Vec<usize> = zombies.collect();
    let mut which = vec![(1, select(any).boxed())];
    for (weight, some) in [(5, &held), (2, &zombies)] {
        if !some.is_empty() {
            which.push((weight, select(some.clone()).boxed()));
        }
    }
    let which = Union::new_weighted(which);
    let content = prop_oneof![9 => Just(Content::Results), 1 => Just(Content::Nothing)];
    let report =
        (which.clone(), 0..=2_i64).prop_map(|(lease, detectors)| Step::Report { lease, detectors });
    let upload =
        (which.clone(), content).prop_map(|(lease, content)| Step::Upload { lease, content });
    let finish =
        (which.clone(), select(ENDS.to_vec())).prop_map(|(lease, how)| Step::Finish { lease, how });
    let mut all = vec![
        (
            1,
            which
                .clone()
                .prop_map(|lease| Step::PollAgain { lease })
                .boxed(),
        ),
        (3, report.boxed()),
        (1, which.prop_map(|lease| Step::Stage { lease }).boxed()),
        (4, upload.boxed()),
        (4, finish.boxed()),
    ];
    let ready = held
        .into_iter()
        .filter(|l| model.leases[*l].uploaded.is_some());
    let ready: Vec<usize> = ready.collect();
    if !ready.is_empty() {
        let how = How::Done;
        let done = select(ready).prop_map(move |lease| Step::Finish { lease, how });
        all.push((6, done.boxed()));
    }
    Union::new_weighted(all).boxed()
}
