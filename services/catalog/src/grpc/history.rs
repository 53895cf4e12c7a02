//! HistoryService: every scan that was ever asked for, and what came of it.

use aegis_mesh::{PageTokens, Result, page_size, principal_of};
use aegis_proto::scan::v1::{
    DeleteScanRequest, DeleteScanResponse, GetScanRequest, GetScanResponse,
    ListProbeResultsRequest, ListProbeResultsResponse, ListScansRequest, ListScansResponse,
    ScanFilter as ProtoFilter, UndeleteScanRequest, UndeleteScanResponse, UpdateScanRequest,
    UpdateScanResponse, history_service_server::HistoryService,
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{check, view};
use crate::{
    domain::{refusal::invalid_field, scan::ScanFilter},
    store::{ResultCursor, ScanCursor, ScanPage, Store},
};

/// A page ends after about so many bytes: a specification may have a long system prompt, and a
/// page of 1,000 must still be one message.
const PAGE_BYTES: usize = 2 << 20;

/// HistoryService on a store.
pub(crate) struct History {
    pub(crate) store: Store,
    pub(crate) pages: PageTokens,
}

#[tonic::async_trait]
impl HistoryService for History {
    async fn get_scan(
        &self,
        request: Request<GetScanRequest>,
    ) -> Result<Response<GetScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        let id = check::scan_id(&request.get_ref().scan_id)?;
        let scan = view::scan(self.store.get(&project, id).await?)?;
        Ok(Response::new(GetScanResponse { scan: Some(scan) }))
    }

    async fn list_scans(
        &self,
        request: Request<ListScansRequest>,
    ) -> Result<Response<ListScansResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let filter = filter(request.filter.unwrap_or_default())?;
        let states: Vec<_> = filter.states.iter().map(|state| state.as_str()).collect();
        let list = (
            "ListScans",
            &project,
            states,
            &filter.target_type,
            &filter.target_name,
        );
        let after: Option<ScanCursor> = self.pages.decode(&list, &request.page_token)?;
        let page = self.store.list(&project, &filter, after, size.into());
        let (scans, next) = fit(page.await?)?;
        let next_page_token = match next {
            Some(cursor) => self.pages.encode(&list, &cursor)?,
            None => String::new(),
        };
        Ok(Response::new(ListScansResponse {
            scans,
            next_page_token,
            ..ListScansResponse::default()
        }))
    }

    async fn list_probe_results(
        &self,
        request: Request<ListProbeResultsRequest>,
    ) -> Result<Response<ListProbeResultsResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let id = check::scan_id(&request.scan_id)?;
        let list = ("ListProbeResults", &project, id);
        let after: Option<ResultCursor> = self.pages.decode(&list, &request.page_token)?;
        let page = self
            .store
            .results(&project, id, after.as_ref(), size.into())
            .await?;
        let next_page_token = match page.next {
            Some(cursor) => self.pages.encode(&list, &cursor)?,
            None => String::new(),
        };
        Ok(Response::new(ListProbeResultsResponse {
            results: page.results.into_iter().map(view::result).collect(),
            next_page_token,
        }))
    }

    async fn delete_scan(
        &self,
        request: Request<DeleteScanRequest>,
    ) -> Result<Response<DeleteScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        let id = check::scan_id(&request.get_ref().scan_id)?;
        let scan = view::scan(self.store.delete(&project, id).await?)?;
        Ok(Response::new(DeleteScanResponse { scan: Some(scan) }))
    }

    async fn undelete_scan(
        &self,
        _request: Request<UndeleteScanRequest>,
    ) -> Result<Response<UndeleteScanResponse>, Status> {
        Err(Status::unimplemented("UndeleteScan"))
    }

    async fn update_scan(
        &self,
        _request: Request<UpdateScanRequest>,
    ) -> Result<Response<UpdateScanResponse>, Status> {
        Err(Status::unimplemented("UpdateScan"))
    }
}

fn filter(filter: ProtoFilter) -> Result<ScanFilter> {
    let mut states = Vec::new();
    for (index, state) in filter.states().enumerate() {
        let field = format!("filter.states[{index}]");
        let state = view::state_of(state)
            .ok_or_else(|| invalid_field(&field, "is no state that a scan can be in"))?;
        states.push(state);
    }
    if states.len() < filter.states.len() {
        return Err(invalid_field("filter.states", "has an unknown state"));
    }
    Ok(ScanFilter {
        states,
        target_type: check::optional("filter.target_type", &filter.target_type, 256)?,
        target_name: check::optional("filter.target_name", &filter.target_name, 256)?,
    })
}

/// As many scans of the page as fit in a message, at least one, and where the next page begins.
fn fit(page: ScanPage) -> Result<(Vec<aegis_proto::scan::v1::Scan>, Option<ScanCursor>)> {
    let mut scans = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    for found in page.scans {
        let cursor = ScanCursor {
            created_at: found.scan.created_at,
            id: found.scan.id,
        };
        let scan = view::scan(found)?;
        bytes += scan.encoded_len();
        if bytes > PAGE_BYTES && !scans.is_empty() {
            return Ok((scans, last));
        }
        scans.push(scan);
        last = Some(cursor);
    }
    Ok((scans, page.next))
}
