//! What happens in a run, drawn from one number before anything does.

use std::{collections::BTreeMap, fmt, time::Duration};

use aegis_tests::cluster::{arrows, has_disk, members};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Uuid;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL, and a new start.
    Kill,
    /// SIGSTOP for longer than a lease, then SIGCONT.
    Freeze,
    /// No room on the disk of scratch.
    FullDisk,
    /// All connections of an arrow end.
    Cut,
    /// Nothing passes along an arrow.
    Hold,
    /// The database crashes.
    Database,
    /// The object store crashes.
    Store,
}

/// A fault, when and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedFault {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
    /// A process or an arrow.
    pub(crate) place: String,
    /// How long it lasts.
    pub(crate) lasts: Duration,
}

/// What a user does with a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Waits for it.
    Wait,
    /// Cancels it so long after its creation.
    Cancel(Duration),
    /// Pauses it so long after its creation, and resumes it as long after that.
    Pause(Duration),
    /// Cancels it, and has it retried once it has ended.
    Retry(Duration),
}

/// A scan, when and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PlannedScan {
    pub(crate) at: Duration,
    pub(crate) request_id: Uuid,
    pub(crate) probes: Vec<&'static str>,
    /// How its target behaves.
    pub(crate) target: &'static str,
    pub(crate) act: Act,
}

/// How much happens, and of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) scans: usize,
    pub(crate) faults: usize,
    pub(crate) mix: Mix,
}

/// How often each of the faults happens, of 100.
pub(crate) type Mix = &'static [(Fault, u32)];

/// All of them.
pub(crate) const ALL: Mix = &[
    (Fault::Kill, 24),
    (Fault::Freeze, 18),
    (Fault::Cut, 24),
    (Fault::Hold, 16),
    (Fault::FullDisk, 10),
    (Fault::Database, 4),
    (Fault::Store, 4),
];

/// Runners that come back after another has got their task.
pub(crate) const ZOMBIES: Mix = &[(Fault::Freeze, 100)];

/// Few prompts each.
const PROBES: [&str; 9] = [
    "goodside.ThreatenJSON",
    "goodside.WhoIsRiley",
    "lmrc.QuackMedicine",
    "lmrc.Deadnaming",
    "grandma.Win10",
    "web_injection.MarkdownXSS",
    "exploitation.SQLInjectionEcho",
    "dan.AutoDANCached",
    "malwaregen.TopLevel",
];

/// Mostly slow enough that a fault meets a run.
const TARGETS: [(&str, u32); 5] = [
    ("", 30),
    ("latency/200", 30),
    ("latency/800", 30),
    ("status/401", 5),
    ("status/503", 5),
];
/// Of a run that is to be interrupted, and still goes on elsewhere when its first runner comes back.
const SLOW: &str = "latency/4000";

/// All that happens in a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) faults: Vec<PlannedFault>,
    pub(crate) scans: Vec<PlannedScan>,
}

impl Plan {
    /// The plan of this seed.
    pub(crate) fn draw(seed: u64, size: Size) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let faults = faults(&mut dice, size);
        let last = faults.last().map_or(Duration::ZERO, |fault| fault.at);
        let mut scans: Vec<_> = (0..size.scans)
            .map(|_| scan(&mut dice, last, size.mix))
            .collect();
        scans.sort_by_key(|scan| scan.at);
        Self {
            seed,
            faults,
            scans,
        }
    }
}

fn faults(dice: &mut StdRng, size: Size) -> Vec<PlannedFault> {
    // What is broken already is left alone until it works again.
    let mut broken_until = BTreeMap::<String, Duration>::new();
    let mut at = Duration::ZERO;
    let mut faults = Vec::with_capacity(size.faults);
    while faults.len() < size.faults {
        at += milliseconds(dice, 200, 2_200);
        let fault = weighed(dice, size.mix);
        let places = places(fault, size.mix);
        let place = places[dice.random_range(0..places.len())].clone();
        let lasts = lasts(dice, fault);
        if broken_until.get(&place).is_some_and(|until| *until > at) {
            continue;
        }
        broken_until.insert(place.clone(), at + lasts + Duration::from_secs(1));
        faults.push(PlannedFault {
            at,
            fault,
            place,
            lasts,
        });
    }
    faults
}

fn places(fault: Fault, mix: Mix) -> Vec<String> {
    match fault {
        Fault::Freeze if mix == ZOMBIES => members()
            .into_iter()
            .filter(|member| member.starts_with("garak-runner"))
            .collect(),
        Fault::Kill | Fault::Freeze => members(),
        Fault::FullDisk => members().into_iter().filter(|one| has_disk(one)).collect(),
        Fault::Cut | Fault::Hold => arrows(),
        Fault::Database => vec!["database".to_owned()],
        Fault::Store => vec!["store".to_owned()],
    }
}

fn lasts(dice: &mut StdRng, fault: Fault) -> Duration {
    match fault {
        Fault::Cut => Duration::ZERO,
        Fault::Kill => milliseconds(dice, 0, 3_000),
        // A lease is 4 s, and looked after each second.
        Fault::Freeze => milliseconds(dice, 5_200, 9_000),
        Fault::Hold => milliseconds(dice, 50, 6_000),
        Fault::FullDisk => milliseconds(dice, 500, 6_000),
        Fault::Database | Fault::Store => milliseconds(dice, 200, 4_000),
    }
}

fn scan(dice: &mut StdRng, last: Duration, mix: Mix) -> PlannedScan {
    let mut probes: Vec<_> = (0..dice.random_range(1..=3))
        .map(|_| PROBES[dice.random_range(0..PROBES.len())])
        .collect();
    probes.sort_unstable();
    probes.dedup();
    let after = milliseconds(dice, 0, 5_000);
    let act = match dice.random_range(0..100) {
        _ if mix == ZOMBIES => Act::Wait,
        0..60 => Act::Wait,
        60..72 => Act::Cancel(after),
        72..86 => Act::Pause(after),
        _ => Act::Retry(after),
    };
    PlannedScan {
        at: last.mul_f64(dice.random_range(0.0..1.0)),
        request_id: uuid::Builder::from_random_bytes(dice.random()).into_uuid(),
        probes,
        target: match mix == ZOMBIES {
            true => SLOW,
            false => weighed(dice, &TARGETS),
        },
        act,
    }
}

fn weighed<T: Copy>(dice: &mut StdRng, choices: &[(T, u32)]) -> T {
    let all = choices.iter().map(|(_, weight)| weight).sum();
    let mut left = dice.random_range(0..all);
    for (choice, weight) in choices {
        if left < *weight {
            return *choice;
        }
        left -= weight;
    }
    choices[0].0
}

fn milliseconds(dice: &mut StdRng, least: u64, most: u64) -> Duration {
    Duration::from_millis(dice.random_range(least..most))
}

impl fmt::Display for PlannedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (at, lasts) = (self.at.as_secs_f64(), self.lasts.as_secs_f64());
        write!(f, "{at:8.3} {:?} {} {lasts:.3}", self.fault, self.place)
    }
}

/// The same seed is the same plan, whose size is as it was asked for.
pub(crate) fn is_drawn_from_its_seed() {
    let size = Size {
        scans: 20,
        faults: 50,
        mix: ALL,
    };
    let plan = Plan::draw(7, size);
    assert_eq!(plan, Plan::draw(7, size));
    assert_ne!(plan.faults, Plan::draw(8, size).faults);
    assert_eq!((plan.scans.len(), plan.faults.len()), (20, 50));
    assert!(plan.faults.is_sorted_by_key(|fault| fault.at));
}
