//! What must hold after everything, read from the database and the object store, not from the API.

pub(crate) mod objects;
pub(crate) mod rows;
pub(crate) mod sabotage;

use std::fmt;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    /// What is wrong.
    pub(crate) what: String,
    /// Of which scan, task, file, object or request.
    pub(crate) id: String,
}

impl Violation {
    pub(crate) fn new(what: &str, id: impl Into<String>) -> Self {
        Self {
            what: what.to_owned(),
            id: id.into(),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.id)
    }
}
