//! `aegis.plugin.v1.PluginService`: what runners published, by pages.

use std::{collections::BTreeMap, ops::Bound};

use aegis_mesh::{PageTokens, Result, Secret, page_size};
use aegis_proto::plugin::v1::{
    Buff, Detector, Generator, ListBuffsRequest, ListBuffsResponse, ListDetectorsRequest,
    ListDetectorsResponse, ListGeneratorsRequest, ListGeneratorsResponse, ListProbesRequest,
    ListProbesResponse, Probe, plugin_service_server::PluginService,
};
use tonic::{Request, Response, Status};

use super::catalogues::{Catalogues, Published};

/// Lists plugins.
pub(crate) struct PluginApi {
    pub(crate) catalogues: Catalogues,
}

struct Page<'a, T> {
    entries: Vec<(&'a String, &'a T)>,
    next_page_token: String,
}

/// One page of a list in garak's order; the token is the last name of the page before. Tokens are
/// sealed with the catalogue's checksum: another catalogue's list is another list.
fn page<'a, T>(
    published: &Published,
    list: &str,
    all: &'a BTreeMap<String, T>,
    size: i32,
    token: &str,
) -> Result<Page<'a, T>> {
    let size = page_size(size)? as usize;
    let tokens = PageTokens::from_secret(&Secret::new(published.sha256.as_str()));
    let after: Option<String> = tokens.decode(&list, token)?;
    let from = after.map_or(Bound::Unbounded, Bound::Excluded);
    let mut rest = all.range::<String, _>((from, Bound::Unbounded));
    let entries: Vec<_> = rest.by_ref().take(size).collect();
    let next_page_token = match (rest.next(), entries.last()) {
        (Some(_), Some((name, _))) => tokens.encode(&list, name)?,
        _ => String::new(),
    };
    Ok(Page { entries, next_page_token })
}

impl PluginApi {
    async fn probes(&self, request: ListProbesRequest) -> Result<ListProbesResponse> {
        let published = self.catalogues.newest().await?;
        let all = &published.catalogue.probes;
        let page = page(&published, "probes", all, request.page_size, &request.page_token)?;
        let probes = page.entries.into_iter().map(|(name, probe)| {
            let problem = probe.not_evaluable.clone();
            Probe {
                name: name.clone(),
                description: probe.description.clone().unwrap_or_default(),
                goal: probe.goal.clone().unwrap_or_default(),
                active: probe.active,
                tier: probe.tier.unwrap_or(9),
                tags: probe.tags.clone(),
                lang: probe.lang.clone().unwrap_or_default(),
                primary_detector: probe.primary_detector.clone().unwrap_or_default(),
                extended_detectors: probe.extended_detectors.clone(),
                prompts: probe.prompts.unwrap_or(0),
                option_keys: probe.option_keys.iter().cloned().collect(),
                not_evaluable_reason: problem.as_ref().map_or(String::new(), |p| p.reason.clone()),
                not_evaluable_message: problem.map_or(String::new(), |p| p.message),
            }
        });
        Ok(ListProbesResponse {
            probes: probes.collect(),
            next_page_token: page.next_page_token,
            garak_version: published.catalogue.garak_version.clone(),
        })
    }

    async fn detectors(&self, request: ListDetectorsRequest) -> Result<ListDetectorsResponse> {
        let published = self.catalogues.newest().await?;
        let all = &published.catalogue.detectors;
        let page = page(&published, "detectors", all, request.page_size, &request.page_token)?;
        let detectors = page.entries.into_iter().map(|(name, detector)| Detector {
            name: name.clone(),
            description: detector.description.clone().unwrap_or_default(),
            active: detector.active,
            tags: detector.tags.clone(),
            lang: detector.lang_spec.clone().unwrap_or_default(),
            loadable: detector.not_loadable.is_none(),
            option_keys: detector.option_keys.iter().cloned().collect(),
        });
        Ok(ListDetectorsResponse {
            detectors: detectors.collect(),
            next_page_token: page.next_page_token,
            garak_version: published.catalogue.garak_version.clone(),
        })
    }

    async fn generators(&self, request: ListGeneratorsRequest) -> Result<ListGeneratorsResponse> {
        let published = self.catalogues.newest().await?;
        let all = &published.catalogue.generators;
        let page = page(&published, "generators", all, request.page_size, &request.page_token)?;
        let generators = page.entries.into_iter().map(|(name, generator)| {
            let allowed = published.allowance.generators.get(name);
            Generator {
                name: name.clone(),
                description: generator.description.clone().unwrap_or_default(),
                allowed: allowed.is_some(),
                option_keys: allowed.into_iter().flatten().cloned().collect(),
                key_env_var: generator.key_env_var.clone().unwrap_or_default(),
                loadable: generator.not_loadable.is_none(),
            }
        });
        Ok(ListGeneratorsResponse {
            generators: generators.collect(),
            next_page_token: page.next_page_token,
            garak_version: published.catalogue.garak_version.clone(),
        })
    }

    async fn buffs(&self, request: ListBuffsRequest) -> Result<ListBuffsResponse> {
        let published = self.catalogues.newest().await?;
        let all = &published.catalogue.buffs;
        let page = page(&published, "buffs", all, request.page_size, &request.page_token)?;
        let buffs = page.entries.into_iter().map(|(name, buff)| Buff {
            name: name.clone(),
            description: buff.description.clone().unwrap_or_default(),
            active: buff.active,
            lang: buff.lang.clone().unwrap_or_default(),
            option_keys: buff.option_keys.iter().cloned().collect(),
        });
        Ok(ListBuffsResponse {
            buffs: buffs.collect(),
            next_page_token: page.next_page_token,
            garak_version: published.catalogue.garak_version.clone(),
        })
    }
}

#[tonic::async_trait]
impl PluginService for PluginApi {
    async fn list_probes(
        &self,
        request: Request<ListProbesRequest>,
    ) -> Result<Response<ListProbesResponse>, Status> {
        Ok(Response::new(self.probes(request.into_inner()).await?))
    }

    async fn list_detectors(
        &self,
        request: Request<ListDetectorsRequest>,
    ) -> Result<Response<ListDetectorsResponse>, Status> {
        Ok(Response::new(self.detectors(request.into_inner()).await?))
    }

    async fn list_generators(
        &self,
        request: Request<ListGeneratorsRequest>,
    ) -> Result<Response<ListGeneratorsResponse>, Status> {
        Ok(Response::new(self.generators(request.into_inner()).await?))
    }

    async fn list_buffs(
        &self,
        request: Request<ListBuffsRequest>,
    ) -> Result<Response<ListBuffsResponse>, Status> {
        Ok(Response::new(self.buffs(request.into_inner()).await?))
    }
}
