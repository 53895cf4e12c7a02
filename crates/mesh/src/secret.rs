//! Text that must not be seen.

use std::{collections::BTreeMap, fmt, path::PathBuf};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, IgnoredAny},
};

/// What is shown in a secret's place.
pub(crate) const MASK: &str = "***";

/// Words that a credential's name ends with.
const SECRET_WORDS: [&str; 11] = [
    "apikey",
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "key",
    "passwd",
    "password",
    "secret",
    "token",
];

/// Whether what has this name is a credential: `api_key`, `X-Api-Key`, `accessToken`. Tokens are
/// what a model counts, and `key_env_var` names a variable: neither is one.
pub fn is_secret_name(name: &str) -> bool {
    let last = name
        .split(|c: char| !c.is_alphanumeric())
        .rfind(|word| !word.is_empty());
    let Some(last) = last else { return false };
    // Of "accessToken" the last word, of "APIKEY" all of it.
    let camel = last.rfind(char::is_uppercase).map_or("", |at| &last[at..]);
    let words = [last.to_lowercase(), camel.to_lowercase()];
    let is_secret = |word: &String| {
        word != "tokens" && SECRET_WORDS.contains(&word.strip_suffix('s').unwrap_or(word))
    };
    words.iter().any(is_secret)
}

/// A credential. In a configuration it is a string, or `{ file = "PATH" }` for the first line of
/// a file. Shown, logged and serialized it is `***`. There are no default secrets: a mask never
/// becomes a value.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Wraps a credential.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The credential itself, for the one place that sends or compares it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Source {
    Text(String),
    Table(BTreeMap<String, PathBuf>),
    /// Taken too, so that no error of the parser shows the value.
    Other(IgnoredAny),
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let form = || de::Error::custom("expected a string, or { file = \"PATH\" }");
        let text = match Source::deserialize(deserializer)? {
            Source::Text(text) => text,
            Source::Table(table) => match table.into_iter().collect::<Vec<_>>().as_slice() {
                [(key, file)] if key == "file" => first_line(file).map_err(|e| {
                    de::Error::custom(format!("cannot read the file {}: {e}", file.display()))
                })?,
                _ => return Err(form()),
            },
            Source::Other(_) => return Err(form()),
        };
        if text.is_empty() {
            return Err(de::Error::custom("a secret must not be empty"));
        }
        if text == MASK {
            return Err(de::Error::custom("\"***\" is a mask, not a secret"));
        }
        Ok(Self(text))
    }
}

fn first_line(file: &std::path::Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(file)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_it() {
        let secret = Secret::new("hunter2");
        let shown = format!(
            "{secret} {secret:?} {:?} {}",
            Some(&secret),
            serde_json::to_string(&secret).expect("serializes")
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn names_of_credentials_are_known_and_others_are_not() {
        for name in [
            "api_key",
            "API-Key",
            "APIKEY",
            "Authorization",
            "proxy_authorization",
            "hf_token",
            "accessToken",
            "privateKey",
            "X-Api-Key",
            "Ocp-Apim-Subscription-Key",
            "credentials",
            "cookies",
            "key",
        ] {
            assert!(is_secret_name(name), "{name}");
        }
        for name in [
            "max_tokens",
            "maxTokens",
            "uri",
            "stop",
            "keypoints",
            "top_k",
            "seed",
            "key_env_var",
            "",
            "_",
        ] {
            assert!(!is_secret_name(name), "{name}");
        }
    }

    #[test]
    fn from_text_or_file_and_never_empty() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "hunter2\n").expect("written");
        let from_file = serde_json::json!({ "file": file });
        let secret: Secret = serde_json::from_value(from_file).expect("reads the file");
        assert_eq!(secret.expose(), "hunter2");
        let secret: Secret = serde_json::from_str("\"x\"").expect("a string");
        assert_eq!(secret.expose(), "x");
        for bad in [
            "\"\"",
            "\"***\"",
            "731",
            r#"["hunter2"]"#,
            r#"{"file":"/nowhere/x"}"#,
            r#"{"f":"hunter2"}"#,
            r#"{"file":"/x","more":"hunter2"}"#,
        ] {
            let error = serde_json::from_str::<Secret>(bad)
                .expect_err(bad)
                .to_string();
            assert!(
                !error.contains("hunter2") && !error.contains("731"),
                "{error}"
            );
        }
    }
}
