use std::time::Duration;

use aegis_mesh::{Error, Principal, principal_of};
use aegis_proto::scan::v1::{
    DeleteScanRequest, DeleteScanResponse, GetScanRequest, GetScanResponse,
    ListProbeResultsRequest, ListProbeResultsResponse, ListScansRequest, ListScansResponse, Scan,
    UndeleteScanRequest, UndeleteScanResponse, UpdateScanRequest, UpdateScanResponse,
    history_service_server::HistoryService,
};
use tonic::{Request, Response, Status};

use super::{Fake, OnDrop};

#[tonic::async_trait]
impl HistoryService for Fake {
    async fn get_scan(
        &self,
        request: Request<GetScanRequest>,
    ) -> Result<Response<GetScanResponse>, Status> {
        self.saw("GetScan", &request);
        assert_eq!(principal_of(&request).unwrap(), Principal::local());
        let scan_id = request.into_inner().scan_id;
        match scan_id.as_str() {
            "missing" => Err(Error::not_found("scan", &scan_id)
                .hint("list the scans")
                .into()),
            "busy" => {
                let text = "the database is away";
                Err(Error::unavailable("DEPENDENCY_DOWN", text, Duration::from_millis(1500)).into())
            }
            "hangs" => {
                let _dropped = OnDrop::set(&self.dropped);
                std::future::pending().await
            }
            "secret" => Err(Error::internal("password is hunter2").into()),
            _ => Ok(Response::new(GetScanResponse {
                scan: Some(Scan {
                    scan_id,
                    last_sequence: 7,
                    ..Scan::default()
                }),
            })),
        }
    }

    async fn list_scans(
        &self,
        request: Request<ListScansRequest>,
    ) -> Result<Response<ListScansResponse>, Status> {
        self.saw("ListScans", &request);
        Ok(Response::new(Default::default()))
    }

    async fn list_probe_results(
        &self,
        request: Request<ListProbeResultsRequest>,
    ) -> Result<Response<ListProbeResultsResponse>, Status> {
        self.saw("ListProbeResults", &request);
        Ok(Response::new(Default::default()))
    }

    async fn delete_scan(
        &self,
        request: Request<DeleteScanRequest>,
    ) -> Result<Response<DeleteScanResponse>, Status> {
        self.saw("DeleteScan", &request);
        let error = Error::failed_precondition("SCAN_NOT_TERMINAL", "the scan still runs");
        match request.get_ref().scan_id.as_str() {
            "running" => Err(error
                .precondition("STATE", "running", "cancel it first")
                .into()),
            _ => Ok(Response::new(Default::default())),
        }
    }

    async fn undelete_scan(
        &self,
        request: Request<UndeleteScanRequest>,
    ) -> Result<Response<UndeleteScanResponse>, Status> {
        self.saw("UndeleteScan", &request);
        Ok(Response::new(Default::default()))
    }

    async fn update_scan(
        &self,
        request: Request<UpdateScanRequest>,
    ) -> Result<Response<UpdateScanResponse>, Status> {
        self.saw("UpdateScan", &request);
        Ok(Response::new(Default::default()))
    }
}
