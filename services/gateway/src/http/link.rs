//! Downloads that go around us: a redirect to a link of the object store's own.

use aegis_mesh::{CallContext, Error, Principal, Result, with_context};
use aegis_proto::report::v1::{
    CreateArtifactLinkRequest, report_service_client::ReportServiceClient,
};
use axum::{body::Body, response::Response};
use http::{StatusCode, header};
use tokio::time::timeout;

use super::artifact::{Downloads, Name};
use crate::{public::Upstream, transcode::too_late};

/// Where artifacts lie in a directory there are no links: then the bytes come from us.
const NO_LINKS: &str = "LINKS_UNSUPPORTED";

impl Downloads {
    /// 307 to a link that works for a while and bears no credential of the caller; `None` where
    /// the store has no links.
    ///
    /// # Errors
    /// What CreateArtifactLink refuses.
    pub(super) async fn redirect(
        &self,
        principal: &Principal,
        name: &Name,
    ) -> Result<Option<Response>> {
        let mut client = ReportServiceClient::new(self.channel.clone());
        let request = CreateArtifactLinkRequest {
            scan_id: name.scan_id.clone(),
            name: name.name.clone(),
            revision: name.revision,
            ttl: None,
        };
        let context = CallContext::new(principal.clone());
        let asking = with_context(context, async move {
            let answer = client.create_artifact_link(request).await?;
            Ok(answer.into_inner().url)
        });
        let asked = timeout(self.deadline, asking).await;
        match asked.unwrap_or_else(|_| Err(too_late(self.deadline))) {
            Ok(url) => found(&url).map(Some),
            Err(error) if error.reason() == NO_LINKS => Ok(None),
            Err(error) => Err(Upstream::Artifact.explain(error)),
        }
    }
}

/// The link is a credential for one file: no cache may keep it.
fn found(url: &str) -> Result<Response> {
    http::Response::builder()
        .status(StatusCode::TEMPORARY_REDIRECT)
        .header(header::LOCATION, url)
        .header(header::CACHE_CONTROL, "no-store")
        .body(Body::empty())
        .map_err(Error::internal)
}
