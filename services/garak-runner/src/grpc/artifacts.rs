//! The artifact service, as a runner uses it: files up, the skeleton down.

use std::{
    io::SeekFrom,
    path::{Path, PathBuf},
    time::Duration,
};

use aegis_mesh::{Error, MeshChannel, Result};
use aegis_proto::{
    common::v1::Checksum,
    internal::artifact::v1::{self as pb, artifact_service_client::ArtifactServiceClient},
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use sha2::{Digest, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt},
};

use super::{call, tasks::Lease};

const CHUNK: usize = 256 * 1024;
const SHORT_CALL: Duration = Duration::from_secs(10);
/// Longest a file's bytes may be on their way; what has arrived is not sent again.
const WRITE: Duration = Duration::from_secs(600);
/// Composing reads and writes a scan's whole report.
const COMPOSE: Duration = Duration::from_secs(600);
/// Largest skeleton; 72 probes need a few hundred KiB.
const MAX_SKELETON: u64 = 256 * 1024 * 1024;

#[derive(Clone)]
pub(crate) struct ArtifactClient(ArtifactServiceClient<MeshChannel>);

/// A file that is to become an artifact.
pub(crate) struct LocalFile {
    path: PathBuf,
    name: &'static str,
    sha256: String,
    size: u64,
}

impl LocalFile {
    /// Reads the file once for its checksum.
    pub(crate) async fn measure(path: &Path, name: &'static str) -> Result<Self> {
        let mut file = File::open(path).await.map_err(Error::internal)?;
        let mut sha256 = Sha256::new();
        let mut size = 0;
        let mut chunk = BytesMut::with_capacity(CHUNK);
        while file.read_buf(&mut chunk).await.map_err(Error::internal)? > 0 {
            size += chunk.len() as u64;
            sha256.update(&chunk);
            chunk.clear();
        }
        Ok(Self {
            path: path.to_owned(),
            name,
            sha256: hex::encode(sha256.finalize()),
            size,
        })
    }

    fn checksum(&self) -> Checksum {
        Checksum {
            sha256: self.sha256.clone(),
            size_bytes: i64::try_from(self.size).unwrap_or(i64::MAX),
        }
    }
}

impl ArtifactClient {
    pub(crate) fn new(channel: MeshChannel) -> Self {
        Self(ArtifactServiceClient::new(channel))
    }

    /// Uploads what is not there yet and returns the artifact's id. To be repeated after an error:
    /// the same lease and name resume where the last try was broken off.
    pub(crate) async fn upload(&self, lease: &Lease, file: &LocalFile) -> Result<String> {
        let request = pb::StartUploadRequest {
            lease: Some(lease.message()),
            name: file.name.to_owned(),
            size_bytes: Some(file.checksum().size_bytes),
        };
        let mut client = self.0.clone();
        let answer = call("start-upload", SHORT_CALL, client.start_upload(request)).await?;
        let upload = answer
            .upload
            .ok_or_else(|| Error::internal("an upload came without its id"))?;
        if upload.complete {
            return Ok(upload.artifact_id);
        }
        let messages = messages(lease, &upload, file).await?;
        let answer = call("write-upload", WRITE, client.write_upload(messages)).await?;
        match answer.upload {
            Some(upload) if upload.complete => Ok(upload.artifact_id),
            _ => Err(Error::unavailable(
                "UPLOAD_INCOMPLETE",
                "the upload was broken off",
                Duration::from_millis(200),
            )),
        }
    }

    /// Writes the skeleton of a REPORT task's scan into `path`.
    pub(crate) async fn read_skeleton(&self, lease: &Lease, path: &Path) -> Result<()> {
        let request = pb::ReadSkeletonRequest {
            lease: Some(lease.message()),
        };
        let mut client = self.0.clone();
        let mut parts = call("read-skeleton", COMPOSE, client.read_skeleton(request)).await?;
        let mut file = File::create(path).await.map_err(Error::internal)?;
        let mut size = 0;
        while let Some(part) = parts.message().await? {
            size += part.data.len() as u64;
            if size > MAX_SKELETON {
                return Err(Error::internal("the skeleton is larger than any scan's"));
            }
            file.write_all(&part.data).await.map_err(Error::internal)?;
        }
        file.flush().await.map_err(Error::internal)
    }

    /// Has report.jsonl and hitlog.jsonl composed; returns their ids.
    pub(crate) async fn compose(&self, lease: &Lease, digest: String) -> Result<Vec<String>> {
        let request = pb::ComposeReportRequest {
            lease: Some(lease.message()),
            digest_artifact_id: digest,
        };
        let mut client = self.0.clone();
        let answer = call("compose-report", COMPOSE, client.compose_report(request)).await?;
        Ok(answer.artifact_ids)
    }
}

/// What is read and not yet sent. The last message bears the checksum.
struct Unsent {
    file: File,
    upload_id: Option<String>,
    lease: Option<aegis_proto::internal::task::v1::Lease>,
    offset: u64,
    size: u64,
    checksum: Option<Checksum>,
}

async fn messages(
    lease: &Lease,
    upload: &pb::Upload,
    local: &LocalFile,
) -> Result<impl Stream<Item = pb::WriteUploadRequest> + Send + use<>> {
    let offset = u64::try_from(upload.persisted_size)
        .unwrap_or(0)
        .min(local.size);
    let mut file = File::open(&local.path).await.map_err(Error::internal)?;
    file.seek(SeekFrom::Start(offset))
        .await
        .map_err(Error::internal)?;
    let unsent = Unsent {
        file,
        upload_id: Some(upload.upload_id.clone()),
        lease: Some(lease.message()),
        offset,
        size: local.size,
        checksum: Some(local.checksum()),
    };
    Ok(stream::unfold(unsent, |mut unsent| async {
        let message = unsent.next().await?;
        Some((message, unsent))
    }))
}

impl Unsent {
    async fn next(&mut self) -> Option<pb::WriteUploadRequest> {
        self.checksum.as_ref()?;
        let write_offset = i64::try_from(self.offset).ok()?;
        let data = match self.chunk().await {
            Ok(data) => data,
            Err(error) => {
                // The stream ends without a checksum, so the upload stays incomplete and is retried.
                tracing::warn!(%error, "cannot read a file that is being uploaded");
                return None;
            }
        };
        self.offset += data.len() as u64;
        let is_last = self.offset >= self.size || data.is_empty();
        Some(pb::WriteUploadRequest {
            upload_id: self.upload_id.take().unwrap_or_default(),
            write_offset,
            crc32c: Some(crc32c::crc32c(&data)),
            data,
            finish: is_last.then(|| self.checksum.take()).flatten(),
            lease: self.lease.take(),
        })
    }

    async fn chunk(&mut self) -> std::io::Result<Bytes> {
        let left = usize::try_from(self.size - self.offset).unwrap_or(CHUNK);
        let mut data = BytesMut::zeroed(left.min(CHUNK));
        self.file.read_exact(&mut data).await?;
        Ok(data.freeze())
    }
}
