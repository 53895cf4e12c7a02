use proptest::prelude::*;

use super::*;
use crate::domain::fixture::{catalogue, owned, spec};

fn chosen(spec: &Spec) -> Result<Vec<String>, aegis_mesh::Error> {
    let catalogue = catalogue();
    let mut violations = Violations::new();
    let chosen = select(spec, &catalogue, &mut violations);
    let names = chosen.iter().map(|c| c.name.to_owned()).collect();
    violations.into_result().map(|()| names)
}

fn include(selectors: &[&str]) -> Vec<String> {
    chosen(&spec(selectors)).unwrap()
}

#[test]
fn a_module_is_its_active_classes_and_a_class_is_itself() {
    assert_eq!(
        include(&["probes.dan"]),
        ["dan.Ablation_Dan_11_0", "dan.DanInTheWild"]
    );
    assert_eq!(include(&["probes.dan.AntiDAN"]), ["dan.AntiDAN"]);
    assert_eq!(include(&["dan"]), include(&["probes.dan"]));
    assert_eq!(include(&["dan.AntiDAN"]), ["dan.AntiDAN"]);
}

#[test]
fn all_is_every_active_probe_in_garaks_order() {
    let all = include(&["all"]);
    assert!(!all.contains(&"dan.AntiDAN".to_owned()));
    assert!(all.contains(&"lmrc.Bullying".to_owned()));
    assert!(all.is_sorted());
    for same in ["probes.all", "*", "probes.*", "ALL"] {
        assert_eq!(include(&[same]), all, "{same}");
    }
}

#[test]
fn order_and_repetition_of_selectors_change_nothing() {
    let names = include(&[
        "web_injection.MarkdownXSS",
        "dan",
        "probes.dan.DanInTheWild",
        "dan",
    ]);
    assert_eq!(
        names,
        [
            "dan.Ablation_Dan_11_0",
            "dan.DanInTheWild",
            "web_injection.MarkdownXSS"
        ]
    );
}

#[test]
fn exclusion_wins() {
    let mut spec = spec(&["dan", "dan.AntiDAN", "goodside"]);
    spec.exclude = owned(&["probes.dan.DanInTheWild", "goodside"]);
    assert_eq!(
        chosen(&spec).unwrap(),
        ["dan.Ablation_Dan_11_0", "dan.AntiDAN"]
    );
}

#[test]
fn tags_are_prefixes_and_tiers_are_a_set_and_both_narrow() {
    let mut filtered = spec(&["dan", "lmrc"]);
    filtered.tags = owned(&["owasp:llm0"]);
    assert_eq!(
        chosen(&filtered).unwrap(),
        ["dan.Ablation_Dan_11_0", "dan.DanInTheWild"]
    );
    filtered.tiers = vec![1];
    assert_eq!(chosen(&filtered).unwrap(), ["dan.DanInTheWild"]);
    let mut alone = spec(&[]);
    alone.tags = owned(&["risk-cards:lmrc:slur", "risk-cards:lmrc:bullying"]);
    assert_eq!(chosen(&alone).unwrap(), ["lmrc.Bullying"]);
}

#[test]
fn a_named_probe_knows_where_it_was_named() {
    let catalogue = catalogue();
    let mut violations = Violations::new();
    let chosen = select(
        &spec(&["dan", "lmrc", "lmrc.Bullying"]),
        &catalogue,
        &mut violations,
    );
    let named: Vec<_> = chosen
        .iter()
        .filter_map(|c| Some((c.name, c.named_at?)))
        .collect();
    assert_eq!(named, [("lmrc.Bullying", 2)]);
}

#[test]
fn unknown_names_are_refused_with_what_is_near() {
    for (selector, hint) in [
        ("probes.dan.AntiDan", "probes.dan.AntiDAN"),
        ("probes.goodsid", "probes.goodside"),
        ("probes.tag:owasp", ""),
        ("tag:owasp:llm01", "spec.tags"),
        ("tier:1", "spec.tiers"),
        ("-probes.dan", "spec.exclude"),
        ("buffs.lowercase", ""),
        ("../../etc", ""),
        ("a.b.c.d", ""),
    ] {
        let error = chosen(&spec(&["dan", selector])).unwrap_err();
        assert_eq!(error.reason(), "INVALID_FIELD", "{selector}");
        assert_eq!(error.fields()[0].path, "spec.include[1]", "{selector}");
        assert!(
            error.hint_text().unwrap_or_default().contains(hint),
            "{selector}: {error:?}"
        );
    }
}

#[test]
fn a_module_without_active_classes_says_so() {
    let error = chosen(&spec(&["probes.test"])).unwrap_err();
    assert_eq!(error.reason(), "INVALID_FIELD");
    assert!(error.hint_text().unwrap().contains("probes.test.Blank"));
}

#[test]
fn an_empty_selection_is_refused() {
    assert_eq!(chosen(&spec(&[])).unwrap_err().reason(), "EMPTY_SELECTION");
    let mut none_left = spec(&["dan"]);
    none_left.exclude = owned(&["dan"]);
    assert_eq!(chosen(&none_left).unwrap_err().reason(), "EMPTY_SELECTION");
    let mut filtered = spec(&["dan"]);
    filtered.tags = owned(&["no-such-tag"]);
    let error = chosen(&filtered).unwrap_err();
    assert_eq!(error.reason(), "EMPTY_SELECTION");
    assert!(error.hint_text().unwrap().contains("tags"));
}

proptest! {
    /// Whatever is written into a selector, it is names of the catalogue or a violation.
    #[test]
    fn any_text_is_resolved_or_refused(selector in "\\PC{0,300}") {
        match chosen(&spec(&[&selector])) {
            Ok(names) => prop_assert!(!names.is_empty()),
            Err(error) => prop_assert!(!error.fields().is_empty()),
        }
    }
}
