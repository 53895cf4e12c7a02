//! CustomProbeStoreService: custom probes, the rows of their sources, trials.

use std::time::Duration;

use aegis_mesh::{PageTokens, Result, page_size, principal_of};
use aegis_proto::{
    internal::catalog::v1::{
        self as pb, await_check_response,
        custom_probe_store_service_server::CustomProbeStoreService,
    },
    probe::v1::{CustomProbe as ProtoProbe, custom_probe::State},
};
use prost::Message;
use tonic::{Request, Response, Status};

use super::{check, checks, validation, view};
use crate::{
    domain::{
        check::CheckState,
        custom_probe::{CustomProbe, Source, SourceState, VersionState},
        refusal::invalid_field,
    },
    store::{CustomProbeRef, CustomProbeUpdate, NewCustomProbe, Store},
};

/// A page ends after about so many bytes: validations may be long.
const PAGE_BYTES: usize = 1 << 20;
/// Longest source.
const MAX_SOURCE_BYTES: i64 = 256 << 10;
const MAX_DESCRIPTION: usize = 2_000;
const MAX_REFERENCES: usize = 1_100;

/// CustomProbeStoreService on a store.
pub(crate) struct CustomProbes {
    pub(crate) store: Store,
    pub(crate) pages: PageTokens,
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl CustomProbeStoreService for CustomProbes {
    async fn stage_source(
        &self,
        request: Request<pb::StageSourceRequest>,
    ) -> Reply<pb::StageSourceResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let sha256 = check::sha256("sha256", &request.sha256)?;
        let size = check::within("size_bytes", request.size_bytes, 1..=MAX_SOURCE_BYTES)?;
        let source = self.store.stage_source(&project, &sha256, size).await?;
        let source = Some(stored(source));
        Ok(Response::new(pb::StageSourceResponse { source }))
    }

    async fn commit_source(
        &self,
        request: Request<pb::CommitSourceRequest>,
    ) -> Reply<pb::CommitSourceResponse> {
        let project = principal_of(&request)?.project;
        let sha256 = check::sha256("sha256", &request.get_ref().sha256)?;
        self.store.commit_source(&project, &sha256).await?;
        Ok(Response::new(pb::CommitSourceResponse {}))
    }

    async fn find_source(
        &self,
        request: Request<pb::FindSourceRequest>,
    ) -> Reply<pb::FindSourceResponse> {
        let project = principal_of(&request)?.project;
        let sha256 = check::sha256("sha256", &request.get_ref().sha256)?;
        let source = self.store.source(&project, &sha256).await?;
        let source = Some(stored(source));
        Ok(Response::new(pb::FindSourceResponse { source }))
    }

    async fn find_leased_source(
        &self,
        request: Request<pb::FindLeasedSourceRequest>,
    ) -> Reply<pb::FindLeasedSourceResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let sha256 = check::sha256("sha256", &request.sha256)?;
        let source = match checks::lease(request.lease)? {
            checks::AnyLease::Task(lease) => {
                self.store.source_of_scan(&project, &lease, &sha256).await?
            }
            checks::AnyLease::Check(lease) => {
                self.store
                    .source_of_check(&project, &lease, &sha256)
                    .await?
            }
        };
        let source = Some(stored(source));
        Ok(Response::new(pb::FindLeasedSourceResponse { source }))
    }

    async fn create_custom_probe(
        &self,
        request: Request<pb::CreateCustomProbeRequest>,
    ) -> Reply<pb::CreateCustomProbeResponse> {
        let principal = principal_of(&request)?;
        let request = request.into_inner();
        let new = NewCustomProbe {
            name: name(&request.name)?,
            description: check::optional("description", &request.description, MAX_DESCRIPTION)?,
            sha256: check::sha256("sha256", &request.sha256)?,
            created_by: principal.subject.clone(),
        };
        let made = self.store.create_custom_probe(&principal.project, &new);
        let custom_probe = Some(message(made.await?));
        Ok(Response::new(pb::CreateCustomProbeResponse {
            custom_probe,
        }))
    }

    async fn update_custom_probe(
        &self,
        request: Request<pb::UpdateCustomProbeRequest>,
    ) -> Reply<pb::UpdateCustomProbeResponse> {
        let principal = principal_of(&request)?;
        let request = request.into_inner();
        let description = request.description.as_deref();
        let description = description.map(|d| check::optional("description", d, MAX_DESCRIPTION));
        let sha256 = request.sha256.as_deref();
        let update = CustomProbeUpdate {
            description: description.transpose()?,
            sha256: sha256.map(|s| check::sha256("sha256", s)).transpose()?,
            etag: check::required("etag", &request.etag, 64)?,
            updated_by: principal.subject.clone(),
        };
        let name = name(&request.name)?;
        let updated = self
            .store
            .update_custom_probe(&principal.project, &name, &update);
        let custom_probe = Some(message(updated.await?));
        Ok(Response::new(pb::UpdateCustomProbeResponse {
            custom_probe,
        }))
    }

    async fn delete_custom_probe(
        &self,
        request: Request<pb::DeleteCustomProbeRequest>,
    ) -> Reply<pb::DeleteCustomProbeResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let name = name(&request.name)?;
        let etag = check::optional("etag", &request.etag, 64)?;
        self.store
            .delete_custom_probe(&project, &name, &etag)
            .await?;
        Ok(Response::new(pb::DeleteCustomProbeResponse {}))
    }

    async fn get_custom_probe(
        &self,
        request: Request<pb::GetCustomProbeRequest>,
    ) -> Reply<pb::GetCustomProbeResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let version = check::within("version", request.version, 0..=i32::MAX)?;
        let name = name(&request.name)?;
        let found = self.store.custom_probe(&project, &name, version).await?;
        let custom_probe = Some(message(found));
        Ok(Response::new(pb::GetCustomProbeResponse { custom_probe }))
    }

    async fn list_custom_probes(
        &self,
        request: Request<pb::ListCustomProbesRequest>,
    ) -> Reply<pb::ListCustomProbesResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let list = ("ListCustomProbes", &project);
        let after: Option<String> = self.pages.decode(&list, &request.page_token)?;
        let after = after.unwrap_or_default();
        let found = self.store.custom_probes(&project, &after, size + 1).await?;
        let (custom_probes, last) = fit(found, size);
        let last = last.map(|probe| probe.name);
        Ok(Response::new(pb::ListCustomProbesResponse {
            custom_probes,
            next_page_token: self.token(&list, last)?,
        }))
    }

    async fn list_custom_probe_versions(
        &self,
        request: Request<pb::ListCustomProbeVersionsRequest>,
    ) -> Reply<pb::ListCustomProbeVersionsResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let name = name(&request.name)?;
        let list = ("ListCustomProbeVersions", &project, &name);
        let before: Option<i32> = self.pages.decode(&list, &request.page_token)?;
        let found = self
            .store
            .custom_probe_versions(&project, &name, before, size + 1);
        let (custom_probes, last) = fit(found.await?, size);
        let last = last.map(|probe| probe.version);
        Ok(Response::new(pb::ListCustomProbeVersionsResponse {
            custom_probes,
            next_page_token: self.token(&list, last)?,
        }))
    }

    async fn list_valid_custom_probes(
        &self,
        request: Request<pb::ListValidCustomProbesRequest>,
    ) -> Reply<pb::ListValidCustomProbesResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let size = page_size(request.page_size)?;
        let list = ("ListValidCustomProbes", &project);
        let after: Option<String> = self.pages.decode(&list, &request.page_token)?;
        let after = after.unwrap_or_default();
        let found = self.store.valid_custom_probes(&project, &after, size + 1);
        let (custom_probes, last) = fit(found.await?, size);
        let last = last.map(|probe| probe.name);
        Ok(Response::new(pb::ListValidCustomProbesResponse {
            custom_probes,
            next_page_token: self.token(&list, last)?,
        }))
    }

    async fn resolve_custom_probes(
        &self,
        request: Request<pb::ResolveCustomProbesRequest>,
    ) -> Reply<pb::ResolveCustomProbesResponse> {
        let project = principal_of(&request)?.project;
        let references = request.into_inner().references;
        check::within("references", references.len(), 0..=MAX_REFERENCES)?;
        let references = references.into_iter().map(|reference| {
            let version = check::within("references.version", reference.version, 0..=i32::MAX)?;
            Ok(CustomProbeRef {
                name: name(&reference.name)?,
                version: (version > 0).then_some(version),
            })
        });
        let references: Vec<_> = references.collect::<Result<_>>()?;
        let found = self
            .store
            .resolve_custom_probes(&project, &references)
            .await?;
        let resolved = found.into_iter().map(|probe| pb::ResolvedCustomProbe {
            custom_probe: probe.map(message),
        });
        Ok(Response::new(pb::ResolveCustomProbesResponse {
            resolved: resolved.collect(),
        }))
    }

    async fn queue_check(
        &self,
        request: Request<pb::QueueCheckRequest>,
    ) -> Reply<pb::QueueCheckResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let after = request
            .give_up_after
            .ok_or_else(|| invalid_field("give_up_after", "must be set"))?;
        let after = check::millis("give_up_after", after)?;
        let after = check::within("give_up_after", after, 1_000..=3_600_000)?;
        let after = Duration::from_millis(after.unsigned_abs());
        let sha256 = check::sha256("sha256", &request.sha256)?;
        let name = name(&request.name)?;
        let id = self
            .store
            .queue_check(&project, &name, &sha256, after)
            .await?;
        Ok(Response::new(pb::QueueCheckResponse {
            check_id: id.to_string(),
        }))
    }

    async fn await_check(
        &self,
        request: Request<pb::AwaitCheckRequest>,
    ) -> Reply<pb::AwaitCheckResponse> {
        let project = principal_of(&request)?.project;
        let request = request.into_inner();
        let id = request.check_id.parse();
        let id = id.map_err(|error| invalid_field("check_id", error))?;
        let wait = check::wait(request.wait)?;
        let status = self.store.await_check(&project, id, wait).await?;
        let state = match status.state {
            CheckState::Queued => await_check_response::State::Queued,
            CheckState::Running => await_check_response::State::Running,
            CheckState::Done | CheckState::Failed => await_check_response::State::Ended,
        };
        Ok(Response::new(pb::AwaitCheckResponse {
            state: state.into(),
            validation: status.validation.map(validation::message),
        }))
    }
}

impl CustomProbes {
    /// The token of the page after `last`; empty at the end.
    fn token<F: serde::Serialize, C: serde::Serialize>(
        &self,
        list: &F,
        last: Option<C>,
    ) -> Result<String> {
        match last {
            Some(cursor) => self.pages.encode(list, &cursor),
            None => Ok(String::new()),
        }
    }
}

/// garak's module name. Which names are free is for the caller to say.
fn name(text: &str) -> Result<String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase());
    if begins && text.len() <= 63 && text.bytes().all(allowed) {
        return Ok(text.to_owned());
    }
    let what = "must be 1 to 63 of a-z, 0-9 and _, beginning with a letter";
    Err(invalid_field("name", what))
}

/// What fits into a page, and the last of it when there is more.
fn fit(found: Vec<CustomProbe>, size: u32) -> (Vec<ProtoProbe>, Option<CustomProbe>) {
    let (mut page, mut bytes, mut last) = (Vec::new(), 0, None);
    let count = found.len();
    for probe in found {
        if page.len() == size as usize || bytes > PAGE_BYTES {
            break;
        }
        let one = message(probe.clone());
        bytes += one.encoded_len();
        page.push(one);
        last = Some(probe);
    }
    let more = page.len() < count;
    (page, last.filter(|_| more))
}

fn stored(source: Source) -> pb::StoredSource {
    pb::StoredSource {
        sha256: source.sha256,
        size_bytes: source.size,
        object_key: source.object_key,
        committed: source.state == SourceState::Committed,
    }
}

fn message(probe: CustomProbe) -> ProtoProbe {
    let state = match probe.state {
        VersionState::Checking => State::Checking,
        VersionState::Valid => State::Valid,
        VersionState::Invalid => State::Invalid,
    };
    ProtoProbe {
        etag: probe.etag(),
        name: probe.name,
        description: probe.description,
        version: probe.version,
        state: state.into(),
        source: String::new(),
        sha256: probe.sha256,
        validation: probe.validation.map(validation::message),
        created_by: probe.created_by,
        create_time: Some(view::timestamp(probe.created_at)),
        update_time: Some(view::timestamp(probe.updated_at)),
    }
}
