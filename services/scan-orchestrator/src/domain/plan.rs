//! What a scan will do: its tasks, prompts and calls.

use super::{
    catalogue::{Allowance, Catalogue, Problem},
    selection::{Selected, select},
    spec::{Spec, defaults},
    validate::{Violations, check, matching},
};
use aegis_mesh::Error;

/// A scan, planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// One a probe, in the scan's order.
    pub tasks: Vec<PlannedTask>,
}

/// One probe of a scan.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedTask {
    /// "dan.AntiDAN".
    pub probe: String,
    /// The detectors that will run.
    pub detectors: Vec<String>,
    /// Whether `detectors` are not simply what garak would run, so that it must be told.
    pub detectors_are_explicit: bool,
    /// Detectors that would run and do not work here.
    pub unavailable_detectors: Vec<String>,
    /// With garak's default cap.
    pub prompts: i64,
    /// prompts x generations.
    pub calls: i64,
    /// Set when it cannot be evaluated here.
    pub not_evaluated: Option<Problem>,
}

impl Plan {
    /// Prompts of what can be evaluated.
    pub fn prompts(&self) -> i64 {
        self.evaluable().map(|task| task.prompts).sum()
    }

    /// Calls of what can be evaluated.
    pub fn calls(&self) -> i64 {
        self.evaluable().map(|task| task.calls).sum()
    }

    fn evaluable(&self) -> impl Iterator<Item = &PlannedTask> {
        self.tasks.iter().filter(|task| task.not_evaluated.is_none())
    }
}

/// Plans a scan.
///
/// # Errors
/// INVALID_ARGUMENT with every field that is wrong; EMPTY_SELECTION when nothing is selected;
/// FAILED_PRECONDITION / NOTHING_EVALUABLE when nothing of it can be evaluated here.
pub fn plan(spec: &Spec, catalogue: &Catalogue, allowance: &Allowance) -> Result<Plan, Error> {
    let mut violations = Violations::default();
    check(spec, catalogue, allowance, &mut violations);
    let selected = select(spec, catalogue, &mut violations)?;
    violations.into_result()?;
    let detectors = Detectors::of(spec, catalogue);
    let tasks: Vec<_> = selected
        .into_iter()
        .map(|selected| task(selected, spec, &detectors))
        .collect();
    if tasks.iter().all(|task| task.not_evaluated.is_some()) {
        return Err(nothing_evaluable(&tasks));
    }
    Ok(Plan { tasks })
}

fn nothing_evaluable(tasks: &[PlannedTask]) -> Error {
    let why: Vec<_> = tasks
        .iter()
        .filter_map(|task| Some((task, task.not_evaluated.as_ref()?)))
        .take(5)
        .map(|(task, problem)| format!("{}: {}", task.probe, problem.reason))
        .collect();
    Error::failed_precondition(
        "NOTHING_EVALUABLE",
        format!("no selected probe can be evaluated here ({})", why.join(", ")),
    )
    .hint("GET /v1/plugins/probes says which probes can, and what the others need")
}

/// What the specification says of detectors.
struct Detectors<'a> {
    instead: Vec<&'a str>,
    excluded: Vec<&'a str>,
    extended: bool,
}

impl<'a> Detectors<'a> {
    fn of(spec: &Spec, catalogue: &'a Catalogue) -> Self {
        let all = |selectors: &[String]| {
            selectors
                .iter()
                .flat_map(|selector| matching(selector, "detectors", catalogue))
                .collect()
        };
        Self {
            instead: all(&spec.detectors),
            excluded: all(&spec.exclude_detectors),
            extended: spec.extended_detectors.unwrap_or(defaults::EXTENDED_DETECTORS),
        }
    }

    /// Detectors of a probe: those that run, and those that do not work here.
    fn for_probe(&self, selected: &Selected<'_>) -> (Vec<String>, Vec<String>, bool) {
        let own = selected.probe.detectors(self.extended);
        let wanted = if self.instead.is_empty() { &own } else { &self.instead };
        let kept = wanted.iter().filter(|name| !self.excluded.contains(name));
        let (unavailable, run): (Vec<_>, Vec<_>) = kept
            .map(|name| (*name).to_owned())
            .partition(|name| selected.probe.unavailable_detectors.contains(name));
        let is_explicit = run.iter().ne(own.iter());
        (run, unavailable, is_explicit)
    }
}

fn task(selected: Selected<'_>, spec: &Spec, detectors: &Detectors<'_>) -> PlannedTask {
    let (run, unavailable, detectors_are_explicit) = detectors.for_probe(&selected);
    let no_detector = || {
        run.is_empty().then(|| Problem {
            reason: "DETECTOR_UNAVAILABLE".to_owned(),
            message: "none of its detectors can run".to_owned(),
        })
    };
    let not_evaluated = match (&selected.probe.not_evaluable, detectors.instead.is_empty()) {
        // Other detectors than its own may work where its own do not.
        (Some(problem), false) if problem.reason == "DETECTOR_UNAVAILABLE" => no_detector(),
        (Some(problem), _) => Some(problem.clone()),
        (None, _) => no_detector(),
    };
    let prompts = selected.probe.prompts.unwrap_or(0);
    let generations = i64::from(spec.generations.unwrap_or(defaults::GENERATIONS));
    PlannedTask {
        probe: selected.name.to_owned(),
        detectors: run,
        detectors_are_explicit,
        unavailable_detectors: unavailable,
        prompts,
        calls: prompts * generations,
        not_evaluated,
    }
}
