//! JSON bodies: into messages strictly, out of messages completely.

use aegis_mesh::{Error, Result};
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, MessageDescriptor, SerializeOptions, Value,
};

use super::bind::invalid;

/// The message that this JSON is; an empty body is an empty message.
///
/// # Errors
/// INVALID_ARGUMENT: / INVALID_JSON with line and column where it is not JSON,
/// / INVALID_FIELD naming the field that there is not, or whose value does not fit.
pub fn parse(descriptor: MessageDescriptor, body: &[u8]) -> Result<DynamicMessage> {
    if body.is_empty() {
        return Ok(DynamicMessage::new(descriptor));
    }
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
    let message = DynamicMessage::deserialize_with_options(descriptor, tracked, &options)
        .map_err(|error| refusal(&error, &track.path().to_string()))?;
    json.end().map_err(|error| refusal(&error, "."))?;
    Ok(message)
}

fn refusal(error: &serde_json::Error, path: &str) -> Error {
    if !error.is_data() {
        let text = format!("the body is not JSON: {error}");
        return Error::invalid_argument("INVALID_JSON", text)
            .with("line", error.line())
            .with("column", error.column());
    }
    let problem = error.to_string();
    // An unknown field is known to the reader of its message only, not yet to the path.
    let unknown = problem
        .strip_prefix("unrecognized field name '")
        .and_then(|rest| rest.split('\'').next());
    let path = if path == "." { "" } else { path };
    let field = match (path, unknown) {
        ("", Some(name)) => name.to_owned(),
        (path, Some(name)) => format!("{path}.{name}"),
        ("", None) => "body".to_owned(),
        (path, None) => path.to_owned(),
    };
    invalid(&field, problem)
        .with("line", error.line())
        .with("column", error.column())
}

/// A message as JSON, with fields that have their default value: a reader need not know the defaults.
///
/// # Errors
/// INTERNAL when a value has no JSON form.
pub fn to_json(message: &DynamicMessage, only: Option<&FieldDescriptor>) -> Result<Vec<u8>> {
    let mut json = Vec::with_capacity(256);
    let mut out = serde_json::Serializer::new(&mut json);
    let options = SerializeOptions::new().skip_default_fields(false);
    let written = match only.map(|field| message.get_field(field)) {
        None => message.serialize_with_options(&mut out, &options),
        Some(value) => match &*value {
            Value::Message(part) => part.serialize_with_options(&mut out, &options),
            _ => return Err(Error::internal("a response_body is no message")),
        },
    };
    written.map_err(Error::internal)?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(body: &str) -> Result<DynamicMessage> {
        let pool = aegis_proto::json::descriptors().unwrap();
        parse(
            pool.get_message_by_name("aegis.scan.v1.CreateScanRequest")
                .unwrap(),
            body.as_bytes(),
        )
    }

    fn refused(body: &str, field: &str) {
        let error = create(body).expect_err(body);
        assert_eq!(error.reason(), "INVALID_FIELD", "{body}: {error}");
        let fields: Vec<_> = error
            .fields()
            .iter()
            .map(|wrong| wrong.path.as_str())
            .collect();
        assert_eq!(fields, [field], "{body}");
    }

    #[test]
    fn a_field_that_is_unknown_or_does_not_fit_is_named_with_its_path() {
        refused(r#"{"verbosity": 1}"#, "verbosity");
        refused(
            r#"{"spec": {"target": {"type": "a", "kind": "b"}}}"#,
            "spec.target.kind",
        );
        refused(r#"{"spec": {"generations": "many"}}"#, "spec.generations");
        refused(r#"{"spec": {"include": ["a", 7]}}"#, "spec.include[1]");
        refused("[]", "body");
    }

    #[test]
    fn what_is_not_json_is_refused_with_its_place() {
        for body in [
            "{\"spec\":\n  {,}}",
            "{",
            "{} x",
            "\u{feff}{}",
            "{\"displayName\": \"\u{1}\"}",
        ] {
            let error = create(body).expect_err(body);
            assert_eq!(error.reason(), "INVALID_JSON", "{body}: {error}");
            assert!(error.message().contains("line "), "{error}");
        }
        assert!(create(&"[".repeat(10_000)).is_err());
    }

    #[test]
    fn defaults_are_written_and_unset_messages_are_not() {
        let json = to_json(&create("{}").unwrap(), None).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let expected =
            serde_json::json!({"displayName": "", "template": "", "labels": {}, "requestId": ""});
        assert_eq!(json, expected);
    }
}
