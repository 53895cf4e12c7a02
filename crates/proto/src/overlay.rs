//! One message laid over another.

use prost::{Message, Name};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, Value};

use crate::json::{JsonError, descriptor};

/// `over` laid over `base`: a field that `over` sets is its own, others stay. Messages of ours are
/// laid over each other in turn; lists, maps and messages of others (structs, durations) are taken
/// whole. A field without presence counts as set when it has another value than its default.
///
/// # Errors
/// Never for messages of `proto/`; the error says what is wrong with the descriptor set.
pub fn overlay<M: Message + Name + Default>(base: &M, over: &M) -> Result<M, JsonError> {
    let descriptor = descriptor::<M>()?;
    let mut base = DynamicMessage::decode(descriptor.clone(), base.encode_to_vec().as_slice())?;
    let over = DynamicMessage::decode(descriptor, over.encode_to_vec().as_slice())?;
    lay(&mut base, &over);
    Ok(M::decode(base.encode_to_vec().as_slice())?)
}

fn lay(base: &mut DynamicMessage, over: &DynamicMessage) {
    for (field, value) in over.fields() {
        match value {
            Value::Message(over) if is_ours(&field) && base.has_field(&field) => {
                if let Value::Message(base) = base.get_field_mut(&field) {
                    lay(base, over);
                }
            }
            value => base.set_field(&field, value.clone()),
        }
    }
}

fn is_ours(field: &FieldDescriptor) -> bool {
    match field.kind() {
        Kind::Message(message) => message.package_name().starts_with("aegis."),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{json::from_json, scan::v1::ScanSpec};
    use serde_json::json;

    fn spec(json: serde_json::Value) -> ScanSpec {
        from_json(json).unwrap()
    }

    #[test]
    fn what_is_set_wins_and_the_rest_stays() {
        let base = spec(json!({
            "target": {"type": "ollama.OllamaGenerator", "name": "a", "options": {"x": 1, "y": 2}},
            "include": ["probes.dan", "probes.goodside"],
            "generations": 7, "deprefix": true, "evalThreshold": 0.9,
        }));
        let over = spec(json!({
            "target": {"name": "b", "options": {"z": 3}},
            "include": ["probes.lmrc"],
            "evalThreshold": 0, "deprefix": false,
        }));
        let both = spec(json!({
            "target": {"type": "ollama.OllamaGenerator", "name": "b", "options": {"z": 3}},
            "include": ["probes.lmrc"],
            "generations": 7, "deprefix": false, "evalThreshold": 0,
        }));
        assert_eq!(overlay(&base, &over).unwrap(), both);
        assert_eq!(overlay(&ScanSpec::default(), &over).unwrap(), over);
        assert_eq!(overlay(&base, &ScanSpec::default()).unwrap(), base);
    }
}
