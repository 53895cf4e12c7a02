//! Messages as proto3 JSON (lowerCamelCase names, 64-bit integers as strings),
//! the form that HTTP clients and `--json` see.

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions,
};

/// Why a message and its JSON do not fit.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The JSON is not this message: unknown field, wrong type, bad value.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// The bytes are not this message.
    #[error("{0}")]
    Decode(#[from] prost::DecodeError),
    /// The descriptor set has no such message: a fault of the build.
    #[error("no descriptor of {0}")]
    NoDescriptor(String),
}

/// The descriptors of every message of `proto/`.
///
/// # Errors
/// Never for the embedded set; the error says what is wrong with it.
pub fn descriptors() -> Result<&'static DescriptorPool, JsonError> {
    static POOL: LazyLock<Result<DescriptorPool, String>> = LazyLock::new(|| {
        DescriptorPool::decode(crate::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())
    });
    POOL.as_ref()
        .map_err(|error| JsonError::NoDescriptor(error.clone()))
}

/// The message as JSON, with fields that have their default value.
///
/// # Errors
/// When a value has no JSON form, such as a timestamp out of range.
pub fn to_json<M: Message + Name>(message: &M) -> Result<serde_json::Value, JsonError> {
    let dynamic = DynamicMessage::decode(descriptor::<M>()?, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().skip_default_fields(false);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// The message that this JSON is. Unknown fields are refused.
///
/// # Errors
/// [`JsonError::Json`], naming the field.
pub fn from_json<M: Message + Name + Default>(json: serde_json::Value) -> Result<M, JsonError> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let dynamic = DynamicMessage::deserialize_with_options(descriptor::<M>()?, json, &options)?;
    Ok(M::decode(dynamic.encode_to_vec().as_slice())?)
}

/// An object of any JSON, as it is. (It has no [`Name`] of its own.)
///
/// # Errors
/// When a number has no JSON form.
pub fn object_to_json(object: &prost_types::Struct) -> Result<serde_json::Value, JsonError> {
    let bytes = object.encode_to_vec();
    let dynamic = DynamicMessage::decode(named(OBJECT)?, bytes.as_slice())?;
    Ok(serde_json::to_value(&dynamic)?)
}

/// The object that this JSON is.
///
/// # Errors
/// [`JsonError::Json`] when it is none.
pub fn object_from_json(json: serde_json::Value) -> Result<prost_types::Struct, JsonError> {
    let dynamic = DynamicMessage::deserialize(named(OBJECT)?, json)?;
    Ok(prost_types::Struct::decode(
        dynamic.encode_to_vec().as_slice(),
    )?)
}

const OBJECT: &str = "google.protobuf.Struct";

pub(crate) fn descriptor<M: Name>() -> Result<MessageDescriptor, JsonError> {
    named(&M::full_name())
}

fn named(name: &str) -> Result<MessageDescriptor, JsonError> {
    let found = descriptors()?.get_message_by_name(name);
    found.ok_or_else(|| JsonError::NoDescriptor(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::v1::{ScanSpec, Target};
    use serde_json::json;

    #[test]
    fn a_message_goes_to_json_and_back() -> Result<(), JsonError> {
        let spec = ScanSpec {
            target: Some(Target {
                r#type: "test.Repeat".to_owned(),
                ..Target::default()
            }),
            seed: Some(7),
            ..ScanSpec::default()
        };
        let json = to_json(&spec)?;
        assert_eq!(json["target"]["type"], "test.Repeat");
        assert_eq!(json["seed"], "7");
        assert_eq!(from_json::<ScanSpec>(json)?, spec);
        Ok(())
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = from_json::<ScanSpec>(json!({"verbosity": 3})).unwrap_err();
        assert!(error.to_string().contains("verbosity"), "{error}");
    }
}
