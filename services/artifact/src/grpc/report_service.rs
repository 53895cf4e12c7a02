//! `aegis.report.v1.ReportService`.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use aegis_mesh::{PageTokens, Result, principal_of};
use aegis_proto::report::v1::{self as pb, report_service_server::ReportService};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tonic::{Request, Response, Status};

use super::{convert, reading};
use crate::domain::download::{Downloads, Wanted};
use crate::domain::name::ArtifactName;
use crate::domain::reading::Reports;

/// What a scan left behind.
pub(crate) struct ReportApi {
    reports: Reports,
    downloads: Downloads,
    tokens: PageTokens,
}

impl ReportApi {
    /// Over these.
    pub(crate) fn new(reports: Reports, downloads: Downloads, tokens: PageTokens) -> Self {
        Self {
            reports,
            downloads,
            tokens,
        }
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ReportService for ReportApi {
    async fn list_attempts(
        &self,
        request: Request<pb::ListAttemptsRequest>,
    ) -> Reply<pb::ListAttemptsResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let list = (
            ("ListAttempts", project.as_str(), &request.scan_id),
            (&request.probe, &request.detector, request.outcome),
            (&request.text, request.order_by),
        );
        let mut query = reading::attempts_query(&request)?;
        query.from = self.tokens.decode(&list, &request.page_token)?;
        let page = self.reports.list(&project, &query).await?;
        let next = page.next.map(|next| self.tokens.encode(&list, &next));
        let attempts = page.attempts.into_iter();
        Ok(Response::new(pb::ListAttemptsResponse {
            attempts: attempts.map(convert::attempt_message).collect(),
            next_page_token: next.transpose()?.unwrap_or_default(),
        }))
    }

    async fn list_artifacts(
        &self,
        request: Request<pb::ListArtifactsRequest>,
    ) -> Reply<pb::ListArtifactsResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let scan = convert::id("scan_id", &request.scan_id)?;
        let revision = revision(request.revision)?;
        let artifacts = self.downloads.list(&project, scan, revision).await?;
        let artifacts = artifacts.iter().map(convert::artifact_message).collect();
        Ok(Response::new(pb::ListArtifactsResponse { artifacts }))
    }

    async fn get_attempt(
        &self,
        request: Request<pb::GetAttemptRequest>,
    ) -> Reply<pb::GetAttemptResponse> {
        let project = principal_of(&request)?.project;
        let query = reading::attempt_query(request.into_inner())?;
        let attempt = self.reports.attempt(&project, &query).await?;
        Ok(Response::new(pb::GetAttemptResponse {
            attempt: Some(convert::whole_attempt_message(attempt)),
        }))
    }

    async fn list_findings(
        &self,
        request: Request<pb::ListFindingsRequest>,
    ) -> Reply<pb::ListFindingsResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let list = (
            ("ListFindings", project.as_str()),
            (&request.target_type, &request.target_name),
            (&request.probe, &request.detector),
        );
        let mut query = reading::finding_query(&request)?;
        query.from = self.tokens.decode(&list, &request.page_token)?;
        let page = self.reports.findings(&project, &query).await?;
        let next = page.next.map(|next| self.tokens.encode(&list, &next));
        let findings = page.findings.into_iter();
        Ok(Response::new(pb::ListFindingsResponse {
            findings: findings.map(reading::finding_message).collect(),
            next_page_token: next.transpose()?.unwrap_or_default(),
        }))
    }

    async fn get_workflow(
        &self,
        request: Request<pb::GetWorkflowRequest>,
    ) -> Reply<pb::GetWorkflowResponse> {
        let project = principal_of(&request)?.project;
        let query = reading::workflow_query(request.into_inner())?;
        let workflow = self.reports.workflow(&project, &query).await?;
        Ok(Response::new(pb::GetWorkflowResponse {
            mermaid: workflow.mermaid(),
            workflow: Some(reading::workflow_message(workflow)),
        }))
    }

    async fn create_artifact_link(
        &self,
        request: Request<pb::CreateArtifactLinkRequest>,
    ) -> Reply<pb::CreateArtifactLinkResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let wanted = Wanted {
            scan: convert::id("scan_id", &request.scan_id)?,
            name: ArtifactName::parse_public(&request.name)?,
            revision: revision(request.revision)?,
        };
        let ttl = link_ttl(request.ttl)?;
        // Before it is made: what is promised is not longer than what holds.
        let expires = SystemTime::now() + ttl;
        let url = self.downloads.link(&project, wanted, ttl).await?;
        Ok(Response::new(pb::CreateArtifactLinkResponse {
            url,
            expire_time: Some(expires.into()),
        }))
    }

    type ReadArtifactStream =
        Pin<Box<dyn Stream<Item = Result<pb::ReadArtifactResponse, Status>> + Send>>;

    async fn read_artifact(
        &self,
        request: Request<pb::ReadArtifactRequest>,
    ) -> Reply<Self::ReadArtifactStream> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let wanted = Wanted {
            scan: convert::id("scan_id", &request.scan_id)?,
            name: ArtifactName::parse_public(&request.name)?,
            revision: revision(request.revision)?,
        };
        let offset = convert::unsigned("read_offset", request.read_offset)?;
        let limit = convert::unsigned("read_limit", request.read_limit)?;
        let limit = (limit > 0).then_some(limit);
        let (artifact, bytes) = self.downloads.read(&project, wanted, offset, limit).await?;
        let artifact = Some(convert::artifact_message(&artifact));
        let first = pb::ReadArtifactResponse {
            artifact,
            ..Default::default()
        };
        let later = bytes.map_ok(|data| pb::ReadArtifactResponse {
            artifact: None,
            data,
        });
        let later = later.map_err(|error| Status::from(aegis_mesh::Error::from(error)));
        Ok(Response::new(Box::pin(
            stream::once(async { Ok(first) }).chain(later),
        )))
    }
}

/// 1 s to 7 days, as S3 has it; 15 minutes when nothing is asked for.
fn link_ttl(ttl: Option<prost_types::Duration>) -> Result<Duration> {
    const DEFAULT: Duration = Duration::from_secs(15 * 60);
    const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
    let Some(ttl) = ttl else { return Ok(DEFAULT) };
    let asked = Duration::try_from(ttl).ok();
    let fits = asked.filter(|ttl| (Duration::from_secs(1)..=LONGEST).contains(ttl));
    fits.ok_or_else(|| convert::invalid("ttl", "must be 1 s to 7 days"))
}

fn revision(revision: i32) -> Result<i32> {
    if revision < 0 {
        return Err(convert::invalid(
            "revision",
            format!("{revision} is less than 0"),
        ));
    }
    Ok(revision)
}
