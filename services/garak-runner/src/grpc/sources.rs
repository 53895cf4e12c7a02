//! The artifact service's SourceService: the sources of custom probes, as a runner reads them.

use std::time::Duration;

use aegis_mesh::{Code, Error, MeshChannel, Result};
use aegis_proto::internal::artifact::v1::{
    ReadTaskSourceRequest, source_service_client::SourceServiceClient,
};
use sha2::{Digest, Sha256};

use super::{call, tasks::Lease};
use crate::domain::custom_probe::{MAX_SOURCE, SourceSha};

const SHORT_CALL: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(crate) struct SourceClient(SourceServiceClient<MeshChannel>);

impl SourceClient {
    pub(crate) fn new(channel: MeshChannel) -> Self {
        Self(SourceServiceClient::new(channel))
    }

    /// The source with this checksum.
    ///
    /// # Errors
    /// DATA_LOSS / SOURCE_CORRUPT when what came is another; else as the service says.
    pub(crate) async fn read(&self, lease: &Lease, sha256: &SourceSha) -> Result<Vec<u8>> {
        let request = ReadTaskSourceRequest {
            lease: Some(lease.message()),
            sha256: sha256.as_str().to_owned(),
        };
        let mut client = self.0.clone();
        let answer = call(
            "read-task-source",
            SHORT_CALL,
            client.read_task_source(request),
        )
        .await?;
        let source = answer.source;
        if source.len() > MAX_SOURCE || hex::encode(Sha256::digest(&source)) != sha256.as_str() {
            return Err(Error::new(
                Code::DataLoss,
                "SOURCE_CORRUPT",
                "a source is not what its checksum says",
            ));
        }
        Ok(source)
    }
}
