//! PluginService: what this installation's garak has, in pages.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use aegis_mesh::{PageTokens, page_size};
use aegis_proto::plugin::v1::{
    Buff, Detector, Generator, ListBuffsRequest, ListBuffsResponse, ListDetectorsRequest,
    ListDetectorsResponse, ListGeneratorsRequest, ListGeneratorsResponse, ListProbesRequest,
    ListProbesResponse, Probe, plugin_service_server::PluginService,
};
use tonic::{Request, Response, Status};

use crate::{
    catalogues::{Catalogues, Current},
    customs::Customs,
    domain::catalogue,
};

/// Serves PluginService.
pub(crate) struct PluginApi {
    catalogues: Arc<Catalogues>,
    customs: Customs,
    tokens: PageTokens,
}

impl PluginApi {
    pub(crate) fn new(catalogues: Arc<Catalogues>, customs: Customs, tokens: PageTokens) -> Self {
        Self {
            catalogues,
            customs,
            tokens,
        }
    }

    /// garak's own plugins.
    async fn own(&self) -> aegis_mesh::Result<Current> {
        self.catalogues.current().await
    }

    /// With those of custom probes, of each the newest valid version.
    async fn all(&self) -> aegis_mesh::Result<Current> {
        self.customs.extend(self.own().await?).await
    }

    /// One page of `plugins`, by name, and the token of the next, empty at the end. A token holds
    /// for the catalogue that it began with.
    fn page<'a, P>(
        &self,
        list: &str,
        current: &Current,
        plugins: &'a BTreeMap<String, P>,
        asked: i32,
        token: &str,
    ) -> aegis_mesh::Result<(Vec<(&'a str, &'a P)>, String)> {
        let size = page_size(asked)? as usize;
        let filter = (list, &current.sha256);
        let after: Option<String> = self.tokens.decode(&filter, token)?;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut rest = plugins.range((from, Bound::Unbounded));
        let page: Vec<(&str, &P)> = rest
            .by_ref()
            .take(size)
            .map(|(name, plugin)| (name.as_str(), plugin))
            .collect();
        let next = match (rest.next(), page.last()) {
            (Some(_), Some((last, _))) => self.tokens.encode(&filter, last)?,
            _ => String::new(),
        };
        Ok((page, next))
    }
}

macro_rules! lists {
    ($($method:ident: $which:ident $plugins:ident, $request:ident => $response:ident by $convert:ident;)*) => {
        #[tonic::async_trait]
        impl PluginService for PluginApi {
            $(async fn $method(
                &self,
                request: Request<$request>,
            ) -> Result<Response<$response>, Status> {
                let $request { page_size, page_token } = request.into_inner();
                let current = self.$which().await?;
                let plugins = &current.catalogue.$plugins;
                let list = stringify!($plugins);
                let (page, next_page_token) =
                    self.page(list, &current, plugins, page_size, &page_token)?;
                Ok(Response::new($response {
                    $plugins: page
                        .into_iter()
                        .map(|(name, plugin)| $convert(name, plugin, &current))
                        .collect(),
                    next_page_token,
                    garak_version: current.catalogue.garak_version.clone(),
                }))
            })*
        }
    };
}

lists! {
    list_probes: all probes, ListProbesRequest => ListProbesResponse by probe;
    list_detectors: all detectors, ListDetectorsRequest => ListDetectorsResponse by detector;
    list_generators: own generators, ListGeneratorsRequest => ListGeneratorsResponse by generator;
    list_buffs: own buffs, ListBuffsRequest => ListBuffsResponse by buff;
}

fn probe(name: &str, probe: &catalogue::Probe, _: &Current) -> Probe {
    let problem = probe.not_evaluable.clone();
    let (reason, message) = problem.map(|p| (p.reason, p.message)).unwrap_or_default();
    Probe {
        name: name.to_owned(),
        description: probe.description.clone(),
        goal: probe.goal.clone(),
        active: probe.active,
        tier: probe.tier(),
        tags: probe.tags.clone(),
        lang: probe.lang.clone(),
        primary_detector: probe.primary_detector.clone().unwrap_or_default(),
        extended_detectors: probe.extended_detectors.clone(),
        prompts: probe.prompts.unwrap_or_default(),
        option_keys: probe.option_keys.iter().cloned().collect(),
        not_evaluable_reason: reason,
        not_evaluable_message: message,
        custom: probe.custom_version.is_some(),
        custom_version: probe.custom_version.unwrap_or_default(),
    }
}

fn detector(name: &str, detector: &catalogue::Detector, _: &Current) -> Detector {
    Detector {
        name: name.to_owned(),
        description: detector.description.clone(),
        active: detector.active,
        tags: detector.tags.clone(),
        lang: detector.lang_spec.clone(),
        loadable: detector.not_loadable.is_none(),
        option_keys: detector.option_keys.iter().cloned().collect(),
        custom: detector.custom_version.is_some(),
        custom_version: detector.custom_version.unwrap_or_default(),
    }
}

/// The option keys are those that a scan may set, not all that garak has.
fn generator(name: &str, generator: &catalogue::Generator, current: &Current) -> Generator {
    let allowed = current.allowance.generators.get(name);
    Generator {
        name: name.to_owned(),
        description: generator.description.clone(),
        allowed: allowed.is_some(),
        option_keys: allowed.into_iter().flatten().cloned().collect(),
        key_env_var: generator.key_env_var.clone().unwrap_or_default(),
        loadable: generator.not_loadable.is_none(),
    }
}

fn buff(name: &str, buff: &catalogue::Buff, _: &Current) -> Buff {
    Buff {
        name: name.to_owned(),
        description: buff.description.clone(),
        active: buff.active,
        lang: buff.lang.clone(),
        option_keys: buff.option_keys.iter().cloned().collect(),
    }
}
