//! What the cases share.

use aegis_demo_target::DemoTarget;
use anyhow::{Result, ensure};
use serde_json::{Value, json};

/// A target of this case's own.
pub(crate) async fn target() -> Result<DemoTarget> {
    Ok(DemoTarget::start(([127, 0, 0, 1], 0).into()).await?)
}

/// A scan of `target`, which behaves as `behaviour` says.
pub(crate) fn spec(target: &DemoTarget, behaviour: &str, include: &[&str]) -> Value {
    spec_at(&target.uri(behaviour), include)
}

/// A scan of the target at this address.
pub(crate) fn spec_at(uri: &str, include: &[&str]) -> Value {
    json!({
        "target": {
            "type": "openai.OpenAICompatible",
            "name": "demo",
            "options": {"uri": uri, "stop": []},
        },
        "include": include,
        "generations": 1,
        "seed": "7",
    })
}

/// The same, with more.
pub(crate) fn with(mut spec: Value, more: Value) -> Value {
    if let (Value::Object(spec), Value::Object(more)) = (&mut spec, more) {
        spec.extend(more);
    }
    spec
}

/// The one probe that was not evaluated, and why.
pub(crate) fn not_evaluated(scan: &Value) -> Vec<(String, String)> {
    let all = scan["coverage"]["notEvaluated"].as_array();
    all.into_iter()
        .flatten()
        .map(|one| (text(&one["probe"]), text(&one["reason"])))
        .collect()
}

/// A JSON string as a string.
pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// Holds, or the scan is shown.
pub(crate) fn holds(wanted: bool, what: &str, scan: &Value) -> Result<()> {
    ensure!(wanted, "{what}: {scan:#}");
    Ok(())
}
