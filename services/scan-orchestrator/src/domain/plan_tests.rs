use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::*;
use crate::domain::fixture::{allowance, catalogue, owned, spec};

fn planned_with(include: &[&str], change: impl FnOnce(&mut Spec)) -> aegis_mesh::Result<Plan> {
    let mut spec = spec(include);
    change(&mut spec);
    plan(&spec, &catalogue(), &allowance())
}

#[test]
fn prompts_and_calls_are_counted() {
    let plan = planned_with(&["goodside", "dan.AntiDAN"], |s| s.generations = Some(2)).unwrap();
    let counted: Vec<_> = plan
        .probes
        .iter()
        .map(|p| (p.name.as_str(), p.prompts, p.calls))
        .collect();
    assert_eq!(
        counted,
        [
            ("dan.AntiDAN", 1, 2),
            ("goodside.ThreatenJSON", 1, 2),
            ("goodside.WhoIsRiley", 6, 12)
        ]
    );
    assert_eq!((plan.prompts_total(), plan.calls_total()), (8, 16));
}

#[test]
fn garaks_defaults_hold() {
    let plan = planned_with(&["dan.AntiDAN"], |_| ()).unwrap();
    assert_eq!(
        (plan.eval_threshold, plan.max_in_flight, plan.seed),
        (0.5, 16, None)
    );
    assert_eq!(plan.calls_total(), 5);
}

#[test]
fn a_set_zero_is_a_zero() {
    let plan = planned_with(&["dan.AntiDAN"], |s| {
        s.eval_threshold = Some(0.0);
        s.seed = Some(0);
    })
    .unwrap();
    assert_eq!((plan.eval_threshold, plan.seed), (0.0, Some(0)));
}

#[test]
fn buffs_multiply_the_calls() {
    let with = |buffs: &[&str], original| {
        let plan = planned_with(&["goodside.WhoIsRiley"], |s| {
            s.generations = Some(1);
            s.buffs = owned(buffs);
            s.buffs_include_original_prompt = original;
        })
        .unwrap();
        (plan.buffs.clone(), plan.calls_total())
    };
    assert_eq!(
        with(&["lowercase"], false),
        (owned(&["buffs.lowercase"]), 6)
    );
    assert_eq!(with(&["lowercase"], true).1, 12);
    let (buffs, calls) = with(&["buffs.lowercase.Lowercase", "encoding"], false);
    assert_eq!(buffs, ["buffs.lowercase.Lowercase", "buffs.encoding"]);
    assert_eq!(calls, 18);
}

#[test]
fn unknown_and_unloadable_buffs_are_refused() {
    let refused = |buff| planned_with(&["dan"], |s| s.buffs = owned(&[buff])).unwrap_err();
    assert_eq!(refused("lowercas").reason(), "INVALID_FIELD");
    let error = refused("low_resource_languages");
    assert_eq!(
        (error.reason(), error.fields()[0].path.as_str()),
        ("BUFF_UNAVAILABLE", "spec.buffs[0]")
    );
}

#[test]
fn a_named_probe_that_cannot_run_is_refused_and_a_modules_is_listed() {
    let error = planned_with(&["dan", "lmrc.Bullying"], |_| ()).unwrap_err();
    assert_eq!(error.reason(), "PROBE_NOT_EVALUABLE");
    assert_eq!(error.fields()[0].path, "spec.include[1]");
    assert!(error.message().contains("needs torch"), "{error}");
    let plan = planned_with(&["lmrc"], |_| ()).unwrap();
    let bullying = plan
        .probes
        .iter()
        .find(|p| p.name == "lmrc.Bullying")
        .unwrap();
    assert_eq!(
        bullying.detectors.as_ref().unwrap_err().reason,
        "DETECTOR_UNAVAILABLE"
    );
    assert_eq!(bullying.calls, 0);
    assert!(plan.require_evaluable().is_ok());
    let prompts: i64 = plan
        .probes
        .iter()
        .filter(|p| p.detectors.is_ok())
        .map(|p| p.prompts)
        .sum();
    assert_eq!(plan.prompts_total(), prompts);
}

#[test]
fn own_detectors_make_a_probe_evaluable_again() {
    let plan = planned_with(&["lmrc.Bullying"], |s| {
        s.detectors = owned(&["always.Pass"])
    })
    .unwrap();
    assert_eq!(
        plan.probes[0].detectors.as_ref().unwrap().run,
        ["always.Pass"]
    );
    // A detector does not help a probe that does not load.
    let error = planned_with(&["audio.AudioAchillesHeel"], |s| {
        s.detectors = owned(&["always.Pass"])
    });
    assert!(error.unwrap_err().message().contains("MISSING_MODULE"));
}

#[test]
fn a_plan_without_anything_to_evaluate_says_why() {
    let plan = planned_with(&["atkgen"], |_| ()).unwrap();
    let error = plan.require_evaluable().unwrap_err();
    assert_eq!(error.reason(), "NOTHING_EVALUABLE");
    assert!(error.fields()[0].description.contains("atkgen.Tox"));
}

#[test]
fn everything_that_is_wrong_is_reported_at_once() {
    let error = planned_with(&["dan", "nope"], |s| {
        s.target.generator = "function.Single".to_owned();
        s.generations = Some(0);
        s.detectors = owned(&["nope.Nope"]);
        s.plugin_options = json!({"generators": {}}).as_object().unwrap().clone();
    })
    .unwrap_err();
    let paths: Vec<&str> = error.fields().iter().map(|f| f.path.as_str()).collect();
    for field in [
        "spec.generations",
        "spec.target.type",
        "spec.plugin_options.generators",
        "spec.detectors[0]",
        "spec.include[1]",
    ] {
        assert!(paths.contains(&field), "{field} in {paths:?}");
    }
    assert_eq!(error.reason(), "INVALID_FIELD");
}

/// garak's own plugin cache as a catalogue in which everything works.
fn everything() -> Catalogue {
    let path = plugin_cache();
    let text = std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{}: {error}; install garak (make garak) or set AEGIS_GARAK_PYTHON",
            path.display()
        )
    });
    let mut cache: Value = serde_json::from_slice(&text).unwrap();
    for category in ["probes", "detectors", "generators", "buffs"] {
        let plugins = cache[category].as_object_mut().unwrap();
        plugins.retain(|name, _| !name.contains(".base."));
        for plugin in plugins.values_mut() {
            let keys: Vec<String> = plugin["DEFAULT_PARAMS"]
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect();
            plugin["option_keys"] = json!(keys);
            plugin["prompts"] = json!(256);
        }
    }
    cache["garak_version"] = json!("0.17.1");
    Catalogue::parse(&serde_json::to_vec(&cache).unwrap()).unwrap()
}

/// Of the Python in AEGIS_GARAK_PYTHON, else of the repository's own garak.
fn plugin_cache() -> PathBuf {
    let python = std::env::var_os("AEGIS_GARAK_PYTHON").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/garak/bin/python"),
        PathBuf::from,
    );
    let environment = python
        .parent()
        .and_then(|bin| bin.parent())
        .unwrap()
        .to_owned();
    environment.join("lib/python3.11/site-packages/garak/resources/plugin_cache.json")
}

#[test]
fn everything_that_garak_has_is_planned_at_once() {
    let catalogue = everything();
    assert!(catalogue.probes.len() >= 190, "{}", catalogue.probes.len());
    let mut all = spec(&["all"]);
    all.include
        .extend(catalogue.probes.keys().map(|name| format!("probes.{name}")));
    let began = Instant::now();
    let plan = plan(&all, &catalogue, &allowance()).unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(plan.probes.len(), catalogue.probes.len());
    let names: Vec<&str> = plan.probes.iter().map(|p| p.name.as_str()).collect();
    assert!(names.is_sorted());
}

#[test]
fn garaks_own_cache_selects_as_garak_does() {
    let catalogue = everything();
    let plan = plan(&spec(&["all"]), &catalogue, &allowance()).unwrap();
    let active = catalogue
        .probes
        .values()
        .filter(|probe| probe.active)
        .count();
    assert_eq!(plan.probes.len(), active);
    let with = plan
        .probes
        .iter()
        .find(|p| p.name == "dan.Ablation_Dan_11_0")
        .unwrap();
    assert_eq!(with.detectors.as_ref().unwrap().run[0], "dan.DAN");
}
