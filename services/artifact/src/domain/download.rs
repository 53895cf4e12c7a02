//! Reading artifacts that users may see.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use aegis_mesh::{Error, Result};
use aegis_proto::ids::{ProjectId, ScanId};

use super::fault;
use super::indexes::Indexes;
use super::name::ArtifactName;
use super::registry::{Registry, StoredArtifact};
use super::repair::Repairs;
use crate::store::{ByteStream, ObjectStore};

/// Committed artifacts of scans.
pub struct Downloads {
    registry: Arc<dyn Registry>,
    store: Arc<dyn ObjectStore>,
    indexes: Indexes,
    repairs: Repairs,
}

/// Which file of which report.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// The scan.
    pub scan: ScanId,
    /// A public name.
    pub name: ArtifactName,
    /// 0 is the newest.
    pub revision: i32,
}

impl Downloads {
    /// Over these rows and bytes.
    pub fn new(
        registry: Arc<dyn Registry>,
        store: Arc<dyn ObjectStore>,
        indexes: Indexes,
        repairs: Repairs,
    ) -> Self {
        Self {
            registry,
            store,
            indexes,
            repairs,
        }
    }

    /// The public files of a scan's report, in the order of [`ArtifactName::PUBLIC`].
    ///
    /// # Errors
    /// Those of the registry.
    pub async fn list(
        &self,
        project: &ProjectId,
        scan: ScanId,
        revision: i32,
    ) -> Result<Vec<StoredArtifact>> {
        let mut artifacts = self
            .registry
            .report_artifacts(project, scan, revision)
            .await?;
        artifacts.retain(|artifact| artifact.name.is_public());
        artifacts.sort_by_key(|artifact| artifact.name);
        Ok(artifacts)
    }

    /// A file and its bytes from `offset` on, `limit` of them at most when given.
    ///
    /// # Errors
    /// NOT_FOUND / ARTIFACT_NOT_FOUND; OUT_OF_RANGE / READ_OFFSET beyond its end; DATA_LOSS /
    /// ARTIFACT_CORRUPT when the bytes are not all there.
    pub async fn read(
        &self,
        project: &ProjectId,
        wanted: Wanted,
        offset: u64,
        limit: Option<u64>,
    ) -> Result<(StoredArtifact, ByteStream)> {
        let artifact = self.find(project, wanted).await?;
        let size = artifact.checksum.map_or(0, |checksum| checksum.size);
        let range = within(size, offset, limit)?;
        self.make_sure_of(project, &artifact).await?;
        let bytes = self.store.read(&artifact.key, range).await?;
        Ok((artifact, bytes))
    }

    /// A link by which whoever has it can get the file for `ttl`.
    ///
    /// # Errors
    /// NOT_FOUND / ARTIFACT_NOT_FOUND; FAILED_PRECONDITION / LINKS_UNSUPPORTED; DATA_LOSS /
    /// ARTIFACT_CORRUPT when it would lead nowhere.
    pub async fn link(&self, project: &ProjectId, wanted: Wanted, ttl: Duration) -> Result<String> {
        let artifact = self.find(project, wanted).await?;
        let file_name = artifact.name.file_name(&artifact.scan);
        let media_type = artifact.name.media_type();
        let link = self.store.link(&artifact.key, &file_name, media_type, ttl);
        let link = link.await?.ok_or_else(|| {
            let message = "artifacts lie in a directory, which has no links";
            Error::failed_precondition("LINKS_UNSUPPORTED", message)
                .hint("download the file from here instead")
        })?;
        self.make_sure_of(project, &artifact).await?;
        Ok(link)
    }

    /// The file's bytes are there, as many as there should be; a hitlog's are made again if not.
    async fn make_sure_of(&self, project: &ProjectId, artifact: &StoredArtifact) -> Result<()> {
        let size = artifact.checksum.map_or(0, |checksum| checksum.size);
        if self.store.stat(&artifact.key).await? == Some(size) {
            return Ok(());
        }
        let corrupt = || fault::corrupt(artifact, "its bytes are missing or of another size");
        if artifact.name != ArtifactName::Hitlog {
            return Err(corrupt());
        }
        // Of the same revision: under one name there is one content for ever.
        let (scan, revision) = (artifact.scan, artifact.revision);
        let files = self.list(project, scan, revision).await?;
        let report = files
            .iter()
            .find(|file| file.name == ArtifactName::Report)
            .ok_or_else(corrupt)?;
        let sources = self.registry.locate_all(project, scan).await?;
        let eval_threshold = sources.first().ok_or_else(corrupt)?.eval_threshold;
        self.indexes.open(report, eval_threshold).await?;
        self.repairs.hitlog(artifact, report, eval_threshold).await
    }

    async fn find(&self, project: &ProjectId, wanted: Wanted) -> Result<StoredArtifact> {
        let artifacts = self.list(project, wanted.scan, wanted.revision).await?;
        let found = artifacts.into_iter().find(|one| one.name == wanted.name);
        found.ok_or_else(|| not_there(wanted))
    }
}

fn not_there(
    Wanted {
        scan,
        name,
        revision,
    }: Wanted,
) -> Error {
    let error = Error::not_found("artifact", format_args!("{scan}/{name}"));
    let error = error
        .with("scan_id", scan)
        .with("name", name)
        .with("revision", revision);
    match name {
        ArtifactName::Hitlog => error.hint("a scan without hits has no hitlog"),
        _ => error.hint("a report is there once the scan has ended; see the scan's report"),
    }
}

fn within(size: u64, offset: u64, limit: Option<u64>) -> Result<Range<u64>> {
    if offset > size {
        let message = format!("read_offset {offset} is beyond the end at {size}");
        return Err(Error::out_of_range("READ_OFFSET", message).with("size_bytes", size));
    }
    let end = limit.map_or(size, |limit| offset.saturating_add(limit).min(size));
    Ok(offset..end)
}
