//! Reads a scan and its results.

use aegis_mesh::{Error, Result};
use aegis_proto::scan::v1::{
    GetScanRequest, ListProbeResultsRequest, ListProbeResultsResponse, ProbeResult,
};

use crate::{
    client::Client,
    output::{print_json, table},
    scan::run::print_summary,
};

pub(super) async fn show(client: &Client, as_json: bool, scan_id: &str) -> anyhow::Result<()> {
    let scan_id = scan_id.to_owned();
    let response = client.history().get_scan(GetScanRequest { scan_id }).await;
    let scan = response.map_err(Error::from)?.into_inner().scan;
    let scan = scan.ok_or_else(|| Error::internal("no scan in the answer"))?;
    if as_json {
        return print_json(&scan);
    }
    print_summary(&scan);
    Ok(())
}

pub(super) async fn results(client: &Client, as_json: bool, scan_id: &str) -> anyhow::Result<()> {
    let results = all_results(client, scan_id).await?;
    if as_json {
        return print_json(&ListProbeResultsResponse {
            results,
            next_page_token: String::new(),
        });
    }
    println!("{}", table::results(&results));
    Ok(())
}

/// Every result of a scan, worst first, page by page.
pub(crate) async fn all_results(client: &Client, scan_id: &str) -> Result<Vec<ProbeResult>> {
    let mut results = Vec::new();
    let mut request = ListProbeResultsRequest {
        scan_id: scan_id.to_owned(),
        page_size: 1000,
        page_token: String::new(),
    };
    loop {
        let response = client.history().list_probe_results(request.clone()).await;
        let page = response?.into_inner();
        results.extend(page.results);
        if page.next_page_token.is_empty() {
            return Ok(results);
        }
        request.page_token = page.next_page_token;
    }
}
