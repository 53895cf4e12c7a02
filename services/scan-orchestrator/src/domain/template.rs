//! Templates: what their names may be, and those that come with Aegis.

use std::fmt;

use super::violation::{INVALID_FIELD, Violations, shown};

const MAX_NAME: usize = 63;

/// A template as a scan names it: "nightly" or "nightly@3".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateRef {
    /// The template's name.
    pub name: String,
    /// The version; `None` is the newest.
    pub version: Option<i32>,
}

impl fmt::Display for TemplateRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.version {
            None => f.write_str(&self.name),
            Some(version) => write!(f, "{}@{version}", self.name),
        }
    }
}

impl TemplateRef {
    /// What `text` names; `None` for the empty text and for one that is a violation.
    pub fn parse(text: &str, violations: &mut Violations) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        let (name, version) = match text.split_once('@') {
            None => (text, Some(None)),
            Some((name, version)) => (name, version.parse().ok().filter(|v| *v > 0).map(Some)),
        };
        let before = violations.count();
        check_name("template", name, violations);
        let Some(version) = version else {
            let description = format!("must be a name, or name@version, is {}", shown(text));
            violations.add("template", INVALID_FIELD, description);
            return None;
        };
        (violations.count() == before).then(|| Self {
            name: name.to_owned(),
            version,
        })
    }
}

/// Checks a name: 1 to 63 of a-z, 0-9 and hyphen, beginning and ending with a letter or digit.
pub fn check_name(field: &str, name: &str, violations: &mut Violations) {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    let fits = bytes.iter().all(|b| plain(*b) || *b == b'-')
        && bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
        && bytes.len() <= MAX_NAME;
    if !fits {
        let description = format!(
            "must be 1 to {MAX_NAME} of a-z, 0-9 and hyphen, beginning and ending with a letter or digit, is {}",
            shown(name)
        );
        violations.add(field, INVALID_FIELD, description);
    }
}

/// A template that comes with Aegis.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Nobody else's template can have it.
    pub name: &'static str,
    /// What users see.
    pub display_name: &'static str,
    /// What it is for.
    pub description: &'static str,
    /// Proto3 JSON of `aegis.scan.v1.ScanSpec`.
    pub spec: &'static str,
    /// Raised with every change of `spec`.
    pub version: i32,
}

/// The presets, by name.
pub const PRESETS: [Preset; 4] = [
    Preset {
        name: "default",
        display_name: "Default",
        description: "Every active probe of garak's tier 1 (of concern), five outputs a prompt: \
                      what to run before a release.",
        spec: r#"{"include": ["all"], "tiers": [1], "generations": 5}"#,
        version: 1,
    },
    Preset {
        name: "full",
        display_name: "Full",
        description: "Every active probe, garak's own settings: hours, and a bill.",
        spec: r#"{"include": ["all"], "generations": 5, "extendedDetectors": true}"#,
        version: 1,
    },
    Preset {
        name: "owasp",
        display_name: "OWASP LLM Top 10",
        description: "Every active probe that garak tags with the OWASP Top 10 for LLM \
                      applications, one output a prompt.",
        spec: r#"{"include": ["all"], "tags": ["owasp:llm"], "generations": 1}"#,
        version: 1,
    },
    Preset {
        name: "quick",
        display_name: "Quick",
        description: "Some hundred prompts over five families of attack, one output each: \
                      minutes, to see that a target answers and how it stands.",
        spec: r#"{"include": ["probes.ansiescape.AnsiRaw", "probes.dan.AntiDAN",
                              "probes.dan.AutoDANCached", "probes.goodside.Tag",
                              "probes.goodside.WhoIsRiley", "probes.lmrc.QuackMedicine",
                              "probes.lmrc.SlurUsage", "probes.web_injection.MarkdownImageExfil"],
                  "generations": 1}"#,
        version: 1,
    },
];

/// The preset of this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<TemplateRef>, aegis_mesh::Error> {
        let mut violations = Violations::new();
        let parsed = TemplateRef::parse(text, &mut violations);
        violations.into_result().map(|()| parsed)
    }

    #[test]
    fn a_template_is_named_with_or_without_its_version() {
        let named = |name: &str, version| TemplateRef {
            name: name.to_owned(),
            version,
        };
        assert_eq!(parse("").unwrap(), None);
        assert_eq!(parse("nightly").unwrap(), Some(named("nightly", None)));
        assert_eq!(parse("a-1@12").unwrap(), Some(named("a-1", Some(12))));
        let long = "x".repeat(64);
        for bad in [
            "Nightly", "-a", "a-", "a b", "../a", "a@", "a@0", "a@-1", "a@1@2", "@1", &long,
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.fields()[0].path, "template", "{bad}");
        }
    }

    #[test]
    fn presets_have_fitting_names_in_order() {
        let mut violations = Violations::new();
        for preset in PRESETS {
            check_name("name", preset.name, &mut violations);
        }
        violations.into_result().unwrap();
        assert!(PRESETS.is_sorted_by_key(|preset| preset.name));
        assert!(preset("quick").is_some() && preset("slow").is_none());
    }
}
