//! Typed ids, so that a scan's id is never taken for a task's.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind} id: {expected}")]
pub struct InvalidId {
    kind: &'static str,
    text: String,
    expected: &'static str,
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; ids made later sort later (UUIDv7).
            pub fn generate() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                // Only the one spelling that we hand out: an id is also a path segment and a key.
                if text.len() == 36
                    && !text.bytes().any(|b| b.is_ascii_uppercase())
                    && let Ok(uuid) = Uuid::try_parse(text)
                {
                    return Ok(Self(uuid));
                }
                Err(InvalidId {
                    kind: $kind,
                    text: text.chars().take(64).collect(),
                    expected: "a lower-case UUID with hyphens",
                })
            }
        }
    };
}

uuid_id!(
    /// Names a scan.
    ScanId,
    "scan"
);
uuid_id!(
    /// Names a task of a scan.
    TaskId,
    "task"
);
uuid_id!(
    /// Names a check: the try-out of a custom probe's source.
    CheckId,
    "check"
);
uuid_id!(
    /// Names an artifact.
    ArtifactId,
    "artifact"
);

/// Names a project: 1 to 63 characters of `a-z`, `0-9` and `-`, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProjectId(String);

impl ProjectId {
    /// The one project there is until there are users.
    pub fn default_project() -> Self {
        Self("default".to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ProjectId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
        if begins && text.len() <= 63 && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidId {
            kind: "project",
            text: text.chars().take(64).collect(),
            expected: "1 to 63 of a-z, 0-9 and -, beginning with a letter",
        })
    }
}

impl TryFrom<String> for ProjectId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<ProjectId> for String {
    fn from(id: ProjectId) -> Self {
        id.0
    }
}

/// A lease's fencing number: raised with each lease of a task, starting at 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub i64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_spelling_of_a_uuid_is_an_id() {
        let id = ScanId::generate();
        assert_eq!(id.to_string().parse::<ScanId>(), Ok(id));
        for text in [
            "",
            "../etc",
            "0198C0DE-0000-7000-8000-000000000000",
            "0198c0de000070008000000000000000",
            "{0198c0de-0000-7000-8000-000000000000}",
        ] {
            assert!(text.parse::<ScanId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_project_id_is_fit_for_a_key() {
        assert_eq!("default".parse(), Ok(ProjectId::default_project()));
        for text in ["", "../x", "A", "1a", "a/b", "a\0", &"a".repeat(64)] {
            assert!(text.parse::<ProjectId>().is_err(), "{text:?}");
        }
    }
}
