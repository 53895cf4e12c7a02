//! Between messages and `domain`.

use std::str::FromStr;
use std::time::SystemTime;

use aegis_mesh::{Error, Result};
use aegis_proto::common::v1 as common;
use aegis_proto::ids::{Epoch, InvalidId, ProjectId};
use aegis_proto::internal::artifact::v1 as pb;
use aegis_proto::internal::catalog::v1 as rows;
use aegis_proto::internal::task::v1 as task;
use aegis_proto::report::v1 as report;
use aegis_proto::scan::v1::Grades;
use aegis_report::{Attempt, DetectorTally, Outcome, attempt as parsed};
use prost_types::Timestamp;

use crate::domain::checksum::Checksum;
use crate::domain::key::ObjectKey;
use crate::domain::registry::{Lease, ReportTally, ScanPosition, StoredArtifact};
use crate::domain::upload::UploadStatus;

/// A field that must be an id.
pub(super) fn id<T: FromStr<Err = InvalidId>>(field: &str, text: &str) -> Result<T> {
    text.parse()
        .map_err(|error: InvalidId| invalid(field, error.to_string()))
}

pub(super) fn invalid(field: &str, what: impl Into<String>) -> Error {
    let what = what.into();
    Error::invalid_argument("INVALID_FIELD", format!("{field}: {what}")).field(field, what)
}

/// A count or position, which is not negative.
pub(super) fn unsigned(field: &str, value: i64) -> Result<u64> {
    u64::try_from(value).map_err(|_| invalid(field, format!("{value} is less than 0")))
}

pub(super) fn lease(lease: Option<task::Lease>) -> Result<Lease> {
    let lease = lease.ok_or_else(|| invalid("lease", "required"))?;
    Ok(Lease {
        scan: id("lease.scan_id", &lease.scan_id)?,
        task: id("lease.task_id", &lease.task_id)?,
        epoch: Epoch(lease.epoch),
        token: lease.token,
    })
}

pub(super) fn lease_message(lease: &Lease) -> task::Lease {
    task::Lease {
        task_id: lease.task.to_string(),
        scan_id: lease.scan.to_string(),
        epoch: lease.epoch.0,
        token: lease.token.clone(),
        ttl: None,
    }
}

pub(super) fn checksum_message(checksum: &Checksum) -> common::Checksum {
    common::Checksum {
        sha256: checksum.sha256_hex(),
        size_bytes: checksum.size_i64(),
    }
}

pub(super) fn upload_message(status: &UploadStatus) -> pb::Upload {
    pb::Upload {
        upload_id: status.id.to_string(),
        artifact_id: status.artifact.to_string(),
        persisted_size: i64::try_from(status.persisted).unwrap_or(i64::MAX),
        complete: status.complete,
        expire_time: status.expire_time.map(Timestamp::from),
    }
}

/// A row as catalog sends it; anything odd in it is a fault of ours.
pub(super) fn stored(
    project: &ProjectId,
    row: Option<rows::StoredArtifact>,
) -> Result<StoredArtifact> {
    let row = row.ok_or_else(|| Error::internal("the catalog sent no artifact"))?;
    let checksum = row.checksum.filter(|checksum| !checksum.sha256.is_empty());
    let checksum =
        checksum.map(|checksum| Checksum::parse("checksum", &checksum.sha256, checksum.size_bytes));
    Ok(StoredArtifact {
        id: row.artifact_id.parse().map_err(Error::internal)?,
        scan: row.scan_id.parse().map_err(Error::internal)?,
        name: row.name.parse().map_err(Error::internal)?,
        key: ObjectKey::of(project, &row.object_key).map_err(Error::internal)?,
        checksum: checksum.transpose().map_err(Error::internal)?,
        create_time: time(row.create_time)?,
        revision: row.revision,
    })
}

pub(super) fn time(timestamp: Option<Timestamp>) -> Result<Option<SystemTime>> {
    timestamp
        .map(SystemTime::try_from)
        .transpose()
        .map_err(Error::internal)
}

/// A place as catalog sends it.
pub(super) fn position(position: Option<rows::ScanPosition>) -> Result<ScanPosition> {
    let position = position.ok_or_else(|| Error::internal("the catalog sent no position"))?;
    Ok(ScanPosition {
        created_at: position.created_at,
        scan: position.scan_id.parse().map_err(Error::internal)?,
    })
}

pub(super) fn position_message(position: ScanPosition) -> rows::ScanPosition {
    rows::ScanPosition {
        created_at: position.created_at,
        scan_id: position.scan.to_string(),
    }
}

pub(super) fn tally_message(tally: &ReportTally) -> rows::Tally {
    let probes = &tally.counts.probes;
    let pairs = probes.iter().flat_map(|(probe, of)| {
        of.detectors
            .iter()
            .map(move |(detector, counts)| (probe, detector, counts))
    });
    let rows = pairs.map(|(probe, detector, counts)| rows::ProbeDetectorTally {
        grades: grades(tally, probe, detector),
        ..counts_message(probe, detector, counts)
    });
    let attempts = probes.values().map(|of| count(of.attempts.completed));
    rows::Tally {
        rows: rows.collect(),
        attempts: attempts.fold(0, i64::saturating_add),
    }
}

fn counts_message(probe: &str, detector: &str, counts: &DetectorTally) -> rows::ProbeDetectorTally {
    rows::ProbeDetectorTally {
        probe: probe.to_owned(),
        detector: detector.to_owned(),
        passed: count(counts.passed),
        failed: count(counts.failed),
        nones: count(counts.nones),
        evaluated: count(counts.evaluated),
        grades: None,
    }
}

fn grades(tally: &ReportTally, probe: &str, detector: &str) -> Option<Grades> {
    let grade = tally.grades.as_ref()?.get(probe, detector)?;
    Some(Grades {
        absolute_defcon: grade.absolute_defcon.map(i32::from),
        relative_defcon: grade.relative_defcon.map(i32::from),
        detector_defcon: grade.detector_defcon.map(i32::from),
        relative_score: grade.relative_score,
    })
}

pub(super) fn count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(super) fn artifact_message(artifact: &StoredArtifact) -> report::Artifact {
    report::Artifact {
        name: artifact.name.to_string(),
        file_name: artifact.name.file_name(&artifact.scan),
        media_type: artifact.name.media_type().to_owned(),
        revision: artifact.revision,
        checksum: artifact.checksum.as_ref().map(checksum_message),
        create_time: artifact.create_time.map(Timestamp::from),
    }
}

/// `None` for any outcome.
pub(super) fn outcome(value: i32) -> Result<Option<Outcome>> {
    match report::Outcome::try_from(value) {
        Ok(report::Outcome::Unspecified) => Ok(None),
        Ok(report::Outcome::Hit) => Ok(Some(Outcome::Hit)),
        Ok(report::Outcome::Pass) => Ok(Some(Outcome::Pass)),
        Ok(report::Outcome::None) => Ok(Some(Outcome::None)),
        Err(_) => Err(invalid("outcome", format!("{value} is no outcome"))),
    }
}

fn outcome_message(outcome: Outcome) -> i32 {
    let outcome = match outcome {
        Outcome::Hit => report::Outcome::Hit,
        Outcome::Pass => report::Outcome::Pass,
        Outcome::None => report::Outcome::None,
    };
    outcome.into()
}

/// An attempt of a list.
pub(super) fn attempt_message(attempt: Attempt) -> report::Attempt {
    report::Attempt {
        triggers: Vec::new(),
        conversations: Vec::new(),
        ..whole_attempt_message(attempt)
    }
}

/// An attempt with all that is known of it.
pub(super) fn whole_attempt_message(attempt: Attempt) -> report::Attempt {
    let output = |output: Option<parsed::Text>| report::Output {
        text: output.map(|text| text.text),
    };
    let scores = |of: parsed::DetectorScores| report::DetectorScores {
        detector: of.detector,
        outcome: outcome_message(of.outcome),
        scores: of
            .scores
            .into_iter()
            .map(|value| report::Score { value })
            .collect(),
    };
    let conversation = |turns| report::Conversation {
        turns: turns_message(turns),
    };
    let conversations = attempt.conversations.into_iter();
    let triggers = attempt.triggers.into_iter();
    report::Attempt {
        attempt_id: attempt.uuid,
        sequence: attempt.seq,
        probe: attempt.probe,
        goal: attempt.goal.map(|goal| goal.text).unwrap_or_default(),
        prompt: turns_message(attempt.prompt),
        outputs: attempt.outputs.into_iter().map(output).collect(),
        detectors: attempt.detectors.into_iter().map(scores).collect(),
        truncated: attempt.is_truncated,
        conversations: conversations.map(conversation).collect(),
        triggers: triggers.map(|trigger| trigger.text).collect(),
        // garak writes no time into an attempt's line.
        time: None,
    }
}

fn turns_message(turns: Vec<parsed::Turn>) -> Vec<report::Turn> {
    let turn = |turn: parsed::Turn| report::Turn {
        role: turn.role,
        text: turn.content.map(|content| content.text).unwrap_or_default(),
    };
    turns.into_iter().map(turn).collect()
}
