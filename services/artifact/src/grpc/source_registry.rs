//! The rows of sources, as catalog serves them.

use aegis_mesh::{ClientConfig, Error, MeshChannel, Result, RetryPolicy, retry, sized};
use aegis_proto::ids::ProjectId;
use aegis_proto::internal::catalog::v1::custom_probe_store_service_client::CustomProbeStoreServiceClient;
use aegis_proto::internal::{catalog::v1 as pb, task::v1 as task};
use async_trait::async_trait;

use crate::domain::custom_source::{SourceLease, SourceRegistry, SourceRow};
use crate::domain::key::ObjectKey;

/// The catalog's rows of sources. Every call may be sent again, and is while the catalog is
/// away, for as long as the caller's own time allows.
#[derive(Debug, Clone)]
pub(crate) struct CatalogSources(CustomProbeStoreServiceClient<MeshChannel>);

impl CatalogSources {
    /// Over this channel, with the bounds of `config`.
    pub(crate) fn new(channel: MeshChannel, config: &ClientConfig) -> Self {
        Self(sized!(CustomProbeStoreServiceClient::new(channel), config))
    }
}

/// Calls a method, again if need be.
macro_rules! call {
    ($self:ident, $method:ident, $request:expr) => {{
        let request = $request;
        let answer = retry(RetryPolicy::default(), || {
            let (mut client, request) = ($self.0.clone(), request.clone());
            async move {
                let answer = client.$method(request).await.map_err(Error::from)?;
                Ok(answer.into_inner())
            }
        });
        answer.await?
    }};
}

#[async_trait]
impl SourceRegistry for CatalogSources {
    async fn stage(&self, project: &ProjectId, sha256: &str, size: u64) -> Result<SourceRow> {
        let request = pb::StageSourceRequest {
            sha256: sha256.to_owned(),
            size_bytes: i64::try_from(size).unwrap_or(i64::MAX),
        };
        row(project, call!(self, stage_source, request).source)
    }

    async fn commit(&self, sha256: &str) -> Result<()> {
        let sha256 = sha256.to_owned();
        call!(self, commit_source, pb::CommitSourceRequest { sha256 });
        Ok(())
    }

    async fn find(&self, project: &ProjectId, sha256: &str) -> Result<SourceRow> {
        let sha256 = sha256.to_owned();
        let answer = call!(self, find_source, pb::FindSourceRequest { sha256 });
        row(project, answer.source)
    }

    async fn find_leased(
        &self,
        project: &ProjectId,
        lease: &SourceLease,
        sha256: &str,
    ) -> Result<SourceRow> {
        let request = pb::FindLeasedSourceRequest {
            lease: Some(task::Lease {
                task_id: lease.task.clone(),
                scan_id: lease.scan.clone(),
                epoch: lease.epoch,
                token: lease.token.clone(),
                ttl: None,
            }),
            sha256: sha256.to_owned(),
        };
        row(project, call!(self, find_leased_source, request).source)
    }
}

/// A row as catalog sends it; anything odd in it is a fault of ours.
fn row(project: &ProjectId, source: Option<pb::StoredSource>) -> Result<SourceRow> {
    let source = source.ok_or_else(|| Error::internal("the catalog sent no source"))?;
    Ok(SourceRow {
        size: u64::try_from(source.size_bytes).map_err(Error::internal)?,
        key: ObjectKey::of(project, &source.object_key).map_err(Error::internal)?,
        sha256: source.sha256,
        committed: source.committed,
    })
}
