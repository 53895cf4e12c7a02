//! Which probes a scan runs: garak's `--spec` grammar, resolved as `garak/_selection.py` does.

use std::collections::{BTreeMap, BTreeSet};

use aegis_mesh::Error;

use super::{
    catalogue::{Catalogue, Probe, module, without_category},
    closest::did_you_mean,
    spec::Spec,
    validate::Violations,
};

/// garak's tier for probes that declare none (`Tier.UNLISTED`).
const UNLISTED: i32 = 9;

/// One probe of a scan.
#[derive(Debug, Clone, Copy)]
pub struct Selected<'a> {
    /// "dan.AntiDAN".
    pub name: &'a str,
    /// As the catalogue has it.
    pub probe: &'a Probe,
}

/// The probes of a scan, in garak's order. Unknown names, and probes named outright that cannot be
/// evaluated here, become violations.
///
/// # Errors
/// EMPTY_SELECTION when the filters leave nothing.
pub fn select<'a>(
    spec: &Spec,
    catalogue: &'a Catalogue,
    violations: &mut Violations,
) -> Result<Vec<Selected<'a>>, Error> {
    let mut chosen = BTreeMap::new();
    for (index, selector) in spec.include.iter().enumerate() {
        let field = format!("spec.include[{index}]");
        for name in resolve(selector, &field, catalogue, violations) {
            if let Some(problem) = named_outright(selector, name)
                .then(|| catalogue.probes[name].not_evaluable.as_ref())
                .flatten()
            {
                violations.add(
                    field.clone(),
                    format!("{name} cannot be evaluated here: {} ({})", problem.message, problem.reason),
                );
            }
            chosen.insert(name, &catalogue.probes[name]);
        }
    }
    for (index, selector) in spec.exclude.iter().enumerate() {
        let field = format!("spec.exclude[{index}]");
        for name in resolve(selector, &field, catalogue, violations) {
            chosen.remove(name);
        }
    }
    chosen.retain(|_, probe| has_any_tag(probe, &spec.tags) && has_any_tier(probe, &spec.tiers));
    if chosen.is_empty() && violations.is_empty() {
        return Err(Error::invalid_argument("EMPTY_SELECTION", "no probe is selected")
            .field("spec.include", "selects no probe")
            .hint("name probes in spec.include, such as probes.dan, or all; widen tags and tiers"));
    }
    Ok(chosen
        .into_iter()
        .map(|(name, probe)| Selected { name, probe })
        .collect())
}

/// The probes that one selector names.
fn resolve<'a>(
    selector: &str,
    field: &str,
    catalogue: &'a Catalogue,
    violations: &mut Violations,
) -> BTreeSet<&'a str> {
    let body = without_category("probes", selector);
    let all = || catalogue.probes.iter().filter(|(_, probe)| probe.active);
    if matches!(body, "all" | "*" | "probes") {
        return all().map(|(name, _)| name.as_str()).collect();
    }
    if let Some((name, _)) = catalogue.probes.get_key_value(body) {
        return BTreeSet::from([name.as_str()]);
    }
    let active: BTreeSet<_> = all()
        .map(|(name, _)| name.as_str())
        .filter(|name| module(name) == Some(body))
        .collect();
    if active.is_empty() {
        violations.add_with_hint(
            field,
            unknown(selector, body, catalogue),
            did_you_mean(body, names_and_modules(catalogue)),
        );
    }
    active
}

fn unknown(selector: &str, body: &str, catalogue: &Catalogue) -> String {
    if catalogue.probe_modules().contains(body) {
        return format!("{selector:?} has no active probe; name its probes one by one");
    }
    format!("garak {} has no probe {selector:?}", catalogue.garak_version)
}

fn names_and_modules(catalogue: &Catalogue) -> impl Iterator<Item = &str> {
    catalogue
        .probes
        .keys()
        .map(String::as_str)
        .chain(catalogue.probe_modules())
}

fn named_outright(selector: &str, name: &str) -> bool {
    without_category("probes", selector) == name
}

fn has_any_tag(probe: &Probe, prefixes: &[String]) -> bool {
    prefixes.is_empty()
        || probe
            .tags
            .iter()
            .any(|tag| prefixes.iter().any(|prefix| tag.starts_with(prefix)))
}

fn has_any_tier(probe: &Probe, tiers: &[i32]) -> bool {
    tiers.is_empty() || tiers.contains(&probe.tier.unwrap_or(UNLISTED))
}
