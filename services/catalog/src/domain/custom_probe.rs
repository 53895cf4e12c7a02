//! Probes and detectors of one's own: Python modules in versions, each tried out by a runner.

use aegis_mesh::{Code, Error};
use aegis_proto::ids::{ProjectId, ScanId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::word::words;

/// Live custom probes of a project, at most.
pub const MAX_CUSTOM_PROBES: i64 = 1_000;

words! {
    /// Where a version of a custom probe stands.
    VersionState {
        /// Waits for a runner to try it out.
        Checking = "CHECKING",
        /// A scan may use it.
        Valid = "VALID",
        /// See its validation.
        Invalid = "INVALID",
    }
}

words! {
    /// Where the bytes of a source are.
    SourceState {
        /// Announced.
        Staged = "STAGED",
        /// Stored and verified.
        Committed = "COMMITTED",
    }
}

words! {
    /// How bad a problem is.
    Severity {
        /// The module cannot be used.
        Error = "ERROR",
        /// It can.
        Warning = "WARNING",
    }
}

words! {
    /// What a class is to garak.
    ClassKind {
        /// A probe.
        Probe = "PROBE",
        /// A detector.
        Detector = "DETECTOR",
    }
}

/// What trying out a source found. Stored as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validation {
    /// Whether a scan may use it.
    pub valid: bool,
    /// What is wrong, or could be better.
    pub problems: Vec<Problem>,
    /// Plugin classes that the module defines.
    pub classes: Vec<CustomClass>,
    /// The garak that it was tried with; empty when it did not get that far.
    pub garak_version: String,
}

/// Something about a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// UPPER_SNAKE.
    pub reason: String,
    /// What it means.
    pub message: String,
    /// From 1; 0 when it has no place.
    pub line: i32,
    /// From 1; 0 when it has no place.
    pub column: i32,
}

/// A plugin class of a module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomClass {
    /// What it is to garak.
    pub kind: ClassKind,
    /// "acme_leak.SystemPrompt".
    pub name: String,
    /// The first line of its docstring.
    pub description: String,
    /// What a probe tries to make the target do.
    pub goal: String,
    /// "owasp:llm01".
    pub tags: Vec<String>,
    /// BCP 47.
    pub lang: String,
    /// garak's tier.
    pub tier: i32,
    /// Part of its module and of "all".
    pub active: bool,
    /// Of a probe.
    pub primary_detector: String,
    /// Of a probe.
    pub extended_detectors: Vec<String>,
    /// Of a probe, with garak's default cap.
    pub prompts: i64,
}

impl Validation {
    /// That of a source which could not be tried out.
    pub fn failed(reason: &str, message: impl Into<String>) -> Self {
        let problem = Problem {
            severity: Severity::Error,
            reason: reason.to_owned(),
            message: message.into(),
            line: 0,
            column: 0,
        };
        Self {
            problems: vec![problem],
            ..Self::default()
        }
    }

    /// The same, but valid only without an error: what is said twice may be said differently.
    pub fn consistent(mut self) -> Self {
        let is_error = |problem: &Problem| problem.severity == Severity::Error;
        self.valid = self.valid && !self.classes.is_empty() && !self.problems.iter().any(is_error);
        self
    }

    /// What becomes of the version that was tried out.
    pub fn state(&self) -> VersionState {
        if self.valid {
            VersionState::Valid
        } else {
            VersionState::Invalid
        }
    }
}

/// One version of a custom probe.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomProbe {
    /// garak's module name.
    pub name: String,
    /// Of the probe, in its user's words.
    pub description: String,
    /// 1, 2, 3, …
    pub version: i32,
    /// Where it stands.
    pub state: VersionState,
    /// Of its source.
    pub sha256: String,
    /// Unless it is being checked.
    pub validation: Option<Validation>,
    /// Who made the probe.
    pub created_by: String,
    /// When the probe was made.
    pub created_at: i64,
    /// When the version was made.
    pub updated_at: i64,
    /// Counts what users changed of the probe.
    pub revision: i64,
}

impl CustomProbe {
    /// Opaque: changes with what users change, never with a check.
    pub fn etag(&self) -> String {
        etag(&self.name, self.revision)
    }
}

/// The etag of a probe after so many changes.
pub fn etag(name: &str, revision: i64) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(format!("custom_probe|{name}|{revision}"));
    hex::encode(&hash[..8])
}

/// Where the bytes of a source lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Lower-case hexadecimal.
    pub sha256: String,
    /// Bytes.
    pub size: i64,
    /// In the object store.
    pub object_key: String,
    /// Whether they are there.
    pub state: SourceState,
}

/// A new key for a source's object. No key is ever taken twice: an object that is collected is
/// never one that was stored again meanwhile.
pub fn new_source_key(project: &ProjectId, sha256: &str) -> String {
    format!("{project}/sources/{sha256}/{}.py", Uuid::now_v7())
}

/// No such probe, or no such version of it.
pub fn not_found(name: &str, version: i32) -> Error {
    let what = match version {
        0 => format!("custom probe {name:?}"),
        _ => format!("version {version} of custom probe {name:?}"),
    };
    let message = format!("there is no {what}");
    Error::new(Code::NotFound, "CUSTOM_PROBE_NOT_FOUND", message)
        .with("name", name)
        .with("version", version)
}

/// The name is taken.
pub fn exists(name: &str) -> Error {
    let message = format!("there is a custom probe {name:?} already");
    Error::new(Code::AlreadyExists, "CUSTOM_PROBE_EXISTS", message)
        .with("name", name)
        .hint("update it to make a new version, or choose another name")
}

/// Somebody else changed it since.
pub fn changed(name: &str) -> Error {
    let message = format!("custom probe {name:?} was changed since it was read");
    Error::aborted("CUSTOM_PROBE_CHANGED", message)
        .with("name", name)
        .hint("read it again, and change what is there now")
}

/// Scans that have not ended are pinned to it.
pub fn in_use(name: &str, scans: &[ScanId]) -> Error {
    let ids: Vec<String> = scans.iter().map(ToString::to_string).collect();
    let ids = ids.join(", ");
    let message = format!("custom probe {name:?} is used by scans that have not ended: {ids}");
    Error::failed_precondition("CUSTOM_PROBE_IN_USE", message)
        .with("name", name)
        .with("scan_ids", ids)
        .hint("wait until they have ended, or cancel them")
}

/// A scan asks for a version that it may not use (any more).
pub fn not_usable(name: &str, version: i32) -> Error {
    let message = format!("version {version} of custom probe {name:?} is deleted or not valid");
    Error::failed_precondition("CUSTOM_PROBE_NOT_VALID", message)
        .with("name", name)
        .with("version", version)
        .hint("GetCustomProbe says where it stands")
}

/// More than a project may have.
pub fn too_many() -> Error {
    let message = format!("a project has at most {MAX_CUSTOM_PROBES} custom probes");
    Error::new(Code::ResourceExhausted, "TOO_MANY_CUSTOM_PROBES", message)
        .hint("delete those that nobody uses")
}

/// No such source, or its bytes are not there yet.
pub fn source_not_found(sha256: &str) -> Error {
    let message = format!("there is no source with the checksum {sha256}");
    Error::new(Code::NotFound, "SOURCE_NOT_FOUND", message).with("sha256", sha256)
}

/// The lease's scan or check is not pinned to the source.
pub fn source_not_leased(sha256: &str) -> Error {
    let message = "the lease gives no access to this source";
    Error::new(Code::PermissionDenied, "SOURCE_NOT_LEASED", message).with("sha256", sha256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_makes_a_validation_invalid_whatever_it_says_itself() {
        let class = CustomClass {
            kind: ClassKind::Probe,
            name: "a.B".to_owned(),
            description: String::new(),
            goal: String::new(),
            tags: Vec::new(),
            lang: "en".to_owned(),
            tier: 9,
            active: true,
            primary_detector: String::new(),
            extended_detectors: Vec::new(),
            prompts: 1,
        };
        let good = Validation {
            valid: true,
            classes: vec![class],
            ..Validation::default()
        };
        assert_eq!(good.clone().consistent().state(), VersionState::Valid);
        let mut warned = good.clone();
        warned.problems = Validation::failed("X", "").problems;
        assert_eq!(warned.clone().consistent().state(), VersionState::Invalid);
        warned.problems[0].severity = Severity::Warning;
        assert_eq!(warned.consistent().state(), VersionState::Valid);
        let empty = Validation {
            valid: true,
            ..Validation::default()
        };
        assert_eq!(empty.consistent().state(), VersionState::Invalid);
    }
}
