//! Contracts to domain and back.

use std::time::Duration;

use aegis_proto::{
    internal::{catalog::v1::NewTask, task::v1 as task},
    scan::v1 as scan,
};
use serde_json::{Map, Number, Value};

use crate::domain::{
    catalogue::Allowance,
    plan::{Plan, PlannedTask},
    spec::{Spec, Target},
};

pub(super) fn spec(spec: &scan::ScanSpec) -> Spec {
    let timeout = spec.probe_timeout.map(Duration::try_from);
    Spec {
        target: spec.target.as_ref().map(target),
        include: spec.include.clone(),
        exclude: spec.exclude.clone(),
        tags: spec.tags.clone(),
        tiers: spec.tiers.clone(),
        generations: spec.generations,
        eval_threshold: spec.eval_threshold,
        seed: spec.seed,
        max_in_flight: spec.max_in_flight,
        buffs: spec.buffs.clone(),
        detectors: spec.detectors.clone(),
        exclude_detectors: spec.exclude_detectors.clone(),
        extended_detectors: spec.extended_detectors,
        system_prompt: spec.system_prompt.clone(),
        probe_timeout_is_invalid: matches!(timeout, Some(Err(_))),
        probe_timeout: timeout.and_then(Result::ok),
        plugin_options: spec.plugin_options.as_ref().map(object).unwrap_or_default(),
        custom_probes: spec.custom_probes.clone(),
        priority: spec.priority,
    }
}

fn target(target: &scan::Target) -> Target {
    Target {
        kind: target.r#type.clone(),
        name: target.name.clone(),
        options: target.options.as_ref().map(object).unwrap_or_default(),
        secret: target.secret.clone(),
    }
}

fn object(from: &prost_types::Struct) -> Map<String, Value> {
    from.fields.iter().map(|(key, item)| (key.clone(), value(item))).collect()
}

fn value(from: &prost_types::Value) -> Value {
    use prost_types::value::Kind;
    match &from.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(*flag),
        Some(Kind::NumberValue(number)) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::StructValue(fields)) => Value::Object(object(fields)),
        Some(Kind::ListValue(list)) => list.values.iter().map(value).collect(),
    }
}

pub(super) fn allowance(from: &task::Allowance) -> Allowance {
    let generators = from.generators.iter();
    Allowance {
        generators: generators
            .map(|one| (one.name.clone(), one.option_keys.iter().cloned().collect()))
            .collect(),
        secrets: from.secrets.iter().cloned().collect(),
    }
}

pub(super) fn planned_probes(plan: &Plan) -> Vec<scan::PlannedProbe> {
    plan.tasks
        .iter()
        .map(|task| scan::PlannedProbe {
            probe: task.probe.clone(),
            detectors: task.detectors.clone(),
            prompts: task.prompts,
            calls: task.calls,
            unavailable_detectors: task.unavailable_detectors.clone(),
            not_evaluated: not_evaluated(task),
        })
        .collect()
}

pub(super) fn new_tasks(plan: &Plan) -> Vec<NewTask> {
    plan.tasks
        .iter()
        .zip(0..)
        .map(|(task, ordinal)| NewTask {
            probe: task.probe.clone(),
            shard_index: 0,
            shard_count: 1,
            ordinal,
            planned_calls: task.calls,
            detectors: match task.detectors_are_explicit {
                true => task.detectors.clone(),
                false => Vec::new(),
            },
            not_evaluated: not_evaluated(task),
        })
        .collect()
}

fn not_evaluated(task: &PlannedTask) -> Option<scan::NotEvaluated> {
    task.not_evaluated.as_ref().map(|problem| scan::NotEvaluated {
        probe: task.probe.clone(),
        reason: problem.reason.clone(),
        message: problem.message.clone(),
    })
}

/// A duration of the contract; negative or absurd ones count as none.
pub(super) fn duration(from: Option<prost_types::Duration>) -> Option<Duration> {
    from.and_then(|duration| duration.try_into().ok())
}

/// A duration for the contract.
pub(crate) fn to_duration(from: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(from).ok()
}
