use super::*;
use crate::domain::fixture::{catalogue, owned, spec};

fn of(change: impl FnOnce(&mut Spec), probe: &str) -> Result<ProbeDetectors, String> {
    let catalogue = catalogue();
    let mut spec = spec(&["all"]);
    change(&mut spec);
    let mut violations = Violations::new();
    let policy = DetectorPolicy::new(&spec, &catalogue, &mut violations);
    let detectors = policy
        .of(&catalogue.probes[probe])
        .map_err(|problem| problem.reason);
    violations
        .into_result()
        .map_err(|error| error.reason().to_owned())?;
    detectors
}

fn refused(change: impl FnOnce(&mut Spec)) -> String {
    of(change, "dan.AntiDAN").unwrap_err()
}

#[test]
fn a_probes_own_detectors_need_no_list() {
    let detectors = of(|_| (), "dan.AntiDAN").unwrap();
    assert_eq!(
        detectors.run,
        ["dan.AntiDAN", "mitigation.MitigationBypass"]
    );
    assert!(!detectors.is_explicit && detectors.unavailable.is_empty());
    let primary = of(|s| s.extended_detectors = Some(false), "dan.AntiDAN").unwrap();
    assert_eq!(primary.run, ["dan.AntiDAN"]);
    assert!(!primary.is_explicit);
}

#[test]
fn what_does_not_work_here_is_left_out_and_named() {
    let detectors = of(|_| (), "lmrc.SexualContent").unwrap();
    assert_eq!(
        detectors.run,
        [
            "unsafe_content.SurgeProfanitySexual",
            "unsafe_content.OfcomOffensiveSexual"
        ]
    );
    assert_eq!(detectors.unavailable, ["perspective.Sexually_Explicit"]);
    assert!(detectors.is_explicit);
    // The primary one needs torch; an extended one judges all the same.
    let extended = of(|_| (), "latentinjection.LatentJailbreak").unwrap();
    assert_eq!(extended.run, ["base.TriggerListDetector"]);
    let reason = of(
        |s| s.extended_detectors = Some(false),
        "latentinjection.LatentJailbreak",
    );
    assert_eq!(reason.unwrap_err(), "DETECTOR_UNAVAILABLE");
    assert_eq!(
        of(|_| (), "lmrc.Bullying").unwrap_err(),
        "DETECTOR_UNAVAILABLE"
    );
}

#[test]
fn a_scan_may_bring_its_own() {
    let own = |s: &mut Spec| {
        s.detectors = owned(&["detectors.always.Pass", "always.Fail", "always.Pass"])
    };
    let detectors = of(own, "lmrc.Bullying").unwrap();
    assert_eq!(detectors.run, ["always.Fail", "always.Pass"]);
    assert!(detectors.is_explicit);
    let module = of(|s| s.detectors = owned(&["always"]), "dan.AntiDAN").unwrap();
    assert!(module.run.contains(&"always.Pass".to_owned()));
}

#[test]
fn excluded_ones_do_not_run() {
    let without = |names: &[&str], probe| of(|s| s.exclude_detectors = owned(names), probe);
    let detectors = without(&["mitigation.MitigationBypass"], "dan.AntiDAN").unwrap();
    assert_eq!(detectors.run, ["dan.AntiDAN"]);
    assert!(detectors.is_explicit);
    assert!(!without(&["always"], "dan.AntiDAN").unwrap().is_explicit);
    let none = without(&["dan.AntiDAN", "mitigation"], "dan.AntiDAN");
    assert_eq!(none.unwrap_err(), "DETECTORS_EXCLUDED");
    // The survey lists no base classes, yet probes name this one.
    let base = without(&["base.TriggerListDetector"], "lmrc.Deadnaming");
    assert_eq!(base.unwrap_err(), "DETECTORS_EXCLUDED");
}

#[test]
fn unknown_and_unloadable_names_are_refused() {
    assert_eq!(
        refused(|s| s.detectors = owned(&["always.Passs"])),
        "INVALID_FIELD"
    );
    assert_eq!(
        refused(|s| s.exclude_detectors = owned(&["nope"])),
        "INVALID_FIELD"
    );
    let torch = |s: &mut Spec| s.detectors = owned(&["unsafe_content.ToxicCommentModel"]);
    assert_eq!(refused(torch), "DETECTOR_UNAVAILABLE");
}
