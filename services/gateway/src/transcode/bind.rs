//! Puts the path's variables and the query's parameters into a request message.
//! Every value goes through the JSON mapping of its field, so that a duration, an enum or a
//! 64-bit integer is written as it is in a body.

use aegis_mesh::{Error, Result};
use prost_reflect::{
    DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage,
    Value,
};
use serde_json::json;

use super::percent;

/// A query's parameters, decoded, in order. Parameters with `$` are the system's (`$alt`), not a field's.
///
/// # Errors
/// INVALID_ARGUMENT, naming the parameter that is not percent-encoded UTF-8.
pub fn parameters(query: &str) -> Result<Vec<(String, String)>> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = percent::decode_query(name).zip(percent::decode_query(value));
            decoded.ok_or_else(|| invalid(name, "is not percent-encoded UTF-8"))
        })
        .collect()
}

/// Sets the field at `path` (`filter.states`, in JSON or proto names) to what `text` says; adds to a repeated one.
///
/// # Errors
/// INVALID_ARGUMENT / INVALID_FIELD, naming the field.
pub fn set(message: &mut DynamicMessage, path: &str, text: &str) -> Result<()> {
    set_in(message, path, path, text)
}

fn set_in(message: &mut DynamicMessage, whole: &str, path: &str, text: &str) -> Result<()> {
    let (name, rest) = match path.split_once('.') {
        Some((name, rest)) => (name, Some(rest)),
        None => (path, None),
    };
    let descriptor = message.descriptor();
    let field = field_of(&descriptor, name)
        .ok_or_else(|| invalid(whole, format!("is no field of {}", descriptor.name())))?;
    if let Some(rest) = rest {
        if field.is_map() {
            return set_entry(message, &field, whole, rest, text);
        }
        if field.is_list() {
            return Err(invalid(
                whole,
                "is inside a repeated field, which only a body can hold",
            ));
        }
        return match message.get_field_mut(&field) {
            Value::Message(inner) => set_in(inner, whole, rest, text),
            _ => Err(invalid(whole, format!("{name} has no fields"))),
        };
    }
    if field.is_map() {
        return Err(invalid(whole, "is a map: name one of its keys"));
    }
    if !field.is_list() && message.has_field(&field) {
        return Err(invalid(whole, "is given twice"));
    }
    let value = parse(&field, whole, text)?;
    match (message.get_field_mut(&field), value) {
        (Value::List(values), Value::List(more)) => values.extend(more),
        (_, value) => message.set_field(&field, value),
    }
    Ok(())
}

/// `labels.team=red`: one entry of a map. A key is all that follows, dots included.
fn set_entry(
    message: &mut DynamicMessage,
    field: &FieldDescriptor,
    whole: &str,
    key: &str,
    text: &str,
) -> Result<()> {
    let kind = field.kind();
    let entry = kind
        .as_message()
        .ok_or_else(|| invalid(whole, "is no map"))?;
    let value = json_of(&entry.map_entry_value_field().kind(), whole, text)?;
    let one = json!({ field.json_name(): { key: value } });
    let Value::Map(new) = parsed(field, whole, text, one)? else {
        return Err(invalid(whole, "is no map"));
    };
    let Value::Map(entries) = message.get_field_mut(field) else {
        return Err(invalid(whole, "is no map"));
    };
    for (key, value) in new {
        if entries.insert(key, value).is_some() {
            return Err(invalid(whole, "is given twice"));
        }
    }
    Ok(())
}

fn parse(field: &FieldDescriptor, whole: &str, text: &str) -> Result<Value> {
    let json = json_of(&field.kind(), whole, text)?;
    let json = if field.is_list() { json!([json]) } else { json };
    parsed(field, whole, text, json!({ field.json_name(): json }))
}

/// The field's value in a message that is written as JSON.
fn parsed(
    field: &FieldDescriptor,
    whole: &str,
    text: &str,
    one: serde_json::Value,
) -> Result<Value> {
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let holder =
        DynamicMessage::deserialize_with_options(field.parent_message().clone(), one, &options)
            .map_err(|error| invalid(whole, format!("{error}, not {:?}", shortened(text))))?;
    Ok(holder.get_field(field).into_owned())
}

/// The JSON that a parameter's text stands for.
fn json_of(kind: &Kind, whole: &str, text: &str) -> Result<serde_json::Value> {
    let message = match kind {
        Kind::Bool => return boolean(whole, text),
        Kind::Enum(values) => return enum_value(values, whole, text),
        Kind::Message(message) => message,
        _ => return Ok(json!(text)),
    };
    match message.full_name() {
        "google.protobuf.BoolValue" => boolean(whole, text),
        "google.protobuf.Struct" | "google.protobuf.Value" | "google.protobuf.ListValue" => {
            serde_json::from_str(text)
                .map_err(|error| invalid(whole, format!("is not JSON: {error}")))
        }
        name if name.starts_with("google.protobuf.") => Ok(json!(text)),
        _ => Err(invalid(whole, "is a message: name one of its fields")),
    }
}

fn boolean(whole: &str, text: &str) -> Result<serde_json::Value> {
    match text {
        "true" => Ok(json!(true)),
        "false" => Ok(json!(false)),
        _ => Err(invalid(
            whole,
            format!("is true or false, not {:?}", shortened(text)),
        )),
    }
}

/// By name or by number, but only a number that has a name.
fn enum_value(
    values: &prost_reflect::EnumDescriptor,
    whole: &str,
    text: &str,
) -> Result<serde_json::Value> {
    let known = match text.parse::<i32>() {
        Ok(number) => values.get_value(number),
        Err(_) => values.get_value_by_name(text),
    };
    if let Some(value) = known {
        return Ok(json!(value.name()));
    }
    let names: Vec<String> = values
        .values()
        .map(|value| value.name().to_owned())
        .collect();
    let problem = format!("is one of {}, not {:?}", names.join(", "), shortened(text));
    Err(invalid(whole, problem))
}

/// A field by its JSON name or its proto name.
pub fn field_of(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message
        .get_field_by_json_name(name)
        .or_else(|| message.get_field_by_name(name))
}

/// INVALID_ARGUMENT / INVALID_FIELD with the field and what is wrong with it.
pub fn invalid(field: &str, problem: impl Into<String>) -> Error {
    let problem = problem.into();
    let field = shortened(field);
    Error::invalid_argument("INVALID_FIELD", format!("{field}: {problem}")).field(field, problem)
}

/// What a client sent is repeated to it in part only.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 100;
    match text.chars().count() > LONGEST {
        true => text.chars().take(LONGEST).chain("…".chars()).collect(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aegis_proto::{json, scan};

    fn bound(message: &str, query: &str) -> Result<serde_json::Value> {
        let pool = json::descriptors().unwrap();
        let mut bound = DynamicMessage::new(pool.get_message_by_name(message).unwrap());
        for (name, value) in parameters(query)? {
            set(&mut bound, &name, &value)?;
        }
        Ok(serde_json::to_value(&bound).unwrap())
    }

    fn refused(message: &str, query: &str, field: &str) {
        let error = bound(message, query).expect_err(query);
        assert_eq!(error.reason(), "INVALID_FIELD", "{query}");
        let fields: Vec<_> = error
            .fields()
            .iter()
            .map(|wrong| wrong.path.as_str())
            .collect();
        assert_eq!(fields, [field], "{query}");
    }

    const LIST: &str = "aegis.scan.v1.ListScansRequest";
    const SPEC: &str = "aegis.scan.v1.ScanSpec";

    #[test]
    fn nested_repeated_and_enum_fields() {
        let query =
            "filter.states=STATE_RUNNING&filter.states=4&filter.target_type=a+b%26&pageSize=7";
        let expected = serde_json::json!({
            "filter": {"states": ["STATE_RUNNING", "STATE_COMPLETED"], "targetType": "a b&"},
            "pageSize": 7,
        });
        assert_eq!(bound(LIST, query).unwrap(), expected);
        let states = [
            scan::v1::scan::State::Running as i32,
            scan::v1::scan::State::Completed as i32,
        ];
        assert_eq!(states, [2, 4]);
    }

    #[test]
    fn scalars_and_well_known_types_are_as_in_json() {
        let query = "seed=4294967295&evalThreshold=0.25&deprefix=true&probeTimeout=1.5s&\
                     pluginOptions=%7B%22a%22%3A%5B1%5D%7D&tiers=1&tiers=2&systemPrompt=";
        let expected = serde_json::json!({
            "seed": "4294967295", "evalThreshold": 0.25, "deprefix": true, "probeTimeout": "1.500s",
            "pluginOptions": {"a": [1.0]}, "tiers": [1, 2], "systemPrompt": "",
        });
        assert_eq!(bound(SPEC, query).unwrap(), expected);
        let offset = bound(
            "aegis.report.v1.ReadArtifactRequest",
            "readOffset=9007199254740993",
        )
        .unwrap();
        assert_eq!(offset["readOffset"], "9007199254740993");
    }

    #[test]
    fn every_filter_and_order_of_the_history_fits_in_a_query() {
        let query = "filter.create_time.start=2026-11-01T00:00:00Z&\
                     filter.createTime.end=2026-11-02T00:00:00.5Z&filter.labels.team=red&\
                     filter.labels.app.kubernetes.io%2Fname=&filter.min_pass_rate=0.25&\
                     filter.maxCoverage=1&filter.defcon=1&filter.defcon=2&filter.text=no+answer&\
                     filter.probe=dan.AntiDAN&filter.template=quick&\
                     orderBy=SCAN_ORDER_DURATION&ascending=true&includeTotalSize=true&deleted=true";
        let expected = serde_json::json!({
            "filter": {
                "createTime": {"start": "2026-11-01T00:00:00Z", "end": "2026-11-02T00:00:00.500Z"},
                "labels": {"team": "red", "app.kubernetes.io/name": ""},
                "minPassRate": 0.25, "maxCoverage": 1.0, "defcon": [1, 2], "text": "no answer",
                "probe": "dan.AntiDAN", "template": "quick",
            },
            "orderBy": "SCAN_ORDER_DURATION", "ascending": true, "includeTotalSize": true,
            "deleted": true,
        });
        assert_eq!(bound(LIST, query).unwrap(), expected);
    }

    #[test]
    fn what_is_no_field_or_no_value_is_refused_by_name() {
        refused(LIST, "pagesize=1", "pagesize");
        refused(LIST, "filter.state=STATE_RUNNING", "filter.state");
        refused(LIST, "filter.states=RUNNING", "filter.states");
        refused(LIST, "filter.states=99", "filter.states");
        refused(LIST, "filter=x", "filter");
        refused(LIST, "pageSize=ten", "pageSize");
        refused(LIST, "pageSize=2147483648", "pageSize");
        refused(LIST, "pageSize=1&page_size=2", "page_size");
        refused(LIST, "pageToken.x=1", "pageToken.x");
        refused(LIST, "pageToken=%ff", "pageToken");
        refused(SPEC, "deprefix=yes", "deprefix");
        refused(SPEC, "probeTimeout=soon", "probeTimeout");
        refused(SPEC, "pluginOptions=%7B", "pluginOptions");
        refused("aegis.scan.v1.CreateScanRequest", "labels=x", "labels");
        refused(LIST, "filter.labels=x", "filter.labels");
        let twice = "filter.labels.a=x&filter.labels.a=y";
        refused(LIST, twice, "filter.labels.a");
        refused(
            LIST,
            "filter.createTime.start=today",
            "filter.createTime.start",
        );
        refused(
            LIST,
            "filter.createTime=2026-11-01T00:00:00Z",
            "filter.createTime",
        );
    }
}
