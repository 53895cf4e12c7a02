//! ImportService: counts what comes.

use std::sync::atomic::Ordering;

use aegis_proto::report::v1::{
    ImportScanRequest, ImportScanResponse, import_scan_request::Part,
    import_service_server::ImportService,
};
use aegis_proto::scan::v1::Scan;
use tonic::{Request, Response, Status, Streaming};

use super::{Fake, OnDrop};

#[tonic::async_trait]
impl ImportService for Fake {
    async fn import_scan(
        &self,
        request: Request<Streaming<ImportScanRequest>>,
    ) -> Result<Response<ImportScanResponse>, Status> {
        let mut dropped = OnDrop::set(&self.dropped);
        let mut messages = request.into_inner();
        let (mut scan_id, mut bytes) = (String::new(), 0);
        while let Some(message) = messages.message().await? {
            self.produced.fetch_add(1, Ordering::SeqCst);
            match message.part {
                Some(Part::Header(header)) => scan_id = header.scan_id,
                Some(Part::Data(data)) => bytes += data.len(),
                Some(Part::File(_)) | None => {}
            }
        }
        dropped.0 = None;
        Ok(Response::new(ImportScanResponse {
            scan: Some(Scan {
                scan_id,
                ..Scan::default()
            }),
            unchanged: false,
            warnings: vec![bytes.to_string()],
        }))
    }
}
