//! garak's selection grammar (garak/_spec.py, garak/_selection.py, 0.17.1): "all" and a module
//! take active plugins only, a class is taken whether active or not, exclusions come last and win.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    catalogue::{Catalogue, Plugin, Probe},
    limits::TIERS,
    names::nearest,
    spec::Spec,
    violation::{INVALID_FIELD, Violations, shown},
};

/// Plugins that one kind of selector chooses from.
pub struct Choice<'a, P> {
    /// "probes"
    pub category: &'static str,
    /// The plugins, by name.
    pub plugins: &'a BTreeMap<String, P>,
}

impl<'a, P: Plugin> Choice<'a, P> {
    /// The names that a selector means, or a violation of `field`.
    pub fn resolve(
        &self,
        selector: &str,
        field: &str,
        violations: &mut Violations,
    ) -> Vec<&'a str> {
        let body = self.body(selector);
        if body == "*" || body.eq_ignore_ascii_case("all") {
            return self.active(|_| true);
        }
        if body.contains('.') {
            if let Some((name, _)) = self.plugins.get_key_value(body) {
                return vec![name];
            }
            self.report_unknown(selector, field, violations);
            return Vec::new();
        }
        let is_of_module = |name: &str| module_of(name) == body;
        let active = self.active(is_of_module);
        if active.is_empty() {
            match self.plugins.keys().find(|name| is_of_module(name)) {
                Some(one) => violations.add_with_hint(
                    field,
                    INVALID_FIELD,
                    format!("every class of {} is inactive", shown(selector)),
                    format!("name one, such as {}.{one}", self.category),
                ),
                None => self.report_unknown(selector, field, violations),
            }
        }
        active
    }

    /// Whether a selector names one class.
    pub fn names_class(&self, selector: &str) -> bool {
        self.body(selector).contains('.')
    }

    fn body<'s>(&self, selector: &'s str) -> &'s str {
        selector
            .strip_prefix(self.category)
            .and_then(|rest| rest.strip_prefix('.'))
            .unwrap_or(selector)
    }

    fn active(&self, is_wanted: impl Fn(&str) -> bool) -> Vec<&'a str> {
        let wanted = |(name, plugin): &(&'a String, &'a P)| plugin.is_active() && is_wanted(name);
        self.plugins
            .iter()
            .filter(wanted)
            .map(|(name, _)| name.as_str())
            .collect()
    }

    fn report_unknown(&self, selector: &str, field: &str, violations: &mut Violations) {
        let description = format!(
            "{} is none of garak's {} here",
            shown(selector),
            self.category
        );
        if let Some(hint) = filter_hint(selector) {
            return violations.add_with_hint(field, INVALID_FIELD, description, hint);
        }
        let body = self.body(selector);
        let modules: BTreeSet<&str> = self.plugins.keys().map(|name| module_of(name)).collect();
        let near = match body.contains('.') {
            true => nearest(body, self.plugins.keys().map(String::as_str)),
            false => nearest(body, modules.into_iter()),
        };
        if near.is_empty() {
            return violations.add(field, INVALID_FIELD, description);
        }
        let named: Vec<String> = near
            .iter()
            .map(|n| format!("{}.{n}", self.category))
            .collect();
        violations.add_with_hint(
            field,
            INVALID_FIELD,
            description,
            format!("did you mean {}?", named.join(", ")),
        );
    }
}

/// garak's command line has filters among its selectors; here they are fields of their own.
fn filter_hint(selector: &str) -> Option<&'static str> {
    if selector.starts_with("tag:") {
        return Some("put tag prefixes into spec.tags");
    }
    if selector.starts_with("tier:") {
        return Some("put tiers into spec.tiers");
    }
    selector
        .starts_with('-')
        .then_some("put what is to be left out into spec.exclude")
}

fn module_of(name: &str) -> &str {
    name.split_once('.').map_or(name, |(module, _)| module)
}

/// A chosen probe.
#[derive(Debug, Clone, Copy)]
pub struct Chosen<'a> {
    /// "dan.AntiDAN".
    pub name: &'a str,
    /// Its entry in the catalogue.
    pub probe: &'a Probe,
    /// The index in `include` where it is named itself; `None` when a module or "all" brought it.
    pub named_at: Option<usize>,
}

/// The probes of a scan, in garak's order. A scan that includes nothing but filters filters all
/// active probes, as garak does.
pub fn select<'a>(
    spec: &Spec,
    catalogue: &'a Catalogue,
    violations: &mut Violations,
) -> Vec<Chosen<'a>> {
    let choice = Choice {
        category: "probes",
        plugins: &catalogue.probes,
    };
    let before = violations.count();
    let mut chosen: BTreeMap<&str, Option<usize>> = BTreeMap::new();
    for (index, selector) in spec.include.iter().enumerate() {
        let named = choice.names_class(selector).then_some(index);
        for name in choice.resolve(selector, &format!("spec.include[{index}]"), violations) {
            let at = chosen.entry(name).or_default();
            *at = at.or(named);
        }
    }
    if spec.include.is_empty() && !(spec.tags.is_empty() && spec.tiers.is_empty()) {
        let all = choice.active(|_| true);
        chosen.extend(all.into_iter().map(|name| (name, None)));
    }
    let had_includes = !chosen.is_empty();
    for (index, selector) in spec.exclude.iter().enumerate() {
        for name in choice.resolve(selector, &format!("spec.exclude[{index}]"), violations) {
            chosen.remove(name);
        }
    }
    let selected: Vec<Chosen<'a>> = chosen
        .into_iter()
        .filter_map(|(name, named_at)| {
            let probe = catalogue.probes.get(name)?;
            passes(spec, probe).then_some(Chosen {
                name,
                probe,
                named_at,
            })
        })
        .collect();
    // Unknown names are the better message.
    if selected.is_empty() && violations.count() == before {
        report_empty(had_includes, violations);
    }
    selected
}

fn passes(spec: &Spec, probe: &Probe) -> bool {
    let has_prefix = |prefix: &String| {
        probe
            .tags
            .iter()
            .any(|tag| tag.starts_with(prefix.as_str()))
    };
    let by_tag = spec.tags.is_empty() || spec.tags.iter().any(has_prefix);
    // A tier that does not exist is a violation already; it must not hide others behind it.
    let filters = spec.tiers.iter().all(|tier| TIERS.contains(tier)) && !spec.tiers.is_empty();
    by_tag && (!filters || spec.tiers.contains(&probe.tier()))
}

fn report_empty(had_includes: bool, violations: &mut Violations) {
    let (description, hint) = match had_includes {
        true => (
            "no probe is left after exclusions and filters",
            "widen spec.tags and spec.tiers, or exclude less",
        ),
        false => (
            "no probe is selected",
            "name probes such as \"probes.dan\", or \"all\"",
        ),
    };
    violations.add_with_hint("spec.include", "EMPTY_SELECTION", description, hint);
}

#[cfg(test)]
#[path = "selection_tests.rs"]
mod tests;
