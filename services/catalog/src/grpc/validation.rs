//! What trying out a source found, between messages and the domain.

use aegis_mesh::Result;
use aegis_proto::probe::v1::{self as proto, custom_class::Kind, problem};

use super::check;
use crate::domain::{
    custom_probe::{ClassKind, CustomClass, Problem, Severity, Validation},
    refusal::invalid_field,
};

const MAX_PROBLEMS: usize = 200;
const MAX_CLASSES: usize = 100;
const MAX_NAMES: usize = 64;
/// Longest text of a class, in characters.
const MAX_TEXT: usize = 2_000;

/// A runner's validation within its bounds.
pub(super) fn checked(found: proto::Validation) -> Result<Validation> {
    let field = |name: &str| format!("outcome.validation.{name}");
    check::within(&field("problems"), found.problems.len(), 0..=MAX_PROBLEMS)?;
    check::within(&field("classes"), found.classes.len(), 0..=MAX_CLASSES)?;
    let problems = found.problems.into_iter().enumerate();
    let problems = problems.map(|(n, of)| problem(&field(&format!("problems[{n}]")), of));
    let classes = found.classes.into_iter().enumerate();
    let classes = classes.map(|(n, of)| class(&field(&format!("classes[{n}]")), of));
    Ok(Validation {
        valid: found.valid,
        problems: problems.collect::<Result<_>>()?,
        classes: classes.collect::<Result<_>>()?,
        garak_version: check::optional(&field("garak_version"), &found.garak_version, 64)?,
    })
}

fn problem(field: &str, problem: proto::Problem) -> Result<Problem> {
    let severity = match problem.severity() {
        problem::Severity::Error => Severity::Error,
        problem::Severity::Warning => Severity::Warning,
        problem::Severity::Unspecified => {
            return Err(invalid_field(&format!("{field}.severity"), "must be set"));
        }
    };
    Ok(Problem {
        severity,
        reason: check::reason(&format!("{field}.reason"), &problem.reason)?,
        message: check::optional(&format!("{field}.message"), &problem.message, 500)?,
        line: check::within(&format!("{field}.line"), problem.line, 0..=i32::MAX)?,
        column: check::within(&format!("{field}.column"), problem.column, 0..=i32::MAX)?,
    })
}

fn class(field: &str, class: proto::CustomClass) -> Result<CustomClass> {
    let kind = match class.kind() {
        Kind::Probe => ClassKind::Probe,
        Kind::Detector => ClassKind::Detector,
        Kind::Unspecified => return Err(invalid_field(&format!("{field}.kind"), "must be set")),
    };
    let text = |name: &str, text: &str| check::optional(&format!("{field}.{name}"), text, MAX_TEXT);
    let names = |name: &str, names: &[String]| {
        let field = format!("{field}.{name}");
        check::within(&field, names.len(), 0..=MAX_NAMES)?;
        let checked = names.iter().map(|one| check::required(&field, one, 200));
        checked.collect::<Result<Vec<_>>>()
    };
    Ok(CustomClass {
        kind,
        name: check::required(&format!("{field}.name"), &class.name, 200)?,
        description: text("description", &class.description)?,
        goal: text("goal", &class.goal)?,
        tags: names("tags", &class.tags)?,
        lang: text("lang", &class.lang)?,
        tier: class.tier,
        active: class.active,
        primary_detector: text("primary_detector", &class.primary_detector)?,
        extended_detectors: names("extended_detectors", &class.extended_detectors)?,
        prompts: check::within(&format!("{field}.prompts"), class.prompts, 0..=i64::MAX)?,
    })
}

/// As users see it.
pub(super) fn message(found: Validation) -> proto::Validation {
    proto::Validation {
        valid: found.valid,
        problems: found.problems.into_iter().map(problem_message).collect(),
        classes: found.classes.into_iter().map(class_message).collect(),
        garak_version: found.garak_version,
    }
}

fn problem_message(problem: Problem) -> proto::Problem {
    let severity = match problem.severity {
        Severity::Error => problem::Severity::Error,
        Severity::Warning => problem::Severity::Warning,
    };
    proto::Problem {
        severity: severity.into(),
        reason: problem.reason,
        message: problem.message,
        line: problem.line,
        column: problem.column,
    }
}

fn class_message(class: CustomClass) -> proto::CustomClass {
    let kind = match class.kind {
        ClassKind::Probe => Kind::Probe,
        ClassKind::Detector => Kind::Detector,
    };
    proto::CustomClass {
        kind: kind.into(),
        name: class.name,
        description: class.description,
        goal: class.goal,
        tags: class.tags,
        lang: class.lang,
        tier: class.tier,
        active: class.active,
        primary_detector: class.primary_detector,
        extended_detectors: class.extended_detectors,
        prompts: class.prompts,
    }
}
