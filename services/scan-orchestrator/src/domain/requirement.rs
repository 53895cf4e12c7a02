//! What a scan requires of its runners.

use super::{
    catalogue::Catalogue,
    spec::Spec,
    violation::{Violations, shown},
};

/// The reason when no runner has it.
const NO_SUCH_RUNNER: &str = "NO_SUCH_RUNNER";

/// Adds what the runners with this catalogue do not have.
pub fn check(spec: &Spec, catalogue: &Catalogue, violations: &mut Violations) {
    for (index, required) in spec.requires.iter().enumerate() {
        if !is_met(required, catalogue) {
            let description = format!(
                "no runner that is there has {}; those that are have {}",
                shown(required),
                had(catalogue).join(", ")
            );
            violations.add(
                format!("spec.requires[{index}]"),
                NO_SUCH_RUNNER,
                description,
            );
        }
    }
}

fn is_met(required: &str, catalogue: &Catalogue) -> bool {
    had(catalogue).iter().any(|had| had == required)
}

fn had(catalogue: &Catalogue) -> Vec<String> {
    let version = format!("garak=={}", catalogue.garak_version);
    let capabilities = catalogue.capabilities.iter().cloned();
    std::iter::once(version).chain(capabilities).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::fixture;

    #[test]
    fn a_version_and_capabilities_are_held_against_what_runners_have() {
        let mut catalogue = fixture::catalogue();
        catalogue.capabilities.insert("torch".to_owned());
        let met = |requires: &[&str]| {
            let spec = Spec {
                requires: requires.iter().map(|&one| one.to_owned()).collect(),
                ..Spec::default()
            };
            let mut violations = Violations::new();
            check(&spec, &catalogue, &mut violations);
            violations.count() == 0
        };
        assert!(met(&[]));
        assert!(met(&["torch", "garak==0.17.1"]));
        for missing in ["gpu", "garak==0.18", "garak", "Torch", ""] {
            assert!(!met(&[missing]), "{missing}");
        }
    }
}
