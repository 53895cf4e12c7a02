//! Which detectors judge a probe.
//!
//! garak ends a whole run when the only detector of a probe does not load, so what cannot load is
//! left out here, and named.

use std::collections::BTreeSet;

use super::{
    catalogue::{Catalogue, Probe, Problem},
    selection::Choice,
    spec::Spec,
    violation::Violations,
};

/// What a scan says about detectors, resolved.
pub struct DetectorPolicy<'a> {
    instead: Option<BTreeSet<&'a str>>,
    excluded: BTreeSet<&'a str>,
    extended: bool,
    catalogue: &'a Catalogue,
}

/// The detectors of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeDetectors {
    /// Those that run, in the order in which they run.
    pub run: Vec<String>,
    /// Whether they are not simply what garak would take, and so must be listed in the task.
    pub is_explicit: bool,
    /// Those that would run but do not work here.
    pub unavailable: Vec<String>,
}

impl<'a> DetectorPolicy<'a> {
    /// Resolves the selectors; a detector that is asked for by name and does not load is a violation.
    pub fn new(spec: &Spec, catalogue: &'a Catalogue, violations: &mut Violations) -> Self {
        let choice = Choice {
            category: "detectors",
            plugins: &catalogue.detectors,
        };
        let mut instead = BTreeSet::new();
        for (index, selector) in spec.detectors.iter().enumerate() {
            let field = format!("spec.detectors[{index}]");
            let named = choice.resolve(selector, &field, violations);
            if choice.names_class(selector)
                && let Some(problem) = named.first().and_then(|n| problem(catalogue, n))
            {
                let description = format!("{selector} does not work here: {}", problem.message);
                violations.add(&field, "DETECTOR_UNAVAILABLE", description);
            }
            instead.extend(named);
        }
        let mut excluded = BTreeSet::new();
        for (index, selector) in spec.exclude_detectors.iter().enumerate() {
            // The survey lists no base classes, but some probes have one for a detector.
            if let Some(name) = named_by_a_probe(selector, catalogue) {
                excluded.insert(name);
                continue;
            }
            let field = format!("spec.exclude_detectors[{index}]");
            excluded.extend(choice.resolve(selector, &field, violations));
        }
        Self {
            instead: (!spec.detectors.is_empty()).then_some(instead),
            excluded,
            extended: spec.extended_detectors.unwrap_or(true),
            catalogue,
        }
    }

    /// The detectors of `probe`, or why none is left.
    pub fn of(&self, probe: &Probe) -> Result<ProbeDetectors, Problem> {
        let wanted = self.wanted(probe);
        if wanted.is_empty() {
            return self.garaks_choice();
        }
        let (unavailable, run): (Vec<&str>, Vec<&str>) = wanted
            .iter()
            .copied()
            .partition(|name| self.is_unavailable(probe, name));
        let kept: Vec<&str> = run
            .into_iter()
            .filter(|name| !self.excluded.contains(name))
            .collect();
        if kept.is_empty() {
            return Err(none_left(&unavailable));
        }
        Ok(ProbeDetectors {
            is_explicit: self.instead.is_some() || kept.len() != wanted.len(),
            run: owned(&kept),
            unavailable: owned(&unavailable),
        })
    }

    /// A probe that declares no detector gets them from garak as it runs, by its intents
    /// (garak/harnesses/base.py). A scan that names its own has at least one.
    fn garaks_choice(&self) -> Result<ProbeDetectors, Problem> {
        if self.instead.is_some() {
            return Err(none_left(&[]));
        }
        Ok(ProbeDetectors {
            run: Vec::new(),
            is_explicit: false,
            unavailable: Vec::new(),
        })
    }

    /// In garak's order: primary, then extended ones by name (garak/harnesses/probewise.py); a
    /// list of its own by name (garak/harnesses/pxd.py).
    fn wanted<'p>(&'p self, probe: &'p Probe) -> Vec<&'p str> {
        if let Some(instead) = &self.instead {
            return instead.iter().copied().collect();
        }
        let Some(primary) = probe.primary_detector.as_deref() else {
            return Vec::new();
        };
        let extended: BTreeSet<&str> = probe
            .extended_detectors
            .iter()
            .filter(|_| self.extended)
            .map(String::as_str)
            .filter(|name| *name != primary)
            .collect();
        std::iter::once(primary).chain(extended).collect()
    }

    fn is_unavailable(&self, probe: &Probe, name: &str) -> bool {
        let for_probe =
            self.instead.is_none() && probe.unavailable_detectors.iter().any(|n| n == name);
        for_probe || problem(self.catalogue, name).is_some()
    }
}

fn named_by_a_probe<'a>(selector: &str, catalogue: &'a Catalogue) -> Option<&'a str> {
    let name = selector.strip_prefix("detectors.").unwrap_or(selector);
    let of = |probe: &'a Probe| {
        probe
            .primary_detector
            .iter()
            .chain(&probe.extended_detectors)
    };
    let mut all = catalogue.probes.values().flat_map(of);
    all.find(|detector| *detector == name).map(String::as_str)
}

fn problem<'a>(catalogue: &'a Catalogue, name: &str) -> Option<&'a Problem> {
    catalogue.detectors.get(name)?.not_loadable.as_ref()
}

fn none_left(unavailable: &[&str]) -> Problem {
    let (reason, message) = match unavailable.is_empty() {
        true => (
            "DETECTORS_EXCLUDED",
            "the scan leaves it no detector".to_owned(),
        ),
        false => (
            "DETECTOR_UNAVAILABLE",
            format!(
                "these detectors do not work here: {}",
                unavailable.join(", ")
            ),
        ),
    };
    Problem {
        reason: reason.to_owned(),
        message,
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[cfg(test)]
#[path = "detectors_tests.rs"]
mod tests;
