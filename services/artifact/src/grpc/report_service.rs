//! `aegis.report.v1.ReportService`.

use std::pin::Pin;

use aegis_mesh::{PageTokens, Result, page_size, principal_of};
use aegis_proto::report::v1::{self as pb, report_service_server::ReportService};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tonic::{Request, Response, Status};

use super::convert;
use crate::domain::attempts::{Attempts, Query};
use crate::domain::download::{Downloads, Wanted};
use crate::domain::name::ArtifactName;

/// Longest name of a probe or detector that is looked for.
const MAX_NAME_BYTES: usize = 256;

/// What a scan left behind.
pub(crate) struct ReportApi {
    attempts: Attempts,
    downloads: Downloads,
    tokens: PageTokens,
}

impl ReportApi {
    /// Over these.
    pub(crate) fn new(attempts: Attempts, downloads: Downloads, tokens: PageTokens) -> Self {
        Self {
            attempts,
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
            "ListAttempts",
            project.as_str(),
            &request.scan_id,
            &request.probe,
            &request.detector,
            request.outcome,
        );
        let mut query = query(&request)?;
        query.from = self.tokens.decode(&list, &request.page_token)?.unwrap_or(0);
        let page = self.attempts.list(&project, &query).await?;
        let next = page
            .next
            .map(|next| self.tokens.encode(&list, &next))
            .transpose()?;
        Ok(Response::new(pb::ListAttemptsResponse {
            attempts: page
                .attempts
                .into_iter()
                .map(convert::attempt_message)
                .collect(),
            next_page_token: next.unwrap_or_default(),
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
        _request: Request<pb::GetAttemptRequest>,
    ) -> Reply<pb::GetAttemptResponse> {
        Err(Status::unimplemented("GetAttempt"))
    }

    async fn list_findings(
        &self,
        _request: Request<pb::ListFindingsRequest>,
    ) -> Reply<pb::ListFindingsResponse> {
        Err(Status::unimplemented("ListFindings"))
    }

    async fn get_workflow(
        &self,
        _request: Request<pb::GetWorkflowRequest>,
    ) -> Reply<pb::GetWorkflowResponse> {
        Err(Status::unimplemented("GetWorkflow"))
    }

    async fn create_artifact_link(
        &self,
        _request: Request<pb::CreateArtifactLinkRequest>,
    ) -> Reply<pb::CreateArtifactLinkResponse> {
        Err(Status::unimplemented("CreateArtifactLink"))
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

fn query(request: &pb::ListAttemptsRequest) -> Result<Query> {
    if request.probe.is_empty() {
        return Err(convert::invalid("probe", "required"));
    }
    for (field, name) in [("probe", &request.probe), ("detector", &request.detector)] {
        if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            let what = format!("not {MAX_NAME_BYTES} printable bytes at most");
            return Err(convert::invalid(field, what));
        }
    }
    Ok(Query {
        scan: convert::id("scan_id", &request.scan_id)?,
        probe: request.probe.clone(),
        detector: Some(request.detector.clone()).filter(|detector| !detector.is_empty()),
        outcome: convert::outcome(request.outcome)?,
        from: 0,
        page_size: page_size(request.page_size)? as usize,
    })
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
