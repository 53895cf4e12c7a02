//! What is nobody's business, by its name.

use serde_json::Value;

/// Words in an option's name that say that its value is nobody's business.
const SECRET: [&str; 9] = [
    "key",
    "apikey",
    "token",
    "secret",
    "password",
    "passwd",
    "authorization",
    "cookie",
    "credential",
];

/// What stands instead of a secret.
const MASK: &str = "***";

/// The value with a mask instead of each secret.
pub(crate) fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let value = if is_secret(name) {
                    Value::from(MASK)
                } else {
                    masked(value)
                };
                (name.clone(), value)
            });
            Value::Object(fields.collect())
        }
        Value::Array(items) => items.iter().map(masked).collect(),
        other => other.clone(),
    }
}

fn is_secret(name: &str) -> bool {
    let lower = name.to_lowercase();
    lower
        .split(|c: char| !c.is_alphanumeric())
        .any(|word| SECRET.contains(&word.trim_end_matches("s")) && word != "tokens")
}
