//! The hitlogs of the parts, one after the other: those that are there and whole, and in place of
//! those that are lost what the part's report says.

use std::fs::File;
use std::io::{self, Read};

use aegis_mesh::{Code, Result};
use aegis_report::{HitlogPart, Limits, hitlog};

use super::inputs::{Inputs, Share};
use super::{ComposeLimits, fault_of};
use crate::domain::deposit::Sealed;
use crate::domain::output::HashedFile;
use crate::domain::registry::StoredArtifact;
use crate::domain::repair;
use crate::domain::scratch::{Scratch, ScratchFile};
use crate::domain::source::{Blocking, VerifiedSource, carried};

/// Writes the hitlog of a scan; `None` when nothing was hit. Blocks.
pub(super) fn write_hitlog(
    source: &Blocking,
    scratch: &Scratch,
    inputs: &Inputs,
    limits: ComposeLimits,
) -> Result<Option<Sealed>> {
    let mut out = HashedFile::create(scratch, u64::MAX).map_err(carried)?;
    let shares = || inputs.shares.iter().filter(|share| share.may_have_hits());
    let mut hitlogs: Vec<_> = shares()
        .map(|share| PartHitlog {
            source,
            scratch,
            share,
            eval_threshold: inputs.options.eval_threshold,
            max_bytes: limits.max_hitlog_bytes,
            bytes: Bytes::Unopened,
        })
        .collect();
    let mut parts: Vec<_> = hitlogs
        .iter_mut()
        .zip(shares())
        .map(|(source, share)| HitlogPart {
            source,
            probes: share.selection(),
        })
        .collect();
    let run_id = &inputs.identity.run_id;
    let summary = hitlog::compose_hitlog(&mut parts, run_id, Limits::default(), &mut out);
    if summary.map_err(fault_of)?.total() == 0 {
        return Ok(None);
    }
    let (checksum, content) = out.finish().map_err(carried)?;
    Ok(Some(Sealed {
        checksum,
        tally: None,
        index: None,
        content: Some(content),
    }))
}

/// The hitlog of one part. Opened when it is read, so that of many parts one is open at a time.
struct PartHitlog<'a> {
    source: &'a Blocking,
    scratch: &'a Scratch,
    share: &'a Share,
    eval_threshold: f64,
    max_bytes: u64,
    bytes: Bytes<'a>,
}

enum Bytes<'a> {
    Unopened,
    Stored(VerifiedSource<'a>),
    MadeAgain { file: File, _name: ScratchFile },
    AtEnd,
}

impl<'a> PartHitlog<'a> {
    fn open(&self) -> io::Result<Bytes<'a>> {
        if let Some(hitlog) = &self.share.hitlog
            && self.is_whole(hitlog)?
        {
            return Ok(Bytes::Stored(self.source.verified(hitlog)?));
        }
        let report = &self.share.report;
        // By ranges alone it would not show that the report is another one, too.
        self.source.verify(report)?;
        let mut out = HashedFile::create(self.scratch, self.max_bytes)?;
        repair::write_hitlog(self.source, report, self.eval_threshold, &mut out)
            .map_err(io::Error::other)?;
        tracing::warn!(artifact_id = %report.id, "a part's hitlog is lost and was made again");
        let (file, _name) = out.reread()?;
        Ok(Bytes::MadeAgain { file, _name })
    }

    /// Looked at before it is read: what was composed of it is not taken back.
    fn is_whole(&self, hitlog: &StoredArtifact) -> io::Result<bool> {
        match self.source.verify(hitlog).map_err(carried) {
            Ok(()) => Ok(true),
            Err(error) if error.code() == Code::DataLoss => Ok(false),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Read for PartHitlog<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if let Bytes::Unopened = self.bytes {
            self.bytes = self.open()?;
        }
        let read = match &mut self.bytes {
            Bytes::Stored(stored) => stored.read(out)?,
            Bytes::MadeAgain { file, .. } => file.read(out)?,
            Bytes::Unopened | Bytes::AtEnd => 0,
        };
        if read == 0 {
            self.bytes = Bytes::AtEnd;
        }
        Ok(read)
    }
}
