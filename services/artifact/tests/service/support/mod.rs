//! A service with a store that can be watched and broken, and a fake of the catalog.

mod catalog;
mod imports;
mod samples;
mod sources;
mod store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_artifact::config::StorageBackend;
use aegis_artifact::store::LocalStore;
use aegis_artifact::{Config, Deps, Running, start};
use aegis_mesh::{
    CallContext, Code, Error, MeshChannel, Principal, Result, Shutdown, with_context,
};
use aegis_proto::common::v1::Checksum;
use aegis_proto::internal::artifact::v1::artifact_service_client::ArtifactServiceClient;
use aegis_proto::internal::artifact::v1::source_service_client::SourceServiceClient;
use aegis_proto::internal::artifact::v1::{self as pb};
use aegis_proto::internal::task::v1::Lease;
use aegis_proto::report::v1::import_service_client::ImportServiceClient;
use aegis_proto::report::v1::report_service_client::ReportServiceClient;
use bytes::Bytes;
use futures_util::{Stream, stream};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) use catalog::FakeCatalog;
pub(crate) use samples::{Generated, digest_line, generated, sample, sum_of};
pub(crate) use store::Watched;

/// A service at work in a folder of its own.
pub(crate) struct Service {
    pub(crate) catalog: FakeCatalog,
    pub(crate) store: Watched,
    pub(crate) artifacts: ArtifactServiceClient<MeshChannel>,
    pub(crate) reports: ReportServiceClient<MeshChannel>,
    pub(crate) imports: ImportServiceClient<MeshChannel>,
    folder: Arc<TempDir>,
    shutdown: Shutdown,
    running: Running,
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = Arc::new(TempDir::new().unwrap());
        Self::open(folder, FakeCatalog::default(), change).await
    }

    /// The same folder and catalog, as a new process finds them.
    pub(crate) async fn restart(self) -> Self {
        self.shutdown.trigger();
        self.running.stopped().await.unwrap();
        drop((self.artifacts, self.reports, self.imports, self.store));
        Self::open(self.folder, self.catalog, |_| {}).await
    }

    async fn open(
        folder: Arc<TempDir>,
        catalog: FakeCatalog,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut config = config(folder.path());
        change(&mut config);
        let store = Watched::new(LocalStore::open(&folder.path().join("objects")).unwrap());
        let deps = Deps::new(catalog.channel());
        let deps = match config.storage_backend {
            StorageBackend::Local => deps.with_store(Arc::new(store.clone())),
            StorageBackend::Minio => deps,
        };
        let shutdown = Shutdown::new();
        let running = start(config, deps, shutdown.clone()).await.unwrap();
        let channel = MeshChannel::local(running.routes());
        Self {
            catalog,
            store,
            artifacts: ArtifactServiceClient::new(channel.clone()),
            reports: ReportServiceClient::new(channel.clone()),
            imports: ImportServiceClient::new(channel),
            folder,
            shutdown,
            running,
        }
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.running.health().is_serving()
    }

    pub(crate) fn sources(&self) -> SourceServiceClient<MeshChannel> {
        SourceServiceClient::new(MeshChannel::local(self.running.routes()))
    }

    pub(crate) fn path(&self, object_key: &str) -> PathBuf {
        self.folder.path().join("objects").join(object_key)
    }

    /// Files of uploads under way.
    pub(crate) fn scratch(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("uploads"))
            .unwrap()
            .count()
    }

    pub(crate) async fn start_upload(&self, lease: &Lease, name: &str) -> Result<pb::Upload> {
        let request = pb::StartUploadRequest {
            lease: Some(lease.clone()),
            name: name.to_owned(),
            size_bytes: None,
        };
        let mut client = self.artifacts.clone();
        Ok(call(client.start_upload(request)).await?.upload.unwrap())
    }

    pub(crate) async fn get_upload(
        &self,
        lease: &Lease,
        upload: &pb::Upload,
    ) -> Result<pb::Upload> {
        let request = pb::GetUploadRequest {
            upload_id: upload.upload_id.clone(),
            lease: Some(lease.clone()),
        };
        let mut client = self.artifacts.clone();
        Ok(call(client.get_upload(request)).await?.upload.unwrap())
    }

    pub(crate) async fn write(&self, messages: Vec<pb::WriteUploadRequest>) -> Result<pb::Upload> {
        self.stream(stream::iter(messages)).await
    }

    pub(crate) async fn stream(
        &self,
        messages: impl Stream<Item = pb::WriteUploadRequest> + Send + 'static,
    ) -> Result<pb::Upload> {
        let mut client = self.artifacts.clone();
        Ok(call(client.write_upload(messages)).await?.upload.unwrap())
    }

    /// Uploads all of a file, unless it is there.
    pub(crate) async fn upload(
        &self,
        lease: &Lease,
        name: &str,
        bytes: &[u8],
    ) -> Result<pb::Upload> {
        let upload = self.start_upload(lease, name).await?;
        if upload.complete {
            return Ok(upload);
        }
        self.write(messages(&upload, lease, 0, bytes, Some(checksum(bytes))))
            .await
    }

    /// Uploads a part and commits it, as FinishTask does.
    pub(crate) async fn commit(&self, scan: &str, report: &[u8], hitlog: Option<&[u8]>) {
        let lease = self.catalog.lease(scan);
        let upload = self.upload(&lease, "report.jsonl", report).await.unwrap();
        let hitlog = match hitlog {
            Some(hitlog) => Some(self.upload(&lease, "hitlog.jsonl", hitlog).await.unwrap()),
            None => None,
        };
        let hitlog = hitlog.as_ref().map(|upload| upload.artifact_id.as_str());
        self.catalog.commit_part(&upload.artifact_id, hitlog);
    }
}

pub(crate) fn config(folder: &Path) -> Config {
    Config {
        data_dir: folder.to_owned(),
        ..Config::default()
    }
}

/// A call by the one principal there is.
pub(crate) async fn call<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    call_in("default", call).await
}

/// A call by somebody of this project.
pub(crate) async fn call_in<T>(
    project: &str,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T> {
    let principal = Principal {
        project: project.parse().unwrap(),
        ..Principal::local()
    };
    let answer = with_context(CallContext::new(principal), call).await;
    Ok(answer.map_err(Error::from)?.into_inner())
}

pub(crate) fn checksum(bytes: &[u8]) -> Checksum {
    Checksum {
        sha256: hex::encode(Sha256::digest(bytes)),
        size_bytes: bytes.len() as i64,
    }
}

/// The messages that send `bytes` from `offset` on.
pub(crate) fn messages(
    upload: &pb::Upload,
    lease: &Lease,
    offset: usize,
    bytes: &[u8],
    finish: Option<Checksum>,
) -> Vec<pb::WriteUploadRequest> {
    const CHUNK: usize = 10_000;
    let mut at = offset;
    let mut messages = Vec::new();
    loop {
        let end = bytes.len().min(at + CHUNK);
        let data = Bytes::copy_from_slice(&bytes[at..end]);
        messages.push(pb::WriteUploadRequest {
            write_offset: at as i64,
            crc32c: Some(crc32c::crc32c(&data)),
            data,
            ..Default::default()
        });
        at = end;
        if at == bytes.len() {
            break;
        }
    }
    let first = messages.first_mut().unwrap();
    first.upload_id.clone_from(&upload.upload_id);
    first.lease = Some(lease.clone());
    messages.last_mut().unwrap().finish = finish;
    messages
}

/// Waits until `is_so`, for ten seconds at most.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !is_so().await {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The error is this one.
pub(crate) fn is(error: &Error, code: Code, reason: &str) {
    assert_eq!((error.code(), error.reason()), (code, reason), "{error:?}");
}
