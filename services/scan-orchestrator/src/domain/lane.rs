//! A lane is one target, whoever scans it: its calls in flight are limited over all scans.

use aegis_proto::ids::ProjectId;
use sha2::{Digest, Sha256};

use super::spec::Target;

/// Options that say where a target is.
const ADDRESSES: [&str; 3] = ["host", "uri", "url"];

/// Names a target within a project: SHA-256, lower-case hexadecimal.
pub fn lane_key(project: &ProjectId, target: &Target) -> String {
    let mut hash = Sha256::new();
    let mut part = |text: &str| {
        // The length keeps ("ab", "c") from being ("a", "bc").
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    part(project.as_str());
    part(&target.generator);
    part(&target.name);
    for key in ADDRESSES {
        let address = target.options.get(key).map(ToString::to_string);
        part(address.as_deref().unwrap_or_default());
    }
    hex::encode(hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key(name: &str, options: serde_json::Value) -> String {
        let target = Target {
            generator: "openai.OpenAICompatible".to_owned(),
            name: name.to_owned(),
            options: options.as_object().unwrap().clone(),
            secret: String::new(),
        };
        lane_key(&ProjectId::default_project(), &target)
    }

    #[test]
    fn a_lane_is_a_target_not_a_way_to_ask_it() {
        let one = key("m", json!({"uri": "http://a/"}));
        assert_eq!(one.len(), 64);
        assert_eq!(one, key("m", json!({"uri": "http://a/", "max_tokens": 7})));
        assert_ne!(one, key("m", json!({"uri": "http://b/"})));
        assert_ne!(one, key("n", json!({"uri": "http://a/"})));
        assert_ne!(one, key("m", json!({"host": "http://a/"})));
    }
}
