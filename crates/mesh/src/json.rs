//! An error as JSON, as the gateway and the CLI show it.

use serde_json::{Map, Value, json};

use crate::error::{DOMAIN, Error};

/// `{"error":{"code":409,"status":"ABORTED","message":"…","details":[…]}}`: code is the HTTP
/// status; details are `google.rpc` messages with their `@type`, `ErrorInfo` first.
pub fn error_body(error: &Error) -> Value {
    json!({"error": {
        "code": error.code().http(),
        "status": error.code().name(),
        "message": error.message(),
        "details": details(error),
    }})
}

fn details(error: &Error) -> Vec<Value> {
    let mut details = vec![typed(
        "ErrorInfo",
        json!({"reason": error.reason(), "domain": DOMAIN, "metadata": error.metadata()}),
    )];
    if let Some(delay) = error.retry_delay() {
        // proto3 JSON's form of google.protobuf.Duration.
        let seconds = format!("{}.{:03}s", delay.as_secs(), delay.subsec_millis());
        details.push(typed("RetryInfo", json!({"retryDelay": seconds})));
    }
    if let Some(resource) = error.resource() {
        let info = json!({"resourceType": resource.kind, "resourceName": resource.id});
        details.push(typed("ResourceInfo", info));
    }
    if !error.fields().is_empty() {
        let violations: Vec<_> = error
            .fields()
            .iter()
            .map(|f| json!({"field": f.path, "description": f.description}))
            .collect();
        details.push(typed("BadRequest", json!({"fieldViolations": violations})));
    }
    if !error.preconditions().is_empty() {
        let violations: Vec<_> = error
            .preconditions()
            .iter()
            .map(|p| json!({"type": p.kind, "subject": p.subject, "description": p.description}))
            .collect();
        details.push(typed(
            "PreconditionFailure",
            json!({"violations": violations}),
        ));
    }
    details
}

fn typed(name: &str, body: Value) -> Value {
    let mut detail = Map::new();
    let url = format!("type.googleapis.com/google.rpc.{name}");
    detail.insert("@type".to_owned(), Value::String(url));
    if let Value::Object(fields) = body {
        detail.extend(fields);
    }
    Value::Object(detail)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_whole_body() {
        let error = Error::invalid_argument("INVALID_FIELD", "a field is wrong")
            .field("spec.probes[0]", "unknown probe")
            .hint("list them")
            .retry_after(Duration::from_millis(1500));
        let expected = json!({"error": {
            "code": 400,
            "status": "INVALID_ARGUMENT",
            "message": "a field is wrong",
            "details": [
                {"@type": "type.googleapis.com/google.rpc.ErrorInfo",
                 "reason": "INVALID_FIELD", "domain": "aegis.dev",
                 "metadata": {"hint": "list them"}},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.500s"},
                {"@type": "type.googleapis.com/google.rpc.BadRequest",
                 "fieldViolations": [
                    {"field": "spec.probes[0]", "description": "unknown probe"}]},
            ],
        }});
        assert_eq!(error_body(&error), expected);
    }
}
