//! Credentials in places where they are stored and shown. A specification is kept for good, so a
//! key must never be in it: it is named by `target.secret`.

use serde_json::Value;

/// Names of options and headers whose value is a key.
const NAMES: &[&str] = &[
    "apikey",
    "api_key",
    "auth",
    "authorization",
    "bearer",
    "client_key",
    "cookie",
    "credential",
    "credentials",
    "key",
    "passwd",
    "password",
    "private_key",
    "proxy_authorization",
    "secret",
    "token",
    "x_api_key",
];

/// Endings of such names.
const ENDINGS: &[&str] = &[
    "_api_key",
    "_apikey",
    "_password",
    "_secret",
    "_token",
    "_access_key",
];

/// Whether an option of this name bears a credential.
pub fn is_credential_name(name: &str) -> bool {
    let plain = name.to_ascii_lowercase().replace('-', "_");
    NAMES.contains(&plain.as_str()) || ENDINGS.iter().any(|ending| plain.ends_with(ending))
}

/// The path below `path` where a value bears a credential, if it does: a key of such a name at
/// any depth, or an address with a password.
pub fn find_credential(path: &str, name: &str, value: &Value) -> Option<String> {
    match value {
        // garak's REST generator puts the secret where a header says $KEY.
        Value::String(text) if text.contains("$KEY") => None,
        Value::String(text) if has_password(text) => Some(path.to_owned()),
        Value::Null => None,
        Value::Object(object) => object
            .iter()
            .find_map(|(key, value)| find_credential(&format!("{path}.{key}"), key, value)),
        Value::Array(values) => values
            .iter()
            .enumerate()
            .find_map(|(index, value)| find_credential(&format!("{path}[{index}]"), name, value)),
        _ => is_credential_name(name).then(|| path.to_owned()),
    }
}

/// "https://user:password@host"
fn has_password(text: &str) -> bool {
    let Some((_, rest)) = text.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.contains('@')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_of_keys_are_known_and_others_are_not() {
        for name in [
            "api_key",
            "API-Key",
            "Authorization",
            "hf_token",
            "X-Api-Key",
            "token",
        ] {
            assert!(is_credential_name(name), "{name}");
        }
        for name in ["max_tokens", "uri", "stop", "keypoints", "top_k", "seed"] {
            assert!(!is_credential_name(name), "{name}");
        }
    }

    #[test]
    fn credentials_are_found_at_any_depth() {
        let find = |value| find_credential("o", "headers", &value);
        assert_eq!(
            find(json!({"Authorization": "Bearer x"})),
            Some("o.Authorization".to_owned())
        );
        assert_eq!(
            find(json!({"a": [{"token": "x"}]})),
            Some("o.a[0].token".to_owned())
        );
        assert_eq!(
            find(json!({"Authorization": "Bearer $KEY", "Accept": "x"})),
            None
        );
        assert_eq!(find(json!("http://u:p@host/v1")), Some("o".to_owned()));
        assert_eq!(find(json!("http://host/v1?mail=a@b")), None);
    }
}
