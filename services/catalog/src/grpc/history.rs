//! HistoryService: every scan that was ever asked for, and what came of it.

use aegis_mesh::{PageTokens, Result, page_size, principal_of};
use aegis_proto::scan::v1::{
    DeleteScanRequest, DeleteScanResponse, GetScanRequest, GetScanResponse,
    ListProbeResultsRequest, ListProbeResultsResponse, ListScansRequest, ListScansResponse,
    ScanLabels, UndeleteScanRequest, UndeleteScanResponse, UpdateScanRequest, UpdateScanResponse,
    history_service_server::HistoryService,
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{check, query, view};
use crate::{
    domain::history::ScanOrder,
    store::{ResultCursor, ScanCursor, ScanEdit, ScanPage, Store},
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
        let query = query::of(&request)?;
        let list = ("ListScans", &project, &query);
        let after: Option<ScanCursor> = self.pages.decode(&list, &request.page_token)?;
        let page = self
            .store
            .list(&project, &query, after.as_ref(), size.into());
        let (scans, next) = fit(page.await?, query.order)?;
        let next_page_token = match next {
            Some(cursor) => self.pages.encode(&list, &cursor)?,
            None => String::new(),
        };
        let count = match request.include_total_size {
            true => Some(self.store.count(&project, &query).await?),
            false => None,
        };
        Ok(Response::new(ListScansResponse {
            scans,
            next_page_token,
            total_size: count.map(|count| count.found),
            total_size_capped: count.is_some_and(|count| count.capped),
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
        request: Request<UndeleteScanRequest>,
    ) -> Result<Response<UndeleteScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        let id = check::scan_id(&request.get_ref().scan_id)?;
        let scan = view::scan(self.store.undelete(&project, id).await?)?;
        Ok(Response::new(UndeleteScanResponse { scan: Some(scan) }))
    }

    async fn update_scan(
        &self,
        request: Request<UpdateScanRequest>,
    ) -> Result<Response<UpdateScanResponse>, Status> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let id = check::scan_id(&request.scan_id)?;
        let scan = view::scan(self.store.update(&project, id, &edit(request)?).await?)?;
        Ok(Response::new(UpdateScanResponse { scan: Some(scan) }))
    }
}

fn edit(request: UpdateScanRequest) -> Result<ScanEdit> {
    let name = |name: String| check::optional("display_name", &name, 200);
    let labels = |labels: ScanLabels| check::labels(labels.labels);
    Ok(ScanEdit {
        display_name: request.display_name.map(name).transpose()?,
        labels: request.labels.map(labels).transpose()?,
        etag: check::optional("etag", &request.etag, 64)?,
    })
}

/// As many scans of the page as fit in a message, at least one, and where the next page begins.
fn fit(
    page: ScanPage,
    order: ScanOrder,
) -> Result<(Vec<aegis_proto::scan::v1::Scan>, Option<ScanCursor>)> {
    let mut scans = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    for found in page.scans {
        let cursor = ScanCursor::after(order, &found.scan);
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
