//! Of the **fakes**: custom probes in the catalog, and sources in artifact. They keep what they
//! are given; versions, etags and checks are the real catalog's.

use std::collections::{BTreeMap, VecDeque};

use aegis_mesh::{Code, Error, MeshServer, ServerConfig, sized};
use aegis_proto::{
    internal::{
        artifact::v1::{
            self as artifact,
            source_service_server::{SourceService, SourceServiceServer},
        },
        catalog::v1::{
            self as pb, await_check_response::State as CheckState,
            custom_probe_store_service_server::CustomProbeStoreService,
        },
    },
    probe::v1::{CustomClass, CustomProbe, Validation, custom_class::Kind, custom_probe::State},
};
use sha2::{Digest, Sha256};
use tonic::{Request, Response, Status, service::Routes};

use super::Fake;

/// What the fakes keep.
#[derive(Default)]
pub(crate) struct Custom {
    /// Versions, the newest of a name last.
    pub(crate) probes: Vec<CustomProbe>,
    pub(crate) sources: BTreeMap<String, Vec<u8>>,
    pub(crate) resolved: usize,
    pub(crate) created: Vec<pb::CreateCustomProbeRequest>,
    pub(crate) updated: Vec<pb::UpdateCustomProbeRequest>,
    pub(crate) deleted: Vec<pb::DeleteCustomProbeRequest>,
    pub(crate) queued: Vec<pb::QueueCheckRequest>,
    /// The answers of AwaitCheck to come, then QUEUED.
    pub(crate) checks: VecDeque<pb::AwaitCheckResponse>,
    /// A delete is refused so.
    pub(crate) refusal: Option<Error>,
}

/// A version with a probe and a detector of its own.
pub(crate) fn version(name: &str, version: i32, state: State) -> CustomProbe {
    let class = |kind: Kind, class: &str| CustomClass {
        kind: kind.into(),
        name: format!("{name}.{class}"),
        description: format!("{class} of {name}"),
        tags: vec!["owasp:llm01".to_owned()],
        lang: "en".to_owned(),
        active: true,
        ..CustomClass::default()
    };
    let validation = Validation {
        valid: state == State::Valid,
        classes: vec![
            CustomClass {
                primary_detector: format!("{name}.Judge"),
                extended_detectors: vec!["always.Pass".to_owned()],
                prompts: 4,
                tier: 2,
                ..class(Kind::Probe, "Leak")
            },
            class(Kind::Detector, "Judge"),
            // Not of this module: passed over.
            CustomClass {
                name: "dan.AntiDAN".to_owned(),
                ..class(Kind::Probe, "")
            },
        ],
        ..Validation::default()
    };
    CustomProbe {
        name: name.to_owned(),
        version,
        state: state.into(),
        sha256: hex::encode(Sha256::digest(format!("{name}@{version}"))),
        validation: (state != State::Checking).then_some(validation),
        etag: format!("etag-{version}"),
        ..CustomProbe::default()
    }
}

impl Fake {
    /// The artifact service, as far as sources go.
    pub(crate) fn artifact(&self) -> Routes {
        let config = ServerConfig::on_port(0);
        let sources = SourceServiceServer::new(self.clone());
        MeshServer::builder("fake-artifact", &config)
            .add_service(sized!(sources, &config))
            .into_routes()
            .expect("routes")
    }

    fn newest(&self, name: &str, is_wanted: impl Fn(&CustomProbe) -> bool) -> Option<CustomProbe> {
        let seen = self.seen();
        let mut probes = seen.custom.probes.iter().rev();
        probes.find(|p| p.name == name && is_wanted(p)).cloned()
    }
}

fn not_found() -> Error {
    Error::new(Code::NotFound, "CUSTOM_PROBE_NOT_FOUND", "no such probe")
}

type Reply<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl SourceService for Fake {
    async fn put_source(
        &self,
        request: Request<artifact::PutSourceRequest>,
    ) -> Reply<artifact::PutSourceResponse> {
        let source = request.into_inner().source;
        let sha256 = hex::encode(Sha256::digest(&source));
        self.seen().custom.sources.insert(sha256.clone(), source);
        Ok(Response::new(artifact::PutSourceResponse { sha256 }))
    }

    async fn get_source(
        &self,
        request: Request<artifact::GetSourceRequest>,
    ) -> Reply<artifact::GetSourceResponse> {
        let seen = self.seen();
        let source = seen.custom.sources.get(&request.get_ref().sha256);
        let source = source.cloned().unwrap_or_default();
        Ok(Response::new(artifact::GetSourceResponse { source }))
    }

    async fn read_task_source(
        &self,
        _: Request<artifact::ReadTaskSourceRequest>,
    ) -> Reply<artifact::ReadTaskSourceResponse> {
        Err(Status::unimplemented("for runners"))
    }
}

#[tonic::async_trait]
impl CustomProbeStoreService for Fake {
    async fn create_custom_probe(
        &self,
        request: Request<pb::CreateCustomProbeRequest>,
    ) -> Reply<pb::CreateCustomProbeResponse> {
        let request = request.into_inner();
        let mut made = version(&request.name, 1, State::Checking);
        made.description = request.description.clone();
        made.sha256 = request.sha256.clone();
        let mut seen = self.seen();
        seen.custom.created.push(request);
        seen.custom.probes.push(made.clone());
        let custom_probe = Some(made);
        Ok(Response::new(pb::CreateCustomProbeResponse {
            custom_probe,
        }))
    }

    async fn update_custom_probe(
        &self,
        request: Request<pb::UpdateCustomProbeRequest>,
    ) -> Reply<pb::UpdateCustomProbeResponse> {
        let request = request.into_inner();
        let mut next = self.newest(&request.name, |_| true).ok_or_else(not_found)?;
        next.version += 1;
        if let Some(sha256) = &request.sha256 {
            next.sha256.clone_from(sha256);
        }
        let mut seen = self.seen();
        seen.custom.updated.push(request);
        seen.custom.probes.push(next.clone());
        let custom_probe = Some(next);
        Ok(Response::new(pb::UpdateCustomProbeResponse {
            custom_probe,
        }))
    }

    async fn delete_custom_probe(
        &self,
        request: Request<pb::DeleteCustomProbeRequest>,
    ) -> Reply<pb::DeleteCustomProbeResponse> {
        let mut seen = self.seen();
        if let Some(refusal) = seen.custom.refusal.clone() {
            return Err(refusal.into());
        }
        seen.custom.deleted.push(request.into_inner());
        Ok(Response::new(pb::DeleteCustomProbeResponse {}))
    }

    async fn get_custom_probe(
        &self,
        request: Request<pb::GetCustomProbeRequest>,
    ) -> Reply<pb::GetCustomProbeResponse> {
        let pb::GetCustomProbeRequest { name, version } = request.into_inner();
        let found = self.newest(&name, |p| version == 0 || p.version == version);
        let custom_probe = Some(found.ok_or_else(not_found)?);
        Ok(Response::new(pb::GetCustomProbeResponse { custom_probe }))
    }

    async fn list_custom_probes(
        &self,
        request: Request<pb::ListCustomProbesRequest>,
    ) -> Reply<pb::ListCustomProbesResponse> {
        Ok(Response::new(pb::ListCustomProbesResponse {
            custom_probes: self.seen().custom.probes.clone(),
            next_page_token: format!("after {}", request.get_ref().page_size),
        }))
    }

    async fn list_custom_probe_versions(
        &self,
        request: Request<pb::ListCustomProbeVersionsRequest>,
    ) -> Reply<pb::ListCustomProbeVersionsResponse> {
        let seen = self.seen();
        let probes = seen.custom.probes.iter().rev();
        let versions = probes.filter(|probe| probe.name == request.get_ref().name);
        Ok(Response::new(pb::ListCustomProbeVersionsResponse {
            custom_probes: versions.cloned().collect(),
            next_page_token: String::new(),
        }))
    }

    /// One a page, so that pages are gone through.
    async fn list_valid_custom_probes(
        &self,
        request: Request<pb::ListValidCustomProbesRequest>,
    ) -> Reply<pb::ListValidCustomProbesResponse> {
        let mut newest = BTreeMap::new();
        for probe in &self.seen().custom.probes {
            if probe.state() == State::Valid {
                newest.insert(probe.name.clone(), probe.clone());
            }
        }
        let at: usize = request.get_ref().page_token.parse().unwrap_or_default();
        let last = newest.len().saturating_sub(1);
        Ok(Response::new(pb::ListValidCustomProbesResponse {
            custom_probes: newest.into_values().skip(at).take(1).collect(),
            next_page_token: match at < last {
                true => (at + 1).to_string(),
                false => String::new(),
            },
        }))
    }

    async fn resolve_custom_probes(
        &self,
        request: Request<pb::ResolveCustomProbesRequest>,
    ) -> Reply<pb::ResolveCustomProbesResponse> {
        self.seen().custom.resolved += 1;
        let references = request.into_inner().references.into_iter();
        let resolved = references.map(|reference| {
            let name = &reference.name;
            let custom_probe = match reference.version {
                0 => self
                    .newest(name, |p| p.state() == State::Valid)
                    .or_else(|| self.newest(name, |_| true)),
                version => self.newest(name, |p| p.version == version),
            };
            pb::ResolvedCustomProbe { custom_probe }
        });
        Ok(Response::new(pb::ResolveCustomProbesResponse {
            resolved: resolved.collect(),
        }))
    }

    async fn queue_check(
        &self,
        request: Request<pb::QueueCheckRequest>,
    ) -> Reply<pb::QueueCheckResponse> {
        self.seen().custom.queued.push(request.into_inner());
        Ok(Response::new(pb::QueueCheckResponse {
            check_id: "a check".to_owned(),
        }))
    }

    async fn await_check(
        &self,
        request: Request<pb::AwaitCheckRequest>,
    ) -> Reply<pb::AwaitCheckResponse> {
        assert_eq!(request.get_ref().check_id, "a check");
        let next = self.seen().custom.checks.pop_front();
        if let Some(answer) = next {
            return Ok(Response::new(answer));
        }
        let wait = request.into_inner().wait.unwrap_or_default();
        let wait = std::time::Duration::try_from(wait).unwrap_or_default();
        tokio::time::sleep(wait).await;
        Ok(Response::new(pb::AwaitCheckResponse {
            state: CheckState::Queued.into(),
            validation: None,
        }))
    }

    async fn stage_source(
        &self,
        _: Request<pb::StageSourceRequest>,
    ) -> Reply<pb::StageSourceResponse> {
        Err(Status::unimplemented("for artifact"))
    }

    async fn commit_source(
        &self,
        _: Request<pb::CommitSourceRequest>,
    ) -> Reply<pb::CommitSourceResponse> {
        Err(Status::unimplemented("for artifact"))
    }

    async fn find_source(
        &self,
        _: Request<pb::FindSourceRequest>,
    ) -> Reply<pb::FindSourceResponse> {
        Err(Status::unimplemented("for artifact"))
    }

    async fn find_leased_source(
        &self,
        _: Request<pb::FindLeasedSourceRequest>,
    ) -> Reply<pb::FindLeasedSourceResponse> {
        Err(Status::unimplemented("for artifact"))
    }
}
