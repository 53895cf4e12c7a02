//! The judge, judged: what it must see and what it must not.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::judge::{Allowed, Sample, Verdict, judge};

/// Ten minutes, a sample each three seconds.
const SAMPLES: u32 = 200;
const SECONDS: f64 = 3.0;
const ALLOWED: Allowed = Allowed {
    part: 0.05,
    besides: 2.0,
};

/// How a judge decides.
type Judge = fn(&Verdict) -> bool;
/// What a case gives at a sample, of a hundred or so.
type Course = fn(u32, &mut StdRng) -> f64;

/// What there may be, and whether it is a leak.
const CASES: [(&str, bool, Course); 13] = [
    ("always the same", false, |_, _| 100.0),
    ("noise", false, |_, dice| {
        100.0 + dice.random_range(-9.0..9.0)
    }),
    (
        "bursts",
        false,
        |at, _| if at % 7 < 2 { 190.0 } else { 100.0 },
    ),
    ("nothing, with bursts", false, |at, _| {
        if at % 5 == 0 { 40.0 } else { 0.0 }
    }),
    ("one sample out of all bounds", false, |at, _| {
        if at == 150 { 1e9 } else { 100.0 }
    }),
    ("it warms up and is flat then", false, |at, dice| {
        100.0 - 60.0 * (-f64::from(at) / 15.0).exp() + dice.random_range(-3.0..3.0)
    }),
    ("less than is allowed", false, |at, _| {
        100.0 + f64::from(at) * 0.02
    }),
    ("it goes down", false, |at, dice| {
        100.0 - f64::from(at) / 10.0 + dice.random_range(-3.0..3.0)
    }),
    ("a small and steady leak", true, |at, _| {
        100.0 + f64::from(at) * 0.065
    }),
    ("a leak below its noise", true, |at, dice| {
        100.0 + f64::from(at) * 0.12 + dice.random_range(-15.0..15.0)
    }),
    ("one more each minute", true, |at, _| {
        f64::from(20 + at / 20)
    }),
    ("from nothing, one more each two minutes", true, |at, _| {
        f64::from(at / 40)
    }),
    // Most pairs of samples have no slope.
    ("it doubles, once", true, |at, _| {
        if at < 150 { 50.0 } else { 100.0 }
    }),
];

/// What a judge has got wrong.
fn wrong(judge_by: Judge) -> Vec<&'static str> {
    let is_wrong = |(name, is_leak, course): &(&'static str, bool, Course)| {
        let mut dice = StdRng::seed_from_u64(1);
        let samples: Vec<Sample> = (0..SAMPLES)
            .map(|at| (f64::from(at) * SECONDS, course(at, &mut dice)))
            .collect();
        let verdict = judge(&samples, ALLOWED).expect("enough samples");
        (judge_by(&verdict) != *is_leak).then_some(*name)
    };
    CASES.iter().filter_map(is_wrong).collect()
}

/// Growth, and nothing else.
pub(crate) fn growth_is_seen_and_nothing_else() {
    assert_eq!(wrong(Verdict::is_leak), Vec::<&str>::new());
}

/// Each part of the rule is needed: without it something is got wrong.
pub(crate) fn a_worse_judge_is_found_out() {
    let worse: [(&str, Judge); 5] = [
        ("sees nothing", |_| false),
        ("sees it everywhere", |verdict| verdict.last > 0.0),
        ("looks at the slope alone", |verdict| {
            verdict.drift > verdict.allowed
        }),
        ("looks at the medians alone", |verdict| {
            verdict.last - verdict.first > verdict.allowed
        }),
        ("allows nothing", |verdict| verdict.growth() > 0.0),
    ];
    for (name, judge_by) in worse {
        assert!(!wrong(judge_by).is_empty(), "a judge who {name} would do");
    }
}

/// Too few samples are no verdict.
pub(crate) fn few_samples_say_nothing() {
    let samples: Vec<Sample> = (0..30).map(|at| (f64::from(at), 1.0)).collect();
    assert!(judge(&samples, ALLOWED).is_err());
    assert!(judge(&[], ALLOWED).is_err());
}
