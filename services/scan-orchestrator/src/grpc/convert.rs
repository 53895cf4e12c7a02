//! Messages into the domain's types and back.

use aegis_proto::{
    internal::catalog::v1::NewTask,
    scan::v1::{self as pb, NotEvaluated, PlanScanResponse},
};
use prost_types::{Struct, value::Kind};
use serde_json::{Map, Number, Value};

use crate::{
    catalogues::Current,
    domain::{
        catalogue::{Catalogue, Problem},
        custom::CustomModule,
        plan::{Plan, PlannedProbe},
        spec::{Seconds, Spec, Target},
        violation::{INVALID_FIELD, Violations},
    },
};

/// Deepest nesting of options; the runner takes no more either.
const MAX_DEPTH: usize = 32;
/// Integers up to here are exact in a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The specification as the domain has it. Options that are no JSON are violations.
pub(super) fn spec(message: &pb::ScanSpec, violations: &mut Violations) -> Spec {
    let target = message.target.clone().unwrap_or_default();
    Spec {
        target: Target {
            options: object("spec.target.options", target.options, violations),
            generator: target.r#type,
            name: target.name,
            secret: target.secret,
        },
        include: message.include.clone(),
        exclude: message.exclude.clone(),
        tags: message.tags.clone(),
        tiers: message.tiers.clone(),
        generations: message.generations,
        eval_threshold: message.eval_threshold,
        seed: message.seed,
        max_in_flight: message.max_in_flight,
        buffs: message.buffs.clone(),
        buffs_include_original_prompt: message.buffs_include_original_prompt.unwrap_or(false),
        detectors: message.detectors.clone(),
        exclude_detectors: message.exclude_detectors.clone(),
        extended_detectors: message.extended_detectors,
        system_prompt: message.system_prompt.clone(),
        probe_timeout: message.probe_timeout.map(|d| Seconds {
            seconds: d.seconds,
            nanos: d.nanos,
        }),
        plugin_options: object(
            "spec.plugin_options",
            message.plugin_options.clone(),
            violations,
        ),
        custom_probes: message.custom_probes.clone(),
        priority: message.priority,
        requires: message.requires.clone(),
    }
}

fn object(field: &str, message: Option<Struct>, violations: &mut Violations) -> Map<String, Value> {
    let fields = message.unwrap_or_default().fields.into_iter();
    let converted: Option<Map<String, Value>> = fields
        .map(|(key, value)| Some((key, json(value, MAX_DEPTH)?)))
        .collect();
    converted.unwrap_or_else(|| {
        let description = "must be finite JSON, nested at most 32 deep";
        violations.add(field, INVALID_FIELD, description);
        Map::new()
    })
}

fn json(value: prost_types::Value, depth: usize) -> Option<Value> {
    let depth = depth.checked_sub(1)?;
    Some(match value.kind? {
        Kind::NullValue(_) => Value::Null,
        Kind::BoolValue(value) => Value::Bool(value),
        Kind::StringValue(text) => Value::String(text),
        Kind::NumberValue(number) => Value::Number(number_of(number)?),
        Kind::ListValue(list) => {
            let values = list.values.into_iter();
            Value::Array(values.map(|v| json(v, depth)).collect::<Option<_>>()?)
        }
        Kind::StructValue(object) => {
            let fields = object.fields.into_iter();
            Value::Object(
                fields
                    .map(|(key, value)| Some((key, json(value, depth)?)))
                    .collect::<Option<_>>()?,
            )
        }
    })
}

/// A `google.protobuf.Value` has doubles only; what is integral is shown as such.
fn number_of(number: f64) -> Option<Number> {
    if number.fract() == 0.0 && number.abs() <= MAX_EXACT {
        return Some(Number::from(number as i64));
    }
    Number::from_f64(number)
}

/// What a scan is pinned to.
pub(super) fn pinned(modules: Vec<CustomModule>) -> Vec<pb::CustomProbeVersion> {
    let versions = modules.into_iter().map(|module| pb::CustomProbeVersion {
        name: module.name,
        version: module.version,
        sha256: module.sha256,
    });
    versions.collect()
}

/// The tasks of a scan, in its order.
pub(super) fn new_tasks(plan: &Plan, catalogue: &Catalogue) -> Vec<NewTask> {
    plan.probes
        .iter()
        .zip(0..)
        .map(|(probe, ordinal)| NewTask {
            tags: tags(&probe.name, catalogue),
            ..new_task(probe, ordinal)
        })
        .collect()
}

/// A probe's tags in garak's words: statistics are kept by them.
fn tags(probe: &str, catalogue: &Catalogue) -> Vec<String> {
    let listed = catalogue.probes.get(probe);
    listed.map(|probe| probe.tags.clone()).unwrap_or_default()
}

fn new_task(probe: &PlannedProbe, ordinal: i32) -> NewTask {
    let listed = probe.detectors.as_ref().ok().filter(|d| d.is_explicit);
    NewTask {
        probe: probe.name.clone(),
        shard_index: 0,
        shard_count: 1,
        ordinal,
        planned_calls: probe.calls,
        detectors: listed.map(|d| d.run.clone()).unwrap_or_default(),
        not_evaluated: not_evaluated(probe),
        tags: Vec::new(),
    }
}

fn not_evaluated(probe: &PlannedProbe) -> Option<NotEvaluated> {
    let Problem { reason, message } = probe.detectors.as_ref().err()?;
    Some(NotEvaluated {
        probe: probe.name.clone(),
        reason: reason.clone(),
        message: message.clone(),
    })
}

/// The answer of PlanScan.
pub(super) fn plan_response(plan: &Plan, current: &Current) -> PlanScanResponse {
    PlanScanResponse {
        prompts_total: plan.prompts_total(),
        calls_total: plan.calls_total(),
        garak_version: current.catalogue.garak_version.clone(),
        plugin_catalogue: current.sha256.clone(),
        probes: plan.probes.iter().map(planned_probe).collect(),
        effective_spec: None,
    }
}

fn planned_probe(probe: &PlannedProbe) -> pb::PlannedProbe {
    let detectors = probe.detectors.as_ref().ok();
    pb::PlannedProbe {
        probe: probe.name.clone(),
        detectors: detectors.map(|d| d.run.clone()).unwrap_or_default(),
        prompts: probe.prompts,
        calls: probe.calls,
        unavailable_detectors: detectors.map(|d| d.unavailable.clone()).unwrap_or_default(),
        not_evaluated: not_evaluated(probe),
    }
}
