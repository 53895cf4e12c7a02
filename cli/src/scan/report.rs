//! Downloads a scan's report.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use aegis_mesh::Error;
use aegis_proto::report::v1::{Artifact, ListArtifactsRequest, ReadArtifactRequest};
use anyhow::{Context, bail};
use sha2::{Digest, Sha256};

use crate::{args::ReportArgs, client::Client, output::print_json};

pub(super) async fn run(client: &Client, as_json: bool, args: ReportArgs) -> anyhow::Result<()> {
    let scan_id = &args.scan.scan_id;
    if as_json {
        return print_json(&list(client, scan_id, args.revision).await?);
    }
    for path in download(client, scan_id, args.revision, &args.output).await? {
        println!("{}", path.display());
    }
    Ok(())
}

/// Writes a scan's files into a folder, verified, and returns where they lie.
pub(crate) async fn download(
    client: &Client,
    scan_id: &str,
    revision: i32,
    folder: &Path,
) -> anyhow::Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut paths = Vec::new();
    for artifact in list(client, scan_id, revision).await?.artifacts {
        paths.push(fetch(client, scan_id, &artifact, folder).await?);
    }
    Ok(paths)
}

async fn list(
    client: &Client,
    scan_id: &str,
    revision: i32,
) -> anyhow::Result<aegis_proto::report::v1::ListArtifactsResponse> {
    let request = ListArtifactsRequest {
        scan_id: scan_id.to_owned(),
        revision,
    };
    let response = client.reports().list_artifacts(request).await;
    Ok(response.map_err(Error::from)?.into_inner())
}

async fn fetch(
    client: &Client,
    scan_id: &str,
    artifact: &Artifact,
    folder: &Path,
) -> anyhow::Result<PathBuf> {
    // The name comes from a server: only its last part may name a file of ours.
    let Some(file_name) = Path::new(&artifact.file_name).file_name() else {
        bail!("{:?} is no file name", artifact.file_name);
    };
    let path = folder.join(file_name);
    let mut aside = tempfile::NamedTempFile::new_in(folder)?;
    let mut hash = Sha256::new();
    let request = ReadArtifactRequest {
        scan_id: scan_id.to_owned(),
        name: artifact.name.clone(),
        revision: artifact.revision,
        ..ReadArtifactRequest::default()
    };
    let response = client.reports().read_artifact(request).await;
    let mut chunks = response.map_err(Error::from)?.into_inner();
    while let Some(chunk) = chunks.message().await.map_err(Error::from)? {
        hash.update(&chunk.data);
        aside.write_all(&chunk.data)?;
    }
    let wanted = artifact.checksum.clone().unwrap_or_default().sha256;
    if hex::encode(hash.finalize()) != wanted {
        bail!(
            "{} was damaged on the way: its SHA-256 is not {wanted}",
            artifact.name
        );
    }
    aside.as_file().sync_all()?;
    aside
        .persist(&path)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}
