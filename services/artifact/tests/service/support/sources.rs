//! The fake's rows of sources; what it does not need of the contract is unimplemented.

use std::collections::HashMap;

use aegis_mesh::{Code, Error};
use aegis_proto::internal::catalog::v1 as pb;
use aegis_proto::internal::catalog::v1::custom_probe_store_service_server::CustomProbeStoreService;
use tonic::{Request, Response, Status};

use super::FakeCatalog;

/// Rows, and which source each task or check may read.
#[derive(Default)]
pub(crate) struct Sources {
    pub(crate) rows: HashMap<String, pb::StoredSource>,
    pub(crate) pinned: HashMap<String, String>,
    /// Calls of CommitSource so far.
    pub(crate) commits: usize,
    /// What keys begin with; another project's when a test says so.
    pub(crate) key_prefix: Option<String>,
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "SOURCE_NOT_FOUND", "no such source")
}

macro_rules! unimplemented_methods {
    ($($method:ident: $request:ident => $response:ident;)*) => {
        #[tonic::async_trait]
        impl CustomProbeStoreService for FakeCatalog {
            async fn stage_source(
                &self,
                request: Request<pb::StageSourceRequest>,
            ) -> Result<Response<pb::StageSourceResponse>, Status> {
                let request = request.into_inner();
                let mut state = self.state();
                let sources = &mut state.sources;
                let prefix = sources.key_prefix.clone();
                let prefix = prefix.unwrap_or_else(|| "default".to_owned());
                let row = sources.rows.entry(request.sha256.clone());
                let row = row.or_insert_with(|| pb::StoredSource {
                    object_key: format!("{prefix}/sources/{}.py", request.sha256),
                    sha256: request.sha256,
                    size_bytes: request.size_bytes,
                    committed: false,
                });
                let source = Some(row.clone());
                Ok(Response::new(pb::StageSourceResponse { source }))
            }

            async fn commit_source(
                &self,
                request: Request<pb::CommitSourceRequest>,
            ) -> Result<Response<pb::CommitSourceResponse>, Status> {
                let mut state = self.state();
                state.sources.commits += 1;
                let row = state.sources.rows.get_mut(&request.get_ref().sha256);
                row.ok_or_else(not_found)?.committed = true;
                Ok(Response::new(pb::CommitSourceResponse {}))
            }

            async fn find_source(
                &self,
                request: Request<pb::FindSourceRequest>,
            ) -> Result<Response<pb::FindSourceResponse>, Status> {
                let state = self.state();
                let row = state.sources.rows.get(&request.get_ref().sha256);
                let row = row.filter(|row| row.committed).cloned();
                let source = Some(row.ok_or_else(not_found)?);
                Ok(Response::new(pb::FindSourceResponse { source }))
            }

            async fn find_leased_source(
                &self,
                request: Request<pb::FindLeasedSourceRequest>,
            ) -> Result<Response<pb::FindLeasedSourceResponse>, Status> {
                let request = request.into_inner();
                let state = self.state();
                let lease = state.check(request.lease.as_ref())?;
                if state.sources.pinned.get(&lease.task_id) != Some(&request.sha256) {
                    let code = Code::PermissionDenied;
                    return Err(Error::new(code, "SOURCE_NOT_LEASED", "not this one").into());
                }
                let row = state.sources.rows.get(&request.sha256).cloned();
                let source = Some(row.ok_or_else(not_found)?);
                Ok(Response::new(pb::FindLeasedSourceResponse { source }))
            }

            $(async fn $method(
                &self,
                _: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                Err(Status::unimplemented(stringify!($method)))
            })*
        }
    };
}

unimplemented_methods! {
    create_custom_probe: CreateCustomProbeRequest => CreateCustomProbeResponse;
    update_custom_probe: UpdateCustomProbeRequest => UpdateCustomProbeResponse;
    delete_custom_probe: DeleteCustomProbeRequest => DeleteCustomProbeResponse;
    get_custom_probe: GetCustomProbeRequest => GetCustomProbeResponse;
    list_custom_probes: ListCustomProbesRequest => ListCustomProbesResponse;
    list_custom_probe_versions: ListCustomProbeVersionsRequest => ListCustomProbeVersionsResponse;
    list_valid_custom_probes: ListValidCustomProbesRequest => ListValidCustomProbesResponse;
    resolve_custom_probes: ResolveCustomProbesRequest => ResolveCustomProbesResponse;
    queue_check: QueueCheckRequest => QueueCheckResponse;
    await_check: AwaitCheckRequest => AwaitCheckResponse;
}
