//! What is nobody's business, by its name.

use aegis_mesh::secret::is_secret_name;
use serde_json::Value;

/// What stands instead of a secret.
const MASK: &str = "***";

/// The value with a mask instead of each secret.
pub(crate) fn masked(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| {
                let value = if is_secret_name(name) {
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
