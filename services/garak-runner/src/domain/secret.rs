//! A target's key on its way from the runner's environment to one child.

use std::fmt;

/// A value that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential(String);

impl Credential {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value, for the child's environment and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Environment variables of one child: name and value.
pub type ChildEnv = Vec<(String, Credential)>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_credential_is_never_printed() {
        let env: ChildEnv = vec![("REST_API_KEY".to_owned(), Credential::new("sk-123"))];
        assert!(!format!("{env:?}").contains("sk-123"));
    }
}
