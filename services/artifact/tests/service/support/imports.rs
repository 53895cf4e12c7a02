//! A fake of ImportStoreService: what is committed is found by readers, a dry run's is not.

use aegis_mesh::Error;
use aegis_proto::ids::{ArtifactId, TaskId};
use aegis_proto::internal::catalog::v1 as pb;
use aegis_proto::internal::catalog::v1::import_store_service_server::ImportStoreService;
use aegis_proto::scan::v1::Scan;
use tonic::{Request, Response, Status};

use super::catalog::{FakeCatalog, Row, State};

impl State {
    /// The scan, with this report; refused when it has another.
    fn imported(&self, request: &pb::StageImportRequest) -> Result<Option<Scan>, Error> {
        let mut imports = self.imports.iter();
        let found =
            imports.find(|import| import.scan_id == request.scan_id && !import.task_id.is_empty());
        let Some(found) = found else { return Ok(None) };
        let report = found.files.first().and_then(|file| file.checksum.clone());
        if report != request.report {
            return Err(Error::new(
                aegis_mesh::Code::AlreadyExists,
                "SCAN_EXISTS",
                "it is there",
            ));
        }
        Ok(Some(scan(&request.scan_id)))
    }
}

fn scan(id: &str) -> Scan {
    Scan {
        scan_id: id.to_owned(),
        imported: true,
        ..Scan::default()
    }
}

#[tonic::async_trait]
impl ImportStoreService for FakeCatalog {
    async fn check_import(
        &self,
        request: Request<pb::CheckImportRequest>,
    ) -> Result<Response<pb::CheckImportResponse>, Status> {
        let header = request.into_inner().header.unwrap_or_default();
        if header.display_name.chars().count() > 200 {
            return Err(Error::invalid_field("header.display_name", "too long").into());
        }
        Ok(Response::new(pb::CheckImportResponse {}))
    }

    async fn stage_import(
        &self,
        request: Request<pb::StageImportRequest>,
    ) -> Result<Response<pb::StageImportResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        if let Some(existing) = state.imported(&request)? {
            return Ok(Response::new(pb::StageImportResponse {
                existing: Some(existing),
                ..Default::default()
            }));
        }
        let (task, scan) = (TaskId::generate().to_string(), &request.scan_id);
        let artifacts = request.names.iter().map(|name| pb::StoredArtifact {
            artifact_id: ArtifactId::generate().to_string(),
            scan_id: scan.clone(),
            name: name.clone(),
            object_key: format!("default/scans/{scan}/{task}/1/{name}"),
            ..Default::default()
        });
        let artifacts: Vec<_> = artifacts.collect();
        state.rows.extend(artifacts.iter().map(|artifact| Row {
            task: task.clone(),
            epoch: 1,
            artifact: artifact.clone(),
            tally: None,
            committed: false,
        }));
        Ok(Response::new(pb::StageImportResponse {
            existing: None,
            task_id: task,
            artifacts,
        }))
    }

    async fn commit_import(
        &self,
        request: Request<pb::CommitImportRequest>,
    ) -> Result<Response<pb::CommitImportResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        for file in request
            .files
            .iter()
            .filter(|file| !file.artifact_id.is_empty())
        {
            let row = state.row(&file.artifact_id)?;
            row.artifact.checksum.clone_from(&file.checksum);
            if let (true, Some(report)) = (file.name == "report.jsonl", &request.report) {
                row.tally.clone_from(&report.tally);
            }
            state.commit(&file.artifact_id, 1);
        }
        let scan = scan(&request.scan_id);
        state.imports.push(request);
        Ok(Response::new(pb::CommitImportResponse {
            scan: Some(scan),
            unchanged: false,
            warnings: vec!["of the catalog".to_owned()],
        }))
    }
}
