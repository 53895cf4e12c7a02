//! CustomProbeService: the source goes to artifact, the rest to catalog, the trying out to a
//! runner.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use aegis_mesh::{CallContext, Code, Error, MeshChannel, Result};
use aegis_proto::{
    internal::{
        artifact::v1::{
            GetSourceRequest, PutSourceRequest, source_service_client::SourceServiceClient,
        },
        catalog::v1::{
            self as store, await_check_response,
            custom_probe_store_service_client::CustomProbeStoreServiceClient,
        },
    },
    probe::v1::{self as pb, custom_probe_service_server::CustomProbeService},
};
use tonic::{Request, Response, Status};

use super::relay;
use crate::{
    catalogues::Catalogues,
    domain::{
        custom,
        starters::STARTERS,
        violation::{INVALID_FIELD, Violations},
    },
};

/// Longest wait for a runner.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// Longest wait of one call to the catalog.
const MAX_POLL: Duration = Duration::from_secs(20);
/// What an upstream long poll may take beyond its wait.
const POLL_MARGIN: Duration = Duration::from_secs(5);
/// What is left of the caller's time for the answer itself.
const TO_ANSWER: Duration = Duration::from_millis(500);
const MAX_DESCRIPTION: usize = 2_000;

/// Serves CustomProbeService.
pub(crate) struct CustomProbeApi {
    store: CustomProbeStoreServiceClient<MeshChannel>,
    sources: SourceServiceClient<MeshChannel>,
    catalogues: Arc<Catalogues>,
}

type Reply<T> = std::result::Result<Response<T>, Status>;

impl CustomProbeApi {
    pub(crate) fn new(
        store: CustomProbeStoreServiceClient<MeshChannel>,
        sources: SourceServiceClient<MeshChannel>,
        catalogues: Arc<Catalogues>,
    ) -> Self {
        Self {
            store,
            sources,
            catalogues,
        }
    }

    /// Refuses the names of garak's own modules. Before any runner has said what garak has, no
    /// name is known to be its own; later its own module wins over the custom one.
    async fn require_free(&self, name: &str) -> Result<()> {
        let current = match self.catalogues.current().await {
            Err(error) if error.reason() == "NO_PLUGIN_CATALOGUE" => return Ok(()),
            current => current?,
        };
        if !custom::is_garaks(name, &current.catalogue) {
            return Ok(());
        }
        let message = format!("garak has a module {name:?} itself");
        Err(
            Error::new(Code::AlreadyExists, "CUSTOM_PROBE_EXISTS", message)
                .with("name", name)
                .hint("choose another name"),
        )
    }

    async fn put_source(&self, source: String) -> Result<String> {
        let request = PutSourceRequest {
            source: source.into_bytes(),
        };
        let answer = self.sources.clone().put_source(request).await?;
        Ok(answer.into_inner().sha256)
    }

    /// The probe as users see it: with its source.
    async fn with_source(&self, probe: Option<pb::CustomProbe>) -> Result<Option<pb::CustomProbe>> {
        let mut probe =
            probe.ok_or_else(|| Error::internal("catalog answered without the probe"))?;
        let request = GetSourceRequest {
            sha256: probe.sha256.clone(),
        };
        let answer = self.sources.clone().get_source(request).await?;
        let source = String::from_utf8(answer.into_inner().source);
        probe.source = source.map_err(Error::internal)?;
        Ok(Some(probe))
    }

    /// What a runner finds, when one does within the time there is.
    async fn try_out(&self, name: String, sha256: String) -> Result<pb::Validation> {
        let left = CallContext::current().and_then(|context| context.remaining());
        let wait = left.map_or(MAX_WAIT, |left| {
            left.saturating_sub(TO_ANSWER).min(MAX_WAIT)
        });
        let until = Instant::now() + wait;
        let request = store::QueueCheckRequest {
            name,
            sha256,
            give_up_after: Some(duration(wait.max(Duration::from_secs(1)))),
        };
        let queued = self.store.clone().queue_check(request).await?;
        let check_id = queued.into_inner().check_id;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = self.await_check(&check_id, left.min(MAX_POLL)).await?;
            if let Some(found) = answer.validation {
                return Ok(found);
            }
            if left.is_zero() {
                return Err(not_in_time(answer.state(), wait));
            }
        }
    }

    async fn await_check(&self, id: &str, wait: Duration) -> Result<store::AwaitCheckResponse> {
        let mut request = Request::new(store::AwaitCheckRequest {
            check_id: id.to_owned(),
            wait: Some(duration(wait)),
        });
        request.set_timeout(wait + POLL_MARGIN);
        let answer = self.store.clone().await_check(request).await?;
        Ok(answer.into_inner())
    }
}

fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        // A minute at most.
        seconds: duration.as_secs() as i64,
        nanos: duration.subsec_nanos() as i32,
    }
}

fn not_in_time(state: await_check_response::State, waited: Duration) -> Error {
    let seconds = waited.as_secs();
    if state == await_check_response::State::Running {
        let message = format!("a runner is not through with it after {seconds} s");
        return Error::unavailable("CHECK_NOT_ENDED", message, Duration::from_secs(5))
            .hint("ask again: the same check is waited for");
    }
    let message = format!("no runner took the check within {seconds} s");
    Error::unavailable("NO_MATCHING_RUNNER", message, Duration::from_secs(5))
        .hint("start a runner, or wait until its garak has warmed up")
}

fn check_name(name: &str, violations: &mut Violations) {
    if let Some(wrong) = custom::wrong_name(name) {
        violations.add("name", INVALID_FIELD, wrong);
    }
}

fn check_description(description: &str, violations: &mut Violations) {
    if description.chars().nth(MAX_DESCRIPTION).is_some() {
        let wrong = format!("must have at most {MAX_DESCRIPTION} characters");
        violations.add("description", INVALID_FIELD, wrong);
    }
    let is_odd = |c: char| c.is_control() && !matches!(c, '\n' | '\t');
    if description.chars().any(is_odd) {
        let wrong = "must not contain control characters";
        violations.add("description", INVALID_FIELD, wrong);
    }
}

fn check_source(source: &str, violations: &mut Violations) {
    if source.trim().is_empty() {
        violations.add("source", INVALID_FIELD, "must not be empty");
    }
}

#[tonic::async_trait]
impl CustomProbeService for CustomProbeApi {
    async fn validate_custom_probe(
        &self,
        request: Request<pb::ValidateCustomProbeRequest>,
    ) -> Reply<pb::ValidateCustomProbeResponse> {
        let pb::ValidateCustomProbeRequest { name, source } = request.into_inner();
        let mut violations = Violations::new();
        check_name(&name, &mut violations);
        check_source(&source, &mut violations);
        violations.into_result()?;
        self.require_free(&name).await?;
        let sha256 = self.put_source(source).await?;
        let validation = Some(self.try_out(name, sha256).await?);
        Ok(Response::new(pb::ValidateCustomProbeResponse {
            validation,
        }))
    }

    async fn create_custom_probe(
        &self,
        request: Request<pb::CreateCustomProbeRequest>,
    ) -> Reply<pb::CreateCustomProbeResponse> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        check_name(&request.name, &mut violations);
        check_description(&request.description, &mut violations);
        check_source(&request.source, &mut violations);
        violations.into_result()?;
        self.require_free(&request.name).await?;
        let intent = store::CreateCustomProbeRequest {
            name: request.name,
            description: request.description,
            sha256: self.put_source(request.source).await?,
        };
        let made = self.store.clone().create_custom_probe(intent).await;
        let made = made.map_err(relay)?.into_inner().custom_probe;
        let custom_probe = self.with_source(made).await?;
        Ok(Response::new(pb::CreateCustomProbeResponse {
            custom_probe,
        }))
    }

    async fn get_custom_probe(
        &self,
        request: Request<pb::GetCustomProbeRequest>,
    ) -> Reply<pb::GetCustomProbeResponse> {
        let pb::GetCustomProbeRequest { name, version } = request.into_inner();
        let question = store::GetCustomProbeRequest { name, version };
        let found = self.store.clone().get_custom_probe(question).await;
        let found = found.map_err(relay)?.into_inner().custom_probe;
        let custom_probe = self.with_source(found).await?;
        Ok(Response::new(pb::GetCustomProbeResponse { custom_probe }))
    }

    async fn list_custom_probes(
        &self,
        request: Request<pb::ListCustomProbesRequest>,
    ) -> Reply<pb::ListCustomProbesResponse> {
        let request = request.into_inner();
        let question = store::ListCustomProbesRequest {
            page_size: request.page_size,
            page_token: request.page_token,
        };
        let page = self.store.clone().list_custom_probes(question).await;
        let page = page.map_err(relay)?.into_inner();
        Ok(Response::new(pb::ListCustomProbesResponse {
            custom_probes: page.custom_probes,
            next_page_token: page.next_page_token,
        }))
    }

    async fn list_custom_probe_versions(
        &self,
        request: Request<pb::ListCustomProbeVersionsRequest>,
    ) -> Reply<pb::ListCustomProbeVersionsResponse> {
        let request = request.into_inner();
        let question = store::ListCustomProbeVersionsRequest {
            name: request.name,
            page_size: request.page_size,
            page_token: request.page_token,
        };
        let mut store = self.store.clone();
        let page = store.list_custom_probe_versions(question).await;
        let page = page.map_err(relay)?.into_inner();
        Ok(Response::new(pb::ListCustomProbeVersionsResponse {
            custom_probes: page.custom_probes,
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_custom_probe(
        &self,
        request: Request<pb::UpdateCustomProbeRequest>,
    ) -> Reply<pb::UpdateCustomProbeResponse> {
        let request = request.into_inner();
        let mut violations = Violations::new();
        check_name(&request.name, &mut violations);
        if let Some(description) = &request.description {
            check_description(description, &mut violations);
        }
        if let Some(source) = &request.source {
            check_source(source, &mut violations);
        }
        if request.etag.is_empty() {
            let wrong = "is required: the etag that the change was made to";
            violations.add("etag", INVALID_FIELD, wrong);
        }
        violations.into_result()?;
        let sha256 = match request.source {
            Some(source) => Some(self.put_source(source).await?),
            None => None,
        };
        let intent = store::UpdateCustomProbeRequest {
            name: request.name,
            description: request.description,
            sha256,
            etag: request.etag,
        };
        let updated = self.store.clone().update_custom_probe(intent).await;
        let updated = updated.map_err(relay)?.into_inner().custom_probe;
        let custom_probe = self.with_source(updated).await?;
        Ok(Response::new(pb::UpdateCustomProbeResponse {
            custom_probe,
        }))
    }

    async fn delete_custom_probe(
        &self,
        request: Request<pb::DeleteCustomProbeRequest>,
    ) -> Reply<pb::DeleteCustomProbeResponse> {
        let pb::DeleteCustomProbeRequest { name, etag } = request.into_inner();
        let intent = store::DeleteCustomProbeRequest { name, etag };
        let deleted = self.store.clone().delete_custom_probe(intent).await;
        deleted.map_err(relay)?;
        Ok(Response::new(pb::DeleteCustomProbeResponse {}))
    }

    async fn list_starters(
        &self,
        _: Request<pb::ListStartersRequest>,
    ) -> Reply<pb::ListStartersResponse> {
        let starters = STARTERS.iter().map(|starter| pb::Starter {
            name: starter.name.to_owned(),
            description: starter.description.to_owned(),
            source: starter.source.to_owned(),
        });
        Ok(Response::new(pb::ListStartersResponse {
            starters: starters.collect(),
        }))
    }
}
