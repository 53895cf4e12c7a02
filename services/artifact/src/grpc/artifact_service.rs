//! `aegis.internal.artifact.v1.ArtifactService`.

use std::pin::Pin;
use std::sync::Arc;

use aegis_mesh::{Error, Result, principal_of};
use aegis_proto::ids::ArtifactId;
use aegis_proto::internal::artifact::v1::{self as pb, artifact_service_server::ArtifactService};
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tonic::{Request, Response, Status, Streaming};

use super::convert;
use crate::domain::checksum::Checksum;
use crate::domain::compose::Composer;
use crate::domain::upload::{Chunk, UploadId, Uploads};

/// Most bytes of one message of an upload.
const MAX_DATA_BYTES: usize = 1 << 20;

/// Bytes, for runners.
pub(crate) struct ArtifactApi {
    uploads: Arc<Uploads>,
    composer: Composer,
}

impl ArtifactApi {
    /// Over these.
    pub(crate) fn new(uploads: Arc<Uploads>, composer: Composer) -> Self {
        Self { uploads, composer }
    }
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl ArtifactService for ArtifactApi {
    async fn start_upload(
        &self,
        request: Request<pb::StartUploadRequest>,
    ) -> Reply<pb::StartUploadResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let lease = convert::lease(request.lease)?;
        let name = request.name.parse()?;
        let size = request
            .size_bytes
            .map(|size| convert::unsigned("size_bytes", size))
            .transpose()?;
        let status = self.uploads.start(&project, &lease, name, size).await?;
        let upload = Some(convert::upload_message(&status));
        Ok(Response::new(pb::StartUploadResponse { upload }))
    }

    async fn write_upload(
        &self,
        request: Request<Streaming<pb::WriteUploadRequest>>,
    ) -> Reply<pb::WriteUploadResponse> {
        let project = principal_of(&request)?.project;
        let mut messages = request.into_inner();
        let mut first = messages.message().await?.ok_or_else(|| {
            convert::invalid(
                "upload_id",
                "required in the first message, and there was none",
            )
        })?;
        let id: UploadId = first.upload_id.parse()?;
        let lease = convert::lease(first.lease.take())?;
        let mut first = chunk(first)?;
        first.offset = Some(first.offset.unwrap_or(0));
        let later = messages.map_err(Error::from).map(|message| chunk(message?));
        let chunks = stream::once(async { Ok(first) }).chain(later);
        let status = self.uploads.write(&project, &lease, id, chunks).await?;
        let upload = Some(convert::upload_message(&status));
        Ok(Response::new(pb::WriteUploadResponse { upload }))
    }

    async fn get_upload(
        &self,
        request: Request<pb::GetUploadRequest>,
    ) -> Reply<pb::GetUploadResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let (id, lease) = (request.upload_id.parse()?, convert::lease(request.lease)?);
        let status = self.uploads.get(&project, &lease, id).await?;
        let upload = Some(convert::upload_message(&status));
        Ok(Response::new(pb::GetUploadResponse { upload }))
    }

    async fn abort_upload(
        &self,
        request: Request<pb::AbortUploadRequest>,
    ) -> Reply<pb::AbortUploadResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let (id, lease) = (request.upload_id.parse()?, convert::lease(request.lease)?);
        self.uploads.abort(&project, &lease, id)?;
        Ok(Response::new(pb::AbortUploadResponse {}))
    }

    type ReadSkeletonStream =
        Pin<Box<dyn Stream<Item = Result<pb::ReadSkeletonResponse, Status>> + Send>>;

    async fn read_skeleton(
        &self,
        request: Request<pb::ReadSkeletonRequest>,
    ) -> Reply<Self::ReadSkeletonStream> {
        let project = principal_of(&request)?.project;
        let lease = convert::lease(request.into_inner().lease)?;
        let chunks = self.composer.skeleton(&project, &lease).await?;
        let messages = chunks.map_ok(|data| pb::ReadSkeletonResponse { data });
        Ok(Response::new(Box::pin(messages.map_err(Status::from))))
    }

    async fn compose_report(
        &self,
        request: Request<pb::ComposeReportRequest>,
    ) -> Reply<pb::ComposeReportResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let lease = convert::lease(request.lease)?;
        let digest: ArtifactId = convert::id("digest_artifact_id", &request.digest_artifact_id)?;
        let composed = self.composer.compose(&project, &lease, digest).await?;
        let artifact_ids = composed.iter().map(ToString::to_string).collect();
        Ok(Response::new(pb::ComposeReportResponse { artifact_ids }))
    }
}

fn chunk(message: pb::WriteUploadRequest) -> Result<Chunk> {
    let size = message.data.len();
    if size > MAX_DATA_BYTES {
        let what = format!("{size} bytes, of {MAX_DATA_BYTES} at most in one message");
        return Err(convert::invalid("data", what));
    }
    let offset = convert::unsigned("write_offset", message.write_offset)?;
    let finish = message.finish;
    let finish = finish.map(|finish| Checksum::parse("finish", &finish.sha256, finish.size_bytes));
    Ok(Chunk {
        // After the first message 0 is unset: nothing but the first chunk begins there.
        offset: (offset > 0).then_some(offset),
        data: message.data,
        crc32c: message.crc32c,
        finish: finish.transpose()?,
    })
}
