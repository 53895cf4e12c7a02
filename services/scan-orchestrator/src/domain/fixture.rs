//! A survey of garak 0.17.1 without torch, cut down to twenty probes and what they need, and an
//! allowance.

use std::collections::BTreeSet;

use super::{
    allowance::Allowance,
    catalogue::Catalogue,
    spec::{Spec, Target},
};

pub(super) fn catalogue() -> Catalogue {
    Catalogue::parse(include_bytes!("../../tests/data/survey.json")).unwrap()
}

pub(super) fn allowance() -> Allowance {
    let keys = |keys: &[&str]| {
        keys.iter()
            .map(|k| (*k).to_owned())
            .collect::<BTreeSet<_>>()
    };
    let generators = [
        ("huggingface.Pipeline", keys(&[])),
        (
            "openai.OpenAICompatible",
            keys(&["max_tokens", "stop", "uri", "extra_params"]),
        ),
        (
            "rest.RestGenerator",
            keys(&["headers", "uri", "req_template"]),
        ),
        ("test.Blank", keys(&["max_tokens"])),
    ];
    Allowance {
        generators: generators
            .map(|(name, keys)| (name.to_owned(), keys))
            .into(),
        secrets: keys(&["MY_KEY", "OPENAICOMPATIBLE_API_KEY", "REST_API_KEY"]),
    }
}

/// A scan of a generator that needs nothing.
pub(super) fn spec(include: &[&str]) -> Spec {
    Spec {
        target: Target {
            generator: "test.Blank".to_owned(),
            ..Target::default()
        },
        include: owned(include),
        ..Spec::default()
    }
}

pub(super) fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
