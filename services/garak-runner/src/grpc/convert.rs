//! Messages into the domain's types. What a scan asks for is not trusted to be well-formed.

use std::time::Duration;

use aegis_proto::{
    internal::task::v1 as pb,
    probe::v1 as probe,
    scan::v1::{CustomProbeVersion, ScanSpec, Target as PbTarget},
};
use prost_types::value::Kind;
use serde_json::{Map, Number, Value};

use crate::domain::{
    custom_probe::{
        CheckWork, ClassKind, CustomClass, CustomModule, MAX_SOURCES, Problem, Severity, SourceSha,
        Validation,
    },
    ending::{Ending, Outcome},
    outbox::{RunEvent, RunProgress},
    plugin_name::PluginName,
    probe_work::{ProbeWork, Refusal, ScanOptions, Target},
};

/// The contract's default of `probe_timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3600);
const DEFAULT_CHECK: Duration = Duration::from_secs(30);
const LONGEST_CHECK: Duration = Duration::from_secs(600);
const DEFAULT_PATIENCE: Duration = Duration::from_secs(120);
/// Integers up to here are exact in a JSON number that came as a double.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
/// Deepest nesting of options.
const MAX_DEPTH: usize = 32;

pub(super) fn probe_work(task: pb::ProbeTask) -> Result<ProbeWork, Refusal> {
    if task.shard_count > 1 {
        return Err(invalid("shards are not supported"));
    }
    let spec = task.spec.unwrap_or_default();
    Ok(ProbeWork {
        probe: plugin_name(&task.probe)?,
        detectors: task
            .detectors
            .iter()
            .map(|name| plugin_name(name))
            .collect::<Result<_, _>>()?,
        target: target(spec.target.clone().unwrap_or_default())?,
        max_in_flight: u32::try_from(task.max_in_flight).unwrap_or(1).max(1),
        seed: u32::try_from(task.effective_seed)
            .map_err(|_| invalid("the seed is out of range"))?,
        eval_threshold: task.effective_eval_threshold,
        patience: duration(task.target_patience).unwrap_or(DEFAULT_PATIENCE),
        timeout: duration(spec.probe_timeout).unwrap_or(DEFAULT_TIMEOUT),
        custom_probes: custom_modules(&task.custom_probes)?,
        options: options(spec)?,
    })
}

pub(super) fn custom_modules(probes: &[CustomProbeVersion]) -> Result<Vec<CustomModule>, Refusal> {
    if probes.len() > MAX_SOURCES {
        return Err(invalid("there are too many custom probes"));
    }
    probes
        .iter()
        .map(|probe| CustomModule::new(&probe.name, &probe.sha256))
        .collect()
}

pub(super) fn check_work(task: pb::CheckTask) -> Result<CheckWork, Refusal> {
    Ok(CheckWork {
        sha256: SourceSha::new(&task.sha256)?,
        name: task.name,
        timeout: duration(task.timeout)
            .unwrap_or(DEFAULT_CHECK)
            .min(LONGEST_CHECK),
    })
}

fn target(target: PbTarget) -> Result<Target, Refusal> {
    let secret = match target.secret.as_str() {
        "" => None,
        text => match text.strip_prefix("env:") {
            Some(name) if !name.is_empty() => Some(name.to_owned()),
            // Without the text: it may be a key that someone put in the wrong place.
            _ => {
                return Err(Refusal::new(
                    "SECRET_NOT_ALLOWED",
                    "a secret is named as env:NAME",
                ));
            }
        },
    };
    Ok(Target {
        generator: plugin_name(&target.r#type)?,
        name: target.name,
        options: object(target.options)?,
        secret,
    })
}

fn options(spec: ScanSpec) -> Result<ScanOptions, Refusal> {
    let generations = spec
        .generations
        .map(|n| u32::try_from(n).map_err(|_| invalid("generations is out of range")))
        .transpose()?;
    Ok(ScanOptions {
        generations,
        buffs: spec.buffs,
        buffs_include_original_prompt: spec.buffs_include_original_prompt,
        extended_detectors: spec.extended_detectors,
        deprefix: spec.deprefix,
        system_prompt: spec.system_prompt,
        plugin_options: object(spec.plugin_options)?,
    })
}

fn plugin_name(text: &str) -> Result<PluginName, Refusal> {
    text.parse()
        .map_err(|error: crate::domain::plugin_name::InvalidPluginName| invalid(error.to_string()))
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new("INVALID_SPEC", message)
}

fn object(options: Option<prost_types::Struct>) -> Result<Map<String, Value>, Refusal> {
    options
        .unwrap_or_default()
        .fields
        .into_iter()
        .map(|(key, value)| Ok((key, json(value, MAX_DEPTH)?)))
        .collect()
}

/// A `google.protobuf.Value` has doubles only, and garak's options want integers: what is
/// integral becomes one.
fn json(value: prost_types::Value, depth: usize) -> Result<Value, Refusal> {
    if depth == 0 {
        return Err(invalid("options are nested too deeply"));
    }
    Ok(match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(value),
        Some(Kind::StringValue(value)) => Value::String(value),
        Some(Kind::NumberValue(value)) => Value::Number(number(value)?),
        Some(Kind::ListValue(list)) => list
            .values
            .into_iter()
            .map(|value| json(value, depth - 1))
            .collect::<Result<_, _>>()?,
        Some(Kind::StructValue(object)) => object
            .fields
            .into_iter()
            .map(|(key, value)| Ok((key, json(value, depth - 1)?)))
            .collect::<Result<_, Refusal>>()?,
    })
}

fn number(value: f64) -> Result<Number, Refusal> {
    if value.fract() == 0.0 && value.abs() <= MAX_EXACT {
        // Checked above: integral, and within what an i64 holds.
        return Ok(Number::from(value as i64));
    }
    Number::from_f64(value).ok_or_else(|| invalid("an option is not a finite number"))
}

pub(super) fn duration(duration: Option<prost_types::Duration>) -> Option<Duration> {
    Duration::try_from(duration?).ok().filter(|d| !d.is_zero())
}

pub(super) fn pb_duration(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

pub(super) fn pb_progress(progress: RunProgress) -> pb::TaskProgress {
    pb::TaskProgress {
        attempts_done: progress.attempts_done,
        attempts_total: progress.attempts_total,
        target_retries: progress.target_retries,
        waits_for: progress
            .waits_for
            .map_or_else(String::new, |what| what.as_str().to_owned()),
    }
}

pub(super) fn pb_event((source_sequence, event): (i64, RunEvent)) -> pb::TaskEvent {
    let kind = match event {
        RunEvent::DetectorFinished(detector) => {
            pb::task_event::Kind::DetectorFinished(pb::DetectorFinished { detector })
        }
    };
    pb::TaskEvent {
        source_sequence,
        kind: Some(kind),
    }
}

pub(super) fn pb_outcome(ending: &Ending) -> pb::TaskOutcome {
    let outcome = match ending.outcome {
        Outcome::Done => pb::Outcome::Done,
        Outcome::FailedRetryable => pb::Outcome::FailedRetryable,
        Outcome::Backpressure => pb::Outcome::Backpressure,
        Outcome::FailedPermanent => pb::Outcome::FailedPermanent,
        Outcome::Cancelled => pb::Outcome::Cancelled,
        Outcome::Released => pb::Outcome::Released,
    };
    pb::TaskOutcome {
        outcome: outcome.into(),
        reason: ending.reason.clone(),
        message: ending.message.clone(),
        retry_after: ending.retry_after.and_then(pb_duration),
        artifact_ids: ending.artifacts.clone(),
        validation: ending.validation.as_ref().map(pb_validation),
    }
}

fn pb_validation(found: &Validation) -> probe::Validation {
    probe::Validation {
        valid: found.valid,
        problems: found.problems.iter().map(pb_problem).collect(),
        classes: found.classes.iter().map(pb_class).collect(),
        garak_version: found.garak_version.clone(),
    }
}

fn pb_problem(problem: &Problem) -> probe::Problem {
    let severity = match problem.severity {
        Severity::Error => probe::problem::Severity::Error,
        Severity::Warning => probe::problem::Severity::Warning,
    };
    probe::Problem {
        severity: severity.into(),
        reason: problem.reason.clone(),
        message: problem.message.clone(),
        line: i32::try_from(problem.line).unwrap_or_default(),
        column: i32::try_from(problem.column).unwrap_or_default(),
    }
}

fn pb_class(class: &CustomClass) -> probe::CustomClass {
    let kind = match class.kind {
        ClassKind::Probe => probe::custom_class::Kind::Probe,
        ClassKind::Detector => probe::custom_class::Kind::Detector,
    };
    probe::CustomClass {
        kind: kind.into(),
        name: class.name.clone(),
        description: class.description.clone(),
        goal: class.goal.clone(),
        tags: class.tags.clone(),
        lang: class.lang.clone(),
        tier: class.tier.into(),
        active: class.active,
        primary_detector: class.primary_detector.clone(),
        extended_detectors: class.extended_detectors.clone(),
        prompts: i64::try_from(class.prompts).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aegis_proto::json::from_json;
    use serde_json::json;

    fn task(spec: Value) -> pb::ProbeTask {
        pb::ProbeTask {
            probe: "dan.AntiDAN".to_owned(),
            spec: Some(from_json(spec).unwrap()),
            shard_count: 1,
            max_in_flight: 4,
            effective_seed: 7,
            effective_eval_threshold: 0.5,
            ..pb::ProbeTask::default()
        }
    }

    #[test]
    fn integral_numbers_become_integers() {
        let work = probe_work(task(json!({"target": {"type": "rest.RestGenerator", "options": {
            "request_timeout": 20, "temperature": 0.5, "ratelimit_codes": [429], "x": {"y": -3.0}, "big": 1e300,
        }}})))
        .unwrap();
        assert_eq!(
            Value::Object(work.target.options),
            json!({"request_timeout": 20, "temperature": 0.5, "ratelimit_codes": [429], "x": {"y": -3}, "big": 1e300})
        );
    }

    #[test]
    fn a_secret_is_a_name_and_a_misplaced_key_is_not_repeated() {
        let of = |secret: &str| {
            probe_work(task(
                json!({"target": {"type": "rest.RestGenerator", "secret": secret}}),
            ))
        };
        assert_eq!(
            of("env:REST_API_KEY").unwrap().target.secret.as_deref(),
            Some("REST_API_KEY")
        );
        assert_eq!(of("").unwrap().target.secret, None);
        for secret in ["sk-123", "env:", "file:/etc/passwd"] {
            let refusal = of(secret).unwrap_err();
            assert_eq!(refusal.reason, "SECRET_NOT_ALLOWED");
            assert!(!refusal.message.contains("sk-123"));
        }
    }

    #[test]
    fn what_is_no_plugin_is_refused() {
        for generator in ["", "test", "../x.Y"] {
            let refusal = probe_work(task(json!({"target": {"type": generator}}))).unwrap_err();
            assert_eq!(refusal.reason, "INVALID_SPEC", "{generator}");
        }
    }
}
