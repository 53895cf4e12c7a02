use std::pin::Pin;

use aegis_mesh::Error;
use aegis_proto::{
    common::v1::Checksum,
    report::v1::{
        Artifact, CreateArtifactLinkRequest, CreateArtifactLinkResponse, GetAttemptRequest,
        GetAttemptResponse, GetWorkflowRequest, GetWorkflowResponse, ListArtifactsRequest,
        ListArtifactsResponse, ListAttemptsRequest, ListAttemptsResponse, ListFindingsRequest,
        ListFindingsResponse, ReadArtifactRequest, ReadArtifactResponse,
        report_service_server::ReportService,
    },
};
use bytes::Bytes;
use futures_util::{Stream, stream};
use tonic::{Request, Response, Status};

use super::Fake;

type Read = Pin<Box<dyn Stream<Item = Result<ReadArtifactResponse, Status>> + Send>>;

/// The newest revision of every report.
pub(crate) const NEWEST: i32 = 2;
const CHUNK: usize = 64 << 10;

/// The bytes of a revision: not a whole number of chunks, and different at every place.
pub(crate) fn content(revision: i32) -> Vec<u8> {
    let numbers = 0_u32..50_000;
    numbers
        .flat_map(|number| (number ^ revision as u32).to_be_bytes())
        .collect()
}

#[tonic::async_trait]
impl ReportService for Fake {
    async fn list_attempts(
        &self,
        request: Request<ListAttemptsRequest>,
    ) -> Result<Response<ListAttemptsResponse>, Status> {
        self.saw("ListAttempts", &request);
        Ok(Response::new(Default::default()))
    }

    async fn list_artifacts(
        &self,
        request: Request<ListArtifactsRequest>,
    ) -> Result<Response<ListArtifactsResponse>, Status> {
        self.saw("ListArtifacts", &request);
        Ok(Response::new(Default::default()))
    }

    async fn get_attempt(
        &self,
        request: Request<GetAttemptRequest>,
    ) -> Result<Response<GetAttemptResponse>, Status> {
        self.saw("GetAttempt", &request);
        Ok(Response::new(Default::default()))
    }

    async fn list_findings(
        &self,
        request: Request<ListFindingsRequest>,
    ) -> Result<Response<ListFindingsResponse>, Status> {
        self.saw("ListFindings", &request);
        Ok(Response::new(Default::default()))
    }

    async fn get_workflow(
        &self,
        request: Request<GetWorkflowRequest>,
    ) -> Result<Response<GetWorkflowResponse>, Status> {
        self.saw("GetWorkflow", &request);
        Ok(Response::new(Default::default()))
    }

    async fn create_artifact_link(
        &self,
        request: Request<CreateArtifactLinkRequest>,
    ) -> Result<Response<CreateArtifactLinkResponse>, Status> {
        self.saw("CreateArtifactLink", &request);
        let asked = request.into_inner();
        match asked.scan_id.as_str() {
            "directory" => {
                let text = "artifacts lie in a directory";
                Err(Error::failed_precondition("LINKS_UNSUPPORTED", text).into())
            }
            "missing" => Err(Error::not_found("scan", "missing").into()),
            _ => Ok(Response::new(CreateArtifactLinkResponse {
                url: format!("https://store.example/{}?signed", asked.name),
                expire_time: None,
            })),
        }
    }

    type ReadArtifactStream = Read;

    async fn read_artifact(
        &self,
        request: Request<ReadArtifactRequest>,
    ) -> Result<Response<Read>, Status> {
        self.saw("ReadArtifact", &request);
        let asked = request.into_inner();
        let revision = if asked.revision == 0 {
            NEWEST
        } else {
            asked.revision
        };
        if asked.scan_id == "missing" || revision > NEWEST {
            return Err(Error::not_found("artifact", &asked.name).into());
        }
        let bytes = content(revision);
        let artifact = artifact(&asked, revision, bytes.len() as i64);
        let end = match asked.read_limit {
            0 => bytes.len(),
            limit => (asked.read_offset + limit) as usize,
        };
        let mut bytes = bytes[asked.read_offset as usize..end].to_vec();
        if asked.scan_id == "damaged" {
            bytes.truncate(bytes.len() / 2);
        }
        let first = ReadArtifactResponse {
            artifact: Some(artifact),
            data: Bytes::new(),
        };
        let data = |chunk: &[u8]| ReadArtifactResponse {
            artifact: None,
            data: Bytes::copy_from_slice(chunk),
        };
        let messages: Vec<_> = [first]
            .into_iter()
            .chain(bytes.chunks(CHUNK).map(data))
            .map(Ok)
            .collect();
        Ok(Response::new(Box::pin(stream::iter(messages))))
    }
}

fn artifact(asked: &ReadArtifactRequest, revision: i32, size_bytes: i64) -> Artifact {
    let media_type = match asked.name.ends_with(".html") {
        true => "text/html; charset=utf-8",
        false => "application/jsonl",
    };
    Artifact {
        name: asked.name.clone(),
        file_name: format!("garak.{}.{}", asked.scan_id, asked.name),
        media_type: media_type.into(),
        revision,
        checksum: Some(Checksum {
            sha256: format!("{revision:064x}"),
            size_bytes,
        }),
        create_time: None,
    }
}
