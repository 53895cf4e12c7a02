//! The rows of an import, as catalog serves them.

use aegis_mesh::{Error, MeshChannel, Result, RetryPolicy, retry};
use aegis_proto::ids::{ProjectId, ScanId};
use aegis_proto::internal::catalog::v1 as rows;
use aegis_proto::internal::catalog::v1::import_store_service_client::ImportStoreServiceClient;
use aegis_proto::report::v1::ImportHeader;
use aegis_proto::scan::v1::Scan;
use async_trait::async_trait;
use prost_types::Timestamp;

use super::convert;
use crate::domain::checksum::Checksum;
use crate::domain::import::{Commit, ImportRows, Imported, ImportedReport, StagedImport};
use crate::domain::name::ArtifactName;

/// The catalog's rows of one import. Every call may be sent again, and is while the catalog is
/// away, for as long as the caller's own time allows.
pub(crate) struct CatalogImport {
    client: ImportStoreServiceClient<MeshChannel>,
    project: ProjectId,
    header: ImportHeader,
}

impl CatalogImport {
    /// Of the import with this header.
    pub(crate) fn new(
        client: ImportStoreServiceClient<MeshChannel>,
        project: ProjectId,
        header: ImportHeader,
    ) -> Self {
        Self {
            client,
            project,
            header,
        }
    }
}

/// Calls a method, again if need be.
macro_rules! call {
    ($self:ident, $method:ident, $request:expr) => {{
        let request = $request;
        let answer = retry(RetryPolicy::default(), || {
            let (mut client, request) = ($self.client.clone(), request.clone());
            async move {
                let answer = client.$method(request).await.map_err(Error::from)?;
                Ok(answer.into_inner())
            }
        });
        answer.await?
    }};
}

#[async_trait]
impl ImportRows for CatalogImport {
    type Scan = Scan;

    async fn check(&self) -> Result<()> {
        let header = Some(self.header.clone());
        call!(self, check_import, rows::CheckImportRequest { header });
        Ok(())
    }

    async fn stage(
        &self,
        scan: ScanId,
        report: Option<&Checksum>,
        names: &[ArtifactName],
    ) -> Result<StagedImport<Scan>> {
        let request = rows::StageImportRequest {
            scan_id: scan.to_string(),
            report: report.map(convert::checksum_message),
            names: names.iter().map(ToString::to_string).collect(),
        };
        let answer = call!(self, stage_import, request);
        if let Some(scan) = answer.existing {
            return Ok(StagedImport::Existing(scan));
        }
        if answer.artifacts.len() != names.len() {
            return Err(Error::internal("the catalog staged not all files"));
        }
        let task = answer.task_id.parse().map_err(Error::internal)?;
        let artifacts = answer.artifacts.into_iter();
        let artifacts = artifacts.map(|row| convert::stored(&self.project, Some(row)));
        Ok(StagedImport::Rows(task, artifacts.collect::<Result<_>>()?))
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<Imported<Scan>> {
        let file = |file: &crate::domain::import::ImportedFile| rows::ImportedFile {
            name: file.name.to_string(),
            artifact_id: file.artifact.map(|id| id.to_string()).unwrap_or_default(),
            checksum: Some(convert::checksum_message(&file.checksum)),
        };
        let request = rows::CommitImportRequest {
            header: Some(self.header.clone()),
            scan_id: commit.scan.to_string(),
            task_id: commit.task.map(|id| id.to_string()).unwrap_or_default(),
            files: commit.files.iter().map(file).collect(),
            report: commit.report.map(report),
        };
        let answer = call!(self, commit_import, request);
        let scan = answer.scan;
        Ok(Imported {
            scan: scan.ok_or_else(|| Error::internal("the catalog sent no scan"))?,
            unchanged: answer.unchanged,
            warnings: answer.warnings,
        })
    }
}

fn report(report: &ImportedReport) -> rows::ImportedReport {
    let run = &report.run;
    let probe = |(probe, attempts): &(String, u64)| rows::ImportedProbe {
        probe: probe.clone(),
        attempts: convert::count(*attempts),
    };
    rows::ImportedReport {
        garak_version: run.garak_version.clone(),
        start_time: report.start_time.map(Timestamp::from),
        end_time: report.end_time.map(Timestamp::from),
        target_type: run.target_type.clone(),
        target_name: run.target_name.clone(),
        probe_spec: run.probe_spec.clone(),
        generations: run.generations.map(convert::count),
        seed: run.seed,
        eval_threshold: report.eval_threshold,
        eval_threshold_known: report.eval_threshold_known,
        probes: report.probes.iter().map(probe).collect(),
        tally: Some(convert::tally_message(&report.tally)),
    }
}
