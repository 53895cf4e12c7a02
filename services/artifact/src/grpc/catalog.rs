//! The registry, as catalog serves it.

use aegis_mesh::{ClientConfig, Error, MeshChannel, Result, RetryPolicy, retry, sized};
use aegis_proto::ids::{ArtifactId, ProjectId, ScanId};
use aegis_proto::internal::catalog::v1 as pb;
use aegis_proto::internal::catalog::v1::artifact_registry_service_client::ArtifactRegistryServiceClient;
use async_trait::async_trait;

use super::convert;
use crate::domain::checksum::Checksum;
use crate::domain::name::ArtifactName;
use crate::domain::registry::{
    FindingReport, FindingReportQuery, Lease, Moment, Registry, ReportPart, ReportParts,
    ReportTally, ScanPosition, Source, Staged, StoredArtifact,
};

/// The catalog's rows of artifacts. Every call is an intent that may be sent again, and is while
/// the catalog is away, for as long as the caller's own time allows.
#[derive(Debug, Clone)]
pub(crate) struct CatalogRegistry(ArtifactRegistryServiceClient<MeshChannel>);

impl CatalogRegistry {
    /// Over this channel, with the bounds of `config`.
    pub(crate) fn new(channel: MeshChannel, config: &ClientConfig) -> Self {
        Self(sized!(ArtifactRegistryServiceClient::new(channel), config))
    }
}

/// Calls a method, again if need be.
macro_rules! call {
    ($self:ident, $method:ident, $request:expr) => {{
        let request = $request;
        let answer = retry(RetryPolicy::default(), || {
            let (mut client, request) = ($self.0.clone(), request.clone());
            async move {
                Ok(client
                    .$method(request)
                    .await
                    .map_err(Error::from)?
                    .into_inner())
            }
        });
        answer.await?
    }};
}

#[async_trait]
impl Registry for CatalogRegistry {
    async fn stage(
        &self,
        project: &ProjectId,
        lease: &Lease,
        name: ArtifactName,
    ) -> Result<Staged> {
        let lease = Some(convert::lease_message(lease));
        let request = pb::StageArtifactRequest {
            lease,
            name: name.to_string(),
        };
        let answer = call!(self, stage_artifact, request);
        Ok(Staged {
            artifact: convert::stored(project, answer.artifact)?,
            complete: answer.complete,
            upload_deadline: convert::time(answer.upload_deadline)?,
            eval_threshold: answer.eval_threshold,
        })
    }

    async fn complete(
        &self,
        lease: &Lease,
        artifact: ArtifactId,
        checksum: &Checksum,
        tally: Option<&ReportTally>,
    ) -> Result<()> {
        let request = pb::CompleteArtifactRequest {
            lease: Some(convert::lease_message(lease)),
            artifact_id: artifact.to_string(),
            checksum: Some(convert::checksum_message(checksum)),
            tally: tally.map(convert::tally_message),
        };
        call!(self, complete_artifact, request);
        Ok(())
    }

    async fn report_parts(&self, project: &ProjectId, lease: &Lease) -> Result<ReportParts> {
        let request = pb::ListReportPartsRequest {
            lease: Some(convert::lease_message(lease)),
        };
        let answer = call!(self, list_report_parts, request);
        let part = |part: pb::ReportPart| -> Result<ReportPart> {
            let hitlog = part
                .hitlog
                .map(|hitlog| convert::stored(project, Some(hitlog)));
            Ok(ReportPart {
                probe: part.probe,
                report: convert::stored(project, part.report)?,
                hitlog: hitlog.transpose()?,
            })
        };
        Ok(ReportParts {
            scan: answer.scan_id.parse().map_err(Error::internal)?,
            parts: answer.parts.into_iter().map(part).collect::<Result<_>>()?,
            include: answer.include,
            exclude: answer.exclude,
            eval_threshold: answer.eval_threshold,
        })
    }

    async fn report_artifacts(
        &self,
        project: &ProjectId,
        scan: ScanId,
        revision: i32,
    ) -> Result<Vec<StoredArtifact>> {
        let request = pb::ListReportArtifactsRequest {
            scan_id: scan.to_string(),
            revision,
        };
        let answer = call!(self, list_report_artifacts, request);
        let stored = answer
            .artifacts
            .into_iter()
            .map(|row| convert::stored(project, Some(row)));
        stored.collect()
    }

    async fn locate(&self, project: &ProjectId, scan: ScanId, probe: &str) -> Result<Source> {
        let request = pb::LocateProbeReportRequest {
            scan_id: scan.to_string(),
            probe: probe.to_owned(),
        };
        let answer = call!(self, locate_probe_report, request);
        Ok(Source {
            report: convert::stored(project, answer.artifact)?,
            probe: Some(probe.to_owned()),
            eval_threshold: answer.eval_threshold,
        })
    }

    async fn locate_all(&self, project: &ProjectId, scan: ScanId) -> Result<Vec<Source>> {
        let scan_id = scan.to_string();
        let answer = call!(self, locate_reports, pb::LocateReportsRequest { scan_id });
        let source = |located: pb::LocatedReport| -> Result<Source> {
            Ok(Source {
                report: convert::stored(project, located.artifact)?,
                probe: Some(located.probe).filter(|probe| !probe.is_empty()),
                eval_threshold: answer.eval_threshold,
            })
        };
        answer.reports.into_iter().map(source).collect()
    }

    async fn finding_reports(
        &self,
        project: &ProjectId,
        query: &FindingReportQuery,
    ) -> Result<(Vec<FindingReport>, Option<ScanPosition>)> {
        let request = pb::ListFindingReportsRequest {
            target_type: query.target_type.clone(),
            target_name: query.target_name.clone(),
            probe: query.probe.clone(),
            detector: query.detector.clone().unwrap_or_default(),
            limit: i32::try_from(query.limit).map_err(Error::internal)?,
            after: query.after.map(convert::position_message),
        };
        let answer = call!(self, list_finding_reports, request);
        let report = |found: pb::FindingReport| -> Result<FindingReport> {
            Ok(FindingReport {
                source: Source {
                    report: convert::stored(project, found.artifact)?,
                    probe: Some(query.probe.clone()),
                    eval_threshold: found.eval_threshold,
                },
                position: convert::position(found.position)?,
                scan_end_time: convert::time(found.scan_end_time)?,
            })
        };
        let next = answer.next.map(|next| convert::position(Some(next)));
        let reports = answer.reports.into_iter().map(report);
        Ok((reports.collect::<Result<_>>()?, next.transpose()?))
    }

    async fn moments(&self, _project: &ProjectId, scan: ScanId) -> Result<Vec<Moment>> {
        let scan_id = scan.to_string();
        let answer = call!(
            self,
            list_scan_moments,
            pb::ListScanMomentsRequest { scan_id }
        );
        let moment = |moment: pb::ScanMoment| -> Result<Moment> {
            Ok(Moment {
                time: convert::time(moment.time)?,
                probe: moment.probe,
                kind: moment.kind,
            })
        };
        answer.moments.into_iter().map(moment).collect()
    }
}
