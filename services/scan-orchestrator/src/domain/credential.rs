//! Credentials in places where they are stored and shown. A specification is kept for good, so a
//! key must never be in it: it is named by `target.secret`.

use aegis_mesh::secret::is_secret_name;
use serde_json::Value;

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
        _ => is_secret_name(name).then(|| path.to_owned()),
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
