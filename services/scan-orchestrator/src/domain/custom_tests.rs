//! What a specification means by custom probes.

use super::*;
use crate::domain::{
    fixture::{allowance, catalogue, owned, spec},
    plan::plan,
};

fn module(name: &str, version: i32, standing: Standing) -> CustomModule {
    let probe = Probe {
        active: true,
        tags: owned(&["owasp:llm01"]),
        primary_detector: Some(format!("{name}.Judge")),
        extended_detectors: owned(&["always.Pass"]),
        prompts: Some(7),
        custom_version: Some(version),
        ..Probe::default()
    };
    let detector = Detector {
        active: true,
        custom_version: Some(version),
        ..Detector::default()
    };
    CustomModule {
        name: name.to_owned(),
        version,
        sha256: "a".repeat(64),
        standing,
        probes: vec![(format!("{name}.Leak"), probe)],
        detectors: vec![(format!("{name}.Judge"), detector)],
    }
}

fn fields(violations: Violations) -> Vec<(String, String)> {
    let Err(error) = violations.into_result() else {
        return Vec::new();
    };
    let fields = error.fields().iter();
    fields
        .map(|f| (f.path.clone(), f.description.clone()))
        .collect()
}

#[test]
fn names_are_those_that_python_and_selectors_can_take() {
    for good in ["a", "acme_leak", "x2", &"a".repeat(63)] {
        assert_eq!(wrong_name(good), None, "{good}");
    }
    for bad in [
        "",
        "2x",
        "_x",
        "Acme",
        "a-b",
        "a.b",
        "a/../b",
        "é",
        "all",
        "base_x",
        "my_probes",
        "class",
        &"a".repeat(64),
    ] {
        assert!(wrong_name(bad).is_some(), "{bad}");
    }
}

#[test]
fn what_is_listed_and_what_is_selected_from_is_meant() {
    let catalogue = catalogue();
    let garaks = catalogue.probes.keys().next().unwrap().clone();
    let mut spec = spec(&["probes.acme", "other.Class", "acme.X", "all", &garaks]);
    spec.custom_probes = owned(&["acme@2"]);
    spec.detectors = owned(&["judges.Judge"]);
    let mut violations = Violations::new();
    let found = meant(&spec, &catalogue, &mut violations);
    let found: Vec<_> = found
        .iter()
        .map(|m| (m.field.as_str(), m.name.as_str(), m.version))
        .collect();
    assert_eq!(
        found,
        [
            ("spec.custom_probes[0]", "acme", Some(2)),
            ("spec.include[1]", "other", None),
            ("spec.detectors[0]", "judges", None),
        ]
    );
    assert_eq!(violations.count(), 0);
}

#[test]
fn a_wrong_reference_is_named_with_its_value() {
    let catalogue = catalogue();
    for bad in [
        "Acme",
        "acme@",
        "acme@0",
        "acme@02",
        "acme@-1",
        "acme@+1",
        "acme@x",
        "a@9999999999",
    ] {
        let mut spec = spec(&["all"]);
        spec.custom_probes = owned(&[bad]);
        let mut violations = Violations::new();
        assert_eq!(meant(&spec, &catalogue, &mut violations), []);
        let wrong = fields(violations);
        assert_eq!(wrong[0].0, "spec.custom_probes[0]", "{bad}");
        assert!(wrong[0].1.contains(bad), "{wrong:?}");
    }
    let garaks = module_of(catalogue.probes.keys().next().unwrap());
    for (list, at) in [
        (owned(&["acme", "acme@2"]), "spec.custom_probes[1]"),
        (owned(&[garaks]), "spec.custom_probes[0]"),
        (
            (0..33).map(|n| format!("a{n}")).collect(),
            "spec.custom_probes",
        ),
    ] {
        let mut spec = spec(&["all"]);
        spec.custom_probes = list;
        let mut violations = Violations::new();
        meant(&spec, &catalogue, &mut violations);
        assert_eq!(fields(violations)[0].0, at);
    }
}

#[test]
fn only_valid_versions_are_usable() {
    let of = |name: &str, version, is_listed| Meant {
        field: format!("at.{name}"),
        name: name.to_owned(),
        version,
        is_listed,
    };
    let meant = [
        of("good", None, true),
        of("fresh", None, true),
        of("bad", Some(3), true),
        of("gone", Some(4), true),
        of("slip", None, false),
    ];
    let found = vec![
        Some(module("good", 1, Standing::Valid)),
        Some(module("fresh", 2, Standing::Checking)),
        Some(module("bad", 3, Standing::Invalid)),
        None,
        None,
    ];
    let mut violations = Violations::new();
    let usable = usable(&meant, found, &mut violations);
    assert_eq!(usable.len(), 1);
    let wrong = fields(violations);
    let paths: Vec<&str> = wrong.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["at.fresh", "at.bad", "at.gone"]);
    assert!(wrong[0].1.contains("not checked yet"), "{wrong:?}");
    assert!(wrong[1].1.contains("version 3"), "{wrong:?}");
}

#[test]
fn its_classes_are_selected_and_planned_as_garaks_own() {
    let modules = [module("acme", 2, Standing::Valid)];
    let catalogue = extended(&catalogue(), &modules);
    for include in ["probes.acme", "acme.Leak", "all"] {
        let plan = plan(&spec(&[include]), &catalogue, &allowance()).unwrap();
        let planned = plan.probes.iter().find(|probe| probe.name == "acme.Leak");
        let planned = planned.unwrap_or_else(|| panic!("{include} takes it"));
        assert_eq!(planned.prompts, 7);
        assert_eq!(planned.calls, 35);
        let detectors = planned.detectors.as_ref().unwrap();
        assert_eq!(detectors.run, ["acme.Judge", "always.Pass"]);
        assert!(!detectors.is_explicit);
    }
    let mut judged = spec(&["acme.Leak"]);
    judged.detectors = owned(&["detectors.acme"]);
    let plan = plan(&judged, &catalogue, &allowance()).unwrap();
    assert_eq!(
        plan.probes[0].detectors.as_ref().unwrap().run,
        ["acme.Judge"]
    );
}

#[test]
fn garaks_own_module_wins_over_one_of_the_same_name() {
    let garaks = catalogue();
    let name = module_of(garaks.probes.keys().next().unwrap());
    assert_eq!(
        extended(&garaks, &[module(name, 1, Standing::Valid)]),
        garaks
    );
}
