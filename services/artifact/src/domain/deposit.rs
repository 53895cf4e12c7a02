//! From scratch into the store, and into the catalog's rows.

use std::io::{self, BufWriter, Write};

use aegis_mesh::Result;
use aegis_report::{Index, ReadRange};

use super::checksum::Checksum;
use super::fault;
use super::key::ObjectKey;
use super::registry::{Lease, Registry, ReportTally, StoredArtifact};
use super::scratch::{Scratch, ScratchFile};
use super::source::carried;
use crate::store::{ObjectStore, StoreError};

/// Bytes that were found to be what they should be, and lie in scratch, written out.
#[derive(Debug)]
pub struct Sealed {
    /// What they are.
    pub checksum: Checksum,
    /// Of a report.
    pub tally: Option<ReportTally>,
    /// A report's index, until it is in the store.
    pub index: Option<ScratchFile>,
    /// The bytes, until they are in the store.
    pub content: Option<ScratchFile>,
}

/// Makes the bytes an artifact. Can be repeated from every point at which it failed or was dropped.
///
/// # Errors
/// Of the store; ABORTED / LEASE_LOST and others of [`Registry::complete`].
pub async fn deposit(
    store: &dyn ObjectStore,
    registry: &dyn Registry,
    lease: &Lease,
    artifact: &StoredArtifact,
    sealed: &mut Sealed,
) -> Result<()> {
    store_bytes(store, artifact, sealed).await?;
    aegis_mesh::failpoint!(VERIFIED);
    registry
        .complete(lease, artifact.id, &sealed.checksum, sealed.tally.as_ref())
        .await
}

/// Puts the bytes into the store and makes sure of them. The index goes first: whoever sees the
/// report finds its index. Can be repeated as [`deposit`] can.
///
/// # Errors
/// Of the store.
pub async fn store_bytes(
    store: &dyn ObjectStore,
    artifact: &StoredArtifact,
    sealed: &mut Sealed,
) -> Result<()> {
    keep(store, &artifact.key.index(), &mut sealed.index, None).await?;
    let known = Some(&sealed.checksum);
    keep(store, &artifact.key, &mut sealed.content, known).await?;
    aegis_mesh::failpoint!(STORED);
    if store.stat(&artifact.key).await? != Some(sealed.checksum.size) {
        return Err(fault::corrupt(
            artifact,
            "the store has not as many bytes as it was given",
        ));
    }
    Ok(())
}

/// Puts a scratch file into the store, unless it is there already.
async fn keep(
    store: &dyn ObjectStore,
    key: &ObjectKey,
    file: &mut Option<ScratchFile>,
    known: Option<&Checksum>,
) -> Result<()> {
    let Some(scratch) = file else {
        return Ok(());
    };
    let put = match known {
        Some(known) => store.put_known(key, scratch.path(), known).await,
        None => store.put(key, scratch.path()).await,
    };
    match put {
        // An earlier try was not awaited to its end, but came to it.
        Err(StoreError::NotFound) if store.stat(key).await?.is_some() => {}
        done => done?,
    }
    *file = None;
    Ok(())
}

/// Writes the index of a report, as it will be stored.
///
/// # Errors
/// When there is no room for it; those of `report`.
pub fn write_index(
    scratch: &Scratch,
    index: &Index,
    report: &mut dyn ReadRange,
) -> Result<ScratchFile> {
    let mut write = || -> io::Result<ScratchFile> {
        let (file, mut name) = scratch.create(None)?;
        let mut out = BufWriter::with_capacity(128 << 10, &file);
        index.write_to(&mut out, report)?;
        out.flush()?;
        drop(out);
        // Small beside its report, and not known before.
        name.reserve(file.metadata()?.len())?;
        file.sync_all()?;
        Ok(name)
    };
    write().map_err(carried)
}
