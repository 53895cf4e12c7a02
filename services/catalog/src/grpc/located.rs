//! Between messages and what the store says of where attempts lie.

use aegis_mesh::Result;
use aegis_proto::internal::catalog::v1 as proto;

use super::{artifacts::stored, check, view};
use crate::{
    domain::{
        event::{Event, LoggedEvent},
        refusal::invalid_field,
    },
    store::{FindingQuery, FindingReport, LocatedReport, ScanPosition},
};

const MAX_REPORTS: i32 = 100;

pub(super) fn located(report: LocatedReport) -> proto::LocatedReport {
    proto::LocatedReport {
        artifact: Some(stored(report.artifact)),
        probe: report.probe,
    }
}

pub(super) fn query(request: proto::ListFindingReportsRequest) -> Result<FindingQuery> {
    let after = request.after.map(|after| -> Result<_> {
        Ok(ScanPosition {
            created_at: after.created_at,
            id: check::scan_id(&after.scan_id)?,
        })
    });
    let limit = check::within("limit", request.limit, 1..=MAX_REPORTS)?;
    Ok(FindingQuery {
        target_type: check::required("target_type", &request.target_type, 200)?,
        target_name: check::optional("target_name", &request.target_name, 1_000)?,
        probe: check::required("probe", &request.probe, 200)?,
        detector: check::optional("detector", &request.detector, 200)?,
        after: after.transpose()?,
        limit: usize::try_from(limit).map_err(|_| invalid_field("limit", "must be positive"))?,
    })
}

pub(super) fn finding(report: FindingReport) -> proto::FindingReport {
    proto::FindingReport {
        artifact: Some(stored(report.artifact)),
        eval_threshold: report.eval_threshold,
        position: Some(position(report.position)),
        scan_end_time: report.ended_at.map(view::timestamp),
    }
}

pub(super) fn position(position: ScanPosition) -> proto::ScanPosition {
    proto::ScanPosition {
        created_at: position.created_at,
        scan_id: position.id.to_string(),
    }
}

pub(super) fn moment(logged: LoggedEvent) -> proto::ScanMoment {
    let kind = match &logged.event {
        Event::StateChanged { to, .. } => format!("SCAN_{to}"),
        other => other.kind().to_owned(),
    };
    let probe = match logged.event {
        Event::ProbeStarted { probe, .. }
        | Event::ProbeEvaluated { probe, .. }
        | Event::ProbeNotEvaluated { probe, .. }
        | Event::TaskRetried { probe, .. } => probe,
        _ => String::new(),
    };
    proto::ScanMoment {
        time: Some(view::timestamp(logged.at)),
        probe,
        kind,
    }
}
