//! `aegis.internal.artifact.v1.SourceService`.

use aegis_mesh::{Result, principal_of};
use aegis_proto::internal::artifact::v1::{self as pb, source_service_server::SourceService};
use tonic::{Request, Response, Status};

use super::convert;
use crate::domain::custom_source::{SourceLease, Sources};

/// Sources, for the orchestrator and for runners.
pub(crate) struct SourceApi(Sources);

impl SourceApi {
    /// Over these.
    pub(crate) fn new(sources: Sources) -> Self {
        Self(sources)
    }
}

#[tonic::async_trait]
impl SourceService for SourceApi {
    async fn put_source(
        &self,
        request: Request<pb::PutSourceRequest>,
    ) -> Result<Response<pb::PutSourceResponse>, Status> {
        let project = principal_of(&request)?.project;
        let source = request.into_inner().source;
        let sha256 = self.0.put(&project, source).await?;
        Ok(Response::new(pb::PutSourceResponse { sha256 }))
    }

    async fn get_source(
        &self,
        request: Request<pb::GetSourceRequest>,
    ) -> Result<Response<pb::GetSourceResponse>, Status> {
        let project = principal_of(&request)?.project;
        let source = self.0.get(&project, &request.get_ref().sha256).await?;
        Ok(Response::new(pb::GetSourceResponse { source }))
    }

    async fn read_task_source(
        &self,
        request: Request<pb::ReadTaskSourceRequest>,
    ) -> Result<Response<pb::ReadTaskSourceResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let lease = request.lease;
        let lease = lease.ok_or_else(|| convert::invalid("lease", "required"))?;
        let lease = SourceLease {
            task: lease.task_id,
            scan: lease.scan_id,
            epoch: lease.epoch,
            token: lease.token,
        };
        let read = self.0.get_leased(&project, &lease, &request.sha256);
        let source = read.await?;
        Ok(Response::new(pb::ReadTaskSourceResponse { source }))
    }
}
