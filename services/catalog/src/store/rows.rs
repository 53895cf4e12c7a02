//! Rows to the domain's types and back.

use aegis_proto::ids::{ArtifactId, Epoch, ProjectId, ScanId, TaskId};
use sea_orm::Set;

use super::{
    entity::{artifact, lane, probe_result, scan, scan_event, task},
    fault::Result,
};
use crate::domain::{
    artifact::{Artifact, Checksum},
    event::{LoggedEvent, NewEvent, Source},
    lane::Lane,
    scan::{Failure, Original, ReportStatus, Scan, Totals},
    tally::{Grades, ProbeResult, TallyRow},
    task::{Task, TaskProgress},
};

pub(crate) fn scan_of(row: scan::Model) -> Result<Scan> {
    let failure = row.failure_reason.map(|reason| Failure {
        reason,
        message: row.failure_message.unwrap_or_default(),
        hint: row.failure_hint.unwrap_or_default(),
    });
    Ok(Scan {
        project: row.project_id.parse()?,
        id: ScanId(row.id),
        display_name: row.display_name,
        spec: row.spec,
        target_type: row.target_type,
        target_name: row.target_name,
        priority: row.priority,
        labels: serde_json::from_value(row.labels)?,
        garak_version: row.garak_version,
        plugin_catalogue: row.plugin_catalogue,
        effective_seed: row.effective_seed,
        effective_eval_threshold: row.effective_eval_threshold,
        max_in_flight: row.max_in_flight,
        lane: row.lane_id,
        created_by: row.created_by,
        state: row.state.parse()?,
        cancel_requested_at: row.cancel_requested_at,
        paused_at: row.paused_at,
        in_flight: row.in_flight,
        queued: row.queued,
        running: row.running,
        report_queued: row.report_queued,
        waiting_noted: row.waiting_noted,
        planned: row.planned,
        evaluated: row.evaluated,
        not_evaluated: row.not_evaluated,
        totals: Totals {
            passed: row.passed,
            failed: row.failed,
            nones: row.nones,
        },
        attempts_done: row.attempts_done,
        attempts_total: row.attempts_total,
        report: ReportStatus {
            state: row.report_state.parse()?,
            revision: row.report_revision,
            ready_revision: row.report_ready_revision,
            artifacts: serde_json::from_value(row.report_artifacts)?,
            reason: row.report_reason,
        },
        failure,
        last_sequence: row.last_sequence,
        created_at: row.created_at,
        started_at: row.started_at,
        ended_at: row.ended_at,
        deleted_at: row.deleted_at,
        purge_at: row.purge_at,
        template: row.template,
        template_version: row.template_version,
        defcon: row.defcon,
        custom_probes: serde_json::from_value(row.custom_probes)?,
        original: row.imported.then_some(Original {
            options: row.original_options,
            counts: row.original_counts,
        }),
        imported: row.imported,
    })
}

/// The columns that change over a scan's life.
pub(crate) fn scan_changes(scan: &Scan) -> scan::ActiveModel {
    let failure = scan.failure.as_ref();
    scan::ActiveModel {
        state: Set(scan.state.as_str().to_owned()),
        cancel_requested_at: Set(scan.cancel_requested_at),
        paused_at: Set(scan.paused_at),
        in_flight: Set(scan.in_flight),
        queued: Set(scan.queued),
        running: Set(scan.running),
        report_queued: Set(scan.report_queued),
        waiting_noted: Set(scan.waiting_noted),
        evaluated: Set(scan.evaluated),
        not_evaluated: Set(scan.not_evaluated),
        passed: Set(scan.totals.passed),
        failed: Set(scan.totals.failed),
        nones: Set(scan.totals.nones),
        attempts_done: Set(scan.attempts_done),
        attempts_total: Set(scan.attempts_total),
        report_state: Set(scan.report.state.as_str().to_owned()),
        report_revision: Set(scan.report.revision),
        report_ready_revision: Set(scan.report.ready_revision),
        report_artifacts: Set(scan.report.artifacts.clone().into()),
        report_reason: Set(scan.report.reason.clone()),
        failure_reason: Set(failure.map(|failure| failure.reason.clone())),
        failure_message: Set(failure.map(|failure| failure.message.clone())),
        failure_hint: Set(failure.map(|failure| failure.hint.clone())),
        last_sequence: Set(scan.last_sequence),
        started_at: Set(scan.started_at),
        ended_at: Set(scan.ended_at),
        deleted_at: Set(scan.deleted_at),
        purge_at: Set(scan.purge_at),
        defcon: Set(scan.defcon),
        search_text: Set(scan.search_text()),
        ..Default::default()
    }
}

/// All columns, for a new scan.
pub(crate) fn new_scan(scan: &Scan) -> Result<scan::ActiveModel> {
    let original = scan.original.clone().unwrap_or_default();
    Ok(scan::ActiveModel {
        project_id: Set(scan.project.to_string()),
        id: Set(scan.id.0),
        display_name: Set(scan.display_name.clone()),
        spec: Set(scan.spec.clone()),
        target_type: Set(scan.target_type.clone()),
        target_name: Set(scan.target_name.clone()),
        priority: Set(scan.priority),
        labels: Set(serde_json::to_value(&scan.labels)?),
        garak_version: Set(scan.garak_version.clone()),
        plugin_catalogue: Set(scan.plugin_catalogue.clone()),
        effective_seed: Set(scan.effective_seed),
        effective_eval_threshold: Set(scan.effective_eval_threshold),
        max_in_flight: Set(scan.max_in_flight),
        lane_id: Set(scan.lane.clone()),
        created_by: Set(scan.created_by.clone()),
        planned: Set(scan.planned),
        created_at: Set(scan.created_at),
        template: Set(scan.template.clone()),
        template_version: Set(scan.template_version),
        custom_probes: Set(serde_json::to_value(&scan.custom_probes)?),
        imported: Set(scan.imported),
        original_options: Set(original.options),
        original_counts: Set(original.counts),
        ..scan_changes(scan)
    })
}

pub(crate) fn lane_of(row: lane::Model) -> Lane {
    Lane {
        key: row.id,
        max_in_flight: row.max_in_flight,
        in_flight: row.in_flight,
        queued: row.queued,
        paused_until: row.paused_until,
        backpressure_since: row.backpressure_since,
        has_answered: row.has_answered,
    }
}

pub(crate) fn task_of(row: task::Model) -> Result<Task> {
    Ok(Task {
        id: TaskId(row.id),
        scan: ScanId(row.scan_id),
        kind: row.kind.parse()?,
        probe: row.probe,
        shard_index: row.shard_index,
        shard_count: row.shard_count,
        detectors: serde_json::from_value(row.detectors)?,
        revision: row.revision,
        planned_attempts: row.planned_attempts,
        planned_out: row.planned_out,
        state: row.state.parse()?,
        epoch: Epoch(row.epoch),
        failures: row.failures,
        max_failures: row.max_failures,
        not_before: row.not_before,
        granted: row.granted,
        progress: TaskProgress {
            attempts_done: row.attempts_done,
            attempts_total: row.attempts_total,
            target_retries: row.target_retries,
        },
        reason: row.reason,
        message: row.message,
        tags: serde_json::from_value(row.tags)?,
    })
}

pub(crate) fn artifact_of(row: artifact::Model) -> Result<Artifact> {
    let checksum = row
        .sha256
        .zip(row.size)
        .map(|(sha256, size)| Checksum { sha256, size });
    Ok(Artifact {
        id: ArtifactId(row.id),
        scan: ScanId(row.scan_id),
        task: TaskId(row.task_id),
        epoch: Epoch(row.epoch),
        name: row.name.parse()?,
        object_key: row.object_key,
        state: row.state.parse()?,
        checksum,
        tally: row.tally.map(serde_json::from_value).transpose()?,
        revision: row.revision,
        created_at: row.created_at,
        upload_deadline: row.upload_deadline,
    })
}

pub(crate) fn event_of(row: scan_event::Model) -> Result<LoggedEvent> {
    let source = row.task_id.zip(row.epoch).map(|(task, epoch)| Source {
        task: TaskId(task),
        epoch: Epoch(epoch),
        sequence: row.source_sequence,
    });
    Ok(LoggedEvent {
        sequence: row.sequence,
        at: row.at,
        source,
        event: serde_json::from_value(row.payload)?,
    })
}

pub(crate) fn new_event(
    project: &ProjectId,
    scan: ScanId,
    sequence: i64,
    at: i64,
    new: NewEvent,
) -> Result<scan_event::ActiveModel> {
    Ok(scan_event::ActiveModel {
        project_id: Set(project.to_string()),
        scan_id: Set(scan.0),
        sequence: Set(sequence),
        at: Set(at),
        task_id: Set(new.source.map(|source| source.task.0)),
        epoch: Set(new.source.map(|source| source.epoch.0)),
        source_sequence: Set(new.source.and_then(|source| source.sequence)),
        kind: Set(new.event.kind().to_owned()),
        payload: Set(serde_json::to_value(&new.event)?),
    })
}

pub(crate) fn result_of(row: probe_result::Model) -> ProbeResult {
    let grades = Grades {
        absolute_defcon: row.absolute_defcon,
        relative_defcon: row.relative_defcon,
        detector_defcon: row.detector_defcon,
        relative_score: row.relative_score,
    };
    ProbeResult {
        row: TallyRow {
            probe: row.probe,
            detector: row.detector,
            passed: row.passed,
            failed: row.failed,
            nones: row.nones,
            evaluated: row.evaluated,
            grades: (grades != Grades::default()).then_some(grades),
        },
        evaluated_at: row.evaluated_at,
    }
}
