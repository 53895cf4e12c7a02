//! Keys of objects.

use std::fmt;

use aegis_proto::ids::ProjectId;

/// Longest key in bytes: what S3 allows.
pub const MAX_KEY_BYTES: usize = 1024;

/// The key of an object of one project: `{project}/scans/{scan}/{task}/{epoch}/{name}`.
///
/// It is a relative path in every store, so nothing that could lead out of the store's
/// folder can be one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// Text that is not a key. The text itself is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not a clean relative path.
    #[error(
        "an object key is segments of a-z, A-Z, 0-9, '.', '_', '-', joined by '/', 1024 bytes at most"
    )]
    NotAPath,
    /// Of another project than the caller's.
    #[error("the object key is of another project")]
    OtherProject,
}

impl ObjectKey {
    /// A key that lies within `project`.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn of(project: &ProjectId, text: &str) -> Result<Self, InvalidKey> {
        let key = Self::parse(text)?;
        match key.0.split_once('/') {
            Some((first, _)) if first == project.as_str() => Ok(key),
            _ => Err(InvalidKey::OtherProject),
        }
    }

    /// A key of any project, as a store lists it.
    ///
    /// # Errors
    /// [`InvalidKey::NotAPath`].
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.len() <= MAX_KEY_BYTES && text.split('/').all(is_segment) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidKey::NotAPath)
    }

    /// The key of the index that lies beside a report.
    pub fn index(&self) -> Self {
        Self(format!("{}.index", self.0))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_segment(segment: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed)
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_leads_out_of_the_store_is_a_key() {
        let project = ProjectId::default_project();
        for text in [
            "",
            "/etc/passwd",
            "..",
            "default/../other/x",
            "default/./x",
            "default//x",
            "default/x/",
            "default/x\0",
            "default/x\\..\\y",
            "default/\u{202e}x",
            &format!("default/{}", "x".repeat(MAX_KEY_BYTES)),
        ] {
            assert_eq!(
                ObjectKey::of(&project, text),
                Err(InvalidKey::NotAPath),
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_key_of_another_project_is_refused() {
        let project = ProjectId::default_project();
        for text in ["other/scans/x", "default", "default2/x"] {
            assert_eq!(
                ObjectKey::of(&project, text),
                Err(InvalidKey::OtherProject),
                "{text}"
            );
        }
        assert!(ObjectKey::of(&project, "default/scans/x").is_ok());
    }
}
