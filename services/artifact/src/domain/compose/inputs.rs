//! What a report is composed from.

use std::collections::HashMap;

use aegis_mesh::Result;
use aegis_proto::ids::ArtifactId;
use aegis_report::{Index, IndexError, Limits, Options, Part, ReadRange, ScanIdentity, Selection};
use serde_json::json;

use crate::domain::fault;
use crate::domain::name::report_prefix;
use crate::domain::registry::{ReportPart, ReportParts, StoredArtifact};
use crate::domain::source::{Blocking, carried};

/// The parts of a report, in the scan's order.
pub(super) struct Inputs {
    pub(super) identity: ScanIdentity,
    pub(super) options: Options,
    reports: Vec<Share>,
    pub(super) hitlogs: Vec<Share>,
}

/// Probes that follow each other and lie in one artifact.
pub(super) struct Share {
    pub(super) artifact: StoredArtifact,
    probes: Vec<String>,
}

impl Share {
    pub(super) fn selection(&self) -> Selection<'_> {
        Selection::Only(&self.probes)
    }
}

impl Inputs {
    pub(super) fn new(parts: ReportParts) -> Self {
        let run_id = parts.scan.to_string();
        let active = |part: &ReportPart| format!("probes.{}", part.probe);
        Self {
            identity: ScanIdentity {
                run_id,
                report_prefix: report_prefix(&parts.scan),
                active_probes: parts.parts.iter().map(active).collect(),
                spec: json!({"include": parts.include, "exclude": parts.exclude}),
            },
            options: Options {
                eval_threshold: parts.eval_threshold,
                limits: Limits::default(),
            },
            reports: shares(&parts.parts, |part| Some(&part.report)),
            hitlogs: shares(&parts.parts, |part| part.hitlog.as_ref()),
        }
    }

    /// Each report once: several probes may lie in the composed report of an older revision.
    pub(super) fn distinct_reports(&self) -> impl Iterator<Item = &StoredArtifact> {
        let reports: HashMap<_, _> = self
            .reports
            .iter()
            .map(|share| (share.artifact.id, &share.artifact))
            .collect();
        reports.into_values()
    }

    /// The index of each report. Blocks.
    pub(super) fn indexes(&self, source: &Blocking) -> Result<HashMap<ArtifactId, Index>> {
        self.distinct_reports()
            .map(|report| Ok((report.id, index(source, report)?)))
            .collect()
    }

    /// Hands the parts to `work`.
    pub(super) fn with_parts<T>(
        &self,
        source: &Blocking,
        indexes: &HashMap<ArtifactId, Index>,
        work: impl FnOnce(&mut [Part<'_>]) -> Result<T>,
    ) -> Result<T> {
        let mut sources: Vec<_> = self
            .reports
            .iter()
            .map(|share| source.ranges(&share.artifact))
            .collect();
        let parts = sources
            .iter_mut()
            .zip(&self.reports)
            .map(|(source, share)| {
                let missing = || fault::corrupt(&share.artifact, "its index is missing");
                let index = indexes.get(&share.artifact.id).ok_or_else(missing)?;
                Ok(Part {
                    index,
                    probes: wanted(share, index)?,
                    source: source as &mut dyn ReadRange,
                })
            });
        work(&mut parts.collect::<Result<Vec<_>>>()?)
    }
}

/// All of a report, if that is what is wanted: lines that are of no probe come along then.
fn wanted<'a>(share: &'a Share, index: &Index) -> Result<Selection<'a>> {
    let header = index.header();
    if share
        .probes
        .iter()
        .any(|probe| header.probe(probe).is_err())
    {
        return Err(fault::corrupt(
            &share.artifact,
            "it has not the probe that it should have",
        ));
    }
    let is_all = header.probes.len() == share.probes.len();
    Ok(if is_all {
        Selection::All
    } else {
        share.selection()
    })
}

fn index(source: &Blocking, report: &StoredArtifact) -> Result<Index> {
    let bytes = source.index(report).map_err(carried)?;
    Index::read_from(bytes).map_err(|error| match error {
        IndexError::Io(error) if error.kind() == std::io::ErrorKind::Other => carried(error),
        _ => fault::corrupt(report, "its index cannot be read"),
    })
}

fn shares<'p>(
    parts: &'p [ReportPart],
    artifact: impl Fn(&'p ReportPart) -> Option<&'p StoredArtifact>,
) -> Vec<Share> {
    let mut shares: Vec<Share> = Vec::new();
    for part in parts {
        let Some(artifact) = artifact(part) else {
            continue;
        };
        match shares.last_mut() {
            Some(last) if last.artifact.id == artifact.id => last.probes.push(part.probe.clone()),
            _ => shares.push(Share {
                artifact: artifact.clone(),
                probes: vec![part.probe.clone()],
            }),
        }
    }
    shares
}
