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

/// Text that a source decided about: cut rather than refused, or an odd source could not be told from
/// a runner that is out of order. PostgreSQL stores no NUL.
fn cut(text: &str, most: usize) -> String {
    text.chars().filter(|c| *c != '\0').take(most).collect()
}

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
        garak_version: cut(&found.garak_version, 64),
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
        message: cut(&problem.message, 500),
        line: problem.line.max(0),
        column: problem.column.max(0),
    })
}

fn class(field: &str, class: proto::CustomClass) -> Result<CustomClass> {
    let kind = match class.kind() {
        Kind::Probe => ClassKind::Probe,
        Kind::Detector => ClassKind::Detector,
        Kind::Unspecified => return Err(invalid_field(&format!("{field}.kind"), "must be set")),
    };
    let text = |text: &str| cut(text, MAX_TEXT);
    let names = |names: &[String]| -> Vec<String> {
        let cut = names.iter().map(|name| cut(name, 200));
        cut.filter(|name| !name.is_empty())
            .take(MAX_NAMES)
            .collect()
    };
    Ok(CustomClass {
        kind,
        name: check::required(&format!("{field}.name"), &class.name, 200)?,
        description: text(&class.description),
        goal: text(&class.goal),
        tags: names(&class.tags),
        lang: text(&class.lang),
        tier: class.tier,
        active: class.active,
        primary_detector: text(&class.primary_detector),
        extended_detectors: names(&class.extended_detectors),
        prompts: class.prompts.max(0),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_source_says_is_cut_and_what_a_runner_says_is_checked() {
        let class = proto::CustomClass {
            kind: Kind::Probe.into(),
            name: "acme.Leak".to_owned(),
            description: format!("a\0b{}", "x".repeat(3_000)),
            tags: vec![String::new(), "t".repeat(300), "owasp:llm01".to_owned()],
            prompts: -1,
            ..proto::CustomClass::default()
        };
        let found = proto::Validation {
            valid: true,
            classes: vec![class.clone()],
            ..proto::Validation::default()
        };
        let taken = checked(found.clone()).unwrap();
        let one = &taken.classes[0];
        assert_eq!(one.description.chars().count(), MAX_TEXT);
        assert!(one.description.starts_with("abx"));
        assert_eq!(
            (one.tags.len(), one.tags[0].len(), one.prompts),
            (2, 200, 0)
        );
        assert_eq!(checked(message(taken.clone())).unwrap(), taken);
        let refused = |found| checked(found).unwrap_err().fields()[0].path.clone();
        let mut wrong = found.clone();
        wrong.classes[0].kind = 0;
        assert_eq!(refused(wrong), "outcome.validation.classes[0].kind");
        let mut wrong = found.clone();
        wrong.classes = vec![class; MAX_CLASSES + 1];
        assert_eq!(refused(wrong), "outcome.validation.classes");
        let mut wrong = found;
        wrong.problems = vec![proto::Problem {
            severity: problem::Severity::Error.into(),
            reason: "no reason".to_owned(),
            ..proto::Problem::default()
        }];
        assert_eq!(refused(wrong), "outcome.validation.problems[0].reason");
    }
}
