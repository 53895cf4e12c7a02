//! ArtifactRegistryService: the rows of artifacts.

use aegis_mesh::{Result, principal_of};
use aegis_proto::{
    common::v1::Checksum as ProtoChecksum,
    internal::catalog::v1::{
        self as proto, CompleteArtifactRequest, CompleteArtifactResponse,
        ListFindingReportsRequest, ListFindingReportsResponse, ListReportArtifactsRequest,
        ListReportArtifactsResponse, ListReportPartsRequest, ListReportPartsResponse,
        ListScanMomentsRequest, ListScanMomentsResponse, LocateProbeReportRequest,
        LocateProbeReportResponse, LocateReportsRequest, LocateReportsResponse,
        StageArtifactRequest, StageArtifactResponse, StoredArtifact,
        artifact_registry_service_server::ArtifactRegistryService,
    },
};
use tonic::{Request, Response, Status};

use super::{check, located, view};
use crate::{
    domain::{
        artifact::{Artifact, ArtifactName, Checksum, ReportPart},
        refusal::invalid_field,
        tally::{Grades, Tally, TallyRow},
    },
    store::Store,
};

/// More than probes times detectors of a whole garak.
const MAX_TALLY_ROWS: usize = 20_000;

/// ArtifactRegistryService on a store.
pub(crate) struct Artifacts {
    pub(crate) store: Store,
}

#[tonic::async_trait]
impl ArtifactRegistryService for Artifacts {
    async fn stage_artifact(
        &self,
        request: Request<StageArtifactRequest>,
    ) -> Result<Response<StageArtifactResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let lease = check::lease(request.lease)?;
        let name = name(&request.name)?;
        let staged = self.store.stage(&project, &lease, name).await?;
        Ok(Response::new(StageArtifactResponse {
            upload_deadline: Some(view::timestamp(staged.artifact.upload_deadline)),
            complete: staged.complete,
            eval_threshold: staged.eval_threshold,
            artifact: Some(stored(staged.artifact)),
        }))
    }

    async fn complete_artifact(
        &self,
        request: Request<CompleteArtifactRequest>,
    ) -> Result<Response<CompleteArtifactResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let lease = check::lease(request.lease)?;
        let id = check::artifact_id("artifact_id", &request.artifact_id)?;
        let checksum = checksum(request.checksum)?;
        let tally = request.tally.map(tally).transpose()?;
        let artifact = self
            .store
            .complete(&project, &lease, id, &checksum, tally.as_ref())
            .await?;
        Ok(Response::new(CompleteArtifactResponse {
            artifact: Some(stored(artifact)),
        }))
    }

    async fn list_report_parts(
        &self,
        request: Request<ListReportPartsRequest>,
    ) -> Result<Response<ListReportPartsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let lease = check::lease(request.into_inner().lease)?;
        let found = self.store.report_parts(&project, &lease).await?;
        let spec = view::spec(found.spec)?;
        Ok(Response::new(ListReportPartsResponse {
            scan_id: found.scan.to_string(),
            revision: found.revision,
            parts: found.parts.into_iter().map(part).collect(),
            include: spec.include,
            exclude: spec.exclude,
            eval_threshold: found.eval_threshold,
        }))
    }

    async fn list_report_artifacts(
        &self,
        request: Request<ListReportArtifactsRequest>,
    ) -> Result<Response<ListReportArtifactsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let id = check::scan_id(&request.scan_id)?;
        let revision = check::within("revision", request.revision, 0..=i32::MAX)?;
        let files = self.store.report_artifacts(&project, id, revision).await?;
        Ok(Response::new(ListReportArtifactsResponse {
            artifacts: files.into_iter().map(stored).collect(),
        }))
    }

    async fn locate_probe_report(
        &self,
        request: Request<LocateProbeReportRequest>,
    ) -> Result<Response<LocateProbeReportResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let id = check::scan_id(&request.scan_id)?;
        let probe = check::required("probe", &request.probe, 200)?;
        let found = self.store.locate(&project, id, &probe).await?;
        Ok(Response::new(LocateProbeReportResponse {
            artifact: Some(stored(found.artifact)),
            eval_threshold: found.eval_threshold,
        }))
    }

    async fn locate_reports(
        &self,
        request: Request<LocateReportsRequest>,
    ) -> Result<Response<LocateReportsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let id = check::scan_id(&request.into_inner().scan_id)?;
        let (reports, eval_threshold) = self.store.locate_all(&project, id).await?;
        Ok(Response::new(LocateReportsResponse {
            reports: reports.into_iter().map(located::located).collect(),
            eval_threshold,
        }))
    }

    async fn list_finding_reports(
        &self,
        request: Request<ListFindingReportsRequest>,
    ) -> Result<Response<ListFindingReportsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let query = located::query(request.into_inner())?;
        let (reports, next) = self.store.finding_reports(&project, &query).await?;
        Ok(Response::new(ListFindingReportsResponse {
            reports: reports.into_iter().map(located::finding).collect(),
            next: next.map(located::position),
        }))
    }

    async fn list_scan_moments(
        &self,
        request: Request<ListScanMomentsRequest>,
    ) -> Result<Response<ListScanMomentsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let id = check::scan_id(&request.into_inner().scan_id)?;
        let moments = self.store.moments(&project, id).await?;
        Ok(Response::new(ListScanMomentsResponse {
            moments: moments.into_iter().map(located::moment).collect(),
        }))
    }
}

fn name(text: &str) -> Result<ArtifactName> {
    text.parse().map_err(|_| {
        invalid_field(
            "name",
            "must be report.jsonl, hitlog.jsonl, report.html or digest.json",
        )
    })
}

pub(super) fn checksum(checksum: Option<ProtoChecksum>) -> Result<Checksum> {
    let checksum = checksum.ok_or_else(|| invalid_field("checksum", "must be set"))?;
    Ok(Checksum {
        sha256: check::sha256("checksum.sha256", &checksum.sha256)?,
        size: check::within("checksum.size_bytes", checksum.size_bytes, 0..=i64::MAX)?,
    })
}

pub(super) fn tally(tally: proto::Tally) -> Result<Tally> {
    check::within("tally.rows", tally.rows.len(), 0..=MAX_TALLY_ROWS)?;
    let mut rows = Vec::with_capacity(tally.rows.len());
    for (index, row) in tally.rows.into_iter().enumerate() {
        rows.push(tally_row(index, row)?);
    }
    Ok(Tally {
        rows,
        attempts: count("tally.attempts", tally.attempts)?,
    })
}

/// A count whose sums over a whole scan still fit in 64 bits.
pub(super) fn count(field: &str, value: i64) -> Result<i64> {
    check::within(field, value, 0..=i64::from(u32::MAX))
}

fn tally_row(index: usize, row: proto::ProbeDetectorTally) -> Result<TallyRow> {
    let field = |name: &str| format!("tally.rows[{index}].{name}");
    Ok(TallyRow {
        probe: check::required(&field("probe"), &row.probe, 200)?,
        detector: check::required(&field("detector"), &row.detector, 200)?,
        passed: count(&field("passed"), row.passed)?,
        failed: count(&field("failed"), row.failed)?,
        nones: count(&field("nones"), row.nones)?,
        evaluated: count(&field("evaluated"), row.evaluated)?,
        grades: row.grades.map(|grades| Grades {
            absolute_defcon: grades.absolute_defcon,
            relative_defcon: grades.relative_defcon,
            detector_defcon: grades.detector_defcon,
            relative_score: grades.relative_score.filter(|score| score.is_finite()),
        }),
    })
}

fn part(part: ReportPart) -> proto::ReportPart {
    proto::ReportPart {
        probe: part.probe,
        report: Some(stored(part.report)),
        hitlog: part.hitlog.map(stored),
    }
}

pub(super) fn stored(artifact: Artifact) -> StoredArtifact {
    StoredArtifact {
        artifact_id: artifact.id.to_string(),
        scan_id: artifact.scan.to_string(),
        name: artifact.name.to_string(),
        object_key: artifact.object_key,
        checksum: artifact.checksum.map(|checksum| ProtoChecksum {
            sha256: checksum.sha256,
            size_bytes: checksum.size,
        }),
        create_time: Some(view::timestamp(artifact.created_at)),
        revision: artifact.revision,
    }
}
