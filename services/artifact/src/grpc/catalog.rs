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
    Lease, Located, Registry, ReportPart, ReportParts, ReportTally, Staged, StoredArtifact,
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

    async fn locate(&self, project: &ProjectId, scan: ScanId, probe: &str) -> Result<Located> {
        let (scan_id, probe) = (scan.to_string(), probe.to_owned());
        let answer = call!(
            self,
            locate_probe_report,
            pb::LocateProbeReportRequest { scan_id, probe }
        );
        Ok(Located {
            report: convert::stored(project, answer.artifact)?,
            eval_threshold: answer.eval_threshold,
        })
    }
}
