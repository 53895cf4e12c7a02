//! Headers of a REST target. A specification is stored and shown, so a header may say which
//! content it is about, and where the key goes (garak's `$KEY`), but never bear a key itself.

use serde_json::Value;

use super::{Refusal, short};

/// Headers with any value.
const PLAIN: &[&str] = &["accept", "accept-language", "content-type"];

/// Checks the value of the option `headers`.
pub(super) fn check(headers: &Value) -> Result<(), Refusal> {
    let refused = |message: String| Err(Refusal::new("OPTION_NOT_ALLOWED", message));
    let Some(headers) = headers.as_object() else {
        return refused("headers must be an object of texts".to_owned());
    };
    for (name, value) in headers {
        let Some(value) = value.as_str() else {
            return refused(format!("the header {} must be a text", short(name)));
        };
        if !PLAIN.contains(&name.to_ascii_lowercase().as_str()) && !is_key_in_its_place(value) {
            return refused(format!(
                "the header {} may only be $KEY with a word before it: its value comes from the target's secret",
                short(name)
            ));
        }
    }
    Ok(())
}

/// "$KEY" or "Bearer $KEY".
fn is_key_in_its_place(value: &str) -> bool {
    value.strip_suffix("$KEY").is_some_and(|scheme| {
        scheme.len() <= 16
            && scheme
                .chars()
                .all(|c| c.is_ascii_alphabetic() || matches!(c, ' ' | '-'))
    })
}
