//! The planner: a specification becomes tasks, or every reason why it does not. Pure.

use std::collections::BTreeSet;

use aegis_mesh::Error;

use super::{
    allowance::Allowance,
    catalogue::{Catalogue, Problem},
    detectors::{DetectorPolicy, ProbeDetectors},
    limits::{self, DEFAULT_EVAL_THRESHOLD, DEFAULT_GENERATIONS, DEFAULT_MAX_IN_FLIGHT},
    options, requirement,
    selection::{Choice, Chosen, select},
    spec::Spec,
    target,
    violation::Violations,
};

/// Probes that an error lists.
const MAX_LISTED: usize = 64;
/// The survey's word for a probe none of whose own detectors works here.
const DETECTOR_UNAVAILABLE: &str = "DETECTOR_UNAVAILABLE";

/// What a scan is going to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In garak's order.
    pub probes: Vec<PlannedProbe>,
    /// The scan's selectors of buffs, as garak's `run.spec` takes them: "buffs.lowercase".
    pub buffs: Vec<String>,
    /// Score from which an output is a hit, 0 to 1.
    pub eval_threshold: f64,
    /// Calls in flight over all tasks, 1 to 500.
    pub max_in_flight: i32,
    /// The seed, when the specification has one.
    pub seed: Option<u32>,
}

/// One probe of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedProbe {
    /// "dan.AntiDAN".
    pub name: String,
    /// What judges it, or why it cannot be evaluated here.
    pub detectors: Result<ProbeDetectors, Problem>,
    /// Prompts; zero where that is not known before it runs.
    pub prompts: i64,
    /// Prompts as buffs change them, times generations. Probes that converse make more.
    pub calls: i64,
}

impl Plan {
    /// The prompts of all probes that can be evaluated.
    pub fn prompts_total(&self) -> i64 {
        self.evaluable().map(|probe| probe.prompts).sum()
    }

    /// The calls of all probes that can be evaluated.
    pub fn calls_total(&self) -> i64 {
        self.evaluable().map(|probe| probe.calls).sum()
    }

    /// Refuses a plan in which nothing can be evaluated.
    ///
    /// # Errors
    /// FAILED_PRECONDITION / NOTHING_EVALUABLE with the reason of each probe.
    pub fn require_evaluable(&self) -> aegis_mesh::Result<()> {
        if self.evaluable().next().is_some() {
            return Ok(());
        }
        let mut error = Error::failed_precondition(
            "NOTHING_EVALUABLE",
            "no selected probe can be evaluated here",
        )
        .hint("ListProbes (GET /v1/plugins/probes) says which can, and what the others need");
        for probe in self.probes.iter().take(MAX_LISTED) {
            if let Err(problem) = &probe.detectors {
                error = error.field("spec.include", not_evaluable(&probe.name, problem));
            }
        }
        Err(error)
    }

    /// Probes that can be evaluated.
    pub fn evaluable_count(&self) -> usize {
        self.evaluable().count()
    }

    fn evaluable(&self) -> impl Iterator<Item = &PlannedProbe> {
        self.probes.iter().filter(|probe| probe.detectors.is_ok())
    }
}

/// Plans a scan.
///
/// # Errors
/// INVALID_ARGUMENT with everything that is wrong with the specification, at once.
pub fn plan(spec: &Spec, catalogue: &Catalogue, allowance: &Allowance) -> aegis_mesh::Result<Plan> {
    let mut violations = Violations::new();
    let plan = plan_collecting(spec, catalogue, allowance, &mut violations);
    violations.into_result().map(|()| plan)
}

/// As [`plan`], adding to violations of the rest of a request. The plan holds only when there are none.
pub fn plan_collecting(
    spec: &Spec,
    catalogue: &Catalogue,
    allowance: &Allowance,
    violations: &mut Violations,
) -> Plan {
    limits::check(spec, violations);
    requirement::check(spec, catalogue, violations);
    target::check(&spec.target, catalogue, allowance, violations);
    options::check(&spec.plugin_options, catalogue, violations);
    let buffs = buffs(spec, catalogue, violations);
    let policy = DetectorPolicy::new(spec, catalogue, violations);
    let chosen = select(spec, catalogue, violations);
    let calls_per_prompt = calls_per_prompt(spec, buffs);
    let probes = chosen
        .iter()
        .map(|chosen| planned(chosen, &policy, calls_per_prompt))
        .collect::<Vec<_>>();
    refuse_named(&chosen, &probes, violations);
    Plan {
        probes,
        buffs: spec.buffs.iter().map(|buff| whole_selector(buff)).collect(),
        eval_threshold: spec.eval_threshold.unwrap_or(DEFAULT_EVAL_THRESHOLD),
        max_in_flight: spec.max_in_flight.unwrap_or(DEFAULT_MAX_IN_FLIGHT),
        seed: spec.seed.and_then(|seed| u32::try_from(seed).ok()),
    }
}

fn planned(
    chosen: &Chosen<'_>,
    policy: &DetectorPolicy<'_>,
    calls_per_prompt: i64,
) -> PlannedProbe {
    let detectors = match (&chosen.probe.not_evaluable, policy.of(chosen.probe)) {
        // The survey says this of a probe's own detectors; a scan may bring others.
        (Some(problem), Ok(_)) if problem.reason == DETECTOR_UNAVAILABLE => policy.of(chosen.probe),
        (Some(problem), _) => Err(problem.clone()),
        (None, detectors) => detectors,
    };
    let prompts = chosen.probe.prompts.unwrap_or_default().max(0);
    // A probe that makes its prompts as it goes asks at least once.
    let calls = prompts.max(1).saturating_mul(calls_per_prompt);
    PlannedProbe {
        name: chosen.name.to_owned(),
        calls: if detectors.is_ok() { calls } else { 0 },
        detectors,
        prompts,
    }
}

fn not_evaluable(probe: &str, problem: &Problem) -> String {
    let Problem { reason, message } = problem;
    format!("{probe} cannot be evaluated here: {reason}: {message}")
}

/// Each buff makes one prompt of each (garak/buffs/base.py; those that paraphrase or translate
/// make more), and the original stays only when asked for (garak/probes/base.py, `_buff_hook`).
fn calls_per_prompt(spec: &Spec, buffs: usize) -> i64 {
    let generations = i64::from(spec.generations.unwrap_or(DEFAULT_GENERATIONS));
    let originals = i64::from(buffs == 0 || spec.buffs_include_original_prompt);
    let buffed = i64::try_from(buffs).unwrap_or(i64::MAX);
    generations.saturating_mul(buffed.saturating_add(originals))
}

/// How many buffs the selectors mean.
fn buffs(spec: &Spec, catalogue: &Catalogue, violations: &mut Violations) -> usize {
    let choice = Choice {
        category: "buffs",
        plugins: &catalogue.buffs,
    };
    let mut names = BTreeSet::new();
    for (index, selector) in spec.buffs.iter().enumerate() {
        let field = format!("spec.buffs[{index}]");
        for name in choice.resolve(selector, &field, violations) {
            let problem = catalogue
                .buffs
                .get(name)
                .and_then(|b| b.not_loadable.as_ref());
            if let Some(problem) = problem {
                let description = format!("{name} does not load here: {}", problem.message);
                violations.add(&field, "BUFF_UNAVAILABLE", description);
            }
            names.insert(name);
        }
    }
    names.len()
}

/// Without its category, garak would take a buff's name for nothing at all.
fn whole_selector(buff: &str) -> String {
    match buff.strip_prefix("buffs.").unwrap_or(buff) {
        "*" => "buffs.all".to_owned(),
        name => format!("buffs.{name}"),
    }
}

/// What was asked for by name and cannot be had is refused; what a module or "all" brought is
/// planned as not evaluated.
fn refuse_named(chosen: &[Chosen<'_>], probes: &[PlannedProbe], violations: &mut Violations) {
    for (chosen, probe) in chosen.iter().zip(probes) {
        if let (Some(index), Err(problem)) = (chosen.named_at, &probe.detectors) {
            violations.add_with_hint(
                format!("spec.include[{index}]"),
                "PROBE_NOT_EVALUABLE",
                not_evaluable(&probe.name, problem),
                "leave it out, or include its module: then it is listed as not evaluated",
            );
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
