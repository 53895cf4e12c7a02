//! A garak plugin's name.

use std::{fmt, str::FromStr};

/// `module.Class`, each a Python identifier of ASCII letters, digits and `_`: "dan.AntiDAN".
///
/// garak imports the module and looks the class up by this text, so nothing else may be in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PluginName {
    module: String,
    class: String,
}

impl PluginName {
    /// The part before the dot.
    pub fn module(&self) -> &str {
        &self.module
    }

    /// The part behind the dot.
    pub fn class(&self) -> &str {
        &self.class
    }
}

impl fmt::Display for PluginName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.class)
    }
}

/// Text that names no plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a plugin's name: expected module.Class")]
pub struct InvalidPluginName(String);

impl FromStr for PluginName {
    type Err = InvalidPluginName;

    fn from_str(text: &str) -> Result<Self, InvalidPluginName> {
        match text.split_once('.') {
            Some((module, class)) if is_identifier(module) && is_identifier(class) => Ok(Self {
                module: module.to_owned(),
                class: class.to_owned(),
            }),
            _ => Err(InvalidPluginName(text.chars().take(64).collect())),
        }
    }
}

/// Whether this is a Python identifier in ASCII, of at most 128 characters.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_module_and_class_make_a_name() {
        let name: PluginName = "dan.AntiDAN".parse().unwrap();
        assert_eq!((name.module(), name.class()), ("dan", "AntiDAN"));
        for text in [
            "",
            "dan",
            "dan.",
            ".AntiDAN",
            "a.b.c",
            "../x.Y",
            "a.b\0",
            "a.é",
            "subprocess#getoutput",
        ] {
            assert!(text.parse::<PluginName>().is_err(), "{text:?}");
        }
    }
}
