//! The log as users see it.

use aegis_proto::{
    ids::ScanId,
    scan::v1::{self as proto, scan_event::Kind},
};

use super::view::{state, timestamp};
use crate::domain::event::{Event, LoggedEvent};

pub(crate) fn event(scan: ScanId, logged: LoggedEvent) -> proto::ScanEvent {
    proto::ScanEvent {
        scan_id: scan.to_string(),
        sequence: logged.sequence,
        occur_time: Some(timestamp(logged.at)),
        task_id: logged
            .source
            .map_or_else(String::new, |source| source.task.to_string()),
        epoch: logged.source.map_or(0, |source| source.epoch.0),
        kind: Some(kind(logged.event)),
    }
}

fn kind(event: Event) -> Kind {
    match event {
        Event::StateChanged { from, to, reason } => Kind::StateChanged(proto::StateChanged {
            from: from.map_or(proto::scan::State::Unspecified, state).into(),
            to: state(to).into(),
            reason,
        }),
        Event::ProbeStarted { probe, runner } => {
            Kind::ProbeStarted(proto::ProbeStarted { probe, runner })
        }
        Event::DetectorFinished { probe, detector } => {
            Kind::DetectorFinished(proto::DetectorFinished { probe, detector })
        }
        Event::ProbeEvaluated { probe, detectors } => {
            let detectors = detectors.into_iter().map(|counts| proto::DetectorResult {
                detector: counts.detector,
                passed: counts.passed,
                failed: counts.failed,
                nones: counts.nones,
            });
            Kind::ProbeEvaluated(proto::ProbeEvaluated {
                probe,
                detectors: detectors.collect(),
            })
        }
        Event::ProbeNotEvaluated {
            probe,
            reason,
            message,
        } => Kind::ProbeNotEvaluated(proto::ProbeNotEvaluated {
            not_evaluated: Some(proto::NotEvaluated {
                probe,
                reason,
                message,
            }),
        }),
        Event::TaskRetried {
            probe,
            reason,
            not_before,
        } => Kind::TaskRetried(proto::TaskRetried {
            probe,
            reason,
            not_before: Some(timestamp(not_before)),
        }),
        Event::ReportReady {
            revision,
            artifacts,
        } => Kind::ReportReady(proto::ReportReady {
            report: Some(proto::Report {
                state: proto::report::State::Ready.into(),
                revision,
                artifacts,
                reason: String::new(),
            }),
        }),
        Event::ReportFailed { reason } => Kind::ReportFailed(proto::ReportFailed { reason }),
        Event::Waiting { reason } => Kind::Waiting(proto::Waiting { reason }),
    }
}
