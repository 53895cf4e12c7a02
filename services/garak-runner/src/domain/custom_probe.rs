//! Custom probes: whose sources a task needs, and what a check found.

use std::time::Duration;

use serde::Deserialize;

use super::probe_work::Refusal;

/// Longest source in bytes; the contract's limit.
pub const MAX_SOURCE: usize = 256 * 1024;
/// Most modules that one task may need.
pub const MAX_SOURCES: usize = 64;
const MAX_NAME: usize = 63;
const MAX_PROBLEMS: usize = 100;
const MAX_CLASSES: usize = 100;
const MAX_NAMES: usize = 50;
const MAX_TEXT: usize = 500;
/// A reason, a class's name, a tag.
const MAX_SHORT: usize = 200;

/// The SHA-256 of a source, lower-case hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceSha(String);

impl SourceSha {
    /// # Errors
    /// INVALID_SPEC when the text is none.
    pub fn new(text: &str) -> Result<Self, Refusal> {
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == 64 && text.bytes().all(is_hex) {
            return Ok(Self(text.to_owned()));
        }
        Err(Refusal::new("INVALID_SPEC", "a source has no checksum"))
    }

    /// 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A module that garak is to have in one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomModule {
    name: String,
    /// Of its source.
    pub sha256: SourceSha,
}

impl CustomModule {
    /// The name becomes a file's and a module's, so nothing but a-z, 0-9 and `_` may be in it.
    ///
    /// # Errors
    /// INVALID_SPEC when name or checksum is none.
    pub fn new(name: &str, sha256: &str) -> Result<Self, Refusal> {
        let is_name = (1..=MAX_NAME).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !is_name {
            return Err(Refusal::new(
                "INVALID_SPEC",
                "a custom probe's name is no module's name",
            ));
        }
        Ok(Self {
            name: name.to_owned(),
            sha256: SourceSha::new(sha256)?,
        })
    }

    /// "acme_leak"
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The try-out of one source, as a lease asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckWork {
    /// As it is asked for: whether it may be a module's name is the check's first question.
    pub name: String,
    /// Of the source.
    pub sha256: SourceSha,
    /// Longest run time.
    pub timeout: Duration,
}

/// What a check found, in the words of `aegis.probe.v1.Validation`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct Validation {
    /// Whether scans may use it.
    pub valid: bool,
    /// Errors first.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// What the module defines.
    #[serde(default)]
    pub classes: Vec<CustomClass>,
    /// "0.17.1"
    #[serde(default)]
    pub garak_version: String,
}

/// Something that is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// UPPER_SNAKE.
    pub reason: String,
    /// In words.
    pub message: String,
    /// From 1; 0 when it has no place.
    #[serde(default)]
    pub line: u32,
    /// From 1; 0 when it has no place.
    #[serde(default)]
    pub column: u32,
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// No scan may use the source.
    Error,
    /// Worth a change.
    Warning,
}

/// A plugin class that the module defines.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CustomClass {
    /// What it is.
    pub kind: ClassKind,
    /// "acme_leak.CodeWord"
    pub name: String,
    /// The first line of its docstring.
    #[serde(default)]
    pub description: String,
    /// What the probe is after.
    #[serde(default)]
    pub goal: String,
    /// "owasp:llm06"
    #[serde(default)]
    pub tags: Vec<String>,
    /// BCP 47, or `*`.
    #[serde(default)]
    pub lang: String,
    /// garak's tier, 0 when it has none.
    #[serde(default)]
    pub tier: u8,
    /// Chosen when its module is named as a whole.
    #[serde(default)]
    pub active: bool,
    /// Of a probe.
    #[serde(default)]
    pub primary_detector: String,
    /// Of a probe.
    #[serde(default)]
    pub extended_detectors: Vec<String>,
    /// Of a probe.
    #[serde(default)]
    pub prompts: u64,
}

/// What a class is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassKind {
    /// Asks the target.
    Probe,
    /// Judges answers.
    Detector,
}

impl Validation {
    /// What a child wrote. It ran other people's code, so all is cut to what the contract allows.
    ///
    /// # Errors
    /// When it is no validation.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut found: Self = serde_json::from_slice(json)?;
        found.problems.truncate(MAX_PROBLEMS);
        found.classes.truncate(MAX_CLASSES);
        found.valid &= found.problems.iter().all(|p| p.severity != Severity::Error);
        cut(&mut found.garak_version, MAX_SHORT);
        for problem in &mut found.problems {
            cut(&mut problem.reason, MAX_SHORT);
            cut(&mut problem.message, MAX_TEXT);
        }
        for class in &mut found.classes {
            class.cut();
        }
        Ok(found)
    }

    /// A check that came to an end of its own: one error, and nothing else is known.
    pub fn failed(reason: &str, message: &str, garak_version: &str) -> Self {
        let mut message = message.to_owned();
        cut(&mut message, MAX_TEXT);
        Self {
            valid: false,
            problems: vec![Problem {
                severity: Severity::Error,
                reason: reason.to_owned(),
                message,
                line: 0,
                column: 0,
            }],
            classes: Vec::new(),
            garak_version: garak_version.to_owned(),
        }
    }
}

impl CustomClass {
    fn cut(&mut self) {
        for text in [&mut self.description, &mut self.goal] {
            cut(text, MAX_TEXT);
        }
        for text in [&mut self.name, &mut self.lang, &mut self.primary_detector] {
            cut(text, MAX_SHORT);
        }
        for list in [&mut self.tags, &mut self.extended_detectors] {
            list.truncate(MAX_NAMES);
            list.iter_mut().for_each(|name| cut(name, MAX_SHORT));
        }
    }
}

/// At most so many characters, and none that a database's JSON does not take.
fn cut(text: &mut String, most: usize) {
    if text.chars().nth(most).is_some() || text.contains(char::is_control) {
        *text = text
            .chars()
            .take(most)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_module_is_a_name_and_a_checksum_and_nothing_else() {
        let sha256 = "0a".repeat(32);
        let module = CustomModule::new("acme_leak2", &sha256).unwrap();
        assert_eq!(
            (module.name(), module.sha256.as_str()),
            ("acme_leak2", sha256.as_str())
        );
        for name in [
            "",
            "Acme",
            "_x",
            "2x",
            "a.b",
            "../x",
            "a/b",
            "é",
            &"a".repeat(64),
        ] {
            assert!(CustomModule::new(name, &sha256).is_err(), "{name:?}");
        }
        for sha256 in ["", "0a", &"0A".repeat(32), &"zz".repeat(32)] {
            assert!(SourceSha::new(sha256).is_err(), "{sha256:?}");
        }
    }

    #[test]
    fn what_a_check_says_is_cut_to_the_contract() {
        let problem =
            json!({"severity": "warning", "reason": "X", "message": "é\u{0}".repeat(400)});
        let class = json!({"kind": "probe", "name": "a.B", "tags": vec!["t".repeat(999); 99]});
        let json =
            json!({"valid": true, "problems": vec![problem; 101], "classes": vec![class; 101]});
        let found = Validation::parse(json.to_string().as_bytes()).unwrap();
        assert!(found.valid);
        assert_eq!((found.problems.len(), found.classes.len()), (100, 100));
        assert_eq!(found.problems[0].message.chars().count(), 500);
        assert!(!found.problems[0].message.contains('\u{0}'));
        assert_eq!(found.classes[0].tags.len(), 50);
        assert!(found.classes[0].tags.iter().all(|tag| tag.len() == 200));
    }

    #[test]
    fn nothing_with_an_error_is_valid() {
        let json = json!({"valid": true, "problems": [
            {"severity": "error", "reason": "NO_PROMPTS", "message": "none", "line": 3, "column": 1}
        ]});
        assert!(
            !Validation::parse(json.to_string().as_bytes())
                .unwrap()
                .valid
        );
        assert!(Validation::parse(b"{}").is_err());
    }
}
