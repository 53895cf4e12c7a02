//! What a report is composed from.

use std::collections::{HashMap, HashSet};

use aegis_mesh::Result;
use aegis_proto::ids::ArtifactId;
use aegis_report::index::ProbeEntry;
use aegis_report::{Index, IndexHeader, Limits, Options, Part, ReadRange, ScanIdentity, Selection};
use serde_json::json;

use crate::domain::fault;
use crate::domain::name::report_prefix;
use crate::domain::registry::{ReportPart, ReportParts, StoredArtifact};
use crate::domain::repair::read_index;
use crate::domain::source::Blocking;

/// The parts of a report, in the scan's order.
pub(super) struct Inputs {
    pub(super) identity: ScanIdentity,
    pub(super) options: Options,
    pub(super) shares: Vec<Share>,
}

/// Probes that follow each other and lie in one report.
pub(super) struct Share {
    pub(super) report: StoredArtifact,
    /// Of the run that left the report; `None` when nothing was hit, or it was not taken.
    pub(super) hitlog: Option<StoredArtifact>,
    probes: Vec<String>,
    /// What the report's index says, once it was opened.
    has_hits: bool,
}

impl Share {
    pub(super) fn selection(&self) -> Selection<'_> {
        Selection::Only(&self.probes)
    }

    /// Whether there is a hitlog, or should be one.
    pub(super) fn may_have_hits(&self) -> bool {
        self.hitlog.is_some() || self.has_hits
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
            shares: shares(&parts.parts),
        }
    }

    /// Each report once: several probes may lie in the composed report of an older revision.
    pub(super) fn distinct_reports(&self) -> impl Iterator<Item = &StoredArtifact> {
        let reports: HashMap<_, _> = self
            .shares
            .iter()
            .map(|share| (share.report.id, &share.report))
            .collect();
        reports.into_values()
    }

    /// Notes which parts have hits: by report, the probes that have.
    pub(super) fn note_hits(&mut self, hit: &HashMap<ArtifactId, HashSet<String>>) {
        for share in &mut self.shares {
            let hit = hit.get(&share.report.id);
            let is_hit = |probe| hit.is_some_and(|hit| hit.contains(probe));
            share.has_hits = share.probes.iter().any(is_hit);
        }
    }

    /// The index of each report. Blocks.
    pub(super) fn indexes(&self, source: &Blocking) -> Result<HashMap<ArtifactId, Index>> {
        self.distinct_reports()
            .map(|report| Ok((report.id, read_index(source, report)?)))
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
            .shares
            .iter()
            .map(|share| source.ranges(&share.report))
            .collect();
        let parts = sources.iter_mut().zip(&self.shares).map(|(source, share)| {
            let missing = || fault::corrupt(&share.report, "its index is missing");
            let index = indexes.get(&share.report.id).ok_or_else(missing)?;
            Ok(Part {
                index,
                probes: wanted(share, index)?,
                source: source as &mut dyn ReadRange,
            })
        });
        work(&mut parts.collect::<Result<Vec<_>>>()?)
    }
}

/// The probes of a report that have hits, or may have: an old index does not say so.
pub(super) fn with_hits(header: IndexHeader) -> HashSet<String> {
    let may_have_hits = |entry: &ProbeEntry| entry.classes.is_none_or(|classes| classes.hits > 0);
    let entries = header.probes.into_iter().filter(may_have_hits);
    entries.map(|entry| entry.name).collect()
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
            &share.report,
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

fn shares(parts: &[ReportPart]) -> Vec<Share> {
    // Of a composed report some probes may have been asked for with their hitlog, others without.
    let mut hitlogs = HashMap::new();
    for part in parts {
        if let Some(hitlog) = &part.hitlog {
            hitlogs.insert(part.report.id, hitlog);
        }
    }
    let mut shares: Vec<Share> = Vec::new();
    for part in parts {
        match shares.last_mut() {
            Some(last) if last.report.id == part.report.id => last.probes.push(part.probe.clone()),
            _ => shares.push(Share {
                report: part.report.clone(),
                hitlog: hitlogs.get(&part.report.id).copied().cloned(),
                probes: vec![part.probe.clone()],
                has_hits: false,
            }),
        }
    }
    shares
}
