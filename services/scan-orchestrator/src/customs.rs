//! Custom probes as the catalog keeps them, for plans and lists.

use aegis_mesh::{Error, MeshChannel, Result};
use aegis_proto::{
    internal::catalog::v1::{
        CustomProbeReference, ListValidCustomProbesRequest, ResolveCustomProbesRequest,
        custom_probe_store_service_client::CustomProbeStoreServiceClient,
    },
    probe::v1::{CustomClass, CustomProbe, custom_class::Kind, custom_probe::State},
};

use crate::{
    catalogues::Current,
    domain::{
        catalogue::{Catalogue, Detector, Probe},
        custom::{self, CustomModule, Standing},
        spec::Spec,
        violation::Violations,
    },
};

/// The largest page.
const PAGE: i32 = 1_000;

/// What the catalog knows of custom probes.
#[derive(Clone)]
pub(crate) struct Customs(CustomProbeStoreServiceClient<MeshChannel>);

impl Customs {
    pub(crate) fn new(client: CustomProbeStoreServiceClient<MeshChannel>) -> Self {
        Self(client)
    }

    /// The versions that a specification means, each valid; what cannot be used is a violation.
    /// A specification that means none costs no call.
    pub(crate) async fn of_spec(
        &self,
        spec: &Spec,
        catalogue: &Catalogue,
        violations: &mut Violations,
    ) -> Result<Vec<CustomModule>> {
        let meant = custom::meant(spec, catalogue, violations);
        if meant.is_empty() {
            return Ok(Vec::new());
        }
        let references = meant.iter().map(|meant| CustomProbeReference {
            name: meant.name.clone(),
            version: meant.version.unwrap_or_default(),
        });
        let request = ResolveCustomProbesRequest {
            references: references.collect(),
        };
        let answer = self.0.clone().resolve_custom_probes(request).await?;
        let resolved = answer.into_inner().resolved;
        if resolved.len() != meant.len() {
            return Err(Error::internal("catalog resolved other than was asked for"));
        }
        let found = resolved.into_iter().map(|one| one.custom_probe.map(module));
        Ok(custom::usable(&meant, found.collect(), violations))
    }

    /// What runners have and, of every custom probe, its newest valid version.
    pub(crate) async fn extend(&self, mut current: Current) -> Result<Current> {
        let modules = self.valid().await?;
        if !modules.is_empty() {
            current.catalogue = custom::extended(&current.catalogue, &modules).into();
        }
        Ok(current)
    }

    async fn valid(&self) -> Result<Vec<CustomModule>> {
        let mut modules = Vec::new();
        let mut page_token = String::new();
        loop {
            let request = ListValidCustomProbesRequest {
                page_size: PAGE,
                page_token,
            };
            let answer = self.0.clone().list_valid_custom_probes(request).await?;
            let answer = answer.into_inner();
            modules.extend(answer.custom_probes.into_iter().map(module));
            page_token = answer.next_page_token;
            if page_token.is_empty() {
                return Ok(modules);
            }
        }
    }
}

fn module(probe: CustomProbe) -> CustomModule {
    let standing = match probe.state() {
        State::Valid => Standing::Valid,
        State::Checking => Standing::Checking,
        State::Invalid | State::Unspecified => Standing::Invalid,
    };
    let mut module = CustomModule {
        name: probe.name,
        version: probe.version,
        sha256: probe.sha256,
        standing,
        probes: Vec::new(),
        detectors: Vec::new(),
    };
    for class in probe.validation.unwrap_or_default().classes {
        add(&mut module, class);
    }
    module
}

/// A class that is not of the module is none of its own, whatever its runner said.
fn add(module: &mut CustomModule, class: CustomClass) {
    let custom_version = Some(module.version);
    let rest = class.name.strip_prefix(&module.name);
    let is_own = rest.and_then(|rest| rest.strip_prefix('.'));
    if is_own.is_none_or(|name| name.is_empty() || name.contains('.')) {
        return;
    }
    match class.kind() {
        Kind::Probe => {
            let primary = Some(class.primary_detector).filter(|name| !name.is_empty());
            let probe = Probe {
                description: class.description,
                goal: class.goal,
                active: class.active,
                tier: Some(class.tier).filter(|tier| *tier > 0),
                tags: class.tags,
                lang: class.lang,
                primary_detector: primary,
                extended_detectors: class.extended_detectors,
                prompts: Some(class.prompts),
                custom_version,
                ..Probe::default()
            };
            module.probes.push((class.name, probe));
        }
        Kind::Detector => {
            let detector = Detector {
                description: class.description,
                active: class.active,
                tags: class.tags,
                lang_spec: class.lang,
                custom_version,
                ..Detector::default()
            };
            module.detectors.push((class.name, detector));
        }
        Kind::Unspecified => {}
    }
}
