//! Scans and results as users see them.

use aegis_mesh::{Error, Result};
use aegis_proto::scan::v1 as proto;

use crate::domain::{
    scan::{
        CustomProbeVersion, Failure, NotEvaluated, ProbeProgress, ReportState, ReportStatus,
        ScanState, ScanView, Totals,
    },
    tally::{Grades, ProbeResult},
    task::ProbeState,
};

pub(crate) fn timestamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: ms.div_euclid(1_000),
        // Less than 1,000 million: it fits.
        nanos: (ms.rem_euclid(1_000) * 1_000_000) as i32,
    }
}

pub(crate) fn spec(json: serde_json::Value) -> Result<proto::ScanSpec> {
    aegis_proto::json::from_json(json).map_err(Error::internal)
}

/// A scan with all that its view has.
pub(crate) fn scan(view: ScanView) -> Result<proto::Scan> {
    let progress = progress(&view);
    let original = view.scan.original.clone().unwrap_or_default();
    let json = |value: Option<serde_json::Value>| {
        let value = value.map(aegis_proto::json::object_from_json).transpose();
        value.map_err(Error::internal)
    };
    let ScanView {
        scan,
        waiting,
        not_evaluated,
        ..
    } = view;
    Ok(proto::Scan {
        scan_id: scan.id.to_string(),
        etag: scan.etag(),
        spec: Some(spec(scan.spec)?),
        state: state(scan.state).into(),
        coverage: Some(proto::Coverage {
            planned: scan.planned,
            evaluated: scan.evaluated,
            not_evaluated: not_evaluated.into_iter().map(not_evaluated_probe).collect(),
        }),
        totals: Some(totals(scan.totals)),
        progress: Some(progress),
        failure: scan.failure.map(failure),
        last_sequence: scan.last_sequence,
        labels: scan.labels.into_iter().collect(),
        project_id: scan.project.to_string(),
        garak_version: scan.garak_version,
        plugin_catalogue: scan.plugin_catalogue,
        waiting_reason: waiting.map_or_else(String::new, |waiting| waiting.reason.to_string()),
        report: report(scan.report),
        created_by: scan.created_by,
        effective_seed: scan.effective_seed,
        effective_eval_threshold: scan.effective_eval_threshold,
        display_name: scan.display_name,
        create_time: Some(timestamp(scan.created_at)),
        start_time: scan.started_at.map(timestamp),
        end_time: scan.ended_at.map(timestamp),
        delete_time: scan.deleted_at.map(timestamp),
        purge_time: scan.purge_at.map(timestamp),
        pause_time: scan.paused_at.map(timestamp),
        template: scan.template,
        template_version: scan.template_version,
        defcon: scan.defcon,
        custom_probes: scan.custom_probes.into_iter().map(custom_probe).collect(),
        imported: scan.imported,
        original_options: json(original.options)?,
        original_counts: json(original.counts)?,
    })
}

pub(crate) fn custom_probe(version: CustomProbeVersion) -> proto::CustomProbeVersion {
    proto::CustomProbeVersion {
        name: version.name,
        version: version.version,
        sha256: version.sha256,
    }
}

pub(crate) fn progress(view: &ScanView) -> proto::Progress {
    let (scan, waiting) = (&view.scan, view.waiting.as_ref());
    proto::Progress {
        attempts_done: view.attempts_done,
        attempts_total: view.attempts_total,
        tasks_done: scan.evaluated + scan.not_evaluated,
        tasks_total: scan.planned,
        probes: view.probes.iter().map(probe_progress).collect(),
        waiting_reason: waiting.map_or_else(String::new, |waiting| waiting.reason.to_string()),
        waiting_since: waiting.and_then(|waiting| waiting.since).map(timestamp),
        queue_place: waiting.and_then(|waiting| waiting.place).unwrap_or(0),
    }
}

fn probe_progress(probe: &ProbeProgress) -> proto::ProbeProgress {
    use proto::probe_progress::State;
    let state = match probe.state {
        ProbeState::Queued => State::Queued,
        ProbeState::Running => State::Running,
        ProbeState::Evaluated => State::Evaluated,
        ProbeState::NotEvaluated => State::NotEvaluated,
    };
    proto::ProbeProgress {
        probe: probe.probe.clone(),
        attempts_done: probe.attempts_done,
        attempts_total: probe.attempts_total,
        state: state.into(),
        target_retries: probe.target_retries,
    }
}

fn not_evaluated_probe(probe: NotEvaluated) -> proto::NotEvaluated {
    proto::NotEvaluated {
        probe: probe.probe,
        reason: probe.reason,
        message: probe.message,
    }
}

fn totals(totals: Totals) -> proto::Totals {
    proto::Totals {
        passed: totals.passed,
        failed: totals.failed,
        nones: totals.nones,
        pass_rate: totals.pass_rate(),
    }
}

fn failure(failure: Failure) -> proto::Failure {
    proto::Failure {
        reason: failure.reason,
        message: failure.message,
        hint: failure.hint,
    }
}

fn report(report: ReportStatus) -> Option<proto::Report> {
    use proto::report::State;
    let state = match report.state {
        ReportState::None => return None,
        ReportState::Pending => State::Pending,
        ReportState::Ready => State::Ready,
        ReportState::Failed => State::Failed,
    };
    Some(proto::Report {
        state: state.into(),
        revision: report.revision,
        artifacts: report.artifacts,
        reason: report.reason,
    })
}

pub(crate) fn state(state: ScanState) -> proto::scan::State {
    use proto::scan::State;
    match state {
        ScanState::Pending => State::Pending,
        ScanState::Running => State::Running,
        ScanState::Paused => State::Paused,
        ScanState::Cancelling => State::Cancelling,
        ScanState::Completed => State::Completed,
        ScanState::Failed => State::Failed,
        ScanState::Cancelled => State::Cancelled,
    }
}

/// `None` when it is unspecified.
pub(crate) fn state_of(state: proto::scan::State) -> Option<ScanState> {
    use proto::scan::State;
    Some(match state {
        State::Pending => ScanState::Pending,
        State::Running => ScanState::Running,
        State::Paused => ScanState::Paused,
        State::Cancelling => ScanState::Cancelling,
        State::Completed => ScanState::Completed,
        State::Failed => ScanState::Failed,
        State::Cancelled => ScanState::Cancelled,
        State::Unspecified => return None,
    })
}

pub(crate) fn result(result: ProbeResult) -> proto::ProbeResult {
    let pass_rate = result.row.pass_rate();
    proto::ProbeResult {
        probe: result.row.probe,
        detector: result.row.detector,
        passed: result.row.passed,
        failed: result.row.failed,
        nones: result.row.nones,
        evaluated: result.row.evaluated,
        pass_rate,
        grades: result.row.grades.map(grades),
        evaluate_time: Some(timestamp(result.evaluated_at)),
    }
}

fn grades(grades: Grades) -> proto::Grades {
    proto::Grades {
        absolute_defcon: grades.absolute_defcon,
        relative_defcon: grades.relative_defcon,
        detector_defcon: grades.detector_defcon,
        relative_score: grades.relative_score,
    }
}
