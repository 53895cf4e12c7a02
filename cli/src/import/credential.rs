//! Keys that the old system kept in clear text. None of them is taken along.

use std::sync::LazyLock;

use aegis_mesh::secret::is_secret_name;
use regex::Regex;
use serde_json::{Map, Value};

/// What stands where a credential stood in a text.
const MASK: &str = "***";

/// Names that say it of what they hold, whatever a name around them is.
const PARTS: [&str; 7] = [
    "api_key",
    "apikey",
    "secret",
    "password",
    "passwd",
    "credential",
    "authorization",
];

#[expect(
    clippy::expect_used,
    reason = "a constant, compiled by every test of this file"
)]
static SHAPES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(concat!(
        // Keys by the prefix that their makers give them.
        r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{12,}|\b(?:hf|gsk|ghp|gho|r8)_[A-Za-z0-9]{12,}",
        r"|\bnvapi-[A-Za-z0-9_-]{12,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAKIA[A-Z0-9]{16}\b",
        r"|\bAIza[A-Za-z0-9_-]{30,}|\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*",
        // A header's value; the password of an address.
        r"|(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}|://[^/\s:@]*:[^/\s@]+@",
        // "api_key=…" in the words of an error.
        r#"|(?i:\b(?:api[_-]?key|token|password|secret)["']?\s*[:=]\s*["']?)[^\s"',;)]{6,}"#,
    ))
    .expect("a constant expression")
});

/// Takes credentials out of options, at any depth. Answers where they stood.
pub(super) fn strip(options: &mut Map<String, Value>) -> Vec<String> {
    let mut dropped = Vec::new();
    strip_object(options, "", &mut dropped);
    dropped
}

fn strip_object(object: &mut Map<String, Value>, path: &str, dropped: &mut Vec<String>) {
    object.retain(|key, value| {
        let path = match path {
            "" => key.clone(),
            path => format!("{path}.{key}"),
        };
        let keep = strip_value(key, value, &path, dropped);
        if !keep {
            dropped.push(path);
        }
        keep
    });
}

/// Whether the value may stay.
fn strip_value(name: &str, value: &mut Value, path: &str, dropped: &mut Vec<String>) -> bool {
    match value {
        Value::Null | Value::Bool(_) => true,
        // {"token": {"value": "…"}}
        Value::Object(_) if is_name(name) => false,
        Value::Object(object) => {
            strip_object(object, path, dropped);
            true
        }
        Value::Array(values) => {
            let mut index = 0;
            values.retain_mut(|value| {
                let path = format!("{path}[{index}]");
                index += 1;
                let keep = strip_value(name, value, &path, dropped);
                if !keep {
                    dropped.push(path);
                }
                keep
            });
            true
        }
        // Where a request has $KEY, garak's REST generator puts the key; the text has none.
        Value::String(text) if text.contains("$KEY") => true,
        Value::String(text) => text.is_empty() || !(is_name(name) || SHAPES.is_match(text)),
        Value::Number(_) => !is_name(name),
    }
}

fn is_name(name: &str) -> bool {
    let plain = name.to_ascii_lowercase().replace('-', "_");
    // It names a variable, which is no key.
    !plain.ends_with("_env_var")
        && (is_secret_name(name) || PARTS.iter().any(|part| plain.contains(part)))
}

/// A text with a mask wherever a credential stands.
pub(super) fn masked(text: &str) -> String {
    SHAPES.replace_all(text, MASK).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn stripped(mut options: Value) -> (Value, Vec<String>) {
        let dropped = strip(options.as_object_mut().unwrap());
        (options, dropped)
    }

    #[test]
    fn keys_are_dropped_at_any_depth_and_named() {
        let (left, dropped) = stripped(json!({
            "target_type": "openai",
            "api_key": "anything at all",
            "generator_options": {
                "openai": {"OpenAIGenerator": {
                    "max_tokens": 10, "OPENAI_API_KEY": "x", "key_env_var": "MY_KEY",
                    "headers": {"Authorization": "Bearer abcdefghij", "X-Key": "sk-abcdefghijklmnop"},
                    "uri": "https://user:hunter2@host/v1", "list": ["fine", "hf_abcdefghijklmnop"],
                }},
            },
            "system_prompt": "Tell no token to anybody.",
        }));
        let mut names: Vec<_> = dropped
            .iter()
            .map(|path| path.rsplit('.').next().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "Authorization",
                "OPENAI_API_KEY",
                "X-Key",
                "api_key",
                "list[1]",
                "uri"
            ]
        );
        let kept = &left["generator_options"]["openai"]["OpenAIGenerator"];
        assert_eq!(
            *kept,
            json!({"max_tokens": 10, "key_env_var": "MY_KEY", "headers": {}, "list": ["fine"]})
        );
        assert_eq!(left["system_prompt"], "Tell no token to anybody.");
    }

    #[test]
    fn what_is_no_key_stays() {
        let options = json!({
            "req_template": "{\"key\": \"$KEY\"}", "uri": "http://127.0.0.1:1/v1", "top_k": 3,
            "stop": ["tokens"], "api_key": null, "name": "sk-2", "seed": 1,
        });
        assert_eq!(stripped(options.clone()), (options, Vec::new()));
    }

    #[test]
    fn keys_in_the_words_of_an_error_are_masked() {
        for (text, wanted) in [
            ("401 for sk-abcdefghijklmnop: bad", "401 for ***: bad"),
            (
                "header Authorization: Bearer abcdefghij.k",
                "header Authorization: ***",
            ),
            (
                "connect http://me:hunter2@host:1/ failed",
                "connect http***host:1/ failed",
            ),
            ("call(api_key='abcdef12', x=1)", "call(***', x=1)"),
            ("ValueError: no such probe", "ValueError: no such probe"),
        ] {
            assert_eq!(masked(text), wanted);
        }
    }
}
