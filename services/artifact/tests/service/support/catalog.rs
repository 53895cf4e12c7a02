//! A fake of ArtifactRegistryService, because the catalog is another service: rows in memory, one
//! secret for all leases, the fence by epoch. What the real one does is the end-to-end suite's.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use aegis_mesh::{Error, MeshChannel, MeshServer, Result, ServerConfig};
use aegis_proto::ids::{ArtifactId, ScanId, TaskId};
use aegis_proto::internal::catalog::v1 as pb;
use aegis_proto::internal::catalog::v1::artifact_registry_service_server::{
    ArtifactRegistryService, ArtifactRegistryServiceServer,
};
use aegis_proto::internal::catalog::v1::custom_probe_store_service_server::CustomProbeStoreServiceServer;
use aegis_proto::internal::catalog::v1::import_store_service_server::ImportStoreServiceServer;
use aegis_proto::internal::task::v1::Lease;
use tonic::{Request, Response, Status};

use super::sources::Sources;

pub(crate) const TOKEN: &[u8] = b"a lease's secret";

#[derive(Clone, Default)]
pub(crate) struct FakeCatalog(Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    pub(super) rows: Vec<Row>,
    /// What the REPORT task of a scan composes from, by probe.
    parts: Vec<pb::ReportPart>,
    /// By task: the only epoch that may write.
    epochs: HashMap<String, i64>,
    /// Calls of CompleteArtifact that fail from now on.
    pub(crate) failing_completes: usize,
    /// What keys begin with; another project's when a test says so.
    pub(crate) key_prefix: Option<String>,
    pub(crate) eval_threshold: Option<f64>,
    /// What happened in every scan.
    pub(crate) moments: Vec<pb::ScanMoment>,
    /// How often findings were asked for.
    pub(crate) finding_calls: usize,
    pub(crate) sources: Sources,
    /// What was committed of imports, and what was only tried.
    pub(crate) imports: Vec<pb::CommitImportRequest>,
}

#[derive(Clone)]
pub(super) struct Row {
    pub(super) task: String,
    pub(super) epoch: i64,
    pub(super) artifact: pb::StoredArtifact,
    pub(super) tally: Option<pb::Tally>,
    pub(super) committed: bool,
}

impl FakeCatalog {
    pub(crate) fn channel(&self) -> MeshChannel {
        let server = MeshServer::builder("fake-catalog", &ServerConfig::default())
            .add_service(ArtifactRegistryServiceServer::new(self.clone()))
            .add_service(CustomProbeStoreServiceServer::new(self.clone()))
            .add_service(ImportStoreServiceServer::new(self.clone()));
        server.health().set_serving();
        MeshChannel::local(server.into_routes().unwrap())
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A run of a new task of this scan.
    pub(crate) fn lease(&self, scan: &str) -> Lease {
        let lease = Lease {
            task_id: TaskId::generate().to_string(),
            scan_id: scan.to_owned(),
            epoch: 1,
            token: TOKEN.to_vec(),
            ttl: None,
        };
        self.state().epochs.insert(lease.task_id.clone(), 1);
        lease
    }

    /// The task was leased again: a new epoch, and the old one is fenced off.
    pub(crate) fn fence(&self, lease: &Lease) {
        self.state()
            .epochs
            .insert(lease.task_id.clone(), lease.epoch + 1);
    }

    pub(crate) fn row(&self, artifact: &str) -> pb::StoredArtifact {
        self.state().row(artifact).unwrap().artifact.clone()
    }

    pub(crate) fn tally(&self, artifact: &str) -> Option<pb::Tally> {
        self.state().row(artifact).unwrap().tally.clone()
    }

    /// What is committed of a scan, in the order in which it was staged.
    pub(crate) fn committed(&self, scan: &str) -> Vec<pb::StoredArtifact> {
        let state = self.state();
        let rows = state
            .rows
            .iter()
            .filter(|row| row.committed && row.artifact.scan_id == scan);
        rows.map(|row| row.artifact.clone()).collect()
    }

    /// What FinishTask does with a PROBE task's files.
    pub(crate) fn commit_part(&self, report: &str, hitlog: Option<&str>) {
        let mut state = self.state();
        state.commit(report, 0);
        let hitlog = hitlog.map(|hitlog| state.commit(hitlog, 0));
        let row = state.row(report).unwrap().clone();
        let probe = row.tally.unwrap().rows[0].probe.clone();
        let scan = row.artifact.scan_id.clone();
        let is_same = |part: &pb::ReportPart| {
            let of = part.report.as_ref().map(|report| &report.scan_id);
            part.probe == probe && of == Some(&scan)
        };
        state.parts.retain(|part| !is_same(part));
        state.parts.push(pb::ReportPart {
            probe,
            report: Some(row.artifact),
            hitlog,
        });
    }

    /// What FinishTask does with a REPORT task's files: they are what parts lie in from now on.
    pub(crate) fn commit_report(&self, artifacts: &[String], revision: i32) {
        let mut state = self.state();
        let rows: Vec<_> = artifacts
            .iter()
            .map(|id| state.commit(id, revision))
            .collect();
        let find = |name: &str| rows.iter().find(|row| row.name == name).cloned();
        for part in &mut state.parts {
            part.report = find("report.jsonl");
            part.hitlog = part.hitlog.as_ref().and_then(|_| find("hitlog.jsonl"));
        }
    }
}

impl State {
    pub(super) fn row(&mut self, artifact: &str) -> Result<&mut Row> {
        let mut rows = self.rows.iter_mut();
        let row = rows.find(|row| row.artifact.artifact_id == artifact);
        row.ok_or_else(|| Error::not_found("artifact", artifact))
    }

    pub(super) fn commit(&mut self, artifact: &str, revision: i32) -> pb::StoredArtifact {
        let row = self.row(artifact).unwrap();
        assert!(
            row.artifact.checksum.is_some(),
            "only uploaded artifacts are committed"
        );
        row.committed = true;
        row.artifact.revision = revision;
        row.artifact.clone()
    }

    pub(super) fn check(&self, lease: Option<&Lease>) -> Result<Lease> {
        let lease = lease.ok_or_else(|| Error::invalid_argument("INVALID_FIELD", "no lease"))?;
        if lease.token == TOKEN && self.epochs.get(&lease.task_id) == Some(&lease.epoch) {
            return Ok(lease.clone());
        }
        Err(Error::aborted("LEASE_LOST", "the lease is lost"))
    }
}

#[tonic::async_trait]
impl ArtifactRegistryService for FakeCatalog {
    async fn stage_artifact(
        &self,
        request: Request<pb::StageArtifactRequest>,
    ) -> Result<Response<pb::StageArtifactResponse>, Status> {
        let pb::StageArtifactRequest { lease, name } = request.into_inner();
        let mut state = self.state();
        let lease = state.check(lease.as_ref())?;
        let eval_threshold = state.eval_threshold.unwrap_or(0.5);
        let answer = |artifact: pb::StoredArtifact| pb::StageArtifactResponse {
            complete: artifact.checksum.is_some(),
            artifact: Some(artifact),
            upload_deadline: None,
            eval_threshold,
        };
        let is_it = |row: &&Row| {
            row.task == lease.task_id && row.epoch == lease.epoch && row.artifact.name == name
        };
        if let Some(row) = state.rows.iter().find(is_it) {
            return Ok(Response::new(answer(row.artifact.clone())));
        }
        let prefix = state
            .key_prefix
            .clone()
            .unwrap_or_else(|| "default".to_owned());
        let Lease {
            scan_id,
            task_id,
            epoch,
            ..
        } = lease;
        let artifact = pb::StoredArtifact {
            artifact_id: ArtifactId::generate().to_string(),
            object_key: format!("{prefix}/scans/{scan_id}/{task_id}/{epoch}/{name}"),
            scan_id,
            name,
            checksum: None,
            create_time: Some(SystemTime::now().into()),
            revision: 0,
        };
        state.rows.push(Row {
            task: task_id,
            epoch,
            artifact: artifact.clone(),
            tally: None,
            committed: false,
        });
        Ok(Response::new(answer(artifact)))
    }

    async fn complete_artifact(
        &self,
        request: Request<pb::CompleteArtifactRequest>,
    ) -> Result<Response<pb::CompleteArtifactResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.check(request.lease.as_ref())?;
        if state.failing_completes > 0 {
            state.failing_completes -= 1;
            return Err(Error::internal("a test wants it so").into());
        }
        let row = state.row(&request.artifact_id)?;
        if row.artifact.checksum.is_some() && row.artifact.checksum != request.checksum {
            return Err(
                Error::failed_precondition("STATE", "complete with another checksum").into(),
            );
        }
        row.artifact.checksum = request.checksum;
        row.tally = request.tally;
        let artifact = Some(row.artifact.clone());
        Ok(Response::new(pb::CompleteArtifactResponse { artifact }))
    }

    async fn list_report_parts(
        &self,
        request: Request<pb::ListReportPartsRequest>,
    ) -> Result<Response<pb::ListReportPartsResponse>, Status> {
        let state = self.state();
        let lease = state.check(request.into_inner().lease.as_ref())?;
        Ok(Response::new(pb::ListReportPartsResponse {
            scan_id: lease.scan_id,
            revision: 1,
            parts: state.parts.clone(),
            include: vec!["probes.lmrc".to_owned()],
            exclude: Vec::new(),
            eval_threshold: state.eval_threshold.unwrap_or(0.5),
        }))
    }

    async fn list_report_artifacts(
        &self,
        request: Request<pb::ListReportArtifactsRequest>,
    ) -> Result<Response<pb::ListReportArtifactsResponse>, Status> {
        let pb::ListReportArtifactsRequest { scan_id, revision } = request.into_inner();
        scan_id.parse::<ScanId>().map_err(Error::internal)?;
        let state = self.state();
        let of_scan = |row: &&Row| row.committed && row.artifact.scan_id == scan_id;
        let newest = state
            .rows
            .iter()
            .filter(of_scan)
            .map(|row| row.artifact.revision)
            .max();
        let wanted = if revision == 0 {
            newest.unwrap_or(1)
        } else {
            revision
        };
        let rows = state
            .rows
            .iter()
            .filter(of_scan)
            .map(|row| row.artifact.clone());
        let artifacts = rows
            .filter(|row| row.revision > 0 && row.revision == wanted)
            .collect();
        Ok(Response::new(pb::ListReportArtifactsResponse { artifacts }))
    }

    async fn locate_probe_report(
        &self,
        request: Request<pb::LocateProbeReportRequest>,
    ) -> Result<Response<pb::LocateProbeReportResponse>, Status> {
        let pb::LocateProbeReportRequest { scan_id, probe } = request.into_inner();
        let state = self.state();
        let reports = state.parts.iter().filter(|part| part.probe == probe);
        let artifact = reports
            .filter_map(|part| part.report.clone())
            .find(|r| r.scan_id == scan_id);
        if artifact.is_none() {
            let code = aegis_mesh::Code::NotFound;
            return Err(Error::new(code, "PROBE_NOT_EVALUATED", "no such result").into());
        }
        let eval_threshold = state.eval_threshold.unwrap_or(0.5);
        Ok(Response::new(pb::LocateProbeReportResponse {
            artifact,
            eval_threshold,
        }))
    }

    async fn locate_reports(
        &self,
        request: Request<pb::LocateReportsRequest>,
    ) -> Result<Response<pb::LocateReportsResponse>, Status> {
        let pb::LocateReportsRequest { scan_id } = request.into_inner();
        let state = self.state();
        let mut reports: Vec<pb::LocatedReport> = Vec::new();
        for part in &state.parts {
            let Some(artifact) = part
                .report
                .clone()
                .filter(|report| report.scan_id == scan_id)
            else {
                continue;
            };
            let is_composed = artifact.revision > 0;
            if is_composed && reports.iter().any(|report| report.probe.is_empty()) {
                continue;
            }
            let probe = if is_composed {
                String::new()
            } else {
                part.probe.clone()
            };
            reports.push(pb::LocatedReport {
                artifact: Some(artifact),
                probe,
            });
        }
        Ok(Response::new(pb::LocateReportsResponse {
            reports,
            eval_threshold: state.eval_threshold.unwrap_or(0.5),
        }))
    }

    /// All scans are of one target; the newest was committed last.
    async fn list_finding_reports(
        &self,
        request: Request<pb::ListFindingReportsRequest>,
    ) -> Result<Response<pb::ListFindingReportsResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.state();
        state.finding_calls += 1;
        let before = request.after.map_or(i64::MAX, |after| after.created_at);
        let is_hit = |row: &pb::ProbeDetectorTally| {
            let of_detector = request.detector.is_empty() || row.detector == request.detector;
            row.probe == request.probe && of_detector && row.failed > 0
        };
        let rows = state.rows.iter().enumerate().rev();
        let found = rows.filter(|(place, row)| {
            let tally = row
                .tally
                .as_ref()
                .filter(|_| row.committed && (*place as i64) < before);
            tally.is_some_and(|tally| tally.rows.iter().any(is_hit))
        });
        let mut reports: Vec<_> = found
            .map(|(place, row)| pb::FindingReport {
                artifact: Some(row.artifact.clone()),
                eval_threshold: 0.5,
                position: Some(pb::ScanPosition {
                    created_at: place as i64,
                    scan_id: row.artifact.scan_id.clone(),
                }),
                scan_end_time: row.artifact.create_time,
            })
            .collect();
        let has_more = reports.len() > request.limit as usize;
        reports.truncate(request.limit as usize);
        let last = reports.last().and_then(|report| report.position.clone());
        Ok(Response::new(pb::ListFindingReportsResponse {
            next: last.filter(|_| has_more),
            reports,
        }))
    }

    async fn list_scan_moments(
        &self,
        _request: Request<pb::ListScanMomentsRequest>,
    ) -> Result<Response<pb::ListScanMomentsResponse>, Status> {
        let moments = self.state().moments.clone();
        Ok(Response::new(pb::ListScanMomentsResponse { moments }))
    }
}
